"""The shared state of one emulator. It decides what happens to each request, online or in a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

from runner.emulator.answers.completions import Answer, answer
from runner.emulator.api_errors import ApiError, content_refused, out_of_credit, server_error, throttled, unauthorized
from runner.emulator.chat_request import ChatRequest
from runner.emulator.draws import Draws, draw_attempt, draw_body
from runner.emulator.faults import Fault, FaultPlan
from runner.emulator.options import EmulatorOptions
from runner.emulator.quota import Denial, Quota
from runner.emulator.stats import Stats

_normal_quantile = NormalDist().inv_cdf

# A stray 429 is a fault, not a matter of quota: the next attempt can pass immediately.
_STRAY_429 = Denial("requests", 0.1)

# Faults that a batch line can have; all others are faults of a connection.
_LINE_FAULTS: frozenset[Fault | None] = frozenset({"refuse", "500", "503", "429", "unparsable"})


class AttemptPlan(NamedTuple):
    """What happens to one attempt: its fault or None, the answer without the fault, and the latency in seconds."""

    fault: Fault | None
    answer: Answer
    delay: float
    draws: Draws


class Emulator:
    """The options, counters and quota of one running emulator."""

    def __init__(self, options: EmulatorOptions) -> None:
        self.options = options
        self.stats = Stats()
        self.quota = Quota(options.rpm, options.tpm, options.burst)
        self._faults = FaultPlan(options.faults)
        self._accepted_headers = _authorization_headers(options.token)

    def authorize(self, header: str | None) -> None:
        """Check the Authorization header; both documented forms are accepted.

        Raises:
            ApiError: a 401, if the header does not carry the token.
        """
        if self._accepted_headers is not None and (header or "").strip() not in self._accepted_headers:
            raise unauthorized()

    def plan_attempt(self, chat: ChatRequest, use_quota: Callable[[int], None] | None = None) -> AttemptPlan:
        """Decide what happens to this attempt, and count its body as seen.

        Args:
            use_quota: called with the tokens of prompt and answer together, except for a stray 429. If it raises, the
                body does not count as seen, so that a run's faults do not depend on its pace. None for a line of a
                batch, which has no quota and no connection that could break.
        """
        options = self.options
        seen = self.stats.times_seen(chat.digest)
        draws, body_draws = draw_attempt(options.seed, chat.digest, seen), draw_body(options.seed, chat.digest)
        fault = self._faults.choose(draws, body_draws)
        if use_quota is None and fault not in _LINE_FAULTS:
            fault = None
        reply = answer(chat, options, draws, body_draws, unparsable=fault == "unparsable")
        if use_quota is not None and fault != "429":
            use_quota(reply.tokens)
        self.stats.mark_seen(chat.digest)
        if fault:
            self.stats.faults[fault] += 1
        return AttemptPlan(fault, reply, self._delay(draws), draws)

    def will_fail(self, body: bytes) -> bool:
        """Return True if the next attempt of the body with this digest, as a line of a batch, is a failed line."""
        seed = self.options.seed
        draws = draw_attempt(seed, body, self.stats.times_seen(body))
        fault = self._faults.choose(draws, draw_body(seed, body))
        return fault in _LINE_FAULTS and fault != "unparsable"

    def use_quota(self, tokens: int) -> None:
        """Take one online request and its tokens from the account's credit and quota.

        Raises:
            ApiError: a 429, if the credit or the quota is used up.
        """
        credit = self.options.credit
        if credit is not None and self.stats.accepted_total >= credit:
            raise out_of_credit(self.options.dialect)
        denial = self.quota.take(tokens)
        if denial:
            raise throttled(self.options.dialect, denial, self.quota.headers())
        self.stats.count_accepted()

    def error_for(self, fault: Fault | None) -> ApiError | None:
        """Return the error response of this fault, or None if the fault is not an error response."""
        if fault == "refuse":
            return content_refused()
        if fault == "429":
            return throttled(self.options.dialect, _STRAY_429, {})
        return server_error(int(fault)) if fault in ("500", "503") else None

    def _delay(self, draws: Draws) -> float:
        latency = self.options.latency
        if not latency.median:
            return 0.0
        return latency.median * math.exp(latency.sigma * _normal_quantile(min(max(draws.delay, 1e-9), 1 - 1e-9)))


def _authorization_headers(token: str | None) -> frozenset[str] | None:
    """Return the accepted header values: the usual one, and the one that the documented Python SDK call sends."""
    if not token:
        return None
    return frozenset({f"Bearer {token}", f"Bearer Authorization: Bearer {token}"})
