"""Parsing stored responses again sends no request, and an interruption leaves no row with the wrong settings."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_run import TEMPLATE, Bench, emulator

from runner.core import no_price
from runner.errors import RunDirectoryError
from runner.pipeline.reparse import ReparseContext, reparse_rows
from runner.results import RunDirectory, checksums
from runner.types import Dimension, JudgeResponse, Verdict

FIRST = {"judge.verdict": {"pattern": r"(\d+)", "kind": "score", "pick": "first"}}
LETTERS = {"judge.verdict": {"pattern": r"Rating: (\S+)", "kind": "label"}}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=8) as address:
        yield address


@pytest.fixture
def bench(tmp_path: Path, url: str) -> Bench:
    """A finished run of three parts."""
    bench = Bench(tmp_path, url)
    bench.write(10, topic="t", people="4")
    assert bench.run().exit_code == 0
    return bench


def rewritten_rows(bench: Bench, changes: dict[str, Any], code: int = 0) -> list[dict[str, Any]]:
    """Run with changes that send no request; returns the rows."""
    before = bench.request_count
    summary = bench.run(changes)
    assert (summary.exit_code, summary.asked, bench.request_count) == (code, 0, before)
    return bench.rows


def test_another_verdict_format_is_applied_to_the_stored_responses(bench: Bench) -> None:
    scores = [row["score"] for row in bench.rows]
    rows = rewritten_rows(bench, LETTERS)
    assert [row["label"] for row in rows] == [f"[[{score:g}]]" for score in scores]
    assert {row["score"] for row in rows} == {None}
    assert [line["label"] for line in bench.samples] == [row["label"] for row in rows]
    assert [row["score"] for row in rewritten_rows(bench, {})] == scores


def test_another_scale_changes_the_counts(bench: Bench) -> None:
    scores = {row["score"] for row in bench.rows}
    low = sorted(scores)[len(scores) // 2]
    rows = rewritten_rows(bench, {"judge.scale": [1, low]}, code=1)
    assert {row["error_type"] for row in rows if row["status"] == "unparsed"} == {"out_of_scale"}
    run = RunDirectory(bench.directory).read_run()
    assert run["counts"]["unparsed"] == sum(row["status"] == "unparsed" for row in rows) > 0
    assert {row["status"] for row in rewritten_rows(bench, {})} == {"ok"}


def test_prices_labels_and_kept_columns_are_added_without_requests(bench: Bench) -> None:
    prices = {"currency": "CNY", "per": 1000, "models": {"judge-model": {"input": 1, "output": 2}}}
    changes = {
        "prices": prices,
        "dataset.keep": ["topic"],
        "dataset.human_label": "people",
        "dataset.fields.id": "topic",
    }
    rows = rewritten_rows(bench, changes)
    for row in rows:
        assert row["cost"] == pytest.approx((row["prompt_tokens"] + 2 * row["completion_tokens"]) / 1000)
        assert (row["topic"], row["human_score"], row["sample_id"]) == ("t", 4.0, "t")
    assert {row["cost"] for row in rewritten_rows(bench, {})} == {None}
    assert "topic" not in bench.rows[0]


def test_another_aggregation_rewrites_the_samples(bench: Bench) -> None:
    assert {line["status"] for line in bench.samples} == {"ok"}
    rewritten_rows(bench, {"aggregate.min_valid": 2})
    assert {line["status"] for line in bench.samples} == {"unparsed"}


def test_rows_that_were_never_sent_do_not_change(tmp_path: Path, url: str) -> None:
    bench = Bench(tmp_path, url)
    bench.write(3)
    with bench.data.open("a") as data:
        data.write("not JSON\n")
    assert bench.run().exit_code == 1
    rows = rewritten_rows(bench, LETTERS, code=1)
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "failed"]
    assert (rows[3]["error_type"], rows[3]["attempts"], rows[3]["request_hash"]) == ("bad_row", 0, None)


@pytest.mark.parametrize("at", range(3))
def test_after_an_interruption_all_responses_are_parsed_even_with_the_old_settings(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Some parts then have the new settings; a run with the old ones must not take them for up to date."""
    before = bench.rows
    real, done = checksums.put_in_place, 0

    def interrupt(temporary: Path, final: Path) -> None:
        nonlocal done
        if done == at:
            raise KeyboardInterrupt
        done += 1
        real(temporary, final)

    with monkeypatch.context() as patch:
        patch.setattr(checksums, "put_in_place", interrupt)
        with pytest.raises(KeyboardInterrupt):
            bench.run(LETTERS)
    assert sum(row["label"] is not None for row in bench.rows) == min(10, 4 * at)
    rows = rewritten_rows(bench, {})
    for row in rows:
        row["dimensions"] = []
    assert rows == before


def test_a_full_disk_is_reported_and_the_old_parts_remain(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before, asked = bench.rows, bench.request_count
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "put_in_place", full)
        with pytest.raises(RunDirectoryError, match=r"cannot be recovered: .*No space left"):
            bench.run(LETTERS)
    assert (bench.rows, bench.request_count) == (before, asked)
    assert {row["score"] for row in rewritten_rows(bench, LETTERS)} == {None}


def test_a_judge_that_is_configured_again_is_parsed_with_the_current_settings(bench: Bench) -> None:
    both = [{**TEMPLATE, "name": "judge"}, {**TEMPLATE, "name": "second"}]
    bench.run({"judge": ..., "judges": both})
    rewritten_rows(bench, {"judge": ..., "judges": both[:1]})
    both[1] = {**TEMPLATE, "name": "second", "verdict": LETTERS["judge.verdict"]}
    rows = rewritten_rows(bench, {"judge": ..., "judges": both})
    assert {row["judge"] for row in rows if row["label"] is not None} == {"second"}


class SurrogatePanel:
    """A panel whose verdicts contain lone surrogates, as a judge's JSON may."""

    def read_variant(self, variant: int, response: JudgeResponse) -> Verdict:
        return Verdict(score=1.0, explanation="half \ud83d", dimensions=(Dimension("t\udc00", None, 2.0),))


def test_lone_surrogates_are_replaced(bench: Bench) -> None:
    run_directory = RunDirectory(bench.directory)
    schema = run_directory.read_schema()
    context = ReparseContext(SurrogatePanel(), {("judge", False, 0): 0}, (no_price,), None)  # type: ignore[arg-type]
    assert reparse_rows(run_directory.results, schema, "zstd", context) == 10
    assert {row["explanation"] for row in bench.rows} == {"half \ufffd"}
    assert {row["dimensions"][0]["name"] for row in bench.rows} == {"t\ufffd"}
