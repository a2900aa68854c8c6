"""Batches under a budget: their reservation is on the disk before they are submitted, and no cap is exceeded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_lane_run import COMPLETE, DETACHED, UNDECIDED, Bench, exit_of
from fake_batch_service import Do, FakeBatchService, all_answered, ending, error_reply, lines

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.errors import RunDirectoryError
from runner.lanes.batch import Ledger
from runner.limits import ZERO_SPEND, Spend, read_spent

pytestmark = pytest.mark.anyio

SPENT = (3, "budget")
USED_TOKENS = 12  # that the fake service counts for an answer
MAX_TOKENS = 40  # the limit of an answer

JUDGE = {"kind": "pai_single", "parameters": {"max_tokens": MAX_TOKENS}}
ONLY_BATCH: dict[str, Any] = {"router": {"leftovers": "resubmit"}, "batch": {"resubmits": 5, "shard_lines": 4}}


def bench_of(folder: Path, service: FakeBatchService, rows: int, **sections: Any) -> Bench:
    return Bench(folder, service.url, rows, judge=JUDGE, **{**ONLY_BATCH, **sections})


def used(bench: Bench) -> Spend:
    """Return what was used, according to the run directory."""
    return read_spent(bench.directory / "budget.json") or ZERO_SPEND


def reserved(bench: Bench) -> Spend:
    """Return what is reserved for the open shards."""
    return sum((shard.reserved or ZERO_SPEND for shard in Ledger(bench.directory / "batches").open_shards), ZERO_SPEND)


# a shard's requests


async def test_a_shard_ends_at_the_cap_and_a_raised_cap_resumes(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = bench_of(tmp_path, service, 20, budget={"requests": 9})
        summary = await bench.run()
        assert exit_of(summary) == SPENT
        assert "budget.requests is 9, of which 9 are used" in (summary.message or "")
        assert "11 requests are pending" in (summary.message or "")
        assert sorted(len(job["ids"]) for job in service.jobs.values()) == [1, 4, 4]
        assert used(bench) == Spend(9)
        bench.config["budget"] = {"requests": 20}
        assert exit_of(await bench.run()) == COMPLETE
        assert service.submitted_twice == {}
        assert (len(bench.rows), used(bench).requests) == (20, 20)


@pytest.mark.parametrize("parallel", [1, 3])
async def test_unused_reservations_are_released_until_no_line_fits(tmp_path: Path, parallel: int) -> None:
    """About 2,300 tokens are reserved for a line and 12 are used: the budget is reserved many times over."""
    async with FakeBatchService() as service:
        bench = bench_of(tmp_path, service, 60, budget={"tokens": 2700})
        bench.config["batch"]["parallel"] = parallel
        summary = await bench.run()
        answered = len(bench.rows)
        assert exit_of(summary) == SPENT
        assert used(bench) == Spend(answered, answered * USED_TOKENS)
        assert 2700 - 2400 < answered * USED_TOKENS <= 2700
        assert service.submitted_twice == {}
        assert reserved(bench) == ZERO_SPEND


async def test_a_reservation_is_on_the_disk_before_anything_is_sent(tmp_path: Path) -> None:
    seen: list[Any] = []

    def upload(_: int, do: Do) -> web.Response:
        seen.append(reserved(bench))
        return do()

    async with FakeBatchService(upload=upload) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 10, "tokens": 100_000})
        assert exit_of(await bench.run()) == COMPLETE
    assert [amount.requests for amount in seen] == [4]
    assert 4 * (2000 + MAX_TOKENS) < seen[0].tokens < 4 * (2000 + MAX_TOKENS + 400)
    assert "reserved" not in bench.shard()
    assert used(bench) == Spend(4, 4 * USED_TOKENS)


async def test_open_shards_keep_their_reservation_until_another_run_collects_them(tmp_path: Path) -> None:
    answer = False

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return all_answered(number, ids) if answer else {}

    async with FakeBatchService(end) as service:
        bench = bench_of(tmp_path, service, 12, budget={"requests": 7, "tokens": 100_000})
        assert exit_of(await bench.run(detach=True)) == DETACHED
        assert (reserved(bench).requests, used(bench)) == (7, ZERO_SPEND)
        assert exit_of(await bench.run(detach=True)) == DETACHED  # nothing more is submitted
        assert service.calls["create"] == 2
        answer = True
        assert exit_of(await bench.run()) == SPENT
        assert (used(bench), reserved(bench)) == (Spend(7, 7 * USED_TOKENS), ZERO_SPEND)


async def test_shards_made_without_a_budget_count_once_there_is_one(tmp_path: Path) -> None:
    answer = False

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return all_answered(number, ids) if answer else {}

    async with FakeBatchService(end) as service:
        bench = bench_of(tmp_path, service, 12)
        bench.config["batch"]["parallel"] = 2
        assert exit_of(await bench.run(detach=True)) == DETACHED
        assert reserved(bench) == ZERO_SPEND
        bench.config["budget"] = {"tokens": 20_000}
        assert exit_of(await bench.run(detach=True)) == DETACHED  # 4 more lines would fit if the 8 reserved nothing
        assert service.calls["create"] == 2
        assert reserved(bench).requests == 8
        assert 8 * (2000 + MAX_TOKENS) < reserved(bench).tokens < 20_000
        answer = True
        assert exit_of(await bench.run()) == COMPLETE
        assert used(bench) == Spend(12, 12 * USED_TOKENS)


# what a batch used


UNRUN = {"code": "batch_expired", "message": "This request was not run."}


@pytest.mark.parametrize(
    ("end", "full", "counted"),
    [
        (ending("Failed", errors={"data": [{"code": "internal_error", "message": "inside"}]}), 0, 0),
        (ending("Expired"), 4, 0),
        (ending("Cancelled", ["0-judge-o-0"]), 3, 1),
        (ending("Failed", ["0-judge-o-0"]), 3, 1),
        (ending("Succeeded", ["0-judge-o-0", "1-judge-o-0"], ["2-judge-o-0", "3-judge-o-0"]), 2, 2),
        (
            {
                **ending("Expired", ["0-judge-o-0"]),
                "error": lines(*({"id": "l", "custom_id": f"{n}-judge-o-0", "error": UNRUN} for n in (1, 2))),
            },
            1,
            1,
        ),
    ],
    ids=["failed as a whole", "without a line", "cancelled", "failed in the middle", "failed lines", "unrun lines"],
)
async def test_lines_without_usage_count_in_full_if_they_may_have_been_run(
    tmp_path: Path, end: dict[str, Any], full: int, counted: int
) -> None:
    async with FakeBatchService(lambda _, ids: dict(end)) as service:
        bench = bench_of(tmp_path, service, 4, budget={"tokens": 1_000_000})
        bench.config["batch"]["resubmits"] = 0
        await bench.run()
        took = used(bench)
    assert took.requests == full + counted
    assert full * (2000 + MAX_TOKENS) <= took.tokens - counted * USED_TOKENS <= full * (2000 + MAX_TOKENS + 400)


@pytest.mark.parametrize("route", ["upload", "create"])
async def test_a_batch_that_was_never_created_releases_its_reservation(tmp_path: Path, route: str) -> None:
    """Five are refused. The sixth may still use the whole budget."""

    def refuse(count: int, do: Do) -> web.Response:
        return error_reply(400, "not today") if count <= 5 else do()

    async with FakeBatchService(**{route: refuse}) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 4})
        bench.config["batch"]["resubmits"] = 9
        assert exit_of(await bench.run()) == COMPLETE
        assert used(bench) == Spend(4)


async def test_a_vanished_batch_counts_in_full_once_it_is_given_up(tmp_path: Path) -> None:
    gone = {"job": lambda _, __: error_reply(404, "no such batch")}
    async with FakeBatchService(**gone) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 6})
        assert exit_of(await bench.run()) == UNDECIDED
        assert (reserved(bench), used(bench)) == (Spend(4), ZERO_SPEND)
        service.hooks.clear()
        service.jobs.clear()
        summary = await bench.run(resubmit_unknown=True)
        assert exit_of(summary) == SPENT
        assert (used(bench).requests, len(bench.rows)) == (6, 2)


async def test_cancelling_an_unsent_shard_costs_nothing(tmp_path: Path) -> None:
    def down(_: int, __: Do) -> web.Response:
        return error_reply(503, "down")

    async with FakeBatchService(upload=down) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 4})
        bench.config["online"]["retry"]["patience"] = 0
        assert exit_of(await bench.run()) == (4, "outage")
        assert reserved(bench) == Spend(4)
        await bench.run(cancel=True)
        assert (reserved(bench), used(bench)) == (ZERO_SPEND, ZERO_SPEND)


async def test_collecting_again_after_a_crash_counts_too_much_rather_than_too_little(tmp_path: Path) -> None:
    """The state file still says `reconcile`: the rows are written, but what was charged is unknown."""
    async with FakeBatchService() as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 20, "tokens": 1_000_000})
        bench.config["batch"]["delete_files"] = False
        kept: dict[str, bytes] = {}

        def content(_: int, do: Do) -> web.Response:
            kept.update((path.name, path.read_bytes()) for path in (bench.directory / "batches").iterdir())
            return do()

        service.hooks["content"] = content
        assert exit_of(await bench.run()) == COMPLETE
        for name, raw in kept.items():
            (bench.directory / "batches" / name).write_bytes(raw)
        service.hooks.clear()
        assert exit_of(await bench.run()) == COMPLETE
        assert used(bench) == Spend(8, 8 * USED_TOKENS)
        assert (len(bench.rows), bench.column("attempts")) == (4, [1] * 4)


async def test_the_error_names_a_damaged_upload_file(tmp_path: Path) -> None:
    async with FakeBatchService(lambda *_: {}) as service:
        bench = bench_of(tmp_path, service, 4)
        assert exit_of(await bench.run(detach=True)) == DETACHED
        path = next((bench.directory / "batches").glob("*.requests.jsonl"))
        path.write_bytes(path.read_bytes()[:-40])
        bench.config["budget"] = {"requests": 5}
        with pytest.raises(RunDirectoryError, match=r"requests\.jsonl: cannot be read"):
            await bench.run(detach=True)


async def test_one_line_can_exceed_the_whole_budget(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = bench_of(tmp_path, service, 4, budget={"tokens": 500})
        summary = await bench.run()
        assert exit_of(summary) == SPENT
        assert "the next request can use up to 2," in (summary.message or "")
        assert service.calls == {}


# both lanes


async def test_leftovers_go_online_with_the_remaining_budget(tmp_path: Path) -> None:
    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending("Succeeded", ids[:2])

    async with FakeBatchService(end) as service:
        bench = bench_of(tmp_path, service, 8, router={"leftovers": "online"}, budget={"requests": 11})
        assert exit_of(await bench.run()) == SPENT
        assert service.online_calls.total() == 3
        assert (len(bench.rows), used(bench).requests) == (7, 11)


async def test_open_batches_are_collected_before_the_online_lane_starts(tmp_path: Path) -> None:
    answer = False

    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed") if answer else {}

    async with FakeBatchService(end) as service:
        bench = bench_of(tmp_path, service, 12, budget={"requests": 8})
        bench.config["batch"]["parallel"] = 1
        assert exit_of(await bench.run(detach=True)) == DETACHED
        answer = True
        bench.config["router"] = {"mode": "online"}
        assert exit_of(await bench.run()) == SPENT
        assert bench.record["lanes"] == ["batch", "online", "batch", "online"]
        assert (service.online_calls.total(), used(bench).requests) == (8, 8)


FAULTS: list[dict[str, Any]] = [
    {"batch": {"lose": 0.3}},
    {"batch": {"expire": 2, "garble": 0.2}},
    {"batch": {"fail": 2}},
    {"batch": {"errors_in_output": 0.3, "repeats": 0.3}, "faults": {"500": 0.2}},
    {"batch": {"drop_create": 0.4}, "faults": {"unparsable": 0.3}},
]


@pytest.mark.parametrize("leftovers", ["online", "resubmit"])
@pytest.mark.parametrize("options", FAULTS, ids=lambda options: next(iter(options["batch"])))
async def test_no_cap_is_exceeded_by_the_services_own_count(
    tmp_path: Path, options: dict[str, Any], leftovers: str
) -> None:
    """Caps of a third and of two thirds of the dataset's tokens, with faults at the service."""
    given = {**options, "batch": {"delay": 0.05, **options["batch"]}, "seed": 7}
    async with await start(EmulatorOptions.from_mapping(given)) as emulator:
        bench = Bench(tmp_path, f"{emulator.url}/v1", 120, judge={**JUDGE, "parameters": {"max_tokens": 400}})
        bench.config["router"]["leftovers"] = leftovers
        bench.config["batch"] = {"shard_lines": 20, "parallel": 2, "poll": {"first": 0.02, "ceiling": 0.05}}
        for cap in (40_000, 80_000):
            bench.config["budget"] = {"tokens": cap}
            summary = await bench.run()
            stats = emulator.stats.snapshot()
            counted = stats["prompt_tokens"] + stats["completion_tokens"]
            assert summary.exit_code in (1, 3)
            assert counted <= used(bench).tokens <= cap
            assert counted > cap / 5  # a line without usage counts as much as seven with it
