"""The rate at which to send, where nobody says what the quota is: from how many 429s come, and when.

Pure, like `adaptive.py`, whose parts these are. Not every 429 is for the rate. A stall of either side sends many at
once, and some services send them at random: those are told apart by what happens at lower rates.
"""

from __future__ import annotations

from math import exp, inf

import msgspec

NOISE_SHARE = 0.05
"""So small a share of 429s, or of failures, is no sign of anything."""

MIN_NOISE_SHARE = 0.02
"""Where there is a pace so many 429s a success are not, until it is known that more of them are stray."""

EPISODE_MIN_429S = 5
"""So many 429s, the stray ones discounted, are a wave."""

BURST_SECONDS = 0.05
"""Where there is a pace, those of so many seconds are no wave without any before or after: a stall clumps them."""

DECREASE_FACTOR = 0.8
SAFETY_FACTOR = 0.98
MIN_RATE_PER_SECOND = 1 / 60

PROVEN_SECONDS_AND_REQUESTS = (1.0, 5.0)
"""Where a wave ends a rise, the pace of so many seconds, and of so many requests, before it was accepted."""

EPISODES_BEFORE_IGNORING = 3
MIN_REQUESTS_TO_JUDGE = 40
"""So many waves in a row that a lower rate did not prevent tell how many 429s are stray; so do that many requests."""

MAX_NOISE_SHARE = 1.0
RATE_TOLERANCE = 0.25
"""Waves whose rates differ by less confirm each other."""

MIN_APPROACH_SECONDS_AND_REQUESTS = (1.0, 16.0)
MAX_APPROACH_SECONDS_AND_REQUESTS = (16.0, 800.0)
"""How long the pace takes back to the rate of the last wave: seconds, and at least so many requests."""


class ThrottleEpisode(msgspec.Struct, frozen=True):
    """Too many 429s to be stray.

    Attributes:
        requests: sent since the last cut.
        throttled: how many of them got a 429.
        began: when the wave did.
        share: of 429s among what was sent since then.
        hint: seconds that the service asks to wait.
    """

    requests: int
    throttled: int
    began: float
    share: float
    hint: float


class ThrottleDetector:
    """Counts 429s until they are a wave, or until enough successes show that they are not.

    Args:
        cut: the last stamp before the first one that counts.
    """

    def __init__(self, cut: int) -> None:
        self._cut_stamp = cut
        self._refused = 0
        self._heat = self._heat_before = 0.0
        self._burst_began = -inf
        self._episode_429s = self._first_stamp = 0
        self._began = self._hint = 0.0

    def decay(self, tolerance: float) -> None:
        """A request was answered."""
        if self._heat > 0.0:
            self._heat -= tolerance

    def add(self, stamp: int, now: float, hint: float, pace: SendRate) -> bool:
        """A request got a 429; whether this completes a wave."""
        self._refused += 1
        if self._heat <= 0.0:
            self._heat, self._episode_429s, self._first_stamp, self._began, self._hint = 0.0, 0, stamp, now, 0.0
        if now - self._burst_began >= BURST_SECONDS:
            self._burst_began, self._heat_before = now, self._heat
        self._episode_429s += 1
        self._hint = max(self._hint, hint)
        if pace.level is None or self._heat - self._heat_before <= EPISODE_MIN_429S - 2:
            self._heat += 1
        return self._heat >= EPISODE_MIN_429S * (1 + 2 * max(0.0, pace.tolerance - NOISE_SHARE))

    def episode(self, last: int) -> ThrottleEpisode:
        """What there is to say of it when it is complete; `last` is the stamp that completed it."""
        share = min(1.0, (self._episode_429s - 1) / max(1, last - self._first_stamp))
        return ThrottleEpisode(last - self._cut_stamp, self._refused, self._began, share, self._hint)


class SendRate:
    """The rate at which to send, once 429s have shown that there is one.

    After a wave its logarithm follows a cubic, as TCP CUBIC's window does: from a little below the rate that was
    accepted back up to it, long just there, then ever faster beyond, to see whether there is more. Waves that come at
    the same rate again and again make the approach longer.

    Attributes:
        level: requests a second that were accepted when the last wave came, or None.
        tolerance: so many 429s a success are taken for stray. It rises with waves that a lower rate did not prevent.
    """

    def __init__(self) -> None:
        self.level: float | None = None
        self.tolerance = NOISE_SHARE
        self._since = self._approach = self._depth = 0.0
        self._accepted = self._level_before = 0.0
        self._refuted = self._ineffective_cuts = self._ineffective_requests = self._ineffective_429s = 0

    def rate_at(self, now: float) -> float | None:
        """Requests a second, or None while no rate is known."""
        if self.level is None:
            return None
        progress = min(10.0, max(0.0, now - self._since) / self._approach - 1)
        return max(MIN_RATE_PER_SECOND, self.level * exp(self._depth * progress**3))

    def start(self, rate: float, since: float) -> None:
        """The first wave came when so many were sent a second; sending begins again at `since`."""
        self.tolerance = MIN_NOISE_SHARE
        self._set(SAFETY_FACTOR * rate, since, sure=False)

    def cut(self, rate: float, episode: ThrottleEpisode, since: float) -> None:
        """A further wave came.

        Where it ends a rise above the level, the end is just there. Where it comes below the level it refutes it, and
        each further one more so. But where less is sent than was accepted before, again and again, and refused all
        the same, it is not for the rate: then the level from before all that is taken up again.

        Args:
            rate: requests a second that were sent.
            wave: what became of them.
            since: when sending begins again.
        """
        known = self.level or rate
        accepted = rate * (1 - episode.share)
        if rate >= known and episode.requests >= MIN_REQUESTS_TO_JUDGE:
            self._refuted = self._ineffective_cuts = 0
            self.tolerance = max(MIN_NOISE_SHARE, min(self.tolerance, _tolerance(episode.throttled, episode.requests)))
            self._set(SAFETY_FACTOR * max(self._proven_rate(rate, known, episode), accepted), since, sure=True)
        elif self._cut_was_ineffective(rate, known, episode):
            self._refuted = 0
            self._set(self._level_before, since, sure=False)
        else:
            self._refuted += 1
            least = min(known, DECREASE_FACTOR**self._refuted * rate)
            self._set(SAFETY_FACTOR * max(least, accepted), since, sure=accepted > least)
        self._accepted = accepted

    def _proven_rate(self, rate: float, known: float, wave: ThrottleEpisode) -> float:
        """What was surely accepted before a wave; with many stray 429s among them nobody can say."""
        if self.tolerance > NOISE_SHARE:
            return min(known, DECREASE_FACTOR * rate)
        before = wave.began - max(PROVEN_SECONDS_AND_REQUESTS[0], PROVEN_SECONDS_AND_REQUESTS[1] / rate)
        return max(known, min(rate, self.rate_at(before) or rate))

    def _cut_was_ineffective(self, rate: float, known: float, wave: ThrottleEpisode) -> bool:
        """Whether waves come even where less is sent than was accepted before, and not for the first time."""
        if not self._refuted:
            self._level_before, self._ineffective_requests, self._ineffective_429s = known, 0, 0
        if rate >= self._accepted:
            return False
        self._ineffective_cuts += 1
        self._ineffective_requests += wave.requests
        self._ineffective_429s += wave.throttled
        if self._ineffective_cuts < EPISODES_BEFORE_IGNORING:
            return False
        self.tolerance = min(
            MAX_NOISE_SHARE, max(self.tolerance, _tolerance(self._ineffective_429s, self._ineffective_requests))
        )
        return True

    def resume(self, now: float) -> None:
        """Approach the level once more from below."""
        self._since = now

    def _set(self, level: float, since: float, sure: bool) -> None:
        known, self.level, self._since = self.level, max(MIN_RATE_PER_SECOND, level), since
        if sure and known is not None and abs(self.level - known) < RATE_TOLERANCE * known:
            self._approach = min(
                max(MAX_APPROACH_SECONDS_AND_REQUESTS[0], MAX_APPROACH_SECONDS_AND_REQUESTS[1] / self.level),
                2 * self._approach,
            )
            self._depth = 0.1
        else:
            self._approach = max(
                MIN_APPROACH_SECONDS_AND_REQUESTS[0], MIN_APPROACH_SECONDS_AND_REQUESTS[1] / self.level
            )
            self._depth = 0.2


def _tolerance(refused: int, requests: int) -> float:
    """Twice the 429s that came on a success: fewer would be taken for a wave now and then."""
    return 2 * refused / max(1, requests - refused)
