"""Texts of real judges with known verdicts, from the shared folder beside the repository.

The texts and the bounds are those of `benchmarks/judge_outputs.py` and `benchmarks/llmbar_replay.py`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SHARED = ROOT / ".." / "shared"


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Any]:
    """Load a script of benchmarks/ by its name."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        loaded.append(spec.name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]


@pytest.mark.skipif(not (SHARED / "judge_outputs").is_dir(), reason="no shared judge outputs beside the repository")
def test_real_texts(benchmark: Any) -> None:
    outputs = benchmark("judge_outputs")
    found = list(outputs.readings(SHARED / "judge_outputs"))
    counted = outputs.bounded(found)
    assert len(counted) > 3000
    assert outputs.share(counted, "exact") >= 0.997
    assert outputs.share(counted, "wrong") <= 0.0005, [each.row["id"] for each in counted if each.outcome == "wrong"]
    for name in outputs.UNBOUNDED:
        prose = [each for each in found if each.file == name]
        assert outputs.share(prose, "wrong") <= 0.02, [each.row["id"] for each in prose if each.outcome == "wrong"]


@pytest.mark.skipif(not (SHARED / "replay").is_dir(), reason="no recorded judges beside the repository")
def test_the_counts_of_the_llmbar_paper(benchmark: Any) -> None:
    replay = benchmark("llmbar_replay")
    found = list(replay.answers(SHARED))
    published = replay.published(SHARED)
    groups = replay.groups(found)
    assert groups.keys() == published.keys()
    for name, group in groups.items():
        if "Vanilla_NoRules" in name:
            assert replay.counts(group) == published[name], name
        else:
            assert replay.counts(group, of_paper=True) == published[name], name
    assert len(replay.differing(found)) <= 0.02 * len(found)
