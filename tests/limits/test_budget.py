"""The budget: never passed by what was really used, kills included; nobody waits for ever, nobody is overtaken."""

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
    """Writes files on the virtual clock, each some time after it was told to; none any more once it is dead."""

    def __init__(self, delay: float = 0.002) -> None:
        self.delay = delay
        self.writes = 0
        self.dead = False
        self.full = False

    def keep(self, path: Path, data: Mapping[str, Any]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def land() -> None:
            if self.full and not self.dead:
                written.set_exception(OSError(28, "No space left on device"))
            elif not self.dead:
                path.write_text(json.dumps(dict(data)), encoding="utf-8")
                self.writes += 1
                loop.call_later(self.delay / 2, lambda: written.done() or written.set_result(None))

        loop.call_later(self.delay / 2, land)
        return written


def body(size: int = 100, **limits: int) -> bytes:
    """A body of about so many bytes."""
    return json.dumps({"model": "m", "messages": "x" * size, **limits}).encode()


def budget_of(folder: Path, by_rows: Spend = ZERO_SPEND, disk: Disk | None = None, **caps: float) -> Budget:
    """A budget of one variant without a template."""
    config = BudgetConfig(**caps)
    bounds = [CostBound(config, 0, PRICE)]
    return Budget(config, folder / "budget.json", bounds, by_rows, lambda: 7, (disk or Disk()).keep)


def usage(prompt: int | None, completion: int | None) -> Usage:
    return Usage(prompt, completion, None)


def stopped(budget: Budget, queue: BudgetQueue, sent: bytes) -> str:
    """Enter, and be refused."""

    async def main() -> str:
        with pytest.raises(RunStopped) as caught:
            await queue.acquire(0, sent)
        assert (caught.value.reason, caught.value.exit_code) == ("budget", 3)
        return str(caught.value)

    return run(main())


# what an attempt can take


def test_the_bound_is_the_body_its_own_limit_and_the_services_prompt() -> None:
    bound = CostBound(BudgetConfig(tokens=1, cost=1), 2000, PRICE)
    sent = body(50, max_tokens=300)
    online = bound.at_most(sent, "online")
    assert (online.prompt, online.completion) == (len(sent) + 2000, 300)
    assert online.amount == Spend(1, len(sent) + 2300, units_of((4 * (len(sent) + 2000) + 12 * 300) / 1000))
    assert bound.at_most(sent, "batch").amount.cost * 2 == online.amount.cost
    assert bound.at_most(body(50, max_completion_tokens=900), "online").completion == 900
    assert bound.at_most(body(50, max_tokens=300, max_completion_tokens=900), "online").completion == 900


def test_with_a_cap_on_requests_alone_bodies_are_not_looked_at() -> None:
    bound = CostBound(BudgetConfig(requests=1), 2000, no_price)
    reserved = bound.at_most(b"not JSON", "online")
    assert reserved.amount == bound.counted(reserved, usage(5, 5)) == bound.counted(reserved, Usage()) == ONE_REQUEST


@pytest.mark.parametrize(
    ("counted", "tokens"),
    [((30, 20), 50), ((None, None), 1300), ((30, None), 330), ((None, 20), 1020), ((1000, 300), 1300)],
)
def test_what_the_service_did_not_count_is_taken_in_full(counted: Any, tokens: int) -> None:
    bound = CostBound(BudgetConfig(tokens=1), 1000 - len(body(50, max_tokens=300)), no_price)
    reserved = bound.at_most(body(50, max_tokens=300), "online")
    assert bound.counted(reserved, usage(*counted)) == Spend(1, tokens)


def test_a_service_that_counts_more_than_it_can_raises_what_is_reserved(caplog: pytest.LogCaptureFixture) -> None:
    bound = CostBound(BudgetConfig(tokens=1), 100, no_price)
    sent = body(50, max_tokens=300)
    before = bound.at_most(sent, "online")
    for _ in range(5):  # those that were under way
        assert bound.counted(before, usage(before.prompt + 70, 310)).tokens == before.prompt + 380
    after = bound.at_most(sent, "online")
    assert (after.prompt, after.completion) == (before.prompt + 70, 310)
    assert [record.message[-87:] for record in caplog.records] == [
        "170 more than its bytes are reserved for a prompt, and 10 more than max_tokens for an answer"[-87:]
    ]


def test_judges_have_their_own_bounds_and_their_variants_share_them() -> None:
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
def test_an_answer_without_a_bound_is_refused_where_a_cap_needs_one(parameters: dict[str, Any]) -> None:
    judge = JudgeConfig(name="a", parameters=parameters)
    variants = Panel([judge]).variants
    assert len(bounds_of(BudgetConfig(requests=5), [judge], variants, [no_price])) == 1
    with pytest.raises(ConfigError, match=r"parameters\.max_tokens of the judge 'a'"):
        bounds_of(BudgetConfig(tokens=5), [judge], variants, [no_price])


def test_rows_say_what_they_took_with_all_their_attempts() -> None:
    rows = [
        {"attempts": 3, "prompt_tokens": 10, "completion_tokens": 5, "cost": 0.1},
        {"attempts": 1, "prompt_tokens": None, "completion_tokens": None, "cost": None},
        {"attempts": 1, "prompt_tokens": 1, "completion_tokens": None, "cost": 0.2},
    ]
    assert spent_by(rows) == Spend(5, 16, units_of(0.3))


# the caps


def test_money_adds_up_exactly(tmp_path: Path) -> None:
    """A hundred times 0.012 is 1.2, whatever floating point makes of it."""
    budget = budget_of(tmp_path, cost=1.2)
    amount = Spend(1, 0, units_of(0.012))
    for _ in range(100):
        assert budget.could_fit(amount)
        budget.reserve_shard(amount)
    assert not budget.could_fit(Spend(0, 0, 1))
    assert budget.held.money == 1.2


@pytest.mark.parametrize(
    ("caps", "sent", "says"),
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
def test_at_the_cap_the_run_stops_and_says_why(tmp_path: Path, caps: dict[str, Any], sent: bytes, says: str) -> None:
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

    said = run(main())
    assert says in said
    assert said.endswith("7 requests are pending: raise the cap and run the same command again")
    assert says.split(",")[0] in stopped(budget, queue, sent)  # and it stays so


def test_what_is_under_way_is_waited_for_before_the_run_stops(tmp_path: Path) -> None:
    """The second does not fit beside the first, but beside what the first really took."""
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
def test_what_was_never_sent_costs_nothing_and_a_429_is_a_request(
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

        async def come(name: str, sent: bytes) -> Reservation:
            reserved = await queue.acquire(0, sent)
            order.append(name)
            return reserved

        another = await queue.acquire(0, body(10, max_tokens=400))
        waiting = [asyncio.create_task(come(*one)) for one in (("large", large), ("a", small), ("b", small))]
        await asyncio.sleep(0.01)
        assert order == []  # there was room for the small ones
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


def test_a_drain_sends_everybody_home_and_the_next_lane_has_its_own_till(tmp_path: Path) -> None:
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


def test_who_is_cancelled_takes_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=2)
    queue = budget.queue()

    async def main() -> None:
        first = await queue.acquire(0, body())
        second = await queue.acquire(0, body())
        waiting = [asyncio.create_task(queue.acquire(0, body())) for _ in range(3)]
        await settle()
        waiting[0].cancel()
        queue.refund(first, requests_too=True)  # lets the second in line in
        waiting[1].cancel()  # before it has noticed
        await asyncio.gather(*waiting[:2], return_exceptions=True)
        await waiting[2]
        assert (budget.in_flight, budget.used) == (2, Spend(2))
        queue.correct(second, Usage())

    run(main())


# the disk


def test_what_may_be_used_is_on_the_disk_before_it_is(tmp_path: Path) -> None:
    disk = Disk(delay=1.0)
    budget = budget_of(tmp_path, disk=disk, requests=1000)
    queue = budget.queue()

    async def main() -> None:
        entering = asyncio.create_task(queue.acquire(0, body()))
        await asyncio.sleep(0.9)
        assert not entering.done()
        await entering
        told = read_spent(tmp_path / "budget.json")
        assert told is not None and 1 <= told.requests <= 10

    run(main())


def test_a_steady_run_seldom_waits_for_the_disk(tmp_path: Path) -> None:
    """2,000 requests a second, 64 under way, a disk that takes 4 ms."""
    disk = Disk(delay=0.004)
    budget = budget_of(tmp_path, disk=disk, tokens=10**9)
    queue = budget.queue()
    loops: list[float] = []

    async def work() -> None:
        for _ in range(500):
            began = asyncio.get_running_loop().time()
            reserved = await queue.acquire(0, body(2000, max_tokens=1000))
            loops.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(0.032)
            queue.correct(reserved, usage(600, 200))

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(64)))
        await budget.close()

    run(main())
    assert sum(waited > 1e-4 for waited in loops[1000:]) < 0.01 * len(loops)
    assert disk.writes < 60
    assert read_spent(tmp_path / "budget.json") == Spend(32_000, 32_000 * 800)


def test_a_slow_run_writes_little_ahead(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=10_000)
    queue = budget.queue()

    async def main() -> None:
        for _ in range(50):
            queue.correct(await queue.acquire(0, body()), Usage())
            await asyncio.sleep(1)
        told = read_spent(tmp_path / "budget.json")
        assert told is not None and 50 <= told.requests <= 54

    run(main())


def test_a_clean_end_is_exact_and_what_is_under_way_counts_in_full(tmp_path: Path) -> None:
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


def test_the_larger_of_file_and_rows_counts(tmp_path: Path) -> None:
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


def test_a_disk_that_is_full_stops_the_run(tmp_path: Path) -> None:
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


def test_a_shards_room_is_not_for_others_and_what_it_took_is_on_the_disk(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=10)
    budget.reserve_shard(Spend(8))
    queue = budget.queue()

    async def main() -> str:
        for _ in range(2):
            queue.correct(await queue.acquire(0, body()), Usage())
        with pytest.raises(RunStopped) as caught:
            await queue.acquire(0, body())
        await budget.charge(Spend(5))
        told = read_spent(tmp_path / "budget.json")
        assert told is not None and told.requests >= 7
        budget.release_shard(Spend(8))
        for _ in range(3):
            await budget.queue().acquire(0, body())
        assert not budget.could_fit(ONE_REQUEST)
        return str(caught.value)

    assert "of which 2 are used, 8 are reserved for batches" in run(main())


def test_what_was_written_ahead_is_no_room_once_shards_hold_it(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, requests=1000)
    queue = budget.queue()

    async def main() -> None:
        for _ in range(20):
            queue.correct(await queue.acquire(0, body()), Usage())
            await asyncio.sleep(0.1)
        told = read_spent(tmp_path / "budget.json")
        assert told is not None and told.requests > 20
        budget.reserve_shard(Spend(980))
        with pytest.raises(RunStopped):
            await queue.acquire(0, body())

    run(main())


# whatever happens


class Visit(NamedTuple):
    """One attempt: when it comes, its size, and what becomes of it after how long."""

    arrival: float
    size: int
    answer: int
    latency: float
    fate: str
    share: float


class Life(NamedTuple):
    """One process: its visits, how slow its disk is, and when it is killed, if it is."""

    visits: list[Visit]
    disk: float
    killed: float | None


FATES = ("settled", "settled", "settled", "uncounted", "unsent", "throttled", "impatient")
VISITS = st.builds(
    Visit,
    st.floats(0, 3),
    st.sampled_from([1, 40, 500]),
    st.sampled_from([1, 60, 700]),
    st.floats(0, 2),
    st.sampled_from(FATES),
    st.floats(0, 1),
)
LIVES = st.lists(
    st.builds(Life, st.lists(VISITS, max_size=25), st.sampled_from([0.0, 0.004, 0.5]), st.none() | st.floats(0, 5)),
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


class Scene(NamedTuple):
    """One process at work: its budget, and who came, was let in and was refused, in order."""

    budget: Budget
    queue: BudgetQueue
    came: list[int]
    let_in: list[int]
    refused: list[int]


class Truth:
    """What was really used, in all lives: what is under way, and was when its process was killed, in full."""

    def __init__(self, caps: Mapping[str, float], folder: Path) -> None:
        self.path = folder / "budget.json"
        self.config = BudgetConfig(**caps)
        self.caps = caps_of(self.config)
        self.used = ZERO_SPEND
        self.rows = ZERO_SPEND
        self.killed = False

    def live(self, life: Life) -> None:
        disk = Disk(life.disk)
        budget = Budget(self.config, self.path, [CostBound(self.config, 0, PRICE)], self.rows, lambda: 1, disk.keep)
        assert self.used.fits_in(budget.used)
        if not self.killed:
            assert self.used == budget.used
        run(self._live(budget, disk, life))
        told = read_spent(self.path) or ZERO_SPEND
        assert told.fits_in(self.caps)
        assert self.used.fits_in(told.maximum(self.rows))

    async def _live(self, budget: Budget, disk: Disk, life: Life) -> None:
        """Let everybody come; a kill is a moment from which on nothing reaches the disk."""
        scene = Scene(budget, budget.queue(), [], [], [])
        visits = [asyncio.create_task(self._visit(number, visit, scene)) for number, visit in enumerate(life.visits)]
        if life.killed is not None:
            await asyncio.wait([asyncio.create_task(asyncio.sleep(life.killed))])
            if not all(visit.done() for visit in visits):
                self.killed = disk.dead = True
                for visit in visits:
                    visit.cancel()
        for result in await asyncio.gather(*visits, return_exceptions=True):
            assert result is None or (disk.dead and isinstance(result, asyncio.CancelledError)), result
        assert scene.let_in == [number for number in scene.came if number in set(scene.let_in)]
        if not disk.dead:
            await budget.close()

    async def _visit(self, number: int, visit: Visit, scene: Scene) -> None:
        budget = scene.budget
        await asyncio.sleep(visit.arrival)
        sent = body(visit.size, max_tokens=visit.answer)
        scene.came.append(number)
        try:
            async with asyncio.timeout(visit.latency if visit.fate == "impatient" else None):
                reserved = await scene.queue.acquire(0, sent)
        except TimeoutError:
            return
        except RunStopped:
            if not scene.refused:  # the first to be told so was the head of the queue
                assert budget.in_flight == 0
                assert not budget.could_fit(budget.bounds[0].at_most(sent, "online").amount)
                assert self.killed or self.used == budget.used
            scene.refused.append(number)
            return
        scene.let_in.append(number)
        self.used += reserved.amount
        assert self.used.fits_in(self.caps)
        assert self.used.fits_in((read_spent(self.path) or ZERO_SPEND).maximum(self.rows))
        await asyncio.sleep(visit.latency)
        self._end(visit, scene.queue, reserved)

    def _end(self, visit: Visit, queue: BudgetQueue, reserved: Reservation) -> None:
        if visit.fate == "unsent":
            actual = ZERO_SPEND
            queue.refund(reserved, requests_too=True)
        elif visit.fate == "throttled":
            actual = ONE_REQUEST
            queue.refund(reserved, requests_too=False)
        elif visit.fate == "uncounted":
            actual = reserved.amount
            queue.correct(reserved, Usage())
        else:
            took = usage(int(reserved.prompt * visit.share), int(reserved.completion * visit.share))
            actual = reserved.bound.counted(reserved, took)
            self.rows += actual
            queue.correct(reserved, took)
        self.used += actual - reserved.amount


def visit(arrival: float, answer: int, share: float = 0.0) -> Visit:
    return Visit(arrival, 1, answer, 0.0, "settled", share)


SHRINKING = Life([visit(0, 700, 1.0), *[visit(1, 1)] * 4, *[visit(1.2, 700)] * 3], 0.5, None)
"""Small steps after large ones: what is written for more requests is less in tokens than what is allowed already."""


@settings(max_examples=400, deadline=None)
@given(caps=CAPS, lives=LIVES)
@example(caps={"tokens": 60_000}, lives=[SHRINKING])
def test_no_schedule_passes_a_cap_or_leaves_a_waiter(caps: dict[str, float], lives: Sequence[Life]) -> None:
    with TemporaryDirectory() as folder:
        truth = Truth(caps, Path(folder))
        for life in lives:
            truth.live(life)


# speed


def test_an_attempt_costs_few_microseconds() -> None:
    """Two cores are shared here, so the bound is far above what it takes (about 10 µs on a machine of 2024)."""

    async def main(folder: Path) -> float:
        config = BudgetConfig(requests=10**9, tokens=10**12, cost=10**6)
        budget = Budget(config, folder / "budget.json", [CostBound(config, 2000, PRICE)])
        queue, sent, took = budget.queue(), body(3000, max_tokens=1000), usage(900, 300)
        for _ in range(2000):
            queue.correct(await queue.acquire(0, sent), took)
        began = time.process_time()
        for _ in range(5000):
            queue.correct(await queue.acquire(0, sent), took)
        spent = (time.process_time() - began) / 5000
        await budget.close()
        return spent

    with TemporaryDirectory() as folder:
        assert asyncio.run(main(Path(folder))) < 100e-6


def test_real_threads_write_the_same(tmp_path: Path) -> None:
    """With the real disk, and many at once."""

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
                told = read_spent(tmp_path / "budget.json")
                assert told is not None and budget.used.fits_in(told)
                if rng.random() < 0.5:
                    await asyncio.sleep(0)
                queue.correct(reserved, Usage())
            return 100

        counts = await asyncio.gather(*(work() for _ in range(16)))
        assert sum(counts) == 700
        await budget.close()
        assert read_spent(tmp_path / "budget.json") == Spend(700)

    asyncio.run(main())


def test_spend_is_a_value() -> None:
    some = Spend(1, 20, 3 * UNITS_PER_CURRENCY)
    assert some + some - some == some
    assert some * 3 == Spend(3, 60, 9 * UNITS_PER_CURRENCY)
    assert some.fits_in(some) and not some.fits_in(Spend(9, 19, 9 * UNITS_PER_CURRENCY))
    assert some.minimum(Spend(9, 1, 0)) == Spend(1, 1, 0)
    assert some.maximum(Spend(9, 1, 0)) == Spend(9, 20, 3 * UNITS_PER_CURRENCY)
    assert some.money == 3.0
