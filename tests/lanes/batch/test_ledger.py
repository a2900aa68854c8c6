"""The state files of shards, and how a later run uses them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec
import pyarrow.parquet as pq
import pytest
from batch_lane_run import COMPLETE, DETACHED, Bench, exit_of
from fake_batch_service import (
    FakeBatchService,
    all_answered,
    answered_line,
    ending,
    error_reply,
    failed_line,
    first,
    lines,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import RunDirectoryError, UsageError
from runner.lanes.batch import Ledger
from runner.lanes.batch.ledger import Shard, ShardEntry, Step
from runner.lanes.batch.submitted import entry_line


def shard(number: int = 0, step: Step = "poll", **more: Any) -> Shard:
    ids = {"batch_id": f"b-{number}", "input_file_id": f"f-{number}"}
    return Shard(number, step, "default", "http://here/v1", 3, 100, **{**ids, **more})


def stored(ledger: Ledger, one: Shard) -> Shard:
    """Save a shard with all its files."""
    ledger.create()
    for path in (ledger.requests, ledger.members, ledger.output, ledger.errors):
        path(one.number).write_bytes(b"{}\n")
    return ledger.save(one)


TEXTS = st.text(max_size=12) | st.just('"\\\n\u2028好')
SHARDS = st.builds(
    Shard,
    number=st.integers(0, 200_000),
    step=st.sampled_from(get_args(Step)),
    service=TEXTS,
    base_url=st.just("http://here/v1"),
    requests=st.integers(0, 1 << 40),
    size=st.integers(0, 1 << 40),
    replaces=st.booleans(),
    input_file_id=st.just("file-好"),
    sent_at=st.none() | st.floats(0, 1e10),
    batch_id=st.uuids().map(str),
    cancelled_at=st.none() | st.floats(0, 1e10),
    finished=st.integers(0, 99),
    ended=st.none() | TEXTS,
    reason=TEXTS,
    stuck=st.none() | TEXTS,
    former=st.lists(TEXTS, max_size=3).map(tuple),
    kept_files=st.lists(TEXTS, max_size=3).map(tuple),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(SHARDS, max_size=4, unique_by=lambda one: one.number))
def test_saved_shards_are_loaded_again(shards: list[Shard]) -> None:
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "batches")
        ledger.create()
        for one in shards:
            assert ledger.save(one) == one
        again = Ledger(ledger.folder)
        assert list(again.shards.values()) == sorted(shards, key=lambda one: one.number)
        assert again.next_number == 1 + max((one.number for one in shards), default=-1)
        assert [one.number for one in again.open_shards] == sorted(one.number for one in shards if one.step != "closed")
        assert not list(ledger.folder.glob(".*"))


def test_a_missing_folder_is_an_empty_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "batches")
    ledger.clean_up()
    assert (ledger.shards, ledger.next_number, ledger.open_shards, list(ledger.leftovers())) == ({}, 0, [], [])
    assert not ledger.folder.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b'{"number": 0}',
        b'{"number":"0","step":"poll","service":"s","base_url":"u","requests":1,"size":1}',
        b'{"number":0,"step":"poll","service":"s","base_url":"u","requests":1,"size":1,"former":"b"}',
        b'{"number":0,"step":"a step of later versions","service":"s","base_url":"u","requests":1,"size":1}',
    ],
)
def test_the_error_names_a_damaged_state_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shard-00000.json"
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"shard-00000\.json: cannot be read: .*put it back, or move it away"):
        Ledger(tmp_path)


def test_keys_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(shard(batch_id="b-1"))
    path = tmp_path / "shard-00000.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": {"x": [1]}}))
    assert Ledger(tmp_path).shards == {0: shard(batch_id="b-1")}


def test_clean_up_removes_incomplete_and_closed_shards(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    stored(ledger, shard(0, "reconcile"))
    stored(ledger, shard(1, "delete"))
    ledger.write_leftovers(1, ["5-judge-o-0"])
    ledger.save(shard(1, "closed"))
    ledger.output(1).write_bytes(b"made again by a crash")
    ledger.requests(2).write_bytes(b"never whole")
    ledger.members(2).write_bytes(b"")
    (tmp_path / ".shard-00000.output.jsonl.tmp").write_bytes(b"half")
    (tmp_path / ".shard-00007.json.tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"the user's own")
    (tmp_path / "shard.json").write_bytes(b"the user's own")
    again = Ledger(tmp_path)
    again.clean_up()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "notes.txt",
        "shard-00000.errors.jsonl",
        "shard-00000.json",
        "shard-00000.members.jsonl",
        "shard-00000.output.jsonl",
        "shard-00000.requests.jsonl",
        "shard-00001.json",
        "shard-00001.left",
        "shard.json",
    ]
    assert list(again.leftovers()) == ["5-judge-o-0"]


def test_a_leftover_counts_once_per_collected_batch(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create()
    for number, step in enumerate(("closed", "closed", "delete", "reconcile")):
        ledger.write_leftovers(number, ["1-judge-o-0", f"{number + 5}-judge-o-0"])
        ledger.save(shard(number, step))  # type: ignore[arg-type]
    ledger.write_leftovers(4, [])
    ledger.save(shard(4, "closed"))
    assert list(ledger.leftovers()).count("1-judge-o-0") == 3
    assert "8-judge-o-0" not in ledger.leftovers()


def test_the_view_of_open_shards_for_status_json(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(shard(0, "closed", ended="completed", answered=3))
    ledger.save(shard(1, created_at=time.time() - 60, word="Running", finished=2, batch_id="b-1"))
    ledger.save(shard(2, stuck="why"))
    ledger.save(shard(3, cancelled_at=5.0))
    ledger.save(shard(4, "reconcile", finished=3, answered=1))
    ledger.save(shard(5, "confirm"))
    ledger.record_job(msgspec.structs.replace(ledger.shards[1], finished=3))
    assert ledger.by_state() == {
        "completed": 1,
        "running": 1,
        "undecided": 1,
        "cancelling": 1,
        "collecting": 1,
        "creating": 1,
    }
    assert ledger.answered_lines() == 3 + 2
    job = ledger.jobs()[0]
    assert job.pop("age_s") == pytest.approx(60, abs=5)
    assert job.pop("created_at", None) == ledger.shards[1].created_at
    assert job == {
        "shard": 1,
        "batch_id": "b-1",
        "state": "running",
        "word": "Running",
        "requests": 3,
        "finished": 3,
        "stuck": None,
    }
    assert Ledger(tmp_path).shards[1].finished == 2  # what a poll saw is not saved


@pytest.mark.parametrize("damage", [b"{", b"\xff\n", b'{"custom_id":"\xff"}\n', b"[]\n", b"", None])
def test_the_error_names_damaged_members(tmp_path: Path, damage: bytes | None) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(shard())
    if damage is not None:
        ledger.members(0).write_bytes(damage)
    with pytest.raises(RunDirectoryError, match=r"shard-00000\.members\.jsonl: cannot be read"):
        list(ledger.read_members(0))


def test_the_error_names_a_damaged_list_of_leftovers(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_leftovers(0, ["1-judge-o-0"])
    ledger.save(shard(0, "closed"))
    (tmp_path / "shard-00000.left").write_bytes(b"\xff\n")
    with pytest.raises(RunDirectoryError, match=r"shard-00000\.left: cannot be read"):
        list(ledger.leftovers())


# How a later run treats open shards


Change = Callable[[Bench], object]
REFUSALS: list[tuple[Change, dict[str, Any], str]] = [
    (lambda bench: bench.write(6, answer="another"), {}, "6 of 6 requests would differ now"),
    (lambda bench: bench.write(5), {}, "requests would differ now"),
    (lambda _: None, {"limit": 3}, r"3-judge-o-0, but it is beyond --limit.*with the judges and the limit"),
    (
        lambda bench: (bench.directory / "batches" / "shard-00000.json").write_text("{"),
        {},
        r"shard-00000\.json: cannot be read",
    ),
    (
        lambda bench: (bench.directory / "batches" / "shard-00000.members.jsonl").write_bytes(b"\xff"),
        {},
        r"shard-00000\.members\.jsonl: cannot be read",
    ),
    (lambda bench: (bench.directory / "run.json").unlink(), {}, r"run\.json"),
]


async def detached_run(folder: Path, service: FakeBatchService, rows: int = 6, **sections: Any) -> Bench:
    """A run that left its batches running."""
    service.end = lambda _, __: {"status": "Creating"}
    bench = Bench(folder, service.url, rows, **sections)
    summary = await bench.run(detach=True)
    assert exit_of(summary) == DETACHED
    assert bench.record["batches"] == {"running": len(service.jobs)}
    service.end = all_answered
    return bench


@pytest.mark.anyio
@pytest.mark.parametrize(("change", "options", "words"), REFUSALS)
async def test_changes_that_conflict_with_open_batches_are_refused(
    tmp_path: Path, change: Change, options: dict[str, Any], words: str
) -> None:
    async with FakeBatchService() as service:
        bench = await detached_run(tmp_path, service, dataset={"path": "data.jsonl"})
        calls = service.calls.copy()
        change(bench)
        with pytest.raises(UsageError, match=words):
            await bench.run(**options)
        assert service.calls == calls


@pytest.mark.anyio
async def test_removing_a_judge_is_refused_while_it_has_open_batches(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        judges = [{"name": name, "kind": "pai_single"} for name in ("one", "two")]
        bench = Bench(tmp_path, service.url)
        del bench.config["judge"]
        bench.config["judges"] = judges
        service.end = lambda _, __: {"status": "Creating"}
        assert exit_of(await bench.run(detach=True)) == DETACHED
        bench.config["judges"] = judges[:1]
        with pytest.raises(UsageError, match="0-two-o-0, but no judge makes this request any more"):
            await bench.run()
        bench.config["judges"] = judges[::-1]  # judges are identified by name, not by position
        service.end = all_answered
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(bench.all_rows), service.submitted_twice) == (8, {})
        bench.config["judges"] = judges[:1]
        assert exit_of(await bench.run()) == COMPLETE


@pytest.mark.anyio
async def test_detached_batches_are_collected_later(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = await detached_run(tmp_path, service, batch={"shard_lines": 2})
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.submitted_twice, bench.column("route")) == (3, {}, ["batch"] * 6)


@pytest.mark.anyio
async def test_columns_kept_later_reach_the_rows_of_open_batches(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = Bench(tmp_path, service.url, 6, dataset={"keep": ["subset"]}, batch={"shard_lines": 3})
        bench.write(6, subset="歌", level=3)
        service.end = lambda number, ids: all_answered(0, ids) if number == 0 else {"status": "Creating"}
        assert exit_of(await bench.run(detach=True)) == DETACHED
        assert bench.column("subset") == ["歌"] * 3
        service.end = all_answered
        bench.config["dataset"]["keep"] = ["level"]
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("level") == ["3"] * 6
        assert all("subset" not in row for row in bench.all_rows)
        samples = pq.read_table(bench.directory / "samples.parquet").to_pylist()
        assert [line["level"] for line in samples] == ["3"] * 6
        assert (service.submitted_twice, service.online_calls) == ({}, {})


@pytest.mark.anyio
async def test_open_batches_stay_at_their_address_when_the_service_moves(tmp_path: Path) -> None:
    async with FakeBatchService() as before, FakeBatchService() as service:
        bench = await detached_run(tmp_path, before, 4)
        bench.write(6)
        bench.config["service"]["base_url"] = service.url
        assert exit_of(await bench.run()) == COMPLETE
        assert [before.submitted.total(), service.submitted.total()] == [4, 2]
        assert (before.files, service.files) == ({}, {})
        assert (bench.shard(0)["base_url"], bench.shard(1)["base_url"]) == (before.url, service.url)


@pytest.mark.anyio
async def test_samples_appended_while_batches_are_open_go_into_new_batches(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = await detached_run(tmp_path, service, 4)
        bench.write(7)
        assert exit_of(await bench.run()) == COMPLETE
        assert [len(job["ids"]) for job in service.jobs.values()] == [4, 3]
        assert (len(bench.rows), service.submitted_twice) == (7, {})


@pytest.mark.anyio
async def test_columns_outside_the_requests_may_change_while_batches_are_open(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = Bench(tmp_path, service.url, 4, dataset={"keep": ["level"]})
        bench.write(4, level=1)
        service.end = lambda _, __: {"status": "Creating"}
        assert exit_of(await bench.run(detach=True)) == DETACHED
        bench.write(4, level=2)
        service.end = all_answered
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("level") == ["2"] * 4


@pytest.mark.anyio
@pytest.mark.parametrize("stop", ["detach", "authentication", "collected"])
async def test_an_interrupted_retry_by_batch_keeps_its_paid_answers(tmp_path: Path, stop: str) -> None:
    """Rows 1 and 3 failed. They are sent again by batch, and the run after that has no `--retry`."""

    def refused(_: int, ids: list[str]) -> dict[str, Any]:
        failing = [name for name in ids if name[0] in "13"]
        answered = [answered_line(name) for name in ids if name not in failing]
        return ending(output=lines(*answered, *(failed_line(name, 400, "no") for name in failing)))

    async with FakeBatchService(refused) as service:
        bench = Bench(tmp_path, service.url, 5)
        assert exit_of(await bench.run()) == (1, None)
        assert [row["status"] for row in bench.all_rows].count("failed") == 2
        service.end = (lambda _, __: {"status": "Creating"}) if stop == "detach" else all_answered
        if stop == "authentication":
            service.hooks["content"] = first(service.calls["content"] + 1, lambda: error_reply(401))
        if stop == "collected":
            service.hooks["delete"] = first(service.calls["delete"] + 1, lambda: error_reply(401))
        summary = await bench.run(retry=("failed",), detach=stop == "detach")
        assert exit_of(summary) == (DETACHED if stop == "detach" else (3, "authentication"))
        assert len(bench.rows) == 5
        service.end = all_answered
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("status") == ["ok"] * 5
        assert [bench.rows[n]["batch_id"] for n in (0, 1, 3)] == ["batch-0", "batch-1", "batch-1"]
        assert bench.column("attempts") == [1, 2, 1, 2, 1]
        assert service.submitted_twice == {"1-judge-o-0": 2, "3-judge-o-0": 2}
        assert service.online_calls.total() == 0
        assert exit_of(await bench.run()) == COMPLETE
        assert len(service.jobs) == 2


def test_an_entry_is_one_line() -> None:
    member = ShardEntry("0-judge-o-0", "h", "a\nb", 0, msgspec.Raw(b'{"x":"\\n"}'))
    line = entry_line(member)
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=ShardEntry) == member
