"""Hard caps on requests, tokens and cost of a run, over both lanes, all services and every resume.

`budget.json` is written ahead of use: it never holds less than what was used and what is reserved online. After a crash
a run counts too much, never too little. What is reserved for a shard is in the shard's own state file
(`lanes/batch/shard_budget.py`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec

from runner.config import BudgetConfig
from runner.core import WaitQueue, damaged, read_json, write_json
from runner.errors import RunStopped, output_failed
from runner.limits.cost import (
    ONE_REQUEST,
    UNITS_PER_CURRENCY,
    UNLIMITED,
    ZERO_SPEND,
    CostBound,
    Reservation,
    Spend,
    caps_of,
    units_of,
)
from runner.run_file import Count
from runner.types import Usage

log = logging.getLogger(__name__)

# The number of requests that one write reserves ahead doubles if they last less than the shorter time, and halves if
# they last more than the longer one.
INITIAL_REQUESTS_AHEAD = 4
WRITE_INTERVAL_MAX_SECONDS, WRITE_INTERVAL_MIN_SECONDS = 2.0, 0.5

# At most one part in this many of the remaining budget is written ahead: a crash wastes no more than that.
AHEAD_DIVISOR = 20


_ADVICE = (
    "It holds what the run has used of its budget: restore it, or remove it, "
    "and only what the existing rows say is counted"
)


class _File(msgspec.Struct):
    requests: Count
    tokens: Count
    cost: Annotated[float, msgspec.Meta(ge=0, le=1e15)]
    run: str | None = None


def read_spent(path: Path, run: str | None = None) -> Spend | None:
    """Return what `budget.json` says was used, or None without the file.

    Args:
        path: the file.
        run: the id of the run; None if it does not matter.

    Raises:
        RunDirectoryError: the file is damaged or belongs to another run.
    """
    try:
        found = read_json(path, _File, _ADVICE)
        if run is not None and found.run not in (None, run):
            raise damaged(path, f"it belongs to the run {found.run!r} (`$.run`), and run.json to {run!r}", _ADVICE)
        return Spend(found.requests, found.tokens, units_of(found.cost))
    except FileNotFoundError:
        return None
    except OverflowError as error:
        raise damaged(path, error, _ADVICE) from error


Persist = Callable[[Path, Mapping[str, Any]], "asyncio.Future[None]"]
"""Writes a JSON file durably; the future is done when it is on the disk."""


def in_a_thread(path: Path, data: Mapping[str, Any]) -> asyncio.Future[None]:
    """Write a JSON file durably, in a thread."""
    return asyncio.get_running_loop().run_in_executor(None, partial(write_json, path, data))


class Budget:
    """What a run has used of its caps, and what it may use according to `budget.json`.

    Args:
        caps: the YAML's `budget`.
        path: the path of `budget.json`.
        bounds: for each variant, the largest amount that one attempt can use.
        used_by_rows: what the existing rows say was used; it counts if it is more than the file says.
        pending: returns how many requests are pending, for messages.
        persist: writes the file.
        run: the id of the run, which the file names.

    Attributes:
        bounds: as given.
        in_flight: how many online requests hold a reservation.
        failed: why the file can no longer be written, or None.
        on_change: called when more may be used.

    Raises:
        RunDirectoryError: the file is damaged or belongs to another run.
    """

    def __init__(
        self,
        caps: BudgetConfig,
        path: Path,
        bounds: Sequence[CostBound],
        used_by_rows: Spend = ZERO_SPEND,
        pending: Callable[[], int] = lambda: 0,
        persist: Persist = in_a_thread,
        run: str | None = None,
    ) -> None:
        self.bounds = bounds
        self.in_flight = 0
        self.failed: RunStopped | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._caps = caps_of(caps)
        self._path = path
        self._pending = pending
        self._persist = persist
        self._run = run
        self._used = used_by_rows.maximum(read_spent(path, run) or ZERO_SPEND)
        self._held = ZERO_SPEND
        self._available = self._caps
        self._allowed = self._write_ahead_mark = self._used
        self._writing: asyncio.Future[None] | None = None
        self._last_amount, self._requests_ahead, self._extended_at = ZERO_SPEND, INITIAL_REQUESTS_AHEAD, math.nan

    @property
    def used(self) -> Spend:
        """What was used; requests in flight online count in full."""
        return self._used

    @property
    def held(self) -> Spend:
        """What is reserved for shards."""
        return self._held

    def queue(self) -> BudgetQueue:
        """Return the queue through which one online lane reserves; there is one at a time."""
        queue = BudgetQueue(self)
        self.on_change = queue.admit
        return queue

    def could_fit(self, amount: Spend) -> bool:
        """Return True if the caps leave room for this amount."""
        return (self._used + amount).fits_in(self._available)

    def has_reserve(self, amount: Spend) -> bool:
        """Return True if an amount covers everything that is capped, so that it was reserved under these caps."""
        return all(getattr(amount, name) for name in Spend.__struct_fields__ if getattr(self._caps, name) < UNLIMITED)

    def reserve(self, amount: Spend) -> bool:
        """Reserve for an online request; returns False if the caps or the file do not allow it now."""
        after = self._used + amount
        if not (after.fits_in(self._allowed) and after.fits_in(self._available)):
            return False
        self._used, self._last_amount = after, amount
        self.in_flight += 1
        if not after.fits_in(self._write_ahead_mark):
            self.write_ahead(ZERO_SPEND)
        return True

    def correct(self, amount: Spend, actual: Spend) -> None:
        """Replace the reservation of an online request by what it used."""
        self._used += actual - amount
        self.in_flight -= 1
        if not self._used.fits_in(self._allowed):
            self.write_ahead(ZERO_SPEND)  # it used more than it should be able to

    def write_ahead(self, wanted: Spend) -> None:
        """Write ahead for what is wanted and about a second's requests more, within the caps; then call `on_change`.

        There is one write at a time. Callers that come meanwhile are called back when it has ended, and try again.
        """
        if self._writing is not None or self.failed is not None:
            return
        few = self._requests_in_share()
        ahead = self._last_amount * min(self._requests_ahead, few)
        target = (self._used + wanted + ahead).minimum(self._available).maximum(self._used)
        target = target.maximum(self._allowed)  # requests may use it while this is written
        if target == self._allowed:
            return
        now = asyncio.get_running_loop().time()
        if now - self._extended_at < WRITE_INTERVAL_MIN_SECONDS and self._requests_ahead < few:
            self._requests_ahead *= 2
        elif now - self._extended_at > WRITE_INTERVAL_MAX_SECONDS and self._requests_ahead > 1:
            self._requests_ahead //= 2
        self._extended_at = now
        self._writing = self._persist(self._path, self._as_json(target))
        self._writing.add_done_callback(partial(self._written, target, ahead))

    def reserve_shard(self, amount: Spend) -> None:
        """Reserve for a shard; its state file says so, or will before anything of it is used."""
        self._held += amount
        self._available = self._caps - self._held

    def release_shard(self, amount: Spend) -> None:
        """Give back the reservation of a shard, once its state file says so."""
        self.reserve_shard(ZERO_SPEND - amount)

    async def charge(self, amount: Spend) -> None:
        """Count what a shard used; on return it is on the disk. Raises RunStopped if it cannot be written."""
        self._used += amount
        while not self._used.fits_in(self._allowed):
            self.write_ahead(ZERO_SPEND)
            if self.failed is not None:
                raise self.failed
            if self._writing is not None:
                await asyncio.wait([self._writing])

    async def close(self) -> None:
        """Write exactly what was used; requests that are still in flight count in full."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self._used == self._allowed:
            return
        try:
            await self._persist(self._path, self._as_json(self._used))
        except OSError as error:
            log.warning("%s holds more than was used, and cannot be corrected: %s", self._path, error)
        else:
            self._allowed = self._write_ahead_mark = self._used

    def exhausted(self, amount: Spend) -> RunStopped:
        """Return why the run stops: what remains of a cap is less than one request can use."""
        free = self._available - self._used
        name = next(name for name in Spend.__struct_fields__ if getattr(amount, name) > getattr(free, name))
        cap, used, held, next_one = (
            _shown(name, getattr(value, name)) for value in (self._caps, self._used, self._held, amount)
        )
        reserved = f", {held} are reserved for batches" if getattr(self._held, name) else ""
        uncounted = sum(bound.uncounted for bound in {id(bound): bound for bound in self.bounds}.values())
        unsure = f" (in full for {uncounted:,} attempts without a token count)" if uncounted else ""
        found = f"budget.{name} is {cap}, of which {used} are used{unsure}{reserved}"
        return _Exhausted(f"{found}, and the next request can use up to {next_one}", self._pending)

    def _as_json(self, spend: Spend) -> dict[str, Any]:
        run = {} if self._run is None else {"run": self._run}
        return {"requests": spend.requests, "tokens": spend.tokens, "cost": spend.money, **run}

    def _requests_in_share(self) -> int:
        """Return how many requests like the last one are a small part of the remaining budget."""
        free, step = self._available - self._used, self._last_amount
        pairs = ((getattr(free, name), getattr(step, name)) for name in Spend.__struct_fields__)
        return max(0, min((left // (AHEAD_DIVISOR * each) for left, each in pairs if each), default=0))

    def _written(self, target: Spend, ahead: Spend, written: asyncio.Future[None]) -> None:
        self._writing = None
        if written.cancelled():
            return
        error = written.exception()
        if isinstance(error, Exception):
            self.failed = output_failed(error)
        else:
            self._allowed = target
            self._write_ahead_mark = target - Spend(ahead.requests // 2, ahead.tokens // 2, ahead.cost // 2)
            if not self._used.fits_in(target):
                self.write_ahead(ZERO_SPEND)
        self.on_change()


class _Exhausted(RunStopped):
    """What remains of a cap is less than one request can use. Rows that are still written count when it is shown."""

    def __init__(self, found: str, pending: Callable[[], int]) -> None:
        super().__init__("budget", found, exit_code=3)
        self._pending = pending

    def __str__(self) -> str:
        pending = f"{self._pending():,} requests are pending"
        return f"{super().__str__()}. {pending}: raise the cap and run the same command again"


class BudgetQueue:
    """Reserves budget for the online requests of one lane, in FIFO order.

    Args:
        budget: of the run.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._queue: WaitQueue[Reservation, bool] = WaitQueue(
            self.admit, lambda reservation, _: self.refund(reservation, requests_too=True)
        )

    async def acquire(self, variant: int, body: bytes) -> Reservation:
        """Reserve for one attempt. Waits while requests in flight may give back what it needs.

        Raises RunStopped if none of them can, and Drained when the lane is drained.
        """
        self._queue.check_open()
        reservation = self._budget.bounds[variant].at_most(body, "online")
        if self._queue or not self._budget.reserve(reservation.amount):
            await self._queue.wait(reservation)
        return reservation

    def correct(self, reservation: Reservation, usage: Usage) -> None:
        """Count what an attempt used; if the service does not say, all that was reserved."""
        self._budget.correct(reservation.amount, reservation.bound.counted(reservation, usage))
        self.admit()

    def refund(self, reservation: Reservation, *, requests_too: bool) -> None:
        """Give back a reservation: an attempt that was never sent costs nothing, a 429 costs one request."""
        self._budget.correct(reservation.amount, ZERO_SPEND if requests_too else ONE_REQUEST)
        self.admit()

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._queue.close()

    def admit(self) -> None:
        """Reserve for the waiters, from the head of the queue on, as far as the budget allows."""
        queue, budget = self._queue, self._budget
        while queue:
            amount = queue.head.amount
            if budget.failed is not None:
                queue.close(budget.failed)
            elif budget.reserve(amount):
                queue.wake(True)
            elif budget.could_fit(amount):
                return budget.write_ahead(sum((waiting.amount for waiting in queue), ZERO_SPEND))
            elif not budget.in_flight:
                queue.close(budget.exhausted(amount))
            else:
                return None
        return None


def _shown(name: str, value: int) -> str:
    if name != "cost":
        return f"{value:,}"
    return f"{value / UNITS_PER_CURRENCY:,.{2 if value >= UNITS_PER_CURRENCY else 6}f}"
