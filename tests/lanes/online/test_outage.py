"""An outage is noticed, waited out by all and probed by one; no failure of it counts."""

from __future__ import annotations

import asyncio

import pytest
from virtual_clock import now, run, settle

from runner.core import Drained
from runner.errors import BadReply, ConnectFailed, ConnectionLost, RateLimited, ServerFault, TimedOut, Transient
from runner.lanes.online.outage import OUTAGE_FAILURES, OutageDetector, may_be_caused_by_request

PATIENCE = 1800.0


class Sky:
    """A weather with a record of who passed its gate and of whether it was given up."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.lost: list[tuple[float, Transient]] = []
        self.passed: list[float] = []
        self.weather = OutageDetector(patience, lambda error: self.lost.append((now(), error)))

    def storm(self, count: int = OUTAGE_FAILURES, error: Transient | None = None) -> None:
        for _ in range(count):
            self.weather.on_failure(error or ConnectFailed("refused"))

    async def visit(self) -> None:
        await self.weather.wait_until_up()
        self.passed.append(now())

    async def probe_forever(self, error: Transient | None = None) -> None:
        """One of many workers: passes the gate and fails, over and over."""
        while True:
            await self.visit()
            await asyncio.sleep(0.01)
            self.weather.on_failure(error or ConnectFailed("refused"))


def test_five_failures_in_a_row_pause_and_four_do_not() -> None:
    async def main() -> None:
        sky = Sky()
        sky.storm(4)
        sky.weather.on_success()
        sky.storm(4)
        assert not sky.weather.paused
        await asyncio.wait_for(sky.visit(), 0.001)
        sky.storm(1)
        assert sky.weather.paused

    run(main())


def test_429s_are_an_outage_only_when_nothing_succeeds_for_a_while() -> None:
    async def main() -> None:
        sky = Sky()
        sky.storm(100, RateLimited("busy"))
        await asyncio.sleep(0.9)
        sky.storm(100, RateLimited("busy"))
        assert not sky.weather.paused
        await asyncio.sleep(0.2)
        sky.storm(1, RateLimited("busy"))
        assert sky.weather.paused

    run(main())


def test_one_at_a_time_goes_out_to_look_at_growing_intervals() -> None:
    async def main() -> list[float]:
        sky = Sky()
        sky.storm()
        workers = [asyncio.create_task(sky.probe_forever()) for _ in range(50)]
        await asyncio.sleep(150)
        for worker in workers:
            worker.cancel()
        return sky.passed

    passed = run(main())
    gaps = [later - earlier for earlier, later in zip([0.0, *passed], passed, strict=False)]
    assert gaps == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], abs=0.05)


def test_the_service_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() -> None:
    async def main(hint: float) -> float:
        sky = Sky()
        sky.storm(error=ServerFault("503", retry_after=hint))
        await sky.visit()
        return sky.passed[0]

    assert run(main(45)) == pytest.approx(45, abs=0.01)
    assert run(main(0.1)) == pytest.approx(1, abs=0.01)
    assert run(main(1e8)) == pytest.approx(PATIENCE, abs=0.01)


def test_a_hint_of_the_probe_lengthens_the_next_interval() -> None:
    async def main() -> list[float]:
        sky = Sky()
        sky.storm()
        worker = asyncio.create_task(sky.probe_forever(ServerFault("busy", retry_after=100)))
        await asyncio.sleep(210)
        worker.cancel()
        return sky.passed

    assert run(main()) == pytest.approx([1, 101, 201], abs=0.1)


def test_who_comes_after_the_probe_is_due_looks_at_once() -> None:
    async def main() -> list[float]:
        sky = Sky()
        sky.storm()
        await asyncio.sleep(10)
        assert await sky.weather.wait_until_up()  # this one looks
        waiting = asyncio.create_task(sky.visit())
        await asyncio.sleep(100)
        assert not waiting.done()  # nobody knows yet what it saw
        sky.weather.on_failure(ConnectFailed("refused"))
        await waiting
        return sky.passed

    assert run(main()) == pytest.approx([112], abs=0.01)


def test_the_first_success_resumes_everybody() -> None:
    async def main() -> None:
        sky = Sky()
        sky.storm()
        waiting = [asyncio.create_task(sky.weather.wait_until_up()) for _ in range(30)]
        await asyncio.sleep(1.5)
        assert [task.done() for task in waiting].count(True) == 1
        sky.weather.on_success()
        await settle()
        assert not sky.weather.paused
        assert [task.result() for task in waiting] == [True] + [False] * 29
        await asyncio.sleep(2 * PATIENCE)
        assert sky.lost == []

    run(main())


def test_a_cancelled_prober_is_skipped() -> None:
    async def main() -> list[float]:
        sky = Sky()
        sky.storm()
        first, second = (asyncio.create_task(sky.visit()) for _ in range(2))
        await settle()
        first.cancel()
        await second
        return sky.passed

    assert run(main()) == pytest.approx([1], abs=0.01)


def test_patience_runs_from_the_first_failure_and_then_anew() -> None:
    async def main() -> list[tuple[float, Transient]]:
        sky = Sky(patience=600)
        sky.storm(1, TimedOut("early"))
        await asyncio.sleep(100)
        sky.storm(4, ServerFault("late", status=502))
        worker = asyncio.create_task(sky.probe_forever(ServerFault("later", status=503)))
        await asyncio.sleep(5000)
        worker.cancel()
        return sky.lost

    lost = run(main())
    assert [moment for moment, _ in lost] == pytest.approx([600 * n for n in range(1, 9)], abs=0.01)
    assert str(lost[0][1]) == "later"


def test_failures_before_the_notice_are_excused_too_and_others_are_not() -> None:
    async def main() -> None:
        weather = Sky().weather
        weather.on_success()
        weather.on_failure(ServerFault("a bad row"))
        bad_row = weather.successes
        weather.on_success()
        first_of_outage = weather.successes
        for _ in range(OUTAGE_FAILURES):
            weather.on_failure(ConnectFailed("refused"))
            assert weather.successes == first_of_outage
        assert weather.is_excused(first_of_outage)
        assert not weather.is_excused(bad_row)
        weather.on_success()
        weather.on_failure(ServerFault("another bad row"))
        assert not weather.is_excused(weather.successes)
        assert weather.is_excused(first_of_outage)  # for good

    run(main())


def test_drain_wakes_everybody_and_lets_nobody_pass() -> None:
    async def main() -> None:
        sky = Sky()
        sky.storm()
        waiting = [asyncio.create_task(sky.weather.wait_until_up()) for _ in range(5)]
        await settle()
        sky.weather.drain()
        results = await asyncio.gather(*waiting, sky.weather.wait_until_up(), return_exceptions=True)
        assert [type(result) for result in results] == [Drained] * 6
        sky.storm()
        await asyncio.sleep(2 * PATIENCE)
        assert sky.passed == []

    run(main())


@pytest.mark.parametrize(
    ("error", "guilty"),
    [
        (ServerFault("x", status=500), True),
        (ServerFault("x", status=503), False),
        (TimedOut("x"), True),
        (ConnectionLost("x"), True),
        (BadReply("x", status=200), True),
        (ConnectFailed("x"), False),
        (RateLimited("x", status=429), False),
    ],
)
def test_what_a_request_can_have_caused_itself(error: Transient, guilty: bool) -> None:
    assert may_be_caused_by_request(error) is guilty
