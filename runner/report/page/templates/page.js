"use strict";
(() => {
  const list = document.getElementById("cases");
  if (!list) return;
  const cards = [...list.children];
  const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
  const [search, why, order, found] = ["search", "why", "order", "found"].map((id) => document.getElementById(id));
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const card of cards) {
      const fits = (!why.value || card.dataset.why.split(" ").includes(why.value))
        && words.every((word) => texts.get(card).includes(word));
      card.hidden = !fits;
      n += fits;
    }
    found.textContent = `${n} of ${cards.length} shown`;
  };
  const sort = () => {
    list.append(...cards.sort((one, other) => one.dataset[order.value] - other.dataset[order.value]));
  };
  search.addEventListener("input", show);
  why.addEventListener("change", show);
  order.addEventListener("change", sort);
  document.querySelector(".tools").hidden = false;
  show();
})();
