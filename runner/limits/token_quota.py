"""Tokens a minute: what a request is expected to take is reserved, and set right once the service has counted.

Whole tokens in a sliding window keep the quota, exactly. A pace a little faster than the quota spreads the grants over
the minute: the window alone would hand out a minute's worth at once, and the same again a minute later.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from runner.config import TokenLimits
from runner.core import estimate_body
from runner.types import Usage

TICKS_PER_SECOND = 10
WINDOW_TICKS = 60 * TICKS_PER_SECOND + 1
"""So many ticks hold every moment of the last 60 seconds, however the minute falls among them."""

RATE_FACTOR = 1.03
"""Faster than the quota by this: what stood still while a large request waited is caught up with."""

BURST_SECONDS = 2.0
"""So many seconds' worth may be granted at once after a pause."""

MIN_ANSWERS = 20
"""Fewer answers than these teach nothing: the first to come are the short ones."""

WEIGHT_CAP_ANSWERS = 2000
"""An answer counts for as much as the last so many before it."""

MIN_DELAY_SECONDS = 1e-6
"""Nobody is told to wait for less: 0.0 means now."""

SLOPE_PRIOR_WEIGHT = 0.1
"""How much speaks for a slope of 1: bodies of nearly the same length say little about any other."""


class SlidingWindowQuota:
    """One quota of tokens per minute, on any clock that does not go back.

    In no 60 seconds is more granted than `tpm`: estimates, and debts that are known at the time of the grant. A
    request for more than `tpm` is granted alone, when the last 60 seconds are empty, and what comes after it waits for
    as many minutes as it took. One above the burst need not wait for the pace longer than others; those after it do.

    Who comes first is the caller's business: none may be asked about while an earlier one waits.

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
        """Seconds until so many tokens may be granted, as things stand; 0.0: now."""
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
        """Charge what is granted."""
        if now > self._now:
            self._advance(now)
        self._granted[self._tick % WINDOW_TICKS] += amount
        self._sum += amount
        self._level -= amount
        if amount > self.tpm:  # a debt of minutes is paid off at the quota, not at the pace
            self._level -= amount * (RATE_FACTOR - 1)

    def correct(self, estimate: int, actual: int, granted: float, now: float) -> None:
        """Charge what the service counted in place of the estimate: more is a debt from now on, less is given back.

        Args:
            granted: the `now` of `take`.
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
        """Give back all that was charged at `granted`: the service counted nothing."""
        self.correct(amount, 0, granted, now)

    def _advance(self, now: float) -> None:
        """Move the clock on: the pace saves up, and ticks that are more than 60 seconds old are forgotten."""
        self._level = min(self._burst, self._level + (now - self._now) * self._rate)
        self._now = now
        tick, granted = int(now * TICKS_PER_SECOND), self._granted
        for number in range(max(self._tick, tick - WINDOW_TICKS) + 1, tick + 1):
            self._sum -= granted[number % WINDOW_TICKS]
            granted[number % WINDOW_TICKS] = 0
        self._tick = tick

    def _time_when_freed(self, excess: int) -> float:
        """When so many of the tokens in the window will have left it."""
        tick = self._tick
        while excess > 0:
            tick += 1
            excess -= self._granted[tick % WINDOW_TICKS]
        return tick / TICKS_PER_SECOND


class TokenEstimator:
    """What the next request of one kind will take, learned from what the service counted.

    Args:
        template: tokens that the service's own prompt adds, until its count is known.
        completion: tokens of an answer, until some are known.
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
        """Tokens of the prompt, as the service will count them; `size` is our own estimate of the body."""
        if self._prompts < MIN_ANSWERS:
            return max(1, size + self._template)
        doubt = SLOPE_PRIOR_WEIGHT * self._x * self._x / self._prompts
        slope = max(0.0, (self._xy + doubt) / (self._xx + doubt))
        return max(1, round(self._y + slope * (size - self._x)))

    @property
    def completion(self) -> int:
        """Tokens of the answer."""
        expected = self._completion if self._answers < MIN_ANSWERS else round(self._length)
        return max(1, min(expected, self._cap))

    def update(self, size: int, usage: Usage) -> None:
        """Take note of what the service counted for a body of this size."""
        if usage.prompt is not None:
            self._update_prompt(size, usage.prompt)
        if usage.completion is not None:
            self._answers = min(self._answers + 1, WEIGHT_CAP_ANSWERS)
            self._length += (usage.completion - self._length) / self._answers

    def _update_prompt(self, size: int, tokens: int) -> None:
        """Move means, variance and covariance on: these do not grow, so nothing is lost in long runs."""
        self._prompts = min(self._prompts + 1, WEIGHT_CAP_ANSWERS)
        share = 1 / self._prompts
        before = size - self._x
        self._x += share * before
        self._y += share * (tokens - self._y)
        self._xx += share * (before * (size - self._x) - self._xx)
        self._xy += share * (before * (tokens - self._y) - self._xy)


Amounts = tuple[int, ...]
"""Tokens for each account."""


class QuotaSet:
    """Several quotas of which each must have room for a request; their clock is the caller's.

    Args:
        quotas: tokens per minute.
    """

    def __init__(self, quotas: Sequence[int]) -> None:
        self._quotas = tuple(SlidingWindowQuota(quota) for quota in quotas)

    def delay_until(self, amounts: Amounts, now: float) -> float:
        """Seconds until so many tokens may be granted, as things stand; 0.0: now."""
        wait = 0.0
        for account, amount in zip(self._quotas, amounts, strict=True):
            if (longer := account.delay_until(amount, now)) > wait:
                wait = longer
        return wait

    def reserve(self, amounts: Amounts, now: float) -> None:
        """Charge what is granted."""
        for account, amount in zip(self._quotas, amounts, strict=True):
            account.reserve(amount, now)

    def correct(self, estimates: Amounts, actual: Amounts, granted: float, now: float) -> None:
        """Charge what the service counted in place of the estimates."""
        for account, estimate, amount in zip(self._quotas, estimates, actual, strict=True):
            account.correct(estimate, amount, granted, now)

    def refund(self, amounts: Amounts, granted: float, now: float) -> None:
        """Give back what was granted: the service counted nothing."""
        self.correct(amounts, (0,) * len(amounts), granted, now)


class TokenReservation(msgspec.Struct, frozen=True, gc=False):
    """What a request of a variant is thought to take: from which accounts, and our own estimate of its body."""

    variant: int
    size: int
    amounts: Amounts


class TokenQuota:
    """The token quota of one service: how much a request is thought to take, and what came of it.

    Attributes:
        quotas: what is granted from.

    Args:
        tpm: tokens per minute, together or input and output apart.
        estimators: for each variant, what its requests will take; variants of one judge may share one.
    """

    def __init__(self, tpm: int | TokenLimits, estimators: Sequence[TokenEstimator]) -> None:
        self._input_output_apart = isinstance(tpm, TokenLimits)
        self.quotas = QuotaSet((tpm.input, tpm.output) if isinstance(tpm, TokenLimits) else (tpm,))
        self._estimators = estimators

    def reserve(self, variant: int, body: bytes) -> TokenReservation:
        """What a request will take."""
        size = estimate_body(body)
        expected = self._estimators[variant]
        prompt, completion = expected.prompt(size), expected.completion
        return TokenReservation(
            variant, size, (prompt, completion) if self._input_output_apart else (prompt + completion,)
        )

    def correct(self, paid: TokenReservation, usage: Usage, granted: float, now: float) -> None:
        """Charge what an answer took, and learn from it; where the service does not say, the estimate stands."""
        self._estimators[paid.variant].update(paid.size, usage)
        self.quotas.correct(paid.amounts, _counted(paid.amounts, usage), granted, now)

    def refund(self, reservation: TokenReservation, granted: float, now: float) -> None:
        """Give back what a request was granted that the service did not count."""
        self.quotas.refund(reservation.amounts, granted, now)


def _counted(amounts: Amounts, usage: Usage) -> Amounts:
    """What the service counted for each account; what was expected, where it does not say."""
    prompt, completion = usage.prompt, usage.completion
    if len(amounts) == 2:
        return amounts[0] if prompt is None else prompt, amounts[1] if completion is None else completion
    total = usage.total if prompt is None or completion is None else prompt + completion
    return amounts if total is None else (total,)
