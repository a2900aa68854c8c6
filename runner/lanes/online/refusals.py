"""Decides whether a refusal is about one request or about all requests of a judge at a service.

A 403, 404 or 405 may come from a firewall that dislikes one text, or from a token that may do nothing. A 400 may be
about one text, or about a parameter that the model does not know. The status does not tell them apart; other requests
do. So a refused request is *held*, without a row and without a worker, until

- a request that was sent after the refusal is answered: the refusal was this request's own, and it gets a failed row;
- enough different requests in a row got the same, with no answer between: the run stops, and none of them has a row;
- nothing else is left to send.

Before the run stops, nothing more is sent until what is in flight has ended: its answer may clear the suspicion.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from runner.core import WaitQueue, without_values
from runner.errors import Fatal, Refused, RunStopped
from runner.lanes.base import STOP_HINTS
from runner.lanes.online.request_queue import QueuedRequest
from runner.types import Failure

Refusal = Refused | Fatal

# Before the first answer, this share of `breaker.refusals` is enough, and three requests are: a service may lock an
# account after a few wrong tokens.
FIRST_SHARE = 1 / 8
MIN_FIRST_REFUSALS = 3

# Statuses that a firewall, a moderation layer or a gateway gives to single texts. If earlier runs had answers, they are
# about the text as likely as about the configuration.
SINGLE_TEXT_STATUS = frozenset({403, 404, 405})
# Those of them that a text can cause. For any other status, a broken node of the service is the likely reason if other
# requests are answered: the request is sent again this often before it fails.
TEXT_STATUS = frozenset({403, 405})
NO_TEXT_REPEATS = 3

# Different refusals that are held at once. Beyond that, those of the oldest kind are taken for the requests' own.
MAX_KINDS = 50

_POLICY = re.compile(r"\bpolic(?:y|ies)\b|\bprohibited\b|\bmoderat", re.IGNORECASE)


class Held(Exception):
    """The request waits for a decision; it has no row and needs no worker."""


class HeldRequest(msgspec.Struct):
    """A refused request.

    Attributes:
        queued: the request.
        error: the refusal.
        last_sent: the number of the last request that had been sent when the refusal came.
    """

    queued: QueuedRequest
    error: Refusal
    last_sent: int


class RefusalKind(msgspec.Struct):
    """Refusals that say the same.

    Attributes:
        reason: the stop reason if every request gets it.
        status: their HTTP status.
        held: the requests, in the order of their refusals.
        in_row: how many came since the last answer.
    """

    reason: str
    status: int | None
    held: deque[HeldRequest]
    in_row: int = 0


class RefusalDetector:
    """Holds the refused requests of one judge at one service.

    Attributes:
        in_flight: this judge's requests in flight at this service.
        is_answered: True once the service has answered one in this process.
        suspected: True while nothing more may be sent.

    Args:
        place: judge and service, for the message.
        url: where the requests are sent, for the message.
        limit: the YAML's `breaker.refusals`.
        was_answered: True if the run directory has answers of this judge.
        on_decided: called with a request and its failure, or None if it is sent again.
        on_stop: called with the reason if the service refuses every request.
    """

    def __init__(
        self,
        place: str,
        url: str,
        limit: int,
        was_answered: bool,
        on_decided: Callable[[QueuedRequest, Failure | None], None],
        on_stop: Callable[[RunStopped], None],
    ) -> None:
        self.in_flight = 0
        self.is_answered = False
        self._place = place
        self._url = url
        self._limit = limit
        self._was_answered = was_answered
        self._on_decided = on_decided
        self._on_stop = on_stop
        self._kinds: dict[tuple[str, int | None, str], RefusalKind] = {}
        self._suspect: RefusalKind | None = None
        self._waiting: WaitQueue[None, None] = WaitQueue()

    @property
    def suspected(self) -> bool:
        """True while nothing more may be sent."""
        return self._suspect is not None

    async def wait_until_cleared(self) -> None:
        """Wait while nothing may be sent; raises Drained when the lane is drained."""
        while self._suspect is not None:
            await self._waiting.wait(None)

    def on_answer(self, number: int) -> None:
        """Note that the service answered the request with this number."""
        self.is_answered = True
        if self._kinds:
            self._clear(number)

    def hold(self, queued: QueuedRequest, error: Refusal, last_sent: int) -> None:
        """Hold a refused request; may call `on_stop`.

        Args:
            queued: the request, which is not in flight any more.
            error: the refusal.
            last_sent: the number of the last request that was sent.
        """
        key = self._key(error)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = RefusalKind(key[0], error.status, deque())
            if len(self._kinds) > MAX_KINDS:
                self._decide_all(next(iter(self._kinds)))
        kind.held.append(HeldRequest(queued, error, last_sent))
        kind.in_row += 1
        if self._suspect is None and kind.in_row >= self._limit_of(kind):
            self._suspect = kind
        self.recheck()

    def recheck(self) -> None:
        """Stop if the service is suspected and nothing is in flight that could clear it."""
        if self._suspect is not None and self.in_flight == 0:
            self._stop(self._suspect)

    def decide_last(self) -> None:
        """Decide about all held requests, because nothing else is left to send.

        If nothing was ever answered, a refusal that no text causes stops the run.
        """
        for key, kind in list(self._kinds.items()):
            if kind.reason == "refused" or self._may_be_own(kind):
                self._decide_all(key)
            else:
                self._stop(kind)
                return

    def take_held(self) -> Iterator[QueuedRequest]:
        """Remove and return the held requests: another service takes them."""
        kinds, self._kinds, self._suspect = self._kinds, {}, None
        return (held.queued for kind in kinds.values() for held in kind.held)

    def drain(self) -> None:
        """Fail all waiters with `Drained` and reject new ones."""
        self._waiting.close()

    def _key(self, error: Refusal) -> tuple[str, int | None, str]:
        """Return what is equal for refusals that count together.

        For an ordinary 400 it includes what the message says without its values, unless nothing was ever answered:
        then it is a wrong configuration more likely than faults of many samples, whatever else the message repeats.
        """
        if isinstance(error, Fatal):
            return error.reason, error.status, ""
        is_proven = self.is_answered or self._was_answered
        return "refused", error.status, without_values(str(error)) if is_proven else ""

    def _limit_of(self, kind: RefusalKind) -> int:
        if kind.reason == "refused" or self._may_be_own(kind):
            return self._limit
        return min(self._limit, max(MIN_FIRST_REFUSALS, round(self._limit * FIRST_SHARE)))

    def _may_be_own(self, kind: RefusalKind) -> bool:
        """Return True if the service is known to answer requests like these."""
        return self.is_answered or (self._was_answered and kind.status in SINGLE_TEXT_STATUS)

    def _clear(self, number: int) -> None:
        """Decide about the requests that were refused before an answered request was sent."""
        self._suspect = None
        self._waiting.wake_all(None)
        for key, kind in list(self._kinds.items()):
            kind.in_row = 0
            while kind.held and kind.held[0].last_sent < number:
                self._decide(kind.held.popleft())
            if not kind.held:
                self._kinds.pop(key, None)

    def _decide_all(self, key: tuple[str, int | None, str]) -> None:
        for held in self._kinds.pop(key).held:
            self._decide(held)

    def _decide(self, held: HeldRequest) -> None:
        """Give a request its failure, or send it again if no text can cause its refusal."""
        queued, error = held.queued, held.error
        if isinstance(error, Fatal) and error.status not in TEXT_STATUS and queued.refusals < NO_TEXT_REPEATS:
            queued.refusals += 1
            self._on_decided(queued, None)
            return
        by_policy = isinstance(error, Fatal) and _POLICY.search(str(error)) is not None
        self._on_decided(queued, Failure("content_filter" if by_policy else "bad_request", str(error)))

    def _stop(self, kind: RefusalKind) -> None:
        count = max(kind.in_row, len(kind.held))
        many = f"{count} different requests in a row were refused alike" if count > 1 else "a request was refused"
        then = "nothing was answered between" if self.is_answered else "nothing was answered so far"
        error = kind.held[-1].error
        words, hint = str(error), STOP_HINTS[kind.reason]
        if isinstance(error, Refused):
            words += f" (POST {self._url})"
        elif error.hint is not None:
            hint = f"{error.hint}, then run the same command again"
        if kind.reason == "refused" or self._may_be_own(kind):
            hint += f". If only these samples are at fault, raise breaker.refusals (it is {self._limit}) to pass them"
        self._on_stop(
            RunStopped(
                kind.reason,
                f"{self._place}: {many}, and {then}: {words}. These requests have no row and are sent again; {hint}",
                exit_code=3,
            )
        )
