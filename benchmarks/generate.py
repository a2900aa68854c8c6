"""Write pairwise samples: a question and two answers in Chinese or English, 300 to 1500 characters together.

    python benchmarks/generate.py pairs.jsonl --samples 20000

The file is the same each time. `--skewed` makes one sample in a hundred fifty times as long as the median.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEED = 41
SKEW_EVERY, SKEW_TIMES = 100, 50
MIN_CHARACTERS, MAX_CHARACTERS = 300, 1500
CHINESE_SHARE = 0.6
SENTENCES = 600

SUBJECTS = {
    "zh": [
        "水库的水位",
        "城市的夜间照明",
        "学校的课程表",
        "一座老桥",
        "冬季的供暖",
        "街角的书店",
        "山里的茶园",
        "列车的时刻",
        "家庭的账本",
        "海边的风车",
        "图书馆的座位",
        "手机的电池",
    ],
    "en": [
        "the water level of a lake",
        "street lighting at night",
        "a school timetable",
        "an old bridge",
        "heating in winter",
        "a corner bookshop",
        "a tea garden",
        "the train schedule",
        "a household budget",
        "a wind turbine",
        "seats in a library",
        "the battery of a phone",
    ],
}
DEEDS = {
    "zh": [
        "取决于天气和使用的人数",
        "每隔几年就要重新检查一遍",
        "比大多数人想的要复杂",
        "可以用一张简单的表格说明",
        "在节假日前后变化最大",
        "需要有人长期负责",
        "常常被当作理所当然的事",
    ],
    "en": [
        "depends on the weather and on how many people use it",
        "has to be looked at again every few years",
        "is less simple than most people think",
        "can be shown in one small table",
        "changes most around holidays",
        "needs somebody who looks after it",
        "is often taken for granted",
    ],
}
REASONS = {
    "zh": [
        "因为前期的投入很难收回",
        "而这一点往往没有写进计划",
        "所以先做一次小规模的尝试比较稳妥",
        "尽管数据并不完整",
        "这也是居民最关心的地方",
        "但费用要摊到很多年里去算",
    ],
    "en": [
        "because what was spent at first hardly comes back",
        "which plans tend to leave out",
        "so that a small trial is the safer way to begin",
        "although the figures are not complete",
        "and that is what the neighbours ask about",
        "but the cost has to be spread over many years",
    ],
}
JOINTS = {"zh": ("", ",", "。"), "en": (" ", ", ", ". ")}


def sentences(draw: random.Random, language: str) -> list[str]:
    """Return sentences to choose from."""
    space, comma, stop = JOINTS[language]
    parts = (SUBJECTS[language], DEEDS[language], REASONS[language])
    made = []
    for number in range(SENTENCES):
        subject, deed, reason = (draw.choice(part) for part in parts)
        figure = f"({draw.randint(2, 98)}%)" if number % 3 == 0 else ""
        text = f"{subject}{space}{deed}{figure}{comma}{reason}{stop}"
        made.append(text[0].upper() + text[1:])
    return made


def text(draw: random.Random, stock: list[str], length: int) -> str:
    """Join random sentences and cut the text to the length."""
    parts: list[str] = []
    while length > 0:
        parts.append(draw.choice(stock))
        length -= len(parts[-1])
    joined = "".join(parts)
    return joined[:length] if length else joined


def samples(count: int, *, skewed: bool = False) -> Iterator[dict[str, Any]]:
    """Generate this number of samples, the same ones each time."""
    draw = random.Random(SEED)
    stock = {language: sentences(draw, language) for language in JOINTS}
    for number in range(count):
        language = "zh" if draw.random() < CHINESE_SHARE else "en"
        size = draw.randint(MIN_CHARACTERS, MAX_CHARACTERS)
        if skewed and number % SKEW_EVERY == SKEW_EVERY // 2:
            size = (MIN_CHARACTERS + MAX_CHARACTERS) // 2 * SKEW_TIMES
        question = f"#{number}: {text(draw, stock[language], size // 6)}"
        remaining = size - len(question)
        first = int(remaining * draw.uniform(0.35, 0.65))
        yield {
            "id": f"s{number:07d}",
            "question": question,
            "answer1": text(draw, stock[language], first),
            "answer2": text(draw, stock[language], remaining - first),
        }


def write(path: Path, count: int, *, skewed: bool = False) -> None:
    """Write this number of samples as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for sample in samples(count, skewed=skewed):
            file.write(json.dumps(sample, ensure_ascii=False) + "\n")


def main() -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--skewed", action="store_true")
    given = parser.parse_args()
    write(given.path, given.samples, skewed=given.skewed)


if __name__ == "__main__":
    main()
