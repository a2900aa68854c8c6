"""What may change between two runs in one directory: refused, sent or parsed again, as the service counts it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench_run import TEMPLATE, Bench, emulator

from runner import load_config, run
from runner.errors import ConfigError, RunDirectoryError
from runner.planning import check_request_fingerprint, find_stale_columns
from runner.planning.fingerprints import StaleColumns
from runner.results import RunDirectory

PAIR = {"kind": "pai_pairwise", "model": "pai-judge"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator(seed=5) as address:
        yield address


@pytest.fixture
def bench(tmp_path: Path, url: str) -> Bench:
    bench = Bench(tmp_path, url)
    bench.write(6)
    return bench


def check_sent(bench: Bench, expected: int, *args: Any, **options: Any) -> None:
    """Run, and check how many requests the service received."""
    before = bench.request_count
    summary = bench.run(*args, **options)
    assert (summary.exit_code, summary.asked, bench.request_count - before) == (0, expected, expected)


def check_refused(bench: Bench, changes: dict[str, Any], *words: str, **options: Any) -> None:
    """Check that the run is refused with these words, that no row changes and that no request is sent."""
    before, rows = bench.request_count, bench.rows
    with pytest.raises(RunDirectoryError) as caught:
        bench.run(changes, **options)
    for word in words:
        assert word in str(caught.value)
    assert (bench.request_count, bench.rows) == (before, rows)


def test_a_finished_run_sends_nothing_and_has_the_same_exit_code(bench: Bench) -> None:
    check_sent(bench, 6)
    rows = bench.rows
    check_sent(bench, 0)
    assert bench.rows == rows


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"judge.model": "other"}, "model was 'judge-model', is 'other'"),
        ({"judge.parameters": {"temperature": 0.5}}, "parameters was {}, is {'temperature': 0.5}"),
        ({"judge.user": "{question}{answer} Rating: [[n]]"}, "user was"),
        ({"judge.system": "Be strict."}, "system was None, is 'Be strict.'"),
        ({"dataset.fields": {"answer": "question"}}, "fields was"),
        ({"judge": {"kind": "pai_single"}}, "kind was 'template', is 'pai_single'"),
        ({"judge.name": "renamed"}, "its judges are judge; the configuration has renamed"),
        ({"service": {"kind": "emulator"}}, "service.kind was 'http', is 'emulator'"),
    ],
)
def test_the_requests_may_not_change(bench: Bench, changes: dict[str, Any], word: str) -> None:
    bench.run()
    check_refused(bench, changes, word, str(bench.directory), "--run-dir", "--fresh")


def test_rows_of_the_emulator_and_of_a_service_are_never_mixed() -> None:
    real, emulated = {"service.kind": "http"}, {"service.kind": "emulator"}
    for before, now in (({"a": real}, {"a": real, "b": emulated}), ({}, {"a": real, "b": emulated})):
        with pytest.raises(RunDirectoryError, match="rows of the emulator and of a real service never share"):
            check_request_fingerprint("here", before, now)
    check_request_fingerprint("here", {"a": emulated}, {"a": emulated, "b": emulated})


def test_a_larger_run_sends_only_the_missing_requests(bench: Bench) -> None:
    check_sent(bench, 2, limit=2)
    check_sent(bench, 3, limit=5)
    check_sent(bench, 0, limit=1)
    assert len(bench.rows) == 5
    check_sent(bench, 1)
    bench.write(8)
    check_sent(bench, 2)
    check_sent(bench, 8, {"judge.repeats": 2})
    second = [{**TEMPLATE, "name": "judge", "repeats": 2}, {**TEMPLATE, "name": "second"}]
    check_sent(bench, 8, {"judge": ..., "judges": second})
    assert len(bench.rows) == 24
    check_sent(bench, 0, {"judge": ..., "judges": second[1:]})
    assert [len(line["votes"]) for line in bench.samples] == [1] * 8
    check_sent(bench, 0, {"judge": ..., "judges": second[::-1]})
    assert [len(line["votes"]) for line in bench.samples] == [3] * 8


def test_an_additional_judge_does_not_rewrite_the_rows_of_others(bench: Bench) -> None:
    bench.run()
    part = bench.directory / "results" / "part-00000.parquet"
    before = part.stat().st_ino
    bench.run({"judge": ..., "judges": [{**TEMPLATE, "name": "judge"}, {**TEMPLATE, "name": "second"}]})
    assert part.stat().st_ino == before


def test_swap_sends_the_other_order(bench: Bench) -> None:
    bench.config["dataset"]["fields"] = {"answer1": "question", "answer2": "answer"}
    bench.config["judge"] = PAIR
    check_sent(bench, 6)
    check_sent(bench, 6, {"judge.swap": True})
    assert {row["swapped"] for row in bench.rows} == {False, True}
    assert all(line["consistent"] is not None for line in bench.samples)


def test_new_files_that_sort_last_are_sent_and_others_are_compared(bench: Bench) -> None:
    (bench.folder / "many").mkdir()
    bench.config["dataset"]["path"] = "many"
    bench.write(3, name="many/b.jsonl")
    check_sent(bench, 3)
    bench.write(5, first=3, name="many/c.jsonl")
    check_sent(bench, 2)
    bench.write(9, first=8, name="many/a.jsonl")
    check_refused(bench, {}, "5 of 5 requests would differ now", "0-judge-o-0", "--fresh")


def test_a_changed_dataset_is_compared_request_by_request(bench: Bench) -> None:
    bench.run()
    bench.write(6, topic="new column")
    check_sent(bench, 0)
    lines = bench.data.read_text().splitlines()
    changed = json.loads(lines[4])
    changed["answer"] = "another"
    bench.data.write_text("\n".join([*lines[:4], json.dumps(changed), lines[5]]) + "\n")
    check_refused(bench, {}, "1 of 6 requests", "(4-judge-o-0)")
    bench.write(3)
    check_refused(bench, {}, "3 of 6 requests", "3-judge-o-0", "4-judge-o-0", "5-judge-o-0")


def test_changed_labels_and_kept_columns_are_written_to_the_rows(bench: Bench) -> None:
    bench.config["dataset"] |= {"keep": ["topic"], "human_label": "people"}
    bench.write(6, topic="wrong", people=2)
    bench.run()
    bench.write(6, topic="right", people=3)
    check_sent(bench, 0)
    assert {(row["topic"], row["human_score"]) for row in bench.rows} == {("right", 3.0)}
    assert {line["topic"] for line in bench.samples} == {"right"}


def test_kept_columns_may_be_added_removed_and_change_their_type(bench: Bench) -> None:
    bench.write(6, rank="7", note="n")
    bench.run()
    for keep, expected in [
        ({"rank": "rank"}, {"rank": "7"}),
        ({"rank": {"column": "rank", "type": "int64"}}, {"rank": 7}),
        ({"note": "note", "rank": {"column": "rank", "type": "double"}}, {"note": "n", "rank": 7.0}),
        ({}, {}),
    ]:
        check_sent(bench, 0, {"dataset.keep": keep})
        schemas = {pq.read_schema(path).to_string() for path in bench.directory.glob("results/*.parquet")}
        assert len(schemas) == 1
        for row in (*bench.rows, *bench.samples):
            assert {name: value for name, value in row.items() if name in ("rank", "note")} == expected


def test_journal_rows_are_recovered_with_their_original_types(bench: Bench) -> None:
    """A killed run whose `keep` was changed before the next start."""
    bench.write(6, rank="7")
    bench.run({"dataset.keep": {"rank": {"column": "rank", "type": "int64"}}})
    run_directory = RunDirectory(bench.directory)
    (last,) = run_directory.results.glob("part-00001.parquet")
    lines = [{**row, "finished_at": row["finished_at"].isoformat()} for row in pq.read_table(last).to_pylist()]
    (run_directory.journal / "segment-00001.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    last.unlink()
    check_sent(bench, 0, {"dataset.keep": ["rank"]})
    assert [row["rank"] for row in bench.rows] == ["7"] * 6


def test_a_kept_parquet_column_of_another_type_changes_the_schema_of_all_parts(bench: Bench) -> None:
    texts = {"question": [f"q{n}" for n in range(6)], "answer": [f"a{n}" for n in range(6)]}
    path = bench.folder / "data.parquet"
    bench.config["dataset"] = {"path": "data.parquet", "keep": ["rank"]}
    pq.write_table(pa.table({**texts, "rank": pa.array(range(6), pa.int64())}), path)
    bench.run()
    pq.write_table(pa.table({**texts, "rank": pa.array([[n] for n in range(6)], pa.list_(pa.int8()))}), path)
    check_sent(bench, 0)
    assert [row["rank"] for row in bench.rows] == [[n] for n in range(6)]
    assert [line["rank"] for line in bench.samples] == [[n] for n in range(6)]


def test_other_settings_may_change_freely(bench: Bench) -> None:
    bench.run()
    check_sent(bench, 0, {"service.limits": {"concurrency": 2, "rpm": 600}, "name": "renamed", "tags": {"a": "b"}})
    check_sent(bench, 0, {"judge.reask": 3, "output.compression": "snappy", "output.texts": False})
    assert "question" not in bench.samples[0]


def test_a_moved_directory_is_resumed(bench: Bench) -> None:
    bench.run(limit=4)
    moved = bench.folder / "elsewhere" / "run"
    moved.parent.mkdir()
    shutil.move(bench.directory, moved)
    bench.directory = moved
    check_sent(bench, 2, {"output.directory": "elsewhere/run"})
    assert len(bench.rows) == 6


def test_a_run_directory_is_its_own_configuration(bench: Bench) -> None:
    bench.run(limit=4)
    run_directory = RunDirectory(bench.directory)
    summary = run(load_config(run_directory.config, base=Path(run_directory.read_run()["base"])))
    assert (summary.asked, summary.directory) == (2, bench.directory)


def test_fresh_moves_the_old_run_aside(bench: Bench) -> None:
    bench.run()
    check_sent(bench, 6, fresh=True)
    (aside,) = bench.folder.glob("out.*Z")
    assert len(list(aside.glob("results/*.parquet"))) == 2


def test_rows_without_their_run_json_are_refused(bench: Bench) -> None:
    bench.run()
    (bench.directory / "run.json").unlink()
    check_refused(bench, {}, "there are rows but no run.json")


@pytest.mark.parametrize("name", ["votes", "agreement", "consistent"])
def test_a_kept_column_may_not_have_the_name_of_a_samples_column(bench: Bench, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{name}' is a column of samples\.parquet; keep it under another name"):
        bench.run({"dataset.keep": {name: "question"}})


def test_a_kept_column_with_the_name_of_a_text_appears_once_in_the_samples(bench: Bench) -> None:
    bench.write(6, other="kept")
    bench.run({"dataset.keep": {"question": "other"}})
    assert [(line["question"], line["answer"]) for line in bench.samples][:2] == [
        ("kept", "answer 0"),
        ("kept", "answer 1"),
    ]


def test_stale_columns_are_those_with_changed_settings_of_judges_with_rows() -> None:
    before = {"judges": {"a": {"scale": None}}, "columns": {"keep": []}, "prices": None}
    earlier = {"reading": before, "asking": {"a": {}, "left": {}}}
    assert find_stale_columns(earlier, before) == StaleColumns(False, False)
    joined = {**before, "judges": {"a": {"scale": None}, "new": {"scale": [1, 2]}}}
    assert find_stale_columns(earlier, joined) == StaleColumns(False, False)
    back = {**before, "judges": {"a": {"scale": None}, "left": {"scale": None}}}
    assert find_stale_columns(earlier, back) == StaleColumns(verdicts=True, columns=False)
    assert find_stale_columns(earlier, {**before, "prices": {}}) == StaleColumns(verdicts=True, columns=False)
    assert find_stale_columns(earlier, {**before, "columns": {}}) == StaleColumns(verdicts=False, columns=True)
    assert find_stale_columns({**earlier, "reading": None}, before) == StaleColumns(True, True)


def test_every_difference_of_every_judge_is_reported() -> None:
    before = {"a": {"model": "m", "kind": "k"}, "b": {"model": "m", "kind": "k"}}
    now = {"a": {"model": "n", "kind": "l"}, "b": {"model": "x" * 200, "kind": "k"}, "c": {"model": "m", "kind": "k"}}
    with pytest.raises(RunDirectoryError) as caught:
        check_request_fingerprint("here", before, now)
    message = str(caught.value)
    for part in ("judge 'a': model was 'm', is 'n'", "judge 'a': kind was 'k', is 'l'", "judge 'b': model was 'm'"):
        assert part in message
    assert "'c'" not in message
    assert len(message) < 600
