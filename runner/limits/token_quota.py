"""Tokens a minute: what a request is expected to take is reserved, and set right once the service has counted.

Whole tokens in a sliding window keep the quota, exactly. A pace a little faster than the quota spreads the grants over
the minute: the window alone would hand out a minute's worth at once, and the same again a minute later.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import msgspec

from runner.config import TokenLimits
from runner.core.tokens import estimate_body
from runner.types import Usage

TICKS_PER_S = 10
TICKS = 60 * TICKS_PER_S + 1
"""So many ticks hold every moment of the last 60 seconds, however the minute falls among them."""

PACE = 1.03
"""Faster than the quota by this: what stood still while a large request waited is caught up with."""

BURST_S = 2.0
"""So many seconds' worth may be granted at once after a pause."""

FEW = 20
"""Fewer answers than these teach nothing: the first to come are the short ones."""

MEMORY = 2000
"""An answer counts for as much as the last so many before it."""

MOMENT_S = 1e-6
"""Nobody is told to wait for less: 0.0 means now."""

SLOPE_TRUST = 0.1
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
        self._granted = [0] * TICKS
        self._sum = 0
        self._tick = 0
        self._rate = tpm / 60 * PACE
        self._burst = self._rate * BURST_S
        self._level = self._burst
        self._at = 0.0

    def wait(self, amount: int, now: float) -> float:
        """Seconds until so many tokens may be granted, as things stand; 0.0: now."""
        if now > self._at:
            self._advance(now)
        if amount <= self._level and self._sum + amount <= self.tpm:
            return 0.0
        missing = min(amount, self._burst) - self._level
        excess = self._sum + min(amount, self.tpm) - self.tpm
        if missing <= 0 and excess <= 0:
            return 0.0
        return max(missing / self._rate, self._until_gone(excess) - now, MOMENT_S)

    def take(self, amount: int, now: float) -> None:
        """Charge what is granted."""
        if now > self._at:
            self._advance(now)
        self._granted[self._tick % TICKS] += amount
        self._sum += amount
        self._level -= amount
        if amount > self.tpm:  # a debt of minutes is paid off at the quota, not at the pace
            self._level -= amount * (PACE - 1)

    def settle(self, estimate: int, actual: int, granted: float, now: float) -> None:
        """Charge what the service counted in place of the estimate: more is a debt from now on, less is given back.

        Args:
            granted: the `now` of `take`.
        """
        surplus = estimate - actual
        if surplus < 0:
            self.take(-surplus, now)
            return
        if now > self._at:
            self._advance(now)
        self._level = min(self._burst, self._level + surplus)
        tick = int(granted * TICKS_PER_S)
        if tick > self._tick - TICKS:
            self._granted[tick % TICKS] -= surplus
            self._sum -= surplus

    def refund(self, amount: int, granted: float, now: float) -> None:
        """Give back all that was charged at `granted`: the service counted nothing."""
        self.settle(amount, 0, granted, now)

    def _advance(self, now: float) -> None:
        """Move the clock on: the pace saves up, and ticks that are more than 60 seconds old are forgotten."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        tick, granted = int(now * TICKS_PER_S), self._granted
        for number in range(max(self._tick, tick - TICKS) + 1, tick + 1):
            self._sum -= granted[number % TICKS]
            granted[number % TICKS] = 0
        self._tick = tick

    def _until_gone(self, excess: int) -> float:
        """When so many of the tokens in the window will have left it."""
        tick = self._tick
        while excess > 0:
            tick += 1
            excess -= self._granted[tick % TICKS]
        return tick / TICKS_PER_S


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
        if self._prompts < FEW:
            return max(1, size + self._template)
        doubt = SLOPE_TRUST * self._x * self._x / self._prompts
        slope = max(0.0, (self._xy + doubt) / (self._xx + doubt))
        return max(1, round(self._y + slope * (size - self._x)))

    @property
    def completion(self) -> int:
        """Tokens of the answer."""
        expected = self._completion if self._answers < FEW else round(self._length)
        return max(1, min(expected, self._cap))

    def learn(self, size: int, usage: Usage) -> None:
        """Take note of what the service counted for a body of this size."""
        if usage.prompt is not None:
            self._learn_prompt(size, usage.prompt)
        if usage.completion is not None:
            self._answers = min(self._answers + 1, MEMORY)
            self._length += (usage.completion - self._length) / self._answers

    def _learn_prompt(self, size: int, tokens: int) -> None:
        """Move means, variance and covariance on: these do not grow, so nothing is lost in long runs."""
        self._prompts = min(self._prompts + 1, MEMORY)
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
        self._accounts = tuple(SlidingWindowQuota(quota) for quota in quotas)

    def wait(self, amounts: Amounts, now: float) -> float:
        """Seconds until so many tokens may be granted, as things stand; 0.0: now."""
        wait = 0.0
        for account, amount in zip(self._accounts, amounts, strict=True):
            if (longer := account.wait(amount, now)) > wait:
                wait = longer
        return wait

    def take(self, amounts: Amounts, now: float) -> None:
        """Charge what is granted."""
        for account, amount in zip(self._accounts, amounts, strict=True):
            account.take(amount, now)

    def settle(self, estimates: Amounts, actual: Amounts, granted: float, now: float) -> None:
        """Charge what the service counted in place of the estimates."""
        for account, estimate, amount in zip(self._accounts, estimates, actual, strict=True):
            account.settle(estimate, amount, granted, now)

    def refund(self, amounts: Amounts, granted: float, now: float) -> None:
        """Give back what was granted: the service counted nothing."""
        self.settle(amounts, (0,) * len(amounts), granted, now)


class TokenReservation(msgspec.Struct, frozen=True, gc=False):
    """What a request of a variant is thought to take: from which accounts, and our own estimate of its body."""

    variant: int
    size: int
    amounts: Amounts


class TokenQuota:
    """The token quota of one service: how much a request is thought to take, and what came of it.

    Attributes:
        accounts: what is granted from.

    Args:
        tpm: tokens per minute, together or input and output apart.
        expectations: for each variant, what its requests will take; variants of one judge may share one.
    """

    def __init__(self, tpm: int | TokenLimits, expectations: Sequence[TokenEstimator]) -> None:
        self._apart = isinstance(tpm, TokenLimits)
        self.accounts = QuotaSet((tpm.input, tpm.output) if isinstance(tpm, TokenLimits) else (tpm,))
        self._expectations = expectations

    def expect(self, variant: int, body: bytes) -> TokenReservation:
        """What a request will take."""
        size = estimate_body(body)
        expected = self._expectations[variant]
        prompt, completion = expected.prompt(size), expected.completion
        return TokenReservation(variant, size, (prompt, completion) if self._apart else (prompt + completion,))

    def settle(self, paid: TokenReservation, usage: Usage, granted: float, now: float) -> None:
        """Charge what an answer took, and learn from it; where the service does not say, the estimate stands."""
        self._expectations[paid.variant].learn(paid.size, usage)
        self.accounts.settle(paid.amounts, _counted(paid.amounts, usage), granted, now)

    def refund(self, paid: TokenReservation, granted: float, now: float) -> None:
        """Give back what a request was granted that the service did not count."""
        self.accounts.refund(paid.amounts, granted, now)


def _counted(amounts: Amounts, usage: Usage) -> Amounts:
    """What the service counted for each account; what was expected, where it does not say."""
    prompt, completion = usage.prompt, usage.completion
    if len(amounts) == 2:
        return amounts[0] if prompt is None else prompt, amounts[1] if completion is None else completion
    total = usage.total if prompt is None or completion is None else prompt + completion
    return amounts if total is None else (total,)
