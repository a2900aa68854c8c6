"""The budget: actual usage never exceeds it, even after a SIGKILL. No request waits for ever or is reordered."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from virtual_clock import run, settle

from runner.config import BudgetConfig, JudgeConfig
from runner.core import Drained, no_price, price_of
from runner.errors import ConfigError, RunDirectoryError, RunStopped
from runner.judge import Panel
from runner.limits import (
    UNITS_PER_CURRENCY,
    ZERO_SPEND,
    Budget,
    BudgetQueue,
    Reservation,
    Spend,
    bounds_of,
    caps_of,
    read_spent,
    spent_by,
    units_of,
)
from runner.limits.cost import ONE_REQUEST, PAI_PROMPT_TOKENS, CostBound
from runner.types import Usage

PRICE = price_of(4, 12, 1000, 0.5)


class Disk:
    """Writes each file within `delay` seconds, on the virtual clock. After a kill (`dead`) it writes nothing."""

    def __init__(self, delay: float = 0.002) -> None:
        self.delay = delay
        self.writes = 0
        self.dead = False
        self.full = False

    def persist(self, path: Path, data: Mapping[str, Any]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def complete() -> None:
            if self.full and not self.dead:
                written.set_exception(OSError(28, "No space left on device"))
            elif not self.dead:
                path.write_text(json.dumps(dict(data)), encoding="utf-8")
                self.writes += 1
                loop.call_later(self.delay / 2, lambda: written.done() or written.set_result(None))

        loop.call_later(self.delay / 2, complete)
        return written


def body(size: int = 100, **limits: int) -> bytes:
    """Return a request body of about `size` bytes."""
    return json.dumps({"model": "m", "messages": "x" * size, **limits}).encode()


def budget_of(folder: Path, by_rows: Spend = ZERO_SPEND, disk: Disk | None = None, **caps: float) -> Budget:
    """Return a budget with one variant that has no template."""
    config = BudgetConfig(**caps)
    bounds = [CostBound(config, 0, PRICE)]
    return Budget(config, folder / "budget.json", bounds, by_rows, lambda: 7, (disk or Disk()).persist)


def usage(prompt: int | None, completion: int | None) -> Usage:
    return Usage(prompt, completion, None)


def stop_message(budget: Budget, queue: BudgetQueue, sent: bytes) -> str:
    """Try to reserve a request, and return the message of the RunStopped error."""

    async def main() -> str:
        with pytest.raises(RunStopped) as caught:
            await queue.acquire(0, sent)
        assert (caught.value.reason, caught.value.exit_code) == ("budget", 3)
        return str(caught.value)

    return run(main())


# the largest usage of an attempt


def test_the_bound_is_the_body_the_template_and_the_token_limit_of_the_body() -> None:
    bound = CostBound(BudgetConfig(tokens=1, cost=1), 2000, PRICE)
    sent = body(50, max_tokens=300)
    online = bound.at_most(sent, "online")
    assert (online.prompt, online.completion) == (len(sent) + 2000, 300)
    assert online.amount == Spend(1, len(sent) + 2300, units_of((4 * (len(sent) + 2000) + 12 * 300) / 1000))
    assert bound.at_most(sent, "batch").amount.cost * 2 == online.amount.cost
    assert bound.at_most(body(50, max_completion_tokens=900), "online").completion == 900
    assert bound.at_most(body(50, max_tokens=300, max_completion_tokens=900), "online").completion == 900


def test_with_a_cap_on_requests_only_bodies_are_not_parsed() -> None:
    bound = CostBound(BudgetConfig(requests=1), 2000, no_price)
    reserved = bound.at_most(b"not JSON", "online")
    assert reserved.amount == bound.counted(reserved, usage(5, 5)) == bound.counted(reserved, Usage()) == ONE_REQUEST


@pytest.mark.parametrize(
    ("counted", "tokens", "uncounted"),
    [
        ((30, 20), 50, 0),
        ((None, None), 1300, 1),
        ((30, None), 330, 1),
        ((None, 20), 1020, 1),
        ((1000, 300), 1300, 0),
        ((None, None, 1200), 1300, 1),  # the total alone is no reason to give anything back
        ((None, None, 5000), 5000, 1),
        ((None, 20, 5000), 5000, 1),
    ],
)
def test_usage_that_the_service_does_not_report_is_charged_in_full(counted: Any, tokens: int, uncounted: int) -> None:
    bound = CostBound(BudgetConfig(tokens=1), 1000 - len(body(50, max_tokens=300)), no_price)
    reserved = bound.at_most(body(50, max_tokens=300), "online")
    assert bound.counted(reserved, Usage(*counted)) == Spend(1, tokens)
    assert bound.uncounted == uncounted


def test_cached_tokens_are_reserved_in_full_and_charged_at_their_price() -> None:
    price = price_of(4, 12, 1000, 0.5, cached=1)
    bound = CostBound(BudgetConfig(cost=1), 10, price)
    reserved = bound.at_most(b'{"max_tokens": 100}', "online")
    assert reserved.amount.money == pytest.approx((4 * reserved.prompt + 12 * 100) / 1000)
    charged = bound.counted(reserved, Usage(20, 7, 27, 15))
    assert charged.money == pytest.approx((4 * 5 + 15 + 12 * 7) / 1000)
    assert price(Usage(20, 7, 27, 15), "batch") == pytest.approx(charged.money / 2)
    assert price(Usage(20, 7, 27, 999), "online") == pytest.approx((20 + 12 * 7) / 1000)
    assert PRICE(Usage(20, 7, 27, 15), "online") == PRICE(Usage(20, 7, 27), "online")


def test_usage_above_the_bound_raises_the_bound(caplog: pytest.LogCaptureFixture) -> None:
    bound = CostBound(BudgetConfig(tokens=1), 100, no_price)
    sent = body(50, max_tokens=300)
    before = bound.at_most(sent, "online")
    for _ in range(5):  # the requests in flight
        assert bound.counted(before, usage(before.prompt + 70, 310)).tokens == before.prompt + 380
    after = bound.at_most(sent, "online")
    assert (after.prompt, after.completion) == (before.prompt + 70, 310)
    assert [record.message[-87:] for record in caplog.records] == [
        "170 more than its bytes are reserved for a prompt, and 10 more than max_tokens for an answer"[-87:]
    ]


def test_each_judge_has_one_bound_for_its_variants() -> None:
    caps = BudgetConfig(tokens=5)
    judges = [
        JudgeConfig(name="a", kind="pai_single", repeats=2, parameters={"max_tokens": 9}),
        JudgeConfig(
            name="b",
            kind="template",
            user="{x}",
            verdict={"format": "mt_bench_single"},
            parameters={"max_completion_tokens": 9},
        ),
    ]
    variants = Panel(judges).variants
    bounds = bounds_of(caps, judges, variants, [no_price] * len(variants))
    assert bounds[0] is bounds[1] is not bounds[2]
    assert bounds[0].at_most(body(), "online").prompt == len(body()) + PAI_PROMPT_TOKENS
    assert bounds[2].at_most(body(), "online").prompt < bounds[0].at_most(body(), "online").prompt


@pytest.mark.parametrize("parameters", [{}, {"max_tokens": None}, {"max_tokens": "9"}, {"max_tokens": 0}])
def test_a_cap_on_tokens_requires_a_limit_on_the_answer(parameters: dict[str, Any]) -> None:
    judge = JudgeConfig(name="a", parameters=parameters)
    variants = Panel([judge]).variants
    assert len(bounds_of(BudgetConfig(requests=5), [judge], variants, [no_price])) == 1
    with pytest.raises(ConfigError, match=r"parameters\.max_tokens of the judge 'a'"):
        bounds_of(BudgetConfig(tokens=5), [judge], variants, [no_price])


def test_the_usage_of_rows_includes_all_their_attempts() -> None:
    rows = [
        {"attempts": 3, "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.1},
        {"attempts": 1, "prompt_tokens": None, "completion_tokens": None, "total_tokens": None, "cost": None},
        {"attempts": 1, "prompt_tokens": 1, "completion_tokens": None, "total_tokens": None, "cost": 0.2},
        {"attempts": 1, "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 900, "cost": 0.2},  # of 2026-11
    ]
    assert spent_by(rows) == Spend(6, 916, units_of(0.5))


# the caps


def test_money_adds_up_exactly(tmp_path: Path) -> None:
    """A hundred times 0.012 is exactly 1.2, without floating-point error."""
    budget = budget_of(tmp_path, cost=1.2)
    amount = Spend(1, 0, units_of(0.012))
    for _ in range(100):
        assert budget.could_fit(amount)
        budget.reserve_shard(amount)
    assert not budget.could_fit(Spend(0, 0, 1))
    assert budget.held.money == 1.2


@pytest.mark.parametrize(
    ("caps", "sent", "expected"),
    [
        ({"requests": 3}, body(), "budget.requests is 3, of which 3 are used, and the next request can use up to 1."),
        (
            {"tokens": 900},
            body(max_tokens=100),
            "budget.tokens is 900, of which 712 are used, and the next request can",
        ),
        ({"cost": 5}, body(max_tokens=100), "budget.cost is 5.00, of which 4.54 are used"),
    ],
)
def test_at_the_cap_the_run_stops_and_gives_the_reason(
    tmp_path: Path, caps: dict[str, Any], sent: bytes, expected: str
) -> None:
    budget = budget_of(tmp_path, **caps)
    queue = budget.queue()

    async def main() -> str:
        count = 0
        while True:
            try:
                reserved = await queue.acquire(0, sent)
            except RunStopped as stop:
                assert (stop.reason, stop.exit_code, budget.in_flight) == ("budget", 3, 0)
                assert count == 3 or "requests" not in caps
                return str(stop)
            count += 1
            queue.correct(reserved, usage(78, 100))

    message = run(main())
    assert expected in message
    assert message.endswith("7 requests are pending: raise the cap and run the same command again")
    assert expected.split(",")[0] in stop_message(budget, queue, sent)  # later requests are rejected too


def test_the_reason_counts_rows_that_are_written_after_it_was_found(tmp_path: Path) -> None:
    pending = [68]
    config = BudgetConfig(requests=1)
    budget = Budget(config, tmp_path / "budget.json", [CostBound(config, 0, PRICE)], pending=lambda: pending[0])
    stop = budget.exhausted(ONE_REQUEST * 2)
    pending[0] = 67
    assert "67 requests are pending: raise the cap" in str(stop)


def test_the_reason_says_that_attempts_without_a_count_are_counted_in_full(tmp_path: Path) -> None:
    sent = body(max_tokens=100)
    budget = budget_of(tmp_path, tokens=3 * (len(sent) + 100))
    queue = budget.queue()

    async def main() -> str:
        with pytest.raises(RunStopped) as caught:
            while True:
                queue.correct(await queue.acquire(0, sent), Usage())
        return str(caught.value)

    assert "are used (in full for 3 attempts without a token count), and" in run(main())


def test_requests_in_flight_are_awaited_before_the_run_stops(tmp_path: Path) -> None:
    """The second does not fit beside the reservation of the first, but beside its actual usage."""
    sent = body(max_tokens=100)
    bound = CostBound(BudgetConfig(tokens=1), 0, no_price).at_most(sent, "online").amount.tokens
    budget = budget_of(tmp_path, tokens=bound + 50)
    queue = budget.queue()

    async def main() -> None:
        first = await queue.acquire(0, sent)
        second = asyncio.create_task(queue.acquire(0, sent))
        await settle()
        assert not second.done()
        queue.correct(first, usage(20, 30))
        reserved = await second
        third = asyncio.create_task(queue.acquire(0, sent))
        await settle()
        assert not third.done()
        queue.correct(reserved, Usage())
        with pytest.raises(RunStopped):
            await third

    run(main())
    assert budget.used == Spend(2, 50 + bound)


@pytest.mark.parametrize(
    ("requests_too", "used"), [(True, ZERO_SPEND), (False, ONE_REQUEST)], ids=["never sent", "429"]
)
def test_an_unsent_request_is_free_and_a_429_counts_as_a_request(
    tmp_path: Path, requests_too: bool, used: Spend
) -> None:
    budget = budget_of(tmp_path, tokens=10_000, cost=10)
    queue = budget.queue()

    async def main() -> None:
        queue.refund(await queue.acquire(0, body(max_tokens=5)), requests_too=requests_too)

    run(main())
    assert budget.used == used


def test_the_head_of_the_queue_is_never_overtaken(tmp_path: Path) -> None:
    small, large = body(10, max_tokens=10), body(10, max_tokens=900)
    budget = budget_of(tmp_path, tokens=1000)
    queue = budget.queue()

    async def main() -> None:
        first = await queue.acquire(0, small)
        order: list[str] = []

        async def acquire(name: str, sent: bytes) -> Reservation:
            reserved = await queue.acquire(0, sent)
            order.append(name)
            return reserved

        another = await queue.acquire(0, body(10, max_tokens=400))
        waiting = [asyncio.create_task(acquire(*request)) for request in (("large", large), ("a", small), ("b", small))]
        await asyncio.sleep(0.01)
        assert order == []  # although the small ones would fit
        queue.correct(first, usage(1, 1))
        await asyncio.sleep(0.01)
        assert order == []
        queue.correct(another, usage(1, 1))
        await asyncio.sleep(0.01)
        assert order == ["large"]
        queue.correct(await waiting[0], usage(1, 1))
        await asyncio.gather(*waiting)
        assert order == ["large", "a", "b"]

    run(main())


def test_a_drain_cancels_all_waiters_and_the_next_lane_gets_its_own_queue(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=2)
    queue = budget.queue()

    async def main() -> None:
        first = await queue.acquire(0, body())
        await queue.acquire(0, body())
        waiting = asyncio.create_task(queue.acquire(0, body()))
        await settle()
        queue.drain()
        with pytest.raises(Drained):
            await waiting
        with pytest.raises(Drained):
            await queue.acquire(0, body())
        queue.refund(first, requests_too=True)
        await budget.queue().acquire(0, body())

    run(main())


def test_a_cancelled_waiter_reserves_nothing_and_blocks_no_other(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=2)
    queue = budget.queue()

    async def main() -> None:
        first = await queue.acquire(0, body())
        second = await queue.acquire(0, body())
        waiting = [asyncio.create_task(queue.acquire(0, body())) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        queue.refund(first, requests_too=True)  # admits the second waiter
        waiting[1].cancel()  # before it resumes
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        await waiting[2]
        assert (budget.in_flight, budget.used) == (2, Spend(2))
        queue.correct(second, Usage())

    run(main())


# the disk


def test_a_reservation_is_on_disk_before_it_is_granted(tmp_path: Path) -> None:
    disk = Disk(delay=1.0)
    budget = budget_of(tmp_path, disk=disk, requests=1000)
    queue = budget.queue()

    async def main() -> None:
        acquiring = asyncio.create_task(queue.acquire(0, body()))
        await asyncio.sleep(0.9)
        assert not acquiring.done()
        await acquiring
        persisted = read_spent(tmp_path / "budget.json")
        assert persisted is not None and 1 <= persisted.requests <= 10

    run(main())


def test_a_steady_run_rarely_waits_for_the_disk(tmp_path: Path) -> None:
    """2,000 requests per second, 64 in flight, and 4 ms per write."""
    disk = Disk(delay=0.004)
    budget = budget_of(tmp_path, disk=disk, tokens=10**9)
    queue = budget.queue()
    waits: list[float] = []

    async def work() -> None:
        for _ in range(500):
            started_at = asyncio.get_running_loop().time()
            reserved = await queue.acquire(0, body(2000, max_tokens=1000))
            waits.append(asyncio.get_running_loop().time() - started_at)
            await asyncio.sleep(0.032)
            queue.correct(reserved, usage(600, 200))

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(64)))
        await budget.close()

    run(main())
    assert sum(wait > 1e-4 for wait in waits[1000:]) < 0.01 * len(waits)
    assert disk.writes < 60
    assert read_spent(tmp_path / "budget.json") == Spend(32_000, 32_000 * 800)


def test_a_slow_run_writes_little_ahead(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=10_000)
    queue = budget.queue()

    async def main() -> None:
        for _ in range(50):
            queue.correct(await queue.acquire(0, body()), Usage())
            await asyncio.sleep(1)
        persisted = read_spent(tmp_path / "budget.json")
        assert persisted is not None and 50 <= persisted.requests <= 54

    run(main())


def test_after_close_the_file_is_exact_and_requests_in_flight_count_in_full(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, tokens=5000, cost=50)
    queue = budget.queue()

    async def main() -> None:
        queue.correct(await queue.acquire(0, body(max_tokens=50)), usage(10, 20))
        await queue.acquire(0, body(max_tokens=50))
        await budget.close()

    run(main())
    full = CostBound(BudgetConfig(tokens=1, cost=1), 0, PRICE).at_most(body(max_tokens=50), "online").amount
    assert read_spent(tmp_path / "budget.json") == full + Spend(1, 30, units_of(0.28))
    assert budget_of(tmp_path, tokens=5000, cost=50).used == budget.used


def test_the_larger_of_the_file_and_the_rows_counts(tmp_path: Path) -> None:
    (tmp_path / "budget.json").write_text('{"requests": 10, "tokens": 500, "cost": 0.5}')
    assert budget_of(tmp_path, Spend(8, 700, units_of(0.25))).used == Spend(10, 700, units_of(0.5))
    (tmp_path / "budget.json").unlink()
    assert budget_of(tmp_path, Spend(8, 700)).used == Spend(8, 700)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"requests": 1}',
        '{"requests": -1, "tokens": 0, "cost": 0}',
        '{"requests": 1, "tokens": 2, "cost": 1e999}',
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "budget.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"budget\.json: cannot be read"):
        budget_of(tmp_path, requests=5)


def test_a_full_disk_stops_the_run(tmp_path: Path) -> None:
    disk = Disk()
    budget = budget_of(tmp_path, disk=disk, requests=50)
    queue = budget.queue()

    async def main() -> None:
        disk.full = True
        with pytest.raises(RunStopped) as caught:
            await queue.acquire(0, body())
        assert caught.value.reason == "output"
        with pytest.raises(RunStopped):
            await budget.charge(Spend(3))
        await budget.close()

    run(main())


def test_a_shards_reservation_is_its_own_and_its_charge_is_on_disk(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=10)
    budget.reserve_shard(Spend(8))
    queue = budget.queue()

    async def main() -> str:
        for _ in range(2):
            queue.correct(await queue.acquire(0, body()), Usage())
        with pytest.raises(RunStopped) as caught:
            await queue.acquire(0, body())
        await budget.charge(Spend(5))
        persisted = read_spent(tmp_path / "budget.json")
        assert persisted is not None and persisted.requests >= 7
        budget.release_shard(Spend(8))
        for _ in range(3):
            await budget.queue().acquire(0, body())
        assert not budget.could_fit(ONE_REQUEST)
        return str(caught.value)

    assert "of which 2 are used, 8 are reserved for batches" in run(main())


def test_an_amount_written_ahead_is_not_available_if_a_shard_reserves_it(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=1000)
    queue = budget.queue()

    async def main() -> None:
        for _ in range(20):
            queue.correct(await queue.acquire(0, body()), Usage())
            await asyncio.sleep(0.1)
        persisted = read_spent(tmp_path / "budget.json")
        assert persisted is not None and persisted.requests > 20
        budget.reserve_shard(Spend(980))
        with pytest.raises(RunStopped):
            await queue.acquire(0, body())

    run(main())


# any schedule


class Attempt(NamedTuple):
    """An attempt: its arrival in seconds, body size, max_tokens, latency in seconds, outcome, and used share."""

    arrival: float
    size: int
    max_tokens: int
    latency: float
    outcome: str
    share: float


class Process(NamedTuple):
    """One process: its attempts, the seconds per write, and the time of the kill in seconds, or None."""

    attempts: list[Attempt]
    write_seconds: float
    kill_at: float | None


OUTCOMES = ("counted", "counted", "counted", "uncounted", "unsent", "throttled", "timed out")
ATTEMPTS = st.builds(
    Attempt,
    st.floats(0, 3),
    st.sampled_from([1, 40, 500]),
    st.sampled_from([1, 60, 700]),
    st.floats(0, 2),
    st.sampled_from(OUTCOMES),
    st.floats(0, 1),
)
PROCESSES = st.lists(
    st.builds(
        Process, st.lists(ATTEMPTS, max_size=25), st.sampled_from([0.0, 0.004, 0.5]), st.none() | st.floats(0, 5)
    ),
    min_size=1,
    max_size=4,
)
CAPS = st.sampled_from(
    [
        {"requests": 7},
        {"tokens": 2500},
        {"tokens": 60_000},
        {"cost": 9},
        {"requests": 20, "tokens": 6000, "cost": 40},
        {"requests": 10**6},
    ]
)


class ProcessState(NamedTuple):
    """A running process: its budget, and the attempts that arrived, were admitted and were rejected, in order."""

    budget: Budget
    queue: BudgetQueue
    arrived: list[int]
    admitted: list[int]
    rejected: list[int]


class ActualUsage:
    """The usage in all processes. Attempts in flight, also at a kill, count in full."""

    def __init__(self, caps: Mapping[str, float], folder: Path) -> None:
        self.path = folder / "budget.json"
        self.config = BudgetConfig(**caps)
        self.caps = caps_of(self.config)
        self.used = ZERO_SPEND
        self.rows = ZERO_SPEND
        self.killed = False

    def run_process(self, process: Process) -> None:
        """Run a process, and check the file against the caps and the actual usage, before and after it."""
        disk = Disk(process.write_seconds)
        budget = Budget(self.config, self.path, [CostBound(self.config, 0, PRICE)], self.rows, lambda: 1, disk.persist)
        assert self.used.fits_in(budget.used)
        if not self.killed:
            assert self.used == budget.used
        run(self._run_attempts(budget, disk, process))
        persisted = read_spent(self.path) or ZERO_SPEND
        assert persisted.fits_in(self.caps)
        assert self.used.fits_in(persisted.maximum(self.rows))

    async def _run_attempts(self, budget: Budget, disk: Disk, process: Process) -> None:
        """Start all attempts. From a kill on, nothing reaches the disk."""
        state = ProcessState(budget, budget.queue(), [], [], [])
        tasks = [asyncio.create_task(self._attempt(number, one, state)) for number, one in enumerate(process.attempts)]
        if process.kill_at is not None:
            await asyncio.wait([asyncio.create_task(asyncio.sleep(process.kill_at))])
            if not all(task.done() for task in tasks):
                self.killed = disk.dead = True
                for task in tasks:
                    task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or (disk.dead and isinstance(result, asyncio.CancelledError)), result
        assert state.admitted == [number for number in state.arrived if number in set(state.admitted)]
        if not disk.dead:
            await budget.close()

    async def _attempt(self, number: int, attempt: Attempt, state: ProcessState) -> None:
        budget = state.budget
        await asyncio.sleep(attempt.arrival)
        sent = body(attempt.size, max_tokens=attempt.max_tokens)
        state.arrived.append(number)
        try:
            async with asyncio.timeout(attempt.latency if attempt.outcome == "timed out" else None):
                reserved = await state.queue.acquire(0, sent)
        except TimeoutError:
            return
        except RunStopped:
            if not state.rejected:  # the first rejected attempt was the head of the queue
                assert budget.in_flight == 0
                assert not budget.could_fit(budget.bounds[0].at_most(sent, "online").amount)
                assert self.killed or self.used == budget.used
            state.rejected.append(number)
            return
        state.admitted.append(number)
        self.used += reserved.amount
        assert self.used.fits_in(self.caps)
        assert self.used.fits_in((read_spent(self.path) or ZERO_SPEND).maximum(self.rows))
        await asyncio.sleep(attempt.latency)
        self._finish(attempt, state.queue, reserved)

    def _finish(self, attempt: Attempt, queue: BudgetQueue, reserved: Reservation) -> None:
        if attempt.outcome == "unsent":
            actual = ZERO_SPEND
            queue.refund(reserved, requests_too=True)
        elif attempt.outcome == "throttled":
            actual = ONE_REQUEST
            queue.refund(reserved, requests_too=False)
        elif attempt.outcome == "uncounted":
            actual = reserved.amount
            queue.correct(reserved, Usage())
        else:
            counted = usage(int(reserved.prompt * attempt.share), int(reserved.completion * attempt.share))
            actual = reserved.bound.counted(reserved, counted)
            self.rows += actual
            queue.correct(reserved, counted)
        self.used += actual - reserved.amount


def attempt(arrival: float, max_tokens: int, share: float = 0.0) -> Attempt:
    return Attempt(arrival, 1, max_tokens, 0.0, "counted", share)


# Small attempts follow a large one: what is written ahead for more requests has fewer tokens than already allowed.
SHRINKING = Process([attempt(0, 700, 1.0), *[attempt(1, 1)] * 4, *[attempt(1.2, 700)] * 3], 0.5, None)


@settings(max_examples=400, deadline=None)
@given(caps=CAPS, processes=PROCESSES)
@example(caps={"tokens": 60_000}, processes=[SHRINKING])
def test_no_schedule_exceeds_a_cap_or_leaves_a_waiter(caps: dict[str, float], processes: Sequence[Process]) -> None:
    with TemporaryDirectory() as folder:
        actual_usage = ActualUsage(caps, Path(folder))
        for process in processes:
            actual_usage.run_process(process)


# speed


def test_the_budget_takes_microseconds_per_attempt() -> None:
    """The test machine may be busy, so the bound is far above the usual time (about 10 µs on a machine of 2024)."""

    async def main(folder: Path) -> float:
        config = BudgetConfig(requests=10**9, tokens=10**12, cost=10**6)
        budget = Budget(config, folder / "budget.json", [CostBound(config, 2000, PRICE)])
        queue, sent, counted = budget.queue(), body(3000, max_tokens=1000), usage(900, 300)
        for _ in range(2000):
            queue.correct(await queue.acquire(0, sent), counted)
        started_at = time.process_time()
        for _ in range(5000):
            queue.correct(await queue.acquire(0, sent), counted)
        seconds = (time.process_time() - started_at) / 5000
        await budget.close()
        return seconds

    with TemporaryDirectory() as folder:
        assert asyncio.run(main(Path(folder))) < 100e-6


def test_the_cap_holds_with_writes_in_real_threads(tmp_path: Path) -> None:
    """Writes go to the real disk, and 16 workers compete for the budget."""

    async def main() -> None:
        config = BudgetConfig(requests=700)
        budget = Budget(config, tmp_path / "budget.json", [CostBound(config, 0, no_price)])
        queue = budget.queue()

        async def work() -> int:
            rng = random.Random(7)
            for count in range(100):
                try:
                    reserved = await queue.acquire(0, b"")
                except RunStopped:
                    return count
                persisted = read_spent(tmp_path / "budget.json")
                assert persisted is not None and budget.used.fits_in(persisted)
                if rng.random() < 0.5:
                    await asyncio.sleep(0)
                queue.correct(reserved, Usage())
            return 100

        counts = await asyncio.gather(*(work() for _ in range(16)))
        assert sum(counts) == 700
        await budget.close()
        assert read_spent(tmp_path / "budget.json") == Spend(700)

    asyncio.run(main())


def test_arithmetic_of_spend() -> None:
    some = Spend(1, 20, 3 * UNITS_PER_CURRENCY)
    assert some + some - some == some
    assert some * 3 == Spend(3, 60, 9 * UNITS_PER_CURRENCY)
    assert some.fits_in(some) and not some.fits_in(Spend(9, 19, 9 * UNITS_PER_CURRENCY))
    assert some.minimum(Spend(9, 1, 0)) == Spend(1, 1, 0)
    assert some.maximum(Spend(9, 1, 0)) == Spend(9, 20, 3 * UNITS_PER_CURRENCY)
    assert some.money == 3.0
