"""Tokens per minute: reserves what a request is expected to use, and corrects it when the service has counted.

A sliding window over whole tokens keeps the quota exactly. A rate a little above the quota spreads the grants over the
minute: the window alone would grant a minute's worth at once, and the same again a minute later.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from runner.config import TokenLimits
from runner.core import estimate_body
from runner.types import Usage

TICKS_PER_SECOND = 10
WINDOW_TICKS = 60 * TICKS_PER_SECOND + 1  # length of the ring buffer: 60 s of ticks and the current one
RATE_FACTOR = 1.03  # grants are paced at this factor of the quota, to catch up after a large request had to wait
BURST_SECONDS = 2.0  # seconds' worth of tokens that may be granted at once after a pause
MIN_ANSWERS = 20  # answers before the estimate learns: the first answers to arrive are the short ones
WEIGHT_CAP_ANSWERS = 2000  # an answer weighs at least as much as one of the last 2,000
MIN_DELAY_SECONDS = 1e-6  # shortest delay that is returned, because 0.0 means now
SLOPE_PRIOR_WEIGHT = 0.1  # weight of the prior slope 1: bodies of nearly equal length say little about other lengths


class SlidingWindowQuota:
    """One quota of tokens per minute, on any clock that does not go back.

    No 60 seconds hold grants of more than `tpm` tokens, counting estimates and the debts that are known at the time of
    the grant. A request for more than `tpm` is granted alone when the last 60 seconds are empty, and the next one waits
    for as many minutes as it used. A request above the burst waits no longer for the rate than others do; those after
    it wait instead.

    The caller must enforce FIFO order: it asks for no request while an earlier one waits.

    Args:
        tpm: tokens per minute.
    """

    def __init__(self, tpm: int) -> None:
        self.tpm = tpm
        self._granted = [0] * WINDOW_TICKS
        self._sum = 0
        self._tick = 0
        self._rate = tpm / 60 * RATE_FACTOR
        self._burst = self._rate * BURST_SECONDS
        self._level = self._burst
        self._now = 0.0

    def delay_until(self, amount: int, now: float) -> float:
        """Return the seconds until this many tokens may be granted as things are now; 0.0 means now."""
        if now > self._now:
            self._advance(now)
        if amount <= self._level and self._sum + amount <= self.tpm:
            return 0.0
        missing = min(amount, self._burst) - self._level
        excess = self._sum + min(amount, self.tpm) - self.tpm
        if missing <= 0 and excess <= 0:
            return 0.0
        return max(missing / self._rate, self._time_when_freed(excess) - now, MIN_DELAY_SECONDS)

    def reserve(self, amount: int, now: float) -> None:
        """Charge tokens that are granted now."""
        if now > self._now:
            self._advance(now)
        self._granted[self._tick % WINDOW_TICKS] += amount
        self._sum += amount
        self._level -= amount
        if amount > self.tpm:  # a debt of minutes is paid off at the quota, not at the pace
            self._level -= amount * (RATE_FACTOR - 1)

    def correct(self, estimate: int, actual: int, granted: float, now: float) -> None:
        """Replace the estimate by what the service counted: more is a debt from now on, less is given back.

        Args:
            estimate: the tokens that were reserved.
            actual: the tokens that the service counted.
            granted: the `now` that was passed to `reserve`.
            now: the time now.
        """
        surplus = estimate - actual
        if surplus < 0:
            self.reserve(-surplus, now)
            return
        if now > self._now:
            self._advance(now)
        self._level = min(self._burst, self._level + surplus)
        tick = int(granted * TICKS_PER_SECOND)
        if tick > self._tick - WINDOW_TICKS:
            self._granted[tick % WINDOW_TICKS] -= surplus
            self._sum -= surplus

    def refund(self, amount: int, granted: float, now: float) -> None:
        """Give back all that was reserved at `granted`: the service counted nothing."""
        self.correct(amount, 0, granted, now)

    def _advance(self, now: float) -> None:
        """Advance the clock: tokens accrue at the rate, and ticks older than 60 seconds are dropped."""
        self._level = min(self._burst, self._level + (now - self._now) * self._rate)
        self._now = now
        tick, granted = int(now * TICKS_PER_SECOND), self._granted
        for number in range(max(self._tick, tick - WINDOW_TICKS) + 1, tick + 1):
            self._sum -= granted[number % WINDOW_TICKS]
            granted[number % WINDOW_TICKS] = 0
        self._tick = tick

    def _time_when_freed(self, excess: int) -> float:
        """Return when this many of the tokens in the window will have left it."""
        tick = self._tick
        while excess > 0:
            tick += 1
            excess -= self._granted[tick % WINDOW_TICKS]
        return tick / TICKS_PER_SECOND


class TokenEstimator:
    """Estimates the tokens of the next request of one judge, from what the service counted.

    Args:
        template: tokens that the service's own prompt adds; used until the service has counted some requests.
        completion: tokens of an answer; used until some are known.
        cap: the most tokens an answer may have, or None.
    """

    def __init__(self, template: int, completion: int, cap: int | None) -> None:
        self._template = template
        self._completion = completion
        self._cap = sys.maxsize if cap is None else cap
        self._prompts = self._answers = 0
        self._x = self._y = self._xx = self._xy = 0.0
        self._length = 0.0

    def prompt(self, size: int) -> int:
        """Return the tokens of the prompt as the service will count them; `size` is our own estimate of the body."""
        if self._prompts < MIN_ANSWERS:
            return max(1, size + self._template)
        doubt = SLOPE_PRIOR_WEIGHT * self._x * self._x / self._prompts
        slope = max(0.0, (self._xy + doubt) / (self._xx + doubt))
        return max(1, round(self._y + slope * (size - self._x)))

    @property
    def completion(self) -> int:
        """The expected tokens of the answer."""
        expected = self._completion if self._answers < MIN_ANSWERS else round(self._length)
        return max(1, min(expected, self._cap))

    def update(self, size: int, usage: Usage) -> None:
        """Learn from what the service counted for a body of this size."""
        if usage.prompt is not None:
            self._update_prompt(size, usage.prompt)
        if usage.completion is not None:
            self._answers = min(self._answers + 1, WEIGHT_CAP_ANSWERS)
            self._length += (usage.completion - self._length) / self._answers

    def _update_prompt(self, size: int, tokens: int) -> None:
        """Update means, variance and covariance. They do not grow, so long runs lose no precision."""
        self._prompts = min(self._prompts + 1, WEIGHT_CAP_ANSWERS)
        share = 1 / self._prompts
        before = size - self._x
        self._x += share * before
        self._y += share * (tokens - self._y)
        self._xx += share * (before * (size - self._x) - self._xx)
        self._xy += share * (before * (tokens - self._y) - self._xy)


Amounts = tuple[int, ...]
"""Tokens for each quota."""


class QuotaSet:
    """Several quotas, each of which must have room for a request. The caller passes in the time.

    Args:
        quotas: tokens per minute.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        self._quotas = tuple(SlidingWindowQuota(quota) for quota in quotas)

    def delay_until(self, amounts: Amounts, now: float) -> float:
        """Return the seconds until these tokens may be granted as things are now; 0.0 means now."""
        wait = 0.0
        for quota, amount in zip(self._quotas, amounts, strict=True):
            if (longer := quota.delay_until(amount, now)) > wait:
                wait = longer
        return wait

    def reserve(self, amounts: Amounts, now: float) -> None:
        """Charge tokens that are granted now."""
        for quota, amount in zip(self._quotas, amounts, strict=True):
            quota.reserve(amount, now)

    def correct(self, estimates: Amounts, actual: Amounts, granted: float, now: float) -> None:
        """Replace the estimates by what the service counted."""
        for quota, estimate, amount in zip(self._quotas, estimates, actual, strict=True):
            quota.correct(estimate, amount, granted, now)

    def refund(self, amounts: Amounts, granted: float, now: float) -> None:
        """Give back what was reserved: the service counted nothing."""
        self.correct(amounts, (0,) * len(amounts), granted, now)


class TokenReservation(msgspec.Struct, frozen=True, gc=False):
    """What is reserved for a request: its variant, our own estimate of its body in tokens, and tokens per quota."""

    variant: int
    size: int
    amounts: Amounts


class TokenQuota:
    """The token quota of one service, with estimates of what requests will use.

    Attributes:
        quotas: one quota for all tokens, or two for input and output.

    Args:
        tpm: tokens per minute, together or for input and output separately.
        estimators: one for each variant; variants of one judge may share one.
    """

    def __init__(self, tpm: int | TokenLimits, estimators: Sequence[TokenEstimator]) -> None:
        self._input_output_apart = isinstance(tpm, TokenLimits)
        self.quotas = QuotaSet((tpm.input, tpm.output) if isinstance(tpm, TokenLimits) else (tpm,))
        self._estimators = estimators

    def reserve(self, variant: int, body: bytes) -> TokenReservation:
        """Return what has to be reserved for a request."""
        size = estimate_body(body)
        expected = self._estimators[variant]
        prompt, completion = expected.prompt(size), expected.completion
        return TokenReservation(
            variant, size, (prompt, completion) if self._input_output_apart else (prompt + completion,)
        )

    def correct(self, reservation: TokenReservation, usage: Usage, granted: float, now: float) -> None:
        """Charge what an answer used, and learn from it; if the service does not say, the estimate stays charged."""
        self._estimators[reservation.variant].update(reservation.size, usage)
        self.quotas.correct(reservation.amounts, _counted(reservation.amounts, usage), granted, now)

    def refund(self, reservation: TokenReservation, granted: float, now: float) -> None:
        """Give back the reservation of a request that the service did not count."""
        self.quotas.refund(reservation.amounts, granted, now)


def _counted(amounts: Amounts, usage: Usage) -> Amounts:
    """Return what the service counted for each quota; the estimate if it does not say, or if it counted only a part."""
    prompt, completion, total = usage.prompt, usage.completion, usage.total
    if len(amounts) == 2:
        return amounts[0] if prompt is None else prompt, amounts[1] if completion is None else completion
    if prompt is not None and completion is not None:
        return (max(prompt + completion, total or 0),)
    return (max(amounts[0], prompt or completion or 0) if total is None else total,)
