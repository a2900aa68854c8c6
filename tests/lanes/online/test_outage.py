"""The outage detector pauses all workers and lets one at a time probe; failures in an outage do not count."""

from __future__ import annotations

import asyncio
import random

import pytest
from virtual_clock import now, run, settle

from runner.core import Drained
from runner.errors import BadReply, ConnectFailed, ConnectionLost, RateLimited, ServerFault, TimedOut, Transient
from runner.lanes.online.outage import (
    MAX_OUTAGE_FAILURES,
    OUTAGE_FAILURES,
    QUIET_SECONDS,
    OutageDetector,
    may_be_caused_by_request,
)

PATIENCE = 1800.0


class Harness:
    """An outage detector, and the times at which waiters passed and at which it reported the service lost."""

    def __init__(self, patience: float = PATIENCE, longest_wait: float | None = None) -> None:
        self.lost: list[tuple[float, Transient]] = []
        self.passed: list[float] = []
        self.outage = OutageDetector(
            patience, lambda error: self.lost.append((now(), error)), longest_wait=longest_wait
        )

    def succeed(self) -> None:
        """Send a request, and report its success at once."""
        self.outage.on_success(self.outage.on_send())

    def fail(self, count: int = OUTAGE_FAILURES, error: Transient | None = None) -> None:
        for _ in range(count):
            self.outage.on_failure(error or ConnectFailed("refused"))

    async def wait(self) -> None:
        await self.outage.wait_until_up()
        self.passed.append(now())

    async def probe_forever(self, error: Transient | None = None) -> None:
        """Act as one of many workers: wait until the service is up and report a failure, repeatedly."""
        while True:
            await self.wait()
            await asyncio.sleep(0.01)
            self.outage.on_failure(error or ConnectFailed("refused"))


def test_five_consecutive_failures_are_an_outage_and_four_are_not() -> None:
    async def main() -> None:
        harness = Harness()
        harness.fail(4)
        for _ in range(100):
            harness.succeed()
        harness.fail(4)
        assert not harness.outage.paused
        await asyncio.wait_for(harness.wait(), 0.001)
        harness.fail(1)
        assert harness.outage.paused

    run(main())


def test_429s_are_an_outage_only_if_no_request_succeeds_for_a_while() -> None:
    async def main() -> None:
        harness = Harness()
        harness.fail(100, RateLimited("busy"))
        await asyncio.sleep(0.9)
        harness.fail(100, RateLimited("busy"))
        assert not harness.outage.paused
        await asyncio.sleep(0.2)
        harness.fail(1, RateLimited("busy"))
        assert harness.outage.paused

    run(main())


def test_one_worker_at_a_time_probes_at_growing_intervals() -> None:
    async def main() -> list[float]:
        harness = Harness()
        harness.fail()
        workers = [asyncio.create_task(harness.probe_forever()) for _ in range(50)]
        await asyncio.sleep(150)
        for worker in workers:
            worker.cancel()
        return harness.passed

    passed = run(main())
    gaps = [later - earlier for earlier, later in zip([0.0, *passed], passed, strict=False)]
    assert gaps == pytest.approx([1, 2, 4, 8, 16, 30, 30, 30], abs=0.05)


def test_a_retry_after_delays_the_first_probe_but_never_brings_it_forward() -> None:
    async def main(retry_after: float) -> float:
        harness = Harness()
        harness.fail(error=ServerFault("503", retry_after=retry_after))
        await harness.wait()
        return harness.passed[0]

    assert run(main(45)) == pytest.approx(45, abs=0.01)
    assert run(main(0.1)) == pytest.approx(1, abs=0.01)
    assert run(main(1e8)) == pytest.approx(PATIENCE, abs=0.01)


def test_a_retry_after_of_a_probe_lengthens_the_next_interval() -> None:
    async def main() -> list[float]:
        harness = Harness()
        harness.fail()
        worker = asyncio.create_task(harness.probe_forever(ServerFault("busy", retry_after=100)))
        await asyncio.sleep(210)
        worker.cancel()
        return harness.passed

    assert run(main()) == pytest.approx([1, 101, 201], abs=0.1)


@pytest.mark.parametrize(
    ("asked", "longest_wait", "lost_at"),
    [
        (0.0, 7200.0, 1800.0),
        (600.0, 7200.0, 2400.0),  # the patience begins after the wait
        (3600.0, 7200.0, 5400.0),
        (7200.0, 7200.0, 9000.0),
        (7201.0, 7200.0, 0.0),  # nobody waits that long
        (3600.0, None, 0.0),
    ],
)
def test_the_patience_begins_after_the_wait_that_the_service_asks_for(
    asked: float, longest_wait: float | None, lost_at: float
) -> None:
    async def main() -> float:
        harness = Harness(PATIENCE, longest_wait)
        harness.fail(error=RateLimited("wait", retry_after=asked) if asked else ServerFault("down"))
        assert harness.outage.paused
        await asyncio.sleep(10_000)
        return harness.lost[0][0]

    assert run(main()) == pytest.approx(lost_at, abs=0.1)


def test_waits_that_are_asked_for_again_and_again_are_bounded_together() -> None:
    async def main() -> float:
        harness = Harness(PATIENCE, 2000.0)
        error = RateLimited("wait", retry_after=600)
        harness.fail(error=error)
        worker = asyncio.create_task(harness.probe_forever(error))
        await asyncio.sleep(10_000)
        worker.cancel()
        return harness.lost[0][0]

    assert run(main()) == pytest.approx(2000 + PATIENCE, abs=0.1)


def test_one_failure_without_a_long_wait_shows_that_the_service_does_not_ask_everybody() -> None:
    async def main() -> list[tuple[float, Transient]]:
        harness = Harness(PATIENCE)
        harness.fail(1, ServerFault("down"))
        harness.fail(OUTAGE_FAILURES - 1, RateLimited("wait", retry_after=1e6))
        await asyncio.sleep(PATIENCE - 1)
        return harness.lost

    assert run(main()) == []


def test_the_first_worker_after_the_probe_is_due_probes_at_once() -> None:
    async def main() -> list[float]:
        harness = Harness()
        harness.fail()
        await asyncio.sleep(10)
        assert await harness.outage.wait_until_up()  # this is the probe
        waiting = asyncio.create_task(harness.wait())
        await asyncio.sleep(100)
        assert not waiting.done()  # the probe has no result yet
        harness.outage.on_failure(ConnectFailed("refused"))
        await waiting
        return harness.passed

    assert run(main()) == pytest.approx([112], abs=0.01)


def test_the_first_success_resumes_all_workers() -> None:
    async def main() -> None:
        harness = Harness()
        harness.fail()
        waiting = [asyncio.create_task(harness.outage.wait_until_up()) for _ in range(30)]
        await asyncio.sleep(1.5)
        assert [task.done() for task in waiting].count(True) == 1
        harness.succeed()
        await settle()
        assert not harness.outage.paused
        assert [task.result() for task in waiting] == [True] + [False] * 29
        await asyncio.sleep(2 * PATIENCE)
        assert harness.lost == []

    run(main())


def test_a_cancelled_waiter_does_not_become_the_probe() -> None:
    async def main() -> list[float]:
        harness = Harness()
        harness.fail()
        first, second = (asyncio.create_task(harness.wait()) for _ in range(2))
        await settle()
        first.cancel()
        await second
        return harness.passed

    assert run(main()) == pytest.approx([1], abs=0.01)


def test_the_patience_starts_at_the_first_failure_and_restarts_when_it_runs_out() -> None:
    async def main() -> list[tuple[float, Transient]]:
        harness = Harness(patience=600)
        harness.fail(1, TimedOut("early"))
        await asyncio.sleep(100)
        harness.fail(4, ServerFault("late", status=502))
        worker = asyncio.create_task(harness.probe_forever(ServerFault("later", status=503)))
        await asyncio.sleep(5000)
        worker.cancel()
        return harness.lost

    lost = run(main())
    assert [at for at, _ in lost] == pytest.approx([600 * n for n in range(1, 9)], abs=0.01)
    assert str(lost[0][1]) == "later"


def test_a_failure_counts_when_a_request_sent_after_it_is_answered() -> None:
    async def main() -> None:
        outage = Harness().outage
        early = outage.on_send()
        outage.on_failure(ServerFault("a bad row"))
        bad_row = outage.last_sent
        assert not outage.counts(bad_row)
        outage.on_success(early)  # sent before the failure, so it does not show that the service was up after it
        assert not outage.counts(bad_row)
        outage.on_success(outage.on_send())
        assert outage.counts(bad_row)

    run(main())


def test_failures_of_an_outage_never_count_nor_do_those_before_its_detection() -> None:
    async def main() -> None:
        outage = Harness().outage
        outage.on_success(outage.on_send())
        sent = []
        in_flight = [outage.on_send() for _ in range(3)]
        for index in range(3 * OUTAGE_FAILURES):
            outage.on_send()
            outage.on_failure(ConnectFailed("refused"))
            sent.append(outage.last_sent)
            if index < 3:
                # A service that shuts down answers the requests that it has accepted.
                outage.on_success(in_flight[index])
        assert outage.paused
        for _ in range(2):
            outage.on_success(outage.on_send())
        assert not outage.paused
        assert not any(outage.counts(number) for number in sent)
        outage.on_failure(ServerFault("a bad row"))
        bad_row = outage.last_sent
        outage.on_success(outage.on_send())
        assert outage.counts(bad_row)

    run(main())


def test_a_drain_cancels_all_waiters_and_no_later_waiter_passes() -> None:
    async def main() -> None:
        harness = Harness()
        harness.fail()
        waiting = [asyncio.create_task(harness.outage.wait_until_up()) for _ in range(5)]
        await settle()
        harness.outage.drain()
        results = await asyncio.gather(*waiting, harness.outage.wait_until_up(), return_exceptions=True)
        assert [type(result) for result in results] == [Drained] * 6
        harness.fail()
        await asyncio.sleep(2 * PATIENCE)
        assert harness.passed == []

    run(main())


@pytest.mark.parametrize(
    ("error", "may_be_cause"),
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
def test_which_errors_the_request_may_have_caused(error: Transient, may_be_cause: bool) -> None:
    assert may_be_caused_by_request(error) is may_be_cause


# Errors that are independent of each other


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.4])
def test_errors_at_random_are_no_outage_and_a_real_one_is_still_seen(share: float) -> None:
    async def main() -> None:
        outage, draws, pauses = Harness().outage, random.Random(11), 0
        for _ in range(20_000):
            await asyncio.sleep(0.001)
            if draws.random() < share:
                outage.on_failure(ServerFault("HTTP 500", status=500))
            else:
                pauses += outage.paused
                outage.on_success(outage.on_send())
        assert pauses <= 2
        while not outage.paused:
            outage.on_failure(ConnectFailed("refused"))
        assert outage._failures_in_row <= (OUTAGE_FAILURES if share <= 0.05 else MAX_OUTAGE_FAILURES / 2)

    run(main())


def test_few_failures_are_an_outage_if_nothing_succeeds_for_a_time() -> None:
    async def main() -> None:
        outage = Harness().outage
        for _ in range(100):
            outage.on_failure(ServerFault("HTTP 500", status=500))
            outage.on_success(outage.on_send())
        for _ in range(OUTAGE_FAILURES):
            assert not outage.paused
            await asyncio.sleep(QUIET_SECONDS / (OUTAGE_FAILURES - 1) + 0.01)
            outage.on_failure(ServerFault("HTTP 500", status=500))
        assert outage.paused

    run(main())


def test_requests_that_all_wait_for_a_decision_get_one() -> None:
    async def main() -> None:
        outage = Harness().outage
        for _ in range(100):
            outage.on_failure(ServerFault("HTTP 500", status=500))
            outage.on_success(outage.on_send())
        for _ in range(OUTAGE_FAILURES):
            outage.on_failure(ServerFault("HTTP 500", status=500))
        assert not outage.paused
        await outage.wait_for_decision()
        assert outage.paused
        assert now() <= QUIET_SECONDS + 0.01

    run(main())
