"""Convert judge benchmarks from their public repositories to the JSON lines that configs/benchmarks/ reads.

    git clone --depth 1 https://github.com/princeton-nlp/LLMBar
    python benchmarks/public_datasets.py llmbar LLMBar > data/llmbar.jsonl

Texts are unchanged except for line ends (CRLF becomes LF). configs/benchmarks/README.md lists the repositories.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]

LLMBAR = ("Natural", "Adversarial/Neighbor", "Adversarial/GPTInst", "Adversarial/GPTOut", "Adversarial/Manual")
CATEGORIES = {
    "mmlu": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
SPLITS = {"claude": "claude-3-5-sonnet-20240620", "gpt": "gpt-4o-2024-05-13"}
WINNERS = {"0": "tie", "1": "1", "2": "2"}
ACT = "Say the following dialogue act as one natural sentence to a user of a hotel information system: "


def llmbar(clone: Path) -> Iterator[Row]:
    """LLMBar: five folders, each with a list of instructions with two outputs and the number of the better one."""
    for folder in LLMBAR:
        yield from _llmbar_pairs(clone / "Dataset" / "LLMBar" / folder / "dataset.json", "llmbar")


def mt_bench_human(clone: Path) -> Iterator[Row]:
    """MT-Bench's human judgments, as LLMBar's repository keeps its sample of them."""
    return _llmbar_pairs(clone / "Dataset" / "Processed" / "MT-Bench" / "dataset.json", "mtbench_human_llmbar")


def _llmbar_pairs(path: Path, name: str) -> Iterator[Row]:
    subset = path.parent.name
    for index, item in enumerate(_read(path)):
        meta = {"subset": subset, "source_index": index}
        yield _pair(
            f"{name}-{subset}-{index:04}", item["input"], item["output_1"], item["output_2"], item["label"], meta
        )


def judgebench(clone: Path) -> Iterator[Row]:
    """JudgeBench: a file of JSON lines for each model whose answers are compared."""
    for split, model in SPLITS.items():
        path = clone / "data" / f"dataset=judgebench,response_model={model}.jsonl"
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            source = item["source"]
            category = next(name for prefix, name in CATEGORIES.items() if source.startswith(prefix))
            meta = {"source": source, "category": category, "split": split, "response_model": model}
            label = {"A>B": "1", "B>A": "2"}[item["label"]]
            yield _pair(
                f"judgebench-{item['pair_id']}", item["question"], item["response_A"], item["response_B"], label, meta
            )


def pandalm(clone: Path) -> Iterator[Row]:
    """PandaLM's test set: the label is the majority of three annotators, or a tie if all three differ."""
    for item in _read(clone / "data" / "testset-v1.json"):
        votes = [WINNERS[str(item[f"annotator{number}"])] for number in (1, 2, 3)]
        label, count = Counter(votes).most_common(1)[0]
        task = "\n\n".join(part for part in (item["instruction"], item["input"]) if isinstance(part, str) and part)
        meta = {"motivation_app": item["motivation_app"], "models": item["cmp_key"], "majority": count}
        row = _pair(
            f"pandalm-{item['idx']:04}",
            task,
            item["response1"],
            item["response2"],
            label if count > 1 else "tie",
            meta,
        )
        yield {**row, "annotators": votes}


def hhh(clone: Path) -> Iterator[Row]:
    """HHH: question and reply are extracted from Prometheus' prompt; a hash decides which reply comes first."""
    path = clone / "eval" / "benchmark" / "data" / "hhh_alignment_eval.json"
    for index, item in enumerate(_read(path)):
        question, chosen = _extract(item["chosen_instruction"])
        _, rejected = _extract(item["rejected_instruction"])
        first = hashlib.md5((question + chosen + rejected).encode()).digest()[0] % 2 == 0
        answers = (chosen, rejected) if first else (rejected, chosen)
        yield _pair(
            f"hhh-{item['source']}-{index:03}", question, *answers, "1" if first else "2", {"subset": item["source"]}
        )


def _extract(prompt: str) -> tuple[str, str]:
    _, _, rest = prompt.partition("###The instruction to evaluate:\n")
    question, _, rest = rest.partition("\n\n###Response to evaluate:\n")
    return question, rest.partition("\n\n###Score Rubrics:\n")[0]


def sfhot(clone: Path) -> Iterator[Row]:
    """SFHOT: a dialogue act, the sentence that a system generated from it, and human ratings from 1 to 6."""
    for index, item in enumerate(_read(clone / "reproduce" / "data" / "data2text" / "sfhot.json")):
        yield {
            "id": f"sfhot-{index:04}",
            "question": ACT + item["source"],
            "answer": item["system_output"],
            "label_score": item["scores"]["overall"],
            "label_scale": [1, 6],
            "meta": {"reference": item["reference"], "scores": item["scores"], "dialogue_act": item["source"]},
        }


def _pair(name: str, question: object, answer1: object, answer2: object, label: object, meta: Row) -> Row:
    texts = {"question": _text(question), "answer1": _text(answer1), "answer2": _text(answer2)}
    return {"id": name, **texts, "label": str(label), "meta": meta}


def _text(value: object) -> str:
    """Return a value as text; PandaLM has NaN for an empty answer, and the JSON value true for six others."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).replace("\r\n", "\n")


def _read(path: Path) -> list[Row]:
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    return rows


SETS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "llmbar": llmbar,
    "mt_bench_human": mt_bench_human,
    "judgebench": judgebench,
    "pandalm": pandalm,
    "hhh": hhh,
    "sfhot": sfhot,
}


def main() -> None:
    """Parse the command line and print one set as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("clone", type=Path, help="the folder of the cloned repository")
    given = parser.parse_args()
    for row in SETS[given.set](given.clone):
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
