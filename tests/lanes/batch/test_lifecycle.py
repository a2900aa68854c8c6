"""Whole runs against services with odd or vanishing jobs, and with clocks that jump."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_lane_run import COMPLETE, UNDECIDED, Bench, exit_of
from fake_batch_service import Do, FakeBatchService, Hook, all_answered, ending, error_reply, first

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.lanes.batch import lifecycle, result_files
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Shard

pytestmark = pytest.mark.anyio


def delayed(
    status: object, polls: int, then: Callable[[int, list[str]], dict[str, Any]] = all_answered
) -> FakeBatchService:
    """A service whose jobs report this status for a number of polls before they end."""
    service = FakeBatchService(then)

    def look(count: int, do: Do) -> web.Response:
        if count > polls:
            return do()
        changed = {} if status is ... else {"status": status}
        return web.json_response(
            {**{k: v for k, v in service.public(service.newest).items() if k != "status"}, **changed}
        )

    service.hooks["job"] = look
    return service


async def test_each_step_is_on_the_disk_before_it_is_taken(tmp_path: Path) -> None:
    seen: dict[str, str] = {}
    service = FakeBatchService()

    def noting(route: str) -> Hook:
        def hook(_: int, do: Do) -> web.Response:
            seen[route] = Bench.shard(bench)["step"]
            return do()

        return hook

    service.hooks = {route: noting(route) for route in ("upload", "create", "job", "content", "delete")}
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert seen == {
            "upload": "upload",
            "create": "confirm",  # a create that may have taken effect is looked up, never repeated blindly
            "job": "poll",
            "content": "download",
            "delete": "delete",
        }
        assert bench.shard()["step"] == "closed"


@pytest.mark.parametrize("parallel", [1, 2, 5])
async def test_no_more_jobs_than_parallel_are_open(tmp_path: Path, parallel: int) -> None:
    service, most = FakeBatchService(), 0
    looks: dict[str, int] = {}

    def look(_: int, do: Do) -> web.Response:
        nonlocal most
        most = max(most, sum(job["status"] == "Creating" for job in service.jobs.values()))
        name = service.paths[-1].rpartition("/")[2]
        looks[name] = looks.get(name, 0) + 1
        return do() if looks[name] > 2 else web.json_response(service.public(service.jobs[name]))

    service.hooks["job"] = look
    async with service:
        bench = Bench(tmp_path, service.url, 14, batch={"shard_lines": 2, "parallel": parallel})
        assert exit_of(await bench.run()) == COMPLETE
        assert (most, len(service.jobs), service.submitted_twice) == (parallel, 7, {})


# Statuses


@pytest.mark.parametrize(
    ("dialect", "going", "end"),
    [
        ("pai", "CREATING", "SUCCEEDED"),
        ("pai", "InProcess", "succeeded"),
        ("openai", "In_Progress", "COMPLETED"),
        ("dashscope", "validating", "Completed"),
    ],
)
async def test_statuses_are_case_insensitive(tmp_path: Path, dialect: str, going: str, end: str) -> None:
    async with delayed(going, 2, lambda _, ids: ending(end, ids)) as service:
        bench = Bench(tmp_path, service.url, service={"dialect": dialect})
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 4
        assert bench.logged("unknown status") == []


@pytest.mark.parametrize("word", ["half_succeeded", "完成", ..., None, 7, "Succeeded?", ["Succeeded"]])
async def test_an_unknown_status_is_a_running_job_and_is_logged_once(tmp_path: Path, word: object) -> None:
    async with delayed(word, 4) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert service.calls["job"] == 5
        assert bench.column("route") == ["batch"] * 4
        assert len(bench.logged("unknown status", "treated as running")) == 1


async def test_an_unknown_status_is_logged_once_for_all_jobs(tmp_path: Path) -> None:
    async with delayed("Pondering", 9) as service:
        bench = Bench(tmp_path, service.url, rows=6, batch={"shard_lines": 2})
        assert exit_of(await bench.run()) == COMPLETE
        assert len(bench.logged("'Pondering'")) == 1
        assert (len(service.jobs), service.submitted_twice) == (3, {})


# Jobs that the service does not know


async def test_a_vanished_job_waits_for_a_decision_while_the_rest_finishes(tmp_path: Path) -> None:
    gone: dict[str, bool] = {"batch-1": True}
    service = FakeBatchService()

    def look(_: int, do: Do) -> web.Response:
        asked = service.paths[-1].rpartition("/")[2]
        return error_reply(404, "no such batch") if gone.get(asked) else do()

    service.hooks["job"] = look
    async with service:
        bench = Bench(tmp_path, service.url, rows=6, batch={"shard_lines": 2, "parallel": 1})
        summary = await bench.run()
        assert exit_of(summary) == UNDECIDED
        assert "--resubmit-unknown" in (summary.message or "")
        assert sorted(bench.rows) == [0, 1, 4, 5]
        assert bench.record["stop_reason"] == "undecided"
        assert bench.record["batches"] == {"completed": 2, "undecided": 1}
        assert "no longer knows" in bench.shard(1)["stuck"]

        looks = service.calls["job"]
        assert exit_of(await bench.run()) == UNDECIDED  # polled again, and still unknown
        assert service.calls["job"] == looks + result_files.MIN_LOOKS
        assert (len(service.jobs), service.submitted_twice) == (3, {})

        assert exit_of(await bench.run(resubmit_unknown=True)) == COMPLETE
        assert sorted(bench.rows) == list(range(6))
        assert service.submitted_twice == {"2-judge-o-0": 2, "3-judge-o-0": 2}
        assert bench.shard(1)["ended"] == "given up"


async def test_a_vanished_job_is_collected_if_it_reappears(tmp_path: Path) -> None:
    async with FakeBatchService(job=first(3, lambda: error_reply(404))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert bench.record["counts"]["ok"] == 0
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)


@pytest.mark.parametrize("misses", ["x.", "xx.", "x-x-xx-x-.", "xxxxxxx."])
async def test_a_job_that_is_missing_from_some_polls_is_not_lost(
    tmp_path: Path, misses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "LOOK_AGAIN_SECONDS", 300.0)
    service = FakeBatchService()

    def look(count: int, do: Do) -> web.Response:
        mark = misses[min(count, len(misses)) - 1]
        return {"x": lambda: error_reply(404), "-": lambda: web.json_response({"id": "batch-0"}), ".": do}[mark]()

    service.hooks["job"] = look
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.calls["job"]) == (1, len(misses))


async def test_a_job_that_cannot_be_polled_waits_for_a_decision(tmp_path: Path) -> None:
    async with FakeBatchService(job=first(1, lambda: error_reply(405))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert "cannot be polled" in bench.shard()["stuck"]


# The run's own time limit


async def test_an_overdue_batch_is_cancelled_and_awaited(tmp_path: Path) -> None:
    service = FakeBatchService(lambda _, __: {"status": "Creating"})
    ended = itertools.count()

    def cancel(_: int, do: Do) -> web.Response:
        return web.json_response({"id": "batch-0", "status": "Cancelling"})

    def look(_: int, do: Do) -> web.Response:
        if service.calls["cancel"] and next(ended) == 3:
            service._end(service.jobs["batch-0"], ending("Cancelled", service.jobs["batch-0"]["ids"][:1]))
        return do()

    service.hooks |= {"cancel": cancel, "job": look}
    async with service:
        bench = Bench(tmp_path, service.url, batch={"window": 0.1})
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["cancel"], next(ended)) == (1, 4)
        assert bench.column("route") == ["batch"] + ["online"] * 3
        assert service.online_calls == {1: 1, 2: 1, 3: 1}
        assert bench.logged("is being cancelled: it exceeded its window")


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409])
async def test_a_batch_that_cannot_be_cancelled_waits_for_a_decision(tmp_path: Path, status: int) -> None:
    hooked = FakeBatchService(lambda _, __: {"status": "Creating"}, cancel=first(99, lambda: error_reply(status)))
    async with hooked as service:
        bench = Bench(tmp_path, service.url, batch={"window": 0.02})
        assert exit_of(await bench.run()) == UNDECIDED
        assert "cannot be cancelled" in bench.shard()["stuck"]
        assert (bench.rows, service.online_calls.total(), len(service.jobs)) == ({}, 0, 1)


async def test_a_batch_that_ended_just_before_its_cancellation_is_collected(tmp_path: Path) -> None:
    service = FakeBatchService(lambda _, __: {"status": "Creating"})

    def cancel(_: int, __: Do) -> web.Response:
        service._end(service.jobs["batch-0"], all_answered(0, service.jobs["batch-0"]["ids"]))
        return error_reply(409, "it has ended")

    service.hooks["cancel"] = cancel
    async with service:
        bench = Bench(tmp_path, service.url, batch={"window": 0.02}, online={"retry": {"base": 0.01, "patience": 0.1}})
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 4


async def test_a_cancellation_without_effect_waits_for_a_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "CANCEL_POLLS", 4)
    options = EmulatorOptions.from_mapping({"batch": {"delay": 0.02, "hold": 1, "ignore_cancel": True}})
    async with await start(options) as emulator:
        bench = Bench(tmp_path, f"{emulator.url}/v1", 6, batch={"window": 0.02, "shard_lines": 3})
        assert exit_of(await bench.run()) == UNDECIDED
        assert len(bench.rows) == 3
        assert exit_of(await bench.run()) == UNDECIDED
        assert emulator.stats.snapshot()["paid_twice"] == 0
        assert exit_of(await bench.run(resubmit_unknown=True)) == COMPLETE
        assert len(bench.rows) == 6


class Clock:
    """`time.time` of the lifecycle, which a test sets ahead for some polls."""

    def __init__(self, ahead: Callable[[], float]) -> None:
        self._ahead = ahead

    def time(self) -> float:
        return time.time() + self._ahead()


@pytest.mark.parametrize("looks", [{3}, {3, 5, 7}, {3, 4}, set(range(1, 99))])
async def test_a_clock_that_jumps_cancels_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: set[int]
) -> None:
    """The service's own clock says that the batch is young, however often this machine's is wrong."""
    async with delayed("Running", 8) as service:
        monkeypatch.setattr(lifecycle, "time", Clock(lambda: 90_000.0 if service.calls["job"] in looks else 0.0))
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert service.calls["cancel"] == 0


@pytest.mark.parametrize("looks", [{3}, {3, 4}])
async def test_without_the_clock_of_the_service_two_polls_in_a_row_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: set[int]
) -> None:
    monkeypatch.setattr(BatchApi, "service_time", None)
    async with delayed("Running", 8) as service:
        monkeypatch.setattr(lifecycle, "time", Clock(lambda: 90_000.0 if service.calls["job"] in looks else 0.0))
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert service.calls["cancel"] == len(looks) - 1


async def test_a_clock_that_goes_backwards_cancels_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with delayed("Running", 4) as service:
        monkeypatch.setattr(lifecycle, "time", Clock(lambda: -1e6 * service.calls["job"]))
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert service.calls["cancel"] == 0


@pytest.mark.parametrize("refuses", [False, True])
async def test_cancelling_keeps_the_answers(tmp_path: Path, refuses: bool) -> None:
    hooks: dict[str, Hook] = {"cancel": first(9, lambda: error_reply(405))} if refuses else {}
    async with FakeBatchService(lambda _, __: {"status": "Creating"}) as service:
        service.hooks = hooks
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run(detach=True)) == (4, "detached")
        assert exit_of(await bench.run(cancel=True)) == (UNDECIDED if refuses else (4, "cancelled"))
        assert len(bench.rows) == (0 if refuses else 2)
        assert service.online_calls.total() == 0
        if not refuses:
            assert exit_of(await bench.run()) == COMPLETE
            assert bench.column("route") == ["batch"] * 2 + ["online"] * 2


def test_a_stuck_shard_is_open_and_undecided() -> None:
    shard = Shard(0, "poll", "default", "http://x", 1, 1, stuck="why")
    assert (shard.state, shard.is_open) == ("undecided", True)
