"""Batches under a budget: what they may take is on the disk before they are submitted, and no cap is passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_lane_run import AWAY, FINE, UNDECIDED, Bench, how
from fake_batch_service import Do, Scripted, all_answered, ending, lines, said

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.errors import RunDirectoryError
from runner.lanes.batch import Ledger
from runner.limits import ZERO_SPEND, Spend, read_spent

pytestmark = pytest.mark.anyio

SPENT = (3, "budget")
EACH = 12
"""Tokens that the scripted service counts for an answer."""
MOST = 40
"""The limit of an answer."""

JUDGE = {"kind": "pai_single", "parameters": {"max_tokens": MOST}}
ONLY_BATCH: dict[str, Any] = {"router": {"leftovers": "resubmit"}, "batch": {"resubmits": 5, "shard_lines": 4}}


def bench_of(folder: Path, service: Scripted, rows: int, **sections: Any) -> Bench:
    return Bench(folder, service.url, rows, judge=JUDGE, **{**ONLY_BATCH, **sections})


def used(bench: Bench) -> Spend:
    """What the run directory says was used."""
    return read_spent(bench.directory / "budget.json") or ZERO_SPEND


def reserved(bench: Bench) -> Spend:
    """What is reserved for the open shards."""
    return sum((shard.reserved or ZERO_SPEND for shard in Ledger(bench.directory / "batches").open_shards), ZERO_SPEND)


# a shard's requests


async def test_a_shard_ends_where_the_budget_ends_and_a_raised_cap_goes_on(tmp_path: Path) -> None:
    async with Scripted() as service:
        bench = bench_of(tmp_path, service, 20, budget={"requests": 9})
        summary = await bench.run()
        assert how(summary) == SPENT
        assert "budget.requests is 9, of which 9 are used" in (summary.message or "")
        assert "11 requests are pending" in (summary.message or "")
        assert sorted(len(job["ids"]) for job in service.jobs.values()) == [1, 4, 4]
        assert used(bench) == Spend(9)
        bench.config["budget"] = {"requests": 20}
        assert how(await bench.run()) == FINE
        assert service.twice == {}
        assert (len(bench.rows), used(bench).requests) == (20, 20)


@pytest.mark.parametrize("parallel", [1, 3])
async def test_what_shards_do_not_use_is_given_back_until_no_line_fits(tmp_path: Path, parallel: int) -> None:
    """About 2,300 tokens are reserved for a line, and 12 used: the budget goes round many times."""
    async with Scripted() as service:
        bench = bench_of(tmp_path, service, 60, budget={"tokens": 2700})
        bench.config["batch"]["parallel"] = parallel
        summary = await bench.run()
        answered = len(bench.rows)
        assert how(summary) == SPENT
        assert used(bench) == Spend(answered, answered * EACH)
        assert 2700 - 2400 < answered * EACH <= 2700
        assert service.twice == {}
        assert reserved(bench) == ZERO_SPEND


async def test_what_is_reserved_is_on_the_disk_before_anything_is_sent(tmp_path: Path) -> None:
    seen: list[Any] = []

    def upload(_: int, do: Do) -> web.Response:
        seen.append(reserved(bench))
        return do()

    async with Scripted(upload=upload) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 10, "tokens": 100_000})
        assert how(await bench.run()) == FINE
    assert [amount.requests for amount in seen] == [4]
    assert 4 * (2000 + MOST) < seen[0].tokens < 4 * (2000 + MOST + 400)
    assert "reserved" not in bench.shard()
    assert used(bench) == Spend(4, 4 * EACH)


async def test_open_shards_hold_what_they_may_take_until_another_run_collects_them(tmp_path: Path) -> None:
    answer = False

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return all_answered(number, ids) if answer else {}

    async with Scripted(end) as service:
        bench = bench_of(tmp_path, service, 12, budget={"requests": 7, "tokens": 100_000})
        assert how(await bench.run(detach=True)) == AWAY
        assert (reserved(bench).requests, used(bench)) == (7, ZERO_SPEND)
        assert how(await bench.run(detach=True)) == AWAY  # nothing more is submitted
        assert service.calls["create"] == 2
        answer = True
        assert how(await bench.run()) == SPENT
        assert (used(bench), reserved(bench)) == (Spend(7, 7 * EACH), ZERO_SPEND)


async def test_shards_of_a_run_without_a_budget_count_from_when_there_is_one(tmp_path: Path) -> None:
    answer = False

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return all_answered(number, ids) if answer else {}

    async with Scripted(end) as service:
        bench = bench_of(tmp_path, service, 12)
        bench.config["batch"]["parallel"] = 2
        assert how(await bench.run(detach=True)) == AWAY
        assert reserved(bench) == ZERO_SPEND
        bench.config["budget"] = {"tokens": 20_000}
        assert how(await bench.run(detach=True)) == AWAY  # 4 more lines would fit, had the 8 taken nothing
        assert service.calls["create"] == 2
        assert reserved(bench).requests == 8
        assert 8 * (2000 + MOST) < reserved(bench).tokens < 20_000
        answer = True
        assert how(await bench.run()) == FINE
        assert used(bench) == Spend(12, 12 * EACH)


# what a batch took


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
async def test_lines_without_a_count_are_taken_in_full_where_they_may_have_been_run(
    tmp_path: Path, end: dict[str, Any], full: int, counted: int
) -> None:
    async with Scripted(lambda _, ids: dict(end)) as service:
        bench = bench_of(tmp_path, service, 4, budget={"tokens": 1_000_000})
        bench.config["batch"]["resubmits"] = 0
        await bench.run()
        took = used(bench)
    assert took.requests == full + counted
    assert full * (2000 + MOST) <= took.tokens - counted * EACH <= full * (2000 + MOST + 400)


@pytest.mark.parametrize("route", ["upload", "create"])
async def test_a_batch_that_never_came_to_be_gives_everything_back(tmp_path: Path, route: str) -> None:
    """Each of five is refused; the sixth is as large as the whole budget all the same."""

    def refuse(count: int, do: Do) -> web.Response:
        return said(400, "not today") if count <= 5 else do()

    async with Scripted(**{route: refuse}) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 4})
        bench.config["batch"]["resubmits"] = 9
        assert how(await bench.run()) == FINE
        assert used(bench) == Spend(4)


async def test_a_batch_that_nobody_knows_of_any_more_counts_in_full_once_it_is_given_up(tmp_path: Path) -> None:
    gone = {"job": lambda _, __: said(404, "no such batch")}
    async with Scripted(**gone) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 6})
        assert how(await bench.run()) == UNDECIDED
        assert (reserved(bench), used(bench)) == (Spend(4), ZERO_SPEND)
        service.hooks.clear()
        service.jobs.clear()
        summary = await bench.run(resubmit_unknown=True)
        assert how(summary) == SPENT
        assert (used(bench).requests, len(bench.rows)) == (6, 2)


async def test_cancelling_what_was_not_sent_costs_nothing(tmp_path: Path) -> None:
    def down(_: int, __: Do) -> web.Response:
        return said(503, "down")

    async with Scripted(upload=down) as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 4})
        bench.config["online"]["retry"]["patience"] = 0
        assert how(await bench.run()) == (4, "outage")
        assert reserved(bench) == Spend(4)
        await bench.run(cancel=True)
        assert (reserved(bench), used(bench)) == (ZERO_SPEND, ZERO_SPEND)


async def test_collecting_once_more_after_a_crash_counts_rather_too_much(tmp_path: Path) -> None:
    """The state file still says `reconcile`: the rows are there, but who knows what was counted."""
    async with Scripted() as service:
        bench = bench_of(tmp_path, service, 4, budget={"requests": 20, "tokens": 1_000_000})
        bench.config["batch"]["delete_files"] = False
        kept: dict[str, bytes] = {}

        def content(_: int, do: Do) -> web.Response:
            kept.update((path.name, path.read_bytes()) for path in (bench.directory / "batches").iterdir())
            return do()

        service.hooks["content"] = content
        assert how(await bench.run()) == FINE
        for name, raw in kept.items():
            (bench.directory / "batches" / name).write_bytes(raw)
        service.hooks.clear()
        assert how(await bench.run()) == FINE
        assert used(bench) == Spend(8, 8 * EACH)
        assert (len(bench.rows), bench.column("attempts")) == (4, [1] * 4)


async def test_an_upload_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    async with Scripted(lambda *_: {}) as service:
        bench = bench_of(tmp_path, service, 4)
        assert how(await bench.run(detach=True)) == AWAY
        path = next((bench.directory / "batches").glob("*.requests.jsonl"))
        path.write_bytes(path.read_bytes()[:-40])
        bench.config["budget"] = {"requests": 5}
        with pytest.raises(RunDirectoryError, match=r"requests\.jsonl: cannot be read"):
            await bench.run(detach=True)


async def test_one_line_of_a_file_can_be_larger_than_the_whole_budget(tmp_path: Path) -> None:
    async with Scripted() as service:
        bench = bench_of(tmp_path, service, 4, budget={"tokens": 500})
        summary = await bench.run()
        assert how(summary) == SPENT
        assert "the next request can use up to 2," in (summary.message or "")
        assert service.calls == {}


# both lanes


async def test_what_batches_left_is_asked_online_with_what_is_left_of_the_budget(tmp_path: Path) -> None:
    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending("Succeeded", ids[:2])

    async with Scripted(end) as service:
        bench = bench_of(tmp_path, service, 8, router={"leftovers": "online"}, budget={"requests": 11})
        assert how(await bench.run()) == SPENT
        assert service.asked.total() == 3
        assert (len(bench.rows), used(bench).requests) == (7, 11)


async def test_online_waits_for_nothing_that_open_batches_hold_but_collects_them_first(tmp_path: Path) -> None:
    answer = False

    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed") if answer else {}

    async with Scripted(end) as service:
        bench = bench_of(tmp_path, service, 12, budget={"requests": 8})
        bench.config["batch"]["parallel"] = 1
        assert how(await bench.run(detach=True)) == AWAY
        answer = True
        bench.config["router"] = {"mode": "online"}
        assert how(await bench.run()) == SPENT
        assert bench.record["lanes"] == ["batch", "online", "batch", "online"]
        assert (service.asked.total(), used(bench).requests) == (8, 8)


FAULTS: list[dict[str, Any]] = [
    {"batch": {"lose": 0.3}},
    {"batch": {"expire": 2, "garble": 0.2}},
    {"batch": {"fail": 2}},
    {"batch": {"errors_in_output": 0.3, "repeats": 0.3}, "faults": {"500": 0.2}},
    {"batch": {"drop_create": 0.4}, "faults": {"unparsable": 0.3}},
]


@pytest.mark.parametrize("leftovers", ["online", "resubmit"])
@pytest.mark.parametrize("options", FAULTS, ids=lambda options: next(iter(options["batch"])))
async def test_by_the_services_own_count_no_cap_is_passed(
    tmp_path: Path, options: dict[str, Any], leftovers: str
) -> None:
    """A third of the dataset's tokens, then two thirds; whatever goes wrong at the service."""
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
            assert counted > cap / 5  # each line without a count is taken for seven with one
