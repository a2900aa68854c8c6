"""Writing pending requests into shards: every request is in exactly one, and none is too large."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.config import JudgeConfig
from runner.judge import Panel
from runner.lanes.batch import BatchEndpoint, Ledger, ShardPacker, ShardSpec, request_line
from runner.lanes.batch.ledger import Shard, ShardEntry
from runner.results import CompletionIndex
from runner.types import Failure, JudgeRequest, RequestResult, Sample

CHINESE = "为什么天空是蓝色的?"
DIALECTS = ("pai", "openai", "dashscope")
TWO_MODELS = ("pai-judge", "pai-judge-plus")


def sample(ordinal: int, answer: str = "answer", **columns: Any) -> Sample:
    fields = {"question": CHINESE, "answer": answer}
    return Sample(ordinal, f"s{ordinal}", fields, fields, columns, f"data.jsonl:{ordinal + 1}")


def judge(name: str = "judge", model: str = "pai-judge", **more: Any) -> JudgeConfig:
    return JudgeConfig(name=name, kind="pai_single", model=model, **more)


class Packed(NamedTuple):
    """The shards and rows that a packer made."""

    ledger: Ledger
    shards: list[Shard]
    done: CompletionIndex
    rows: dict[str, RequestResult]
    files: dict[int, list[dict[str, Any]]]
    raw: dict[int, bytes]

    def members(self, shard: Shard) -> list[ShardEntry]:
        return list(self.ledger.read_members(shard.number))


class Pending:
    """Pending requests, a chunk of which is ready at a time."""

    def __init__(self, samples: Sequence[Sample], variants: int, chunk: int) -> None:
        self._left = [(one, variant) for one in samples for variant in range(variants)]
        self._chunk = chunk
        self._at_hand = 0

    def next_now(self) -> tuple[Sample, int] | None:
        if not self._at_hand:
            return None
        self._at_hand -= 1
        return self._left.pop(0)

    async def fill(self) -> bool:
        await asyncio.sleep(0)
        self._at_hand = min(self._chunk, len(self._left))
        return self._at_hand > 0


class Rows:
    """Takes the failed rows of samples without a valid request."""

    def __init__(self, done: CompletionIndex) -> None:
        self.done = done
        self.rows: dict[str, RequestResult] = {}

    def record(self, request: JudgeRequest, asked: RequestResult) -> None:
        assert request.custom_id not in self.rows
        self.rows[request.custom_id] = asked

    async def wait_for_capacity(self) -> None:
        await asyncio.sleep(0)


def packer_of(folder: Path, pending: Any, panel: Panel, rows: Any, **more: Any) -> ShardPacker:
    options: dict[str, Any] = {"max_bytes": 1e6, "max_lines": 50, "float_columns": (), **more}
    endpoints = options.pop("endpoints", [BatchEndpoint("default", "http://here/v1", options.pop("dialect", "pai"))])
    by_judge = endpoints if isinstance(endpoints, dict) else {judge.name: endpoints for judge in panel.judges}
    spec = ShardSpec(
        [by_judge[judge.name] for judge in panel.judges], options.pop("max_bytes"), options.pop("max_lines")
    )
    return ShardPacker(Ledger(folder / "batches"), pending, panel, rows, spec, **options)


def pack(
    folder: Path,
    samples: Sequence[Sample],
    judges: Sequence[JudgeConfig] = (judge(),),
    workers: int = 1,
    chunk: int = 7,
    owners: Sequence[str] = (),
    **more: Any,
) -> Packed:
    """Pack everything with a number of workers."""
    panel = Panel(judges)
    done = CompletionIndex(len(samples), {(v.judge, v.swapped, v.repeat): n for n, v in enumerate(panel.variants)})
    done.owners = dict.fromkeys(owners, 0)
    rows = Rows(done)
    packer = packer_of(folder, Pending(samples, len(panel.variants), chunk), panel, rows, **more)
    shards: list[Shard] = []

    async def work() -> None:
        while (shard := await packer.next()) is not None:
            shards.append(shard)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())

    asyncio.run(main())
    packer.release_all()
    ledger = Ledger(folder / "batches")
    raw = {shard.number: ledger.requests(shard.number).read_bytes() for shard in shards}
    files = {number: [json.loads(line) for line in content.splitlines()] for number, content in raw.items()}
    return Packed(ledger, shards, done, rows.rows, files, raw)


def test_a_line_of_each_dialect(tmp_path: Path) -> None:
    request = Panel([judge()]).request(sample(7), 0)
    where = b'"method":"POST","url":"/v1/chat/completions",'
    for dialect in DIALECTS:
        line = request_line(request, dialect)
        between = b"" if dialect == "pai" else where
        assert line == b'{"custom_id":"7-judge-o-0",' + between + b'"body":' + request.body + b"}\n"
        assert CHINESE.encode() in line  # without escapes, which would double its length
        assert json.loads(line)["body"]["model"] == "pai-judge"
    packed = pack(tmp_path, [sample(0)], dialect="dashscope")
    assert sorted(packed.files[0][0]) == ["body", "custom_id", "method", "url"]


def test_a_shard_describes_its_file_and_its_members(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"human_score": 3.5, "subset": "歌", "ratio": math.inf}
    packed = pack(tmp_path, [sample(n, **columns) for n in range(3)], float_columns=("ratio",))
    shard = packed.shards[0]
    assert shard.mark is not None and shard.upload_name == f"{shard.mark}.jsonl"
    assert shard == Shard(0, "upload", "default", "http://here/v1", 3, len(packed.raw[0]), mark=shard.mark)
    assert packed.ledger.shards == {0: shard}
    members = packed.members(shard)
    assert [member.custom_id for member in members] == [line["custom_id"] for line in packed.files[0]]
    assert [(member.ordinal, member.sample_id) for member in members] == [(0, "s0"), (1, "s1"), (2, "s2")]
    assert [m.request_hash for m in members] == [Panel([judge()]).request(sample(n), 0).request_hash for n in range(3)]
    stored = msgspec.json.decode(members[0].columns)
    assert (stored["human_score"], stored["subset"]) == (3.5, "歌")


def test_a_line_is_one_line_for_every_reader(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\u0085four\x0bfive\x1csix\r\nseven 好"
    packed = pack(tmp_path, [sample(0, text), sample(1)])
    lines = packed.raw[0].decode().splitlines()
    assert [json.loads(line) for line in lines] == packed.files[0]
    assert packed.files[0][0]["body"]["messages"][0]["content"][0]["json"]["answer"] == text
    assert "好" in lines[0]


def test_the_limits_hold_to_the_byte_and_to_the_line(tmp_path: Path) -> None:
    size = len(request_line(Panel([judge()]).request(sample(0), 0), "pai"))
    for name, max_bytes, max_lines, sizes in (
        ("lines", 1e6, 3, [3, 3, 3, 1]),
        ("bytes", 3 * size, 50, [3, 3, 3, 1]),
        ("a byte less", 3 * size - 1, 50, [2, 2, 2, 2, 2]),
        ("one each", size, 50, [1] * 10),
        ("all", 10 * size, 10, [10]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        packed = pack(folder, [sample(n) for n in range(10)], max_bytes=max_bytes, max_lines=max_lines)
        assert [shard.requests for shard in packed.shards] == sizes
        assert all(shard.size <= max_bytes for shard in packed.shards)


def test_the_size_counts_utf_8_bytes(tmp_path: Path) -> None:
    packed = pack(tmp_path, [sample(n, "好" * 1000) for n in range(10)], max_bytes=10_000)
    assert [shard.requests for shard in packed.shards] == [3, 3, 3, 1]
    assert all(3000 * shard.requests < shard.size == len(packed.raw[shard.number]) for shard in packed.shards)


def test_a_line_too_large_for_a_file_is_a_failed_row_and_loses_no_other(tmp_path: Path) -> None:
    samples = [sample(n, "好" * (1000 if n in (0, 4, 5, 9) else 1)) for n in range(10)]
    packed = pack(tmp_path, samples, max_bytes=2000, max_lines=4)
    assert sorted(packed.rows) == ["0-judge-o-0", "4-judge-o-0", "5-judge-o-0", "9-judge-o-0"]
    for custom_id, asked in packed.rows.items():
        assert isinstance(asked.outcome, Failure)
        assert asked.outcome.error_type == "bad_row"
        assert f"data.jsonl:{int(custom_id[0]) + 1}: 3," in asked.outcome.message
        assert "batch.shard_mb" in asked.outcome.message
        assert (asked.attempts, asked.route) == (0, None)
    assert [line["custom_id"][0] for file in packed.files.values() for line in file] == list("123678")


def test_a_sample_without_a_valid_request_is_a_failed_row(tmp_path: Path) -> None:
    broken = Sample(1, "s1", {}, {}, {}, "data.jsonl:2", "not JSON")
    packed = pack(tmp_path, [sample(0), broken, sample(2)])
    assert [asked.outcome for asked in packed.rows.values()] == [Failure("bad_row", "data.jsonl:2: not JSON")]
    assert packed.shards[0].requests == 2


def test_no_pending_requests_make_no_shard(tmp_path: Path) -> None:
    assert pack(tmp_path, []).shards == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_models_share_a_file_only_if_the_dialect_allows_it(tmp_path: Path, dialect: str) -> None:
    judges = [judge("a", TWO_MODELS[0]), judge("b", TWO_MODELS[1]), judge("c", TWO_MODELS[0])]
    packed = pack(tmp_path, [sample(n) for n in range(10)], judges, dialect=dialect, max_lines=8)
    models = [{line["body"]["model"] for line in file} for file in packed.files.values()]
    if dialect == "pai":
        assert models == [set(TWO_MODELS)] * 4
    else:
        assert sorted(map(sorted, models)) == [["pai-judge"]] * 3 + [["pai-judge-plus"]] * 2
    assert sorted(shard.number for shard in packed.shards) == list(range(len(packed.shards)))


def test_a_shard_records_if_it_replaces_rows(tmp_path: Path) -> None:
    packed = pack(tmp_path, [sample(n) for n in range(6)], max_lines=2, owners=["2-judge-o-0"])
    assert [shard.replaces for shard in packed.shards] == [False, True, False]


def test_packed_requests_are_submitted_until_their_open_shard_is_abandoned(tmp_path: Path) -> None:
    panel, samples = Panel([judge()]), [sample(n) for n in range(5)]
    done = CompletionIndex(5, {("judge", False, 0): 0})
    packer = packer_of(tmp_path, Pending(samples, 1, 9), panel, Rows(done), max_lines=2)
    shard = asyncio.run(packer.next())
    assert shard is not None
    assert (done.submitted(), done.missing()) == (3, 2)  # the third is in the next open shard
    packer.release_all()
    assert (done.submitted(), done.missing()) == (2, 3)
    assert [done.is_done_or_submitted(n, 0) for n in range(5)] == [True, True, False, False, False]
    ledger = Ledger(tmp_path / "batches")
    ledger.clean_up()
    assert sorted(path.name for path in ledger.folder.iterdir()) == [
        "shard-00000.json",
        "shard-00000.members.jsonl",
        "shard-00000.requests.jsonl",
    ]
    assert ledger.next_number == 1


SIZES = st.lists(st.sampled_from([0, 1, 5, 60, 300]), max_size=25)
PANELS = st.sampled_from(
    [
        [judge()],
        [judge("a", TWO_MODELS[0], repeats=2)],
        [judge("a", TWO_MODELS[0]), judge("b", TWO_MODELS[1])],
        [judge("a", TWO_MODELS[0], repeats=2), judge("b", TWO_MODELS[1]), judge("c", TWO_MODELS[0])],
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    sizes=SIZES,
    judges=PANELS,
    dialect=st.sampled_from(DIALECTS),
    max_bytes=st.sampled_from([320, 500, 900, 2500, 1e6]),
    max_lines=st.integers(1, 9),
    workers=st.integers(1, 3),
    chunk=st.integers(1, 80),
)
def test_every_request_is_in_exactly_one_shard_or_a_failed_row(
    sizes: list[int],
    judges: list[JudgeConfig],
    dialect: str,
    max_bytes: float,
    max_lines: int,
    workers: int,
    chunk: int,
) -> None:
    samples = [sample(n, "好" * size) for n, size in enumerate(sizes)]
    limits = SimpleNamespace(dialect=dialect, max_bytes=max_bytes, max_lines=max_lines)
    with TemporaryDirectory() as folder:
        packed = pack(Path(folder), samples, judges, workers, chunk, **vars(limits))
        members = [member.custom_id for shard in packed.shards for member in packed.members(shard)]
    panel = Panel(judges)
    lines = {line["custom_id"]: line for file in packed.files.values() for line in file}
    requests = {
        panel.custom_id(n, v): panel.request(samples[n], v)
        for n in range(len(sizes))
        for v in range(len(panel.variants))
    }
    assert len(members) == len(set(members)) == len(lines)
    assert {*members} | {*packed.rows} == {*requests}
    assert not {*members} & {*packed.rows}
    for custom_id, request in requests.items():
        fits = len(request_line(request, dialect)) <= max_bytes
        assert (custom_id in lines) is fits
        if fits:
            assert lines[custom_id]["body"] == json.loads(request.body)
    for shard in packed.shards:
        content = packed.raw[shard.number]
        assert (len(content), content.count(b"\n")) == (shard.size, shard.requests)
        assert shard.size <= max_bytes
        assert 1 <= shard.requests <= max_lines
        assert dialect == "pai" or len({line["body"]["model"] for line in packed.files[shard.number]}) == 1
    assert packed.done.submitted() == len(members)
