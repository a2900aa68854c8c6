"""An outage is noticed, waited out by all and probed by one; no failure of it counts."""

from __future__ import annotations

import asyncio

import pytest
from virtual_clock import now, run, settle

from runner.core import Drained
from runner.errors import BadReply, ConnectFailed, ConnectionLost, RateLimited, ServerFault, TimedOut, Transient
from runner.lanes.online.outage import OUTAGE_FAILURES, OutageDetector, may_be_caused_by_request

PATIENCE = 1800.0


class Watched:
    """An outage detector, with a record of when waiters passed and of when it reported the service lost."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.lost: list[tuple[float, Transient]] = []
        self.passed: list[float] = []
        self.outage = OutageDetector(patience, lambda error: self.lost.append((now(), error)))

    def succeed(self) -> None:
        """Answer a request that is sent now."""
        self.outage.on_success(self.outage.on_send())

    def fail(self, count: int = OUTAGE_FAILURES, error: Transient | None = None) -> None:
        for _ in range(count):
            self.outage.on_failure(error or ConnectFailed("refused"))

    async def wait(self) -> None:
        await self.outage.wait_until_up()
        self.passed.append(now())

    async def probe_forever(self, error: Transient | None = None) -> None:
        """One of many workers: passes the gate and fails, over and over."""
        while True:
            await self.wait()
            await asyncio.sleep(0.01)
            self.outage.on_failure(error or ConnectFailed("refused"))


def test_five_failures_in_a_row_pause_and_four_do_not() -> None:
    async def main() -> None:
        watched = Watched()
        watched.fail(4)
        watched.succeed()
        watched.fail(4)
        assert not watched.outage.paused
        await asyncio.wait_for(watched.wait(), 0.001)
        watched.fail(1)
        assert watched.outage.paused

    run(main())


def test_429s_are_an_outage_only_when_nothing_succeeds_for_a_while() -> None:
    async def main() -> None:
        watched = Watched()
        watched.fail(100, RateLimited("busy"))
        await asyncio.sleep(0.9)
        watched.fail(100, RateLimited("busy"))
        assert not watched.outage.paused
        await asyncio.sleep(0.2)
        watched.fail(1, RateLimited("busy"))
        assert watched.outage.paused

    run(main())


def test_one_at_a_time_goes_out_to_look_at_growing_intervals() -> None:
    async def main() -> list[float]:
        watched = Watched()
        watched.fail()
        workers = [asyncio.create_task(watched.probe_forever()) for _ in range(50)]
        await asyncio.sleep(150)
        for worker in workers:
            worker.cancel()
        return watched.passed

    passed = run(main())
    gaps = [later - earlier for earlier, later in zip([0.0, *passed], passed, strict=False)]
    assert gaps == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], abs=0.05)


def test_the_service_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() -> None:
    async def main(hint: float) -> float:
        watched = Watched()
        watched.fail(error=ServerFault("503", retry_after=hint))
        await watched.wait()
        return watched.passed[0]

    assert run(main(45)) == pytest.approx(45, abs=0.01)
    assert run(main(0.1)) == pytest.approx(1, abs=0.01)
    assert run(main(1e8)) == pytest.approx(PATIENCE, abs=0.01)


def test_a_hint_of_the_probe_lengthens_the_next_interval() -> None:
    async def main() -> list[float]:
        watched = Watched()
        watched.fail()
        worker = asyncio.create_task(watched.probe_forever(ServerFault("busy", retry_after=100)))
        await asyncio.sleep(210)
        worker.cancel()
        return watched.passed

    assert run(main()) == pytest.approx([1, 101, 201], abs=0.1)


def test_who_comes_after_the_probe_is_due_looks_at_once() -> None:
    async def main() -> list[float]:
        watched = Watched()
        watched.fail()
        await asyncio.sleep(10)
        assert await watched.outage.wait_until_up()  # this one looks
        waiting = asyncio.create_task(watched.wait())
        await asyncio.sleep(100)
        assert not waiting.done()  # nobody knows yet what it saw
        watched.outage.on_failure(ConnectFailed("refused"))
        await waiting
        return watched.passed

    assert run(main()) == pytest.approx([112], abs=0.01)


def test_the_first_success_resumes_everybody() -> None:
    async def main() -> None:
        watched = Watched()
        watched.fail()
        waiting = [asyncio.create_task(watched.outage.wait_until_up()) for _ in range(30)]
        await asyncio.sleep(1.5)
        assert [task.done() for task in waiting].count(True) == 1
        watched.succeed()
        await settle()
        assert not watched.outage.paused
        assert [task.result() for task in waiting] == [True] + [False] * 29
        await asyncio.sleep(2 * PATIENCE)
        assert watched.lost == []

    run(main())


def test_a_cancelled_prober_is_skipped() -> None:
    async def main() -> list[float]:
        watched = Watched()
        watched.fail()
        first, second = (asyncio.create_task(watched.wait()) for _ in range(2))
        await settle()
        first.cancel()
        await second
        return watched.passed

    assert run(main()) == pytest.approx([1], abs=0.01)


def test_patience_runs_from_the_first_failure_and_then_anew() -> None:
    async def main() -> list[tuple[float, Transient]]:
        watched = Watched(patience=600)
        watched.fail(1, TimedOut("early"))
        await asyncio.sleep(100)
        watched.fail(4, ServerFault("late", status=502))
        worker = asyncio.create_task(watched.probe_forever(ServerFault("later", status=503)))
        await asyncio.sleep(5000)
        worker.cancel()
        return watched.lost

    lost = run(main())
    assert [moment for moment, _ in lost] == pytest.approx([600 * n for n in range(1, 9)], abs=0.01)
    assert str(lost[0][1]) == "later"


def test_a_failure_counts_once_a_request_that_was_sent_after_it_is_answered() -> None:
    async def main() -> None:
        outage = Watched().outage
        early = outage.on_send()
        outage.on_failure(ServerFault("a bad row"))
        bad_row = outage.last_sent
        assert not outage.counts(bad_row)
        outage.on_success(early)  # it was sent before the failure, so it proves nothing about the time after it
        assert not outage.counts(bad_row)
        outage.on_success(outage.on_send())
        assert outage.counts(bad_row)

    run(main())


def test_failures_of_an_outage_never_count_not_even_those_before_it_was_detected() -> None:
    async def main() -> None:
        outage = Watched().outage
        outage.on_success(outage.on_send())
        stamps = []
        in_flight = [outage.on_send() for _ in range(3)]
        for number in range(2 * OUTAGE_FAILURES):
            outage.on_send()
            outage.on_failure(ConnectFailed("refused"))
            stamps.append(outage.last_sent)
            if number < 3:
                outage.on_success(in_flight[number])  # a service that shuts down answers what it had accepted
        assert outage.paused
        for _ in range(2):
            outage.on_success(outage.on_send())
        assert not outage.paused
        assert not any(outage.counts(stamp) for stamp in stamps)
        outage.on_failure(ServerFault("a bad row"))
        bad_row = outage.last_sent
        outage.on_success(outage.on_send())
        assert outage.counts(bad_row)

    run(main())


def test_drain_wakes_everybody_and_lets_nobody_pass() -> None:
    async def main() -> None:
        watched = Watched()
        watched.fail()
        waiting = [asyncio.create_task(watched.outage.wait_until_up()) for _ in range(5)]
        await settle()
        watched.outage.drain()
        results = await asyncio.gather(*waiting, watched.outage.wait_until_up(), return_exceptions=True)
        assert [type(result) for result in results] == [Drained] * 6
        watched.fail()
        await asyncio.sleep(2 * PATIENCE)
        assert watched.passed == []

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
