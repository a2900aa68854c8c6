"""The emulator's one shared state, and what it decides about each request, online or in a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

from runner.emulator.answers.completions import Answer, answer
from runner.emulator.api_errors import ApiError, content_refused, out_of_credit, server_error, throttled, unauthorized
from runner.emulator.chat_request import ChatRequest
from runner.emulator.draws import Draws, draw, lot
from runner.emulator.faults import Fault, FaultPlan
from runner.emulator.options import EmulatorOptions
from runner.emulator.quota import Denial, Quota
from runner.emulator.stats import Stats

_normal = NormalDist().inv_cdf
_STRAY = Denial("requests", 0.1)
_IN_LINES: frozenset[Fault | None] = frozenset({"refuse", "500", "503", "429", "unparsable"})
"""The faults a line of a batch can meet; the others are those of a connection."""


class AttemptPlan(NamedTuple):
    """What happens to one attempt: a fault or none, the answer it would get, and after how many seconds."""

    fault: Fault | None
    answer: Answer
    delay: float
    draws: Draws


class Emulator:
    """Options, counters and quota of one running emulator."""

    def __init__(self, options: EmulatorOptions) -> None:
        self.options = options
        self.stats = Stats()
        self.quota = Quota(options.rpm, options.tpm, options.burst)
        self._plan = FaultPlan(options.faults)
        self._accepted = _authorizations(options.token)

    def authorize(self, header: str | None) -> None:
        """Raise a 401 unless the Authorization header carries the token, in either documented form."""
        if self._accepted is not None and (header or "").strip() not in self._accepted:
            raise unauthorized()

    def turn(self, ask: ChatRequest, admit: Callable[[int], None] | None = None) -> AttemptPlan:
        """Decide what this attempt meets, and note that the body was seen.

        Args:
            admit: called with the tokens of prompt and answer; raises where there is no quota, and then the body does
                not count as seen, so that a run's faults do not depend on its pace. Not called for a stray 429. None
                for a line of a batch, which has no quota and no connection to break.
        """
        options = self.options
        seen = self.stats.times_seen(ask.digest)
        draws, fixed = draw(options.seed, ask.digest, seen), lot(options.seed, ask.digest)
        fault = self._plan.choose(draws, fixed)
        if admit is None and fault not in _IN_LINES:
            fault = None
        reply = answer(ask, options, draws, fixed, unparsable=fault == "unparsable")
        if admit is not None and fault != "429":
            admit(reply.tokens)
        self.stats.let_in(ask.digest)
        if fault:
            self.stats.faults[fault] += 1
        return AttemptPlan(fault, reply, self._delay(draws), draws)

    def admit(self, tokens: int) -> None:
        """Let an online request of this many tokens through the quota, or raise a 429."""
        credit = self.options.credit
        if credit is not None and self.stats.accepted_in_all >= credit:
            raise out_of_credit(self.options.dialect)
        denial = self.quota.take(tokens)
        if denial:
            raise throttled(self.options.dialect, denial, self.quota.headers())
        self.stats.accepted()

    def problem(self, fault: Fault | None) -> ApiError | None:
        """Return what the service answers in place of a verdict, where this fault is an answer at all.

        A stray 429 is one that no quota asked for: the next attempt may pass at once.
        """
        if fault == "refuse":
            return content_refused()
        if fault == "429":
            return throttled(self.options.dialect, _STRAY, {})
        return server_error(int(fault)) if fault in ("500", "503") else None

    def _delay(self, draws: Draws) -> float:
        latency = self.options.latency
        if not latency.median:
            return 0.0
        return latency.median * math.exp(latency.sigma * _normal(min(max(draws.delay, 1e-9), 1 - 1e-9)))


def _authorizations(token: str | None) -> frozenset[str] | None:
    """Return the header values that are let in: the plain one, and what the documented Python SDK call sends."""
    if not token:
        return None
    return frozenset({f"Bearer {token}", f"Bearer Authorization: Bearer {token}"})
