"""The state files of shards, and what a later run makes of those it finds."""

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
from batch_lane_run import AWAY, FINE, Bench, how
from fake_batch_service import Scripted, all_answered, bad, ending, first, good, lines, said
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import RunDirectoryError, UsageError
from runner.lanes.batch import Ledger
from runner.lanes.batch.ledger import Shard, ShardEntry, Step
from runner.lanes.batch.submitted import entry_line


def shard(number: int = 0, step: Step = "poll", **more: Any) -> Shard:
    return Shard(number, step, "default", "http://here/v1", 3, 100, **more)


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
    base_url=TEXTS,
    requests=st.integers(0, 1 << 40),
    size=st.integers(0, 1 << 40),
    replaces=st.booleans(),
    input_file_id=st.none() | TEXTS,
    sent_at=st.none() | st.floats(0, 1e10),
    batch_id=st.none() | TEXTS,
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
def test_what_was_saved_is_found_again(shards: list[Shard]) -> None:
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


def test_a_folder_that_is_not_there_is_an_empty_ledger(tmp_path: Path) -> None:
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
def test_a_damaged_state_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "shard-00000.json"
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"shard-00000\.json: cannot be read: .*put it back, or move it away"):
        Ledger(tmp_path)


def test_keys_of_a_later_version_do_no_harm(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(shard(batch_id="b-1"))
    path = tmp_path / "shard-00000.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "later": {"x": [1]}}))
    assert Ledger(tmp_path).shards == {0: shard(batch_id="b-1")}


def test_tidying_removes_what_was_begun_and_what_is_over(tmp_path: Path) -> None:
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


def test_left_counts_once_for_each_batch_that_is_collected(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.create()
    for number, step in enumerate(("closed", "closed", "delete", "reconcile")):
        ledger.write_leftovers(number, ["1-judge-o-0", f"{number + 5}-judge-o-0"])
        ledger.save(shard(number, step))  # type: ignore[arg-type]
    ledger.write_leftovers(4, [])
    ledger.save(shard(4, "closed"))
    assert list(ledger.leftovers()).count("1-judge-o-0") == 3
    assert "8-judge-o-0" not in ledger.leftovers()


def test_what_those_who_watch_are_told(tmp_path: Path) -> None:
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
    assert Ledger(tmp_path).shards[1].finished == 2  # what was only seen is not kept


@pytest.mark.parametrize("damage", [b"{", b"\xff\n", b'{"custom_id":"\xff"}\n', b"[]\n", b"", None])
def test_damaged_members_are_named(tmp_path: Path, damage: bytes | None) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(shard())
    if damage is not None:
        ledger.members(0).write_bytes(damage)
    with pytest.raises(RunDirectoryError, match=r"shard-00000\.members\.jsonl: cannot be read"):
        list(ledger.read_members(0))


def test_a_damaged_list_of_what_was_left_is_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write_leftovers(0, ["1-judge-o-0"])
    ledger.save(shard(0, "closed"))
    (tmp_path / "shard-00000.left").write_bytes(b"\xff\n")
    with pytest.raises(RunDirectoryError, match=r"shard-00000\.left: cannot be read"):
        list(ledger.leftovers())


# What a later run makes of open shards


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


async def away(folder: Path, service: Scripted, rows: int = 6, **sections: Any) -> Bench:
    """A run that left its batches running."""
    service.end = lambda _, __: {"status": "Creating"}
    bench = Bench(folder, service.url, rows, **sections)
    summary = await bench.run(detach=True)
    assert how(summary) == AWAY
    assert bench.record["batches"] == {"running": len(service.jobs)}
    service.end = all_answered
    return bench


@pytest.mark.anyio
@pytest.mark.parametrize(("change", "options", "words"), REFUSALS)
async def test_what_does_not_fit_open_batches_is_refused(
    tmp_path: Path, change: Change, options: dict[str, Any], words: str
) -> None:
    async with Scripted() as service:
        bench = await away(tmp_path, service, dataset={"path": "data.jsonl"})
        calls = service.calls.copy()
        change(bench)
        with pytest.raises(UsageError, match=words):
            await bench.run(**options)
        assert service.calls == calls


@pytest.mark.anyio
async def test_a_judge_that_leaves_the_panel_is_refused_while_it_has_batches(tmp_path: Path) -> None:
    async with Scripted() as service:
        judges = [{"name": name, "kind": "pai_single"} for name in ("one", "two")]
        bench = Bench(tmp_path, service.url)
        del bench.config["judge"]
        bench.config["judges"] = judges
        service.end = lambda _, __: {"status": "Creating"}
        assert how(await bench.run(detach=True)) == AWAY
        bench.config["judges"] = judges[:1]
        with pytest.raises(UsageError, match="0-two-o-0, but no judge makes this request any more"):
            await bench.run()
        bench.config["judges"] = judges[::-1]  # known by name, not by place
        service.end = all_answered
        assert how(await bench.run()) == FINE
        assert (len(bench.all_rows), service.twice) == (8, {})
        bench.config["judges"] = judges[:1]
        assert how(await bench.run()) == FINE


@pytest.mark.anyio
async def test_detached_batches_are_collected_later(tmp_path: Path) -> None:
    async with Scripted() as service:
        bench = await away(tmp_path, service, batch={"shard_lines": 2})
        assert how(await bench.run()) == FINE
        assert (len(service.jobs), service.twice, bench.column("route")) == (3, {}, ["batch"] * 6)


@pytest.mark.anyio
async def test_kept_columns_that_change_under_open_batches_stand_in_their_rows(tmp_path: Path) -> None:
    async with Scripted() as service:
        bench = Bench(tmp_path, service.url, 6, dataset={"keep": ["subset"]}, batch={"shard_lines": 3})
        bench.write(6, subset="歌", level=3)
        service.end = lambda number, ids: all_answered(0, ids) if number == 0 else {"status": "Creating"}
        assert how(await bench.run(detach=True)) == AWAY
        assert bench.column("subset") == ["歌"] * 3
        service.end = all_answered
        bench.config["dataset"]["keep"] = ["level"]
        assert how(await bench.run()) == FINE
        assert bench.column("level") == ["3"] * 6
        assert all("subset" not in row for row in bench.all_rows)
        samples = pq.read_table(bench.directory / "samples.parquet").to_pylist()
        assert [line["level"] for line in samples] == ["3"] * 6
        assert (service.twice, service.asked) == ({}, {})


@pytest.mark.anyio
async def test_open_batches_stay_where_they_are_when_the_service_moves(tmp_path: Path) -> None:
    async with Scripted() as before, Scripted() as service:
        bench = await away(tmp_path, before, 4)
        bench.write(6)
        bench.config["service"]["base_url"] = service.url
        assert how(await bench.run()) == FINE
        assert [before.submitted.total(), service.submitted.total()] == [4, 2]
        assert (before.files, service.files) == ({}, {})
        assert (bench.shard(0)["base_url"], bench.shard(1)["base_url"]) == (before.url, service.url)


@pytest.mark.anyio
async def test_rows_appended_under_open_batches_are_asked_besides(tmp_path: Path) -> None:
    async with Scripted() as service:
        bench = await away(tmp_path, service, 4)
        bench.write(7)
        assert how(await bench.run()) == FINE
        assert [len(job["ids"]) for job in service.jobs.values()] == [4, 3]
        assert (len(bench.rows), service.twice) == (7, {})


@pytest.mark.anyio
async def test_columns_nobody_asks_about_may_change_under_open_batches(tmp_path: Path) -> None:
    async with Scripted() as service:
        bench = Bench(tmp_path, service.url, 4, dataset={"keep": ["level"]})
        bench.write(4, level=1)
        service.end = lambda _, __: {"status": "Creating"}
        assert how(await bench.run(detach=True)) == AWAY
        bench.write(4, level=2)
        service.end = all_answered
        assert how(await bench.run()) == FINE
        assert bench.column("level") == ["2"] * 4


@pytest.mark.anyio
@pytest.mark.parametrize("stop", ["detach", "authentication", "collected"])
async def test_a_retry_by_batch_that_was_cut_off_keeps_its_paid_answers(tmp_path: Path, stop: str) -> None:
    """Rows 1 and 3 failed; they are asked again by batch, and the next run does not say `--retry`."""

    def refused(_: int, ids: list[str]) -> dict[str, Any]:
        failing = [name for name in ids if name[0] in "13"]
        answered = [good(name) for name in ids if name not in failing]
        return ending(output=lines(*answered, *(bad(name, 400, "no") for name in failing)))

    async with Scripted(refused) as service:
        bench = Bench(tmp_path, service.url, 5)
        assert how(await bench.run()) == (1, None)
        assert [row["status"] for row in bench.all_rows].count("failed") == 2
        service.end = (lambda _, __: {"status": "Creating"}) if stop == "detach" else all_answered
        if stop == "authentication":
            service.hooks["content"] = first(service.calls["content"] + 1, lambda: said(401))
        if stop == "collected":
            service.hooks["delete"] = first(service.calls["delete"] + 1, lambda: said(401))
        summary = await bench.run(retry=("failed",), detach=stop == "detach")
        assert how(summary) == (AWAY if stop == "detach" else (3, "authentication"))
        assert len(bench.rows) == 5
        service.end = all_answered
        assert how(await bench.run()) == FINE
        assert bench.column("status") == ["ok"] * 5
        assert [bench.rows[n]["batch_id"] for n in (0, 1, 3)] == ["batch-0", "batch-1", "batch-1"]
        assert bench.column("attempts") == [1, 2, 1, 2, 1]
        assert service.twice == {"1-judge-o-0": 2, "3-judge-o-0": 2}
        assert service.asked.total() == 0
        assert how(await bench.run()) == FINE
        assert len(service.jobs) == 2


def test_a_member_is_one_line() -> None:
    member = ShardEntry("0-judge-o-0", "h", "a\nb", 0, msgspec.Raw(b'{"x":"\\n"}'))
    line = entry_line(member)
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=ShardEntry) == member
