"""The page: complete and well-formed for any run, with the summary's numbers, and without external resources."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import Row, make_run, row
from shared_results import shared

from runner.report import Scales, render, summarize, write_report
from runner.report.page.agreement import confusion_table, group_name
from runner.report.page.charts import CLASSES
from runner.report.page.samples import disputed_samples

EVIL = "</script></style></title><img src=//evil.example/x onerror=alert(1)>\"'&amp;{{ 7 * 7 }}"
EXTRA = ("human_winner", "human_score", "human_label", "model", "model1", "model2", "category")
EMPTY = {"meta", "br", "img", "input", "link", "hr"}
DRAWN = {"line", "rect", "circle", "polygon", "polyline"}


class Page(HTMLParser):
    """Parses a page strictly: every element is closed in order, and no attribute is repeated."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), (tag, attrs)
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in DRAWN, tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\N{NO-BREAK SPACE}", " ").split())

    def shape(self) -> list[str]:
        return [tag for tag, _ in self.tags]


def check(page: str) -> Page:
    """Check what must hold for any page."""
    read = Page(page)
    names = [tag for tag, _ in read.tags]
    assert names[: names.index("body")].count("title") == 1
    for tag_name in ("html", "head", "style", "body", "main", "h1", "script"):
        assert names.count(tag_name) == 1, tag_name
    for tag, attributes in read.tags:
        assert not {"src", "srcset", "action", "background", "data", "poster"} & attributes.keys(), (tag, attributes)
        assert all(not name.startswith("on") for name in attributes), (tag, attributes)
        assert tag not in ("link", "img", "iframe", "object", "base", "form"), tag
        assert "url(" not in (attributes.get("style") or "")
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), attributes
    for raw in re.findall(r"<(?:style|script)>(.*?)</(?:style|script)>", page, re.DOTALL):
        assert not re.search(r"//[a-z]|url\(|@import|fetch|XMLHttp|innerHTML", raw)
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in read.tags:
        if "href" in attributes:
            assert (attributes["href"] or "")[1:] in ids
    policy = next(one["content"] for _, one in read.tags if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    return read


def pairs(text: str = "x") -> list[Row]:
    """Returns pairs judged by two judges in both orders, with human labels, models, groups, criteria and failures."""
    rows = []
    for n in range(24):
        labels = {"human_winner": ("1", "2", "tie")[n % 3], "category": text + "ab"[n % 2]}
        models = {"model1": f"{text}m{n % 3}", "model2": f"{text}m{(n + 1) % 3}"}
        for judge, swapped in [(text + "j", False), (text + "j", True), (text + "k", False), (text + "k", True)]:
            first = "2" if swapped else "1"
            winner = "tie" if n % 7 == 3 and swapped else "12"[n % 2] if n % 5 < 2 else first
            more: Row = {"winner": winner, "rule": text + "rule", "response": text + "because"}
            more["dimensions"] = [{"name": text + "depth", "answer": 1, "score": float(n % 5)}]
            if n % 8 == 7:
                more = {"status": "unparsed", "error_type": "no_verdict", "error_message": text, "response": text}
            if n % 8 == 6 and judge.endswith("k"):
                more = {"status": "failed", "error_type": "timeout", "error_message": text + "slow"}
            rows.append(row(n, judge, swapped, **labels, **models, **more, latency_s=1.5, total_tokens=7))
    return rows


def scores() -> list[Row]:
    """Returns answers scored twice by one judge, with human scores and models."""
    return [
        row(n, repeat=repeat, score=float((n * 3 + repeat) % 5), human_score=float(n % 5), model=f"m{n % 3}", cost=0.5)
        for n in range(30)
        for repeat in range(2)
    ]


def labels() -> list[Row]:
    return [row(n, label="ab"[n % 2], human_label="aab"[n % 3]) for n in range(12)]


def unread() -> list[Row]:
    return [row(n, status="unparsed", error_type="no_verdict", human_winner="1") for n in range(5)]


MADE: dict[str, Callable[[], list[Row]]] = {
    "pairs": pairs, "scores": scores, "labels": labels, "unread": unread, "nothing": list,
}  # fmt: skip


def summary_of(rows: list[Row], text: str = "q ") -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        texts = {n: f"{text}{n}" for n in range(40)}
        run = make_run(Path(directory) / "run", rows, EXTRA, texts, samples=bool(rows))
        return summarize(run, ["category"] if rows else [], Scales((0, 4), {"j": (0, 4)}))


@shared
def made(name: str) -> dict[str, Any]:
    return summary_of(MADE[name]())


def figures(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        if "left_out" in data and "value" in data:
            yield data
        for value in data.values():
            yield from figures(value)
    elif isinstance(data, list):
        for value in data:
            yield from figures(value)


@pytest.mark.parametrize("name", MADE)
def test_every_run_has_a_complete_page(name: str) -> None:
    summary = made(name)
    before = copy.deepcopy(summary)
    read = check(render(summary))
    assert summary == before
    sections = {one["id"] for tag, one in read.tags if tag == "section"}
    assert {"know", "method"} <= sections
    assert ("people" in sections) == any(any(one["overall"].values()) for one in summary["agreement"])
    assert ("ranking" in sections) == bool(summary["ranking"]["tables"])
    assert ("disputed" in sections) == bool(summary["disputed"])
    assert ("failures" in sections) == bool(summary["counts"]["causes"])
    assert ("panel" in sections) == bool(summary["consistency"]["panel"])
    anchors = {(one["href"] or "")[1:] for tag, one in read.tags if tag == "a"} - {"main"}
    assert anchors == sections


@pytest.mark.parametrize("name", MADE)
def test_the_page_of_the_file_is_the_same(name: str) -> None:
    assert render(json.loads(json.dumps(made(name)))) == render(made(name))


def test_winner_figures_equal_the_summary() -> None:
    summary = summary_of(pairs())
    text = check(render(summary)).text
    rows = summary["counts"]["all"]
    assert f"Verdicts read {100 * rows['ok'] / rows['rows']:.1f} % {rows['ok']} rows" in text
    assert f"{rows['unparsed']} rows without a readable verdict" in text
    for entry in summary["agreement"]:
        found = entry["overall"]["winners"]
        for ties in ("with_ties", "without_ties"):
            for key in ("accuracy", "accuracy_mean_of_orders", "accuracy_both_orders", "accuracy_orders_combined"):
                figure = found[ties][key]
                if figure["value"] is not None:
                    low, high = (f"{100 * end:.1f} %" for end in (figure["low"], figure["high"]))
                    assert f"{100 * figure['value']:.1f} % {low} to {high}" in text
                    assert f"{figure['n']} ({figure['left_out']})" in text
        for line, unread in zip(found["confusion"]["counts"], found["confusion"]["unread"], strict=True):
            cells = [f"{n} {100 * n / (sum(line) + unread):.1f} %" for n in line]
            assert f"{' '.join(cells)} {unread}" in text
    preference = summary["consistency"]["judges"][0]["overall"]["position"]["preference"]
    assert f"{100 * preference['value']:.1f} %" in text
    for model in summary["ranking"]["tables"][0]["models"]:
        score, beside = model["score"], f"{model['wins']} / {model['losses']} / {model['ties']}"
        assert f"{score['value']:,.0f}" in text and beside in text


def test_score_figures_equal_the_summary() -> None:
    summary = summary_of(scores())
    text = check(render(summary)).text
    found = summary["agreement"][0]["overall"]["scores"]
    for key in ("pearson", "spearman", "kendall_tau_b", "quadratic_kappa", "mean_absolute_error"):
        assert f"{found[key]['value']:.3f}".replace("-", "−") in text
    assert f"{summary['usage'][0]['cost']:.2f}" in text
    assert "Repeat consistency" in text


def test_missing_values_have_a_reason() -> None:
    """The page shows a dash with the reason, for a run in one order and for a run without readable verdicts."""
    one_order = [row(n, winner="1", human_winner="12"[n % 2]) for n in range(9)]
    for rows in (one_order, unread()):
        summary = summary_of(rows)
        position = summary["consistency"]["judges"][0]["overall"]["position"]
        shown = [summary["agreement"][0]["overall"]["winners"]["with_ties"]["accuracy_both_orders"]]
        shown.append(position["first_shown_wins"])
        text = check(render(summary)).text
        for figure in figures(shown):
            if figure["value"] is None:
                assert f"– {figure['reason']}" in text
    assert "No verdict could be read" in text


def test_bands_of_emulated_and_unfinished_runs() -> None:
    summary = summary_of(labels())
    summary["run"] |= {"emulated": True, "state": "stopped", "exit_code": 3, "stop_reason": "quota"}
    text = check(render(summary)).text
    assert "These verdicts come from the built-in emulator. They mean nothing" in text
    assert "Not finished." in text
    assert "Stopped: action is needed before the run can resume – reason: quota (exit code 3)" in text
    summary["run"] |= {"emulated": False, "state": "finished", "exit_code": 0, "stop_reason": None}
    text = check(render(summary)).text
    assert "emulator" not in text
    assert "Not finished" not in text
    assert "Finished (exit code 0)" in text


@pytest.mark.parametrize(
    ("state", "code", "style"), [("finished", 0, "state"), ("finished", 1, "state open"), ("stopped", 3, "state open")]
)
def test_only_a_successful_run_is_green(state: str, code: int, style: str) -> None:
    summary = summary_of(labels())
    summary["run"] |= {"state": state, "exit_code": code}
    assert ("p", {"class": style}) in check(render(summary)).tags


def test_hostile_texts_stay_texts() -> None:
    """Hostile texts in names, questions, responses, messages, rules and the run itself are escaped."""
    summary = summary_of(pairs(EVIL), EVIL)
    summary["run"] |= {"name": EVIL, "id": EVIL, "tags": {EVIL: EVIL}, "versions": {EVIL: EVIL}, "stop_reason": EVIL}
    summary["run"]["currency"] = EVIL
    for one in summary["judges"]:
        one |= {"models": [EVIL], "services": [EVIL], "kinds": [EVIL]}
    for case in summary["disputed"]:
        case["sample_id"] = EVIL
        case["fields"] |= {EVIL: EVIL}
    read = check(render(summary))
    assert read.text.count(EVIL) > 50


def test_disputed_samples_can_be_searched() -> None:
    summary = summary_of(pairs(), "请问 ")
    page = render(summary)
    read = check(page)
    cards = [one for tag, one in read.tags if tag == "article"]
    assert [one["data-ordinal"] for one in cards] == [str(one["ordinal"]) for one in summary["disputed"]]
    assert [(one["data-why"] or "").split() for one in cards] == [one["why"] for one in summary["disputed"]]
    options = {one["value"] for tag, one in read.tags if tag == "option"}
    assert {reason for one in summary["disputed"] for reason in one["why"]} <= options
    for one, card in zip(summary["disputed"], page.split("<article")[1:], strict=True):
        text = Page("<article" + card.split("</article>")[0] + "</article>").text
        assert one["sample_id"] in text
        assert one["texts"]["question"] in text
        for vote in one["votes"]:
            assert vote["judge"] in text and (vote["response"] or "") in text


texts = st.text(st.characters(), max_size=30) | st.sampled_from(
    [EVIL, "]]>", "<!--", "--><script>", "\x00\x1b\r\n", "\ud800"]
)


def replaced(data: Any, text: str) -> Any:
    """Returns the summary with every text replaced that may come from a dataset, a judge or a configuration."""
    free = {
        *(
            "name",
            "judge",
            "model",
            "rule",
            "label",
            "message",
            "response",
            "custom_id",
            "sample_id",
            "question",
            "note",
        ),
        *("reason", "first", "second", "id", "stop_reason", "route_reason", "currency", "error_type", "column"),
    }
    if isinstance(data, dict):
        return {key: text if key in free and isinstance(one, str) else replaced(one, text) for key, one in data.items()}
    return [replaced(one, text) for one in data] if isinstance(data, list) else data


@cache
def plain_shape(name: str) -> list[str]:
    """Returns the elements of the page with plain texts."""
    return check(render(replaced(made(name), "x"))).shape()


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=20, deadline=None)
@given(text=texts)
def test_no_text_changes_the_shape_of_the_page(name: str, text: str) -> None:
    """With any text, the page has the same elements as with a plain text."""
    page = render(replaced(made(name), "x" + text))
    page.encode()
    assert check(page).shape() == plain_shape(name)


def test_the_report_is_written_completely(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", pairs(), EXTRA)
    page = write_report(run, ["category"])
    assert page == run / "report" / "index.html"
    assert sorted(one.name for one in page.parent.iterdir()) == ["index.html", "summary.json"]
    summary = json.loads((page.parent / "summary.json").read_bytes())
    assert summary == summarize(run, ["category"])
    assert page.read_text(encoding="utf-8") == render(summary)
    before = page.read_bytes()
    assert write_report(run, ["category"]).read_bytes() == before


def test_the_confusion_table_renames_only_answers() -> None:
    confusion = {"classes": ["1", "x"], "counts": [[1, 2], [3, 4]], "unread": [0, 0]}
    assert confusion_table(confusion).classes == ["1", "x"]
    assert confusion_table(confusion, CLASSES).classes == ["answer 1", "x"]


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ("1122", ("votes", "no majority (2:2)")),
        ("11tt", ("votes", "no majority (2:0 and 2 ties)")),
        ("1tt", ("votes for the verdict", "66.7 %")),
        ("112", ("votes for the verdict", "66.7 %")),
    ],
)
def test_votes_of_a_disputed_sample(votes: str, expected: tuple[str, str]) -> None:
    winners = [{"t": "tie"}.get(vote, vote) for vote in votes]
    rows = [row(0, judge, winner=winner) for judge, winner in zip("abcd", winners, strict=False)]
    rows.append(row(0, "e", status="failed", error_type="timeout"))
    (sample,) = disputed_samples(summary_of(rows))
    assert tuple(text.replace("\N{NO-BREAK SPACE}", " ") for text in sample.facts[1]) == expected


def test_the_aggregated_verdict_has_no_orders() -> None:
    text = check(render(summary_of([one for one in pairs() if one["judge"] == "xj"]))).text
    assert "All votes combined" in text and "Accuracy over all samples" in text
    assert "only one order was judged" not in text


def test_blank_group_values_have_a_name() -> None:
    assert [group_name(value) for value in (None, "", " ", "x")] == ["(none)", "(empty)", "(empty)", "x"]


def test_missing_costs_and_pending_rows() -> None:
    summary = summary_of([row(n, score=float(n)) for n in range(3)])
    assert "no prices configured" in render(summary)
    summary["run"] |= {"currency": "CNY", "counts": {"total": 1440}}
    page = render(summary)
    assert "no row has a cost" in page
    assert "This report covers 3 of 1,440 rows." in page
