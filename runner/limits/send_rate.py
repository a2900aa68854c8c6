"""Learns a send rate in requests per second from 429s, for services whose quota is unknown.

Pure, like `adaptive.py`, which uses it. Not every 429 means that the rate is too high: a stall of either side causes
many 429s at once, and some services send them at random. What happens at lower rates tells these cases apart.
"""

from __future__ import annotations

from math import exp, inf

import msgspec

NOISE_SHARE = 0.05  # share of 429s, or of failures, that is ignored as noise while no send rate is known
MIN_NOISE_SHARE = 0.02  # 429s per success that are ignored once a send rate is known, until more prove to be noise
MAX_NOISE_SHARE = 1.0
EPISODE_MIN_429S = 5  # 429s beyond the noise share that make an episode

# Once a send rate is known, the 429s of one burst alone are not an episode, because a stall causes bursts.
BURST_SECONDS = 0.05

DECREASE_FACTOR = 0.8  # the limit, or a refuted rate, after an episode
SAFETY_FACTOR = 0.98  # the send rate is set this far below the rate that was accepted
MIN_RATE_PER_SECOND = 1 / 60

# If an episode ends a rise, the rate at this time before it (seconds, and requests) counts as accepted.
PROVEN_SECONDS_AND_REQUESTS = (1.0, 5.0)

# After this many consecutive episodes that a lower rate did not prevent, their 429s count as noise,
EPISODES_BEFORE_IGNORING = 3
# and an episode measures the noise share only if it has at least this many requests.
MIN_REQUESTS_TO_JUDGE = 40

RATE_TOLERANCE = 0.25  # episodes whose rates differ by less than this share confirm each other

# Time in which the send rate returns to the rate of the last episode: seconds, and at least this many requests.
MIN_APPROACH_SECONDS_AND_REQUESTS = (1.0, 16.0)
MAX_APPROACH_SECONDS_AND_REQUESTS = (16.0, 800.0)


class ThrottleEpisode(msgspec.Struct, frozen=True):
    """More 429s than noise explains.

    Attributes:
        requests: requests sent since the last cut.
        throttled: how many of them got a 429.
        began: when the episode began, in seconds.
        share: the share of 429s among the requests sent since it began.
        hint: the longest wait that the service asked for, in seconds.
    """

    requests: int
    throttled: int
    began: float
    share: float
    hint: float


class ThrottleDetector:
    """Counts 429s until they make an episode, or until enough successes show that they are noise.

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
        """Note that a request was answered; `tolerance` is the noise share in 429s per success."""
        if self._heat > 0.0:
            self._heat -= tolerance

    def add(self, stamp: int, now: float, hint: float, rate: SendRate) -> bool:
        """Note that a request got a 429; returns True if that completes an episode."""
        self._refused += 1
        if self._heat <= 0.0:
            self._heat, self._episode_429s, self._first_stamp, self._began, self._hint = 0.0, 0, stamp, now, 0.0
        if now - self._burst_began >= BURST_SECONDS:
            self._burst_began, self._heat_before = now, self._heat
        self._episode_429s += 1
        self._hint = max(self._hint, hint)
        if rate.level is None or self._heat - self._heat_before <= EPISODE_MIN_429S - 2:
            self._heat += 1
        return self._heat >= EPISODE_MIN_429S * (1 + 2 * max(0.0, rate.tolerance - NOISE_SHARE))

    def episode(self, last: int) -> ThrottleEpisode:
        """Return the episode when it is complete; `last` is the stamp that completed it."""
        share = min(1.0, (self._episode_429s - 1) / max(1, last - self._first_stamp))
        return ThrottleEpisode(last - self._cut_stamp, self._refused, self._began, share, self._hint)


class SendRate:
    """The send rate, once 429s have shown that the service limits it.

    After an episode the logarithm of the rate follows a cubic, as the window of TCP CUBIC does: it rises from a little
    below the rate that was accepted, stays near it for a long time, and then grows ever faster to probe for more.
    Repeated episodes at the same rate make the approach longer.

    Attributes:
        level: requests per second that were accepted when the last episode came, or None.
        tolerance: 429s per success that are ignored as noise. It rises with episodes that a lower rate did not prevent.
    """

    def __init__(self) -> None:
        self.level: float | None = None
        self.tolerance = NOISE_SHARE
        self._since = self._approach = self._depth = 0.0
        self._accepted = self._level_before = 0.0
        self._refuted = self._ineffective_cuts = self._ineffective_requests = self._ineffective_429s = 0

    def rate_at(self, now: float) -> float | None:
        """Return the rate in requests per second, or None while none is known."""
        if self.level is None:
            return None
        progress = min(10.0, max(0.0, now - self._since) / self._approach - 1)
        return max(MIN_RATE_PER_SECOND, self.level * exp(self._depth * progress**3))

    def start(self, rate: float, since: float) -> None:
        """Note the first episode: it came at `rate` requests per second, and sending starts again at `since`."""
        self.tolerance = MIN_NOISE_SHARE
        self._set(SAFETY_FACTOR * rate, since, sure=False)

    def cut(self, rate: float, episode: ThrottleEpisode, since: float) -> None:
        """Note a further episode.

        One that ends a rise above the level shows that the quota is there. One below the level refutes the level, and
        each further one does so more strongly. But if the service keeps sending 429s although less is sent than it
        accepted before, the rate is not their reason: then the level from before these episodes is restored.

        Args:
            rate: requests per second that were sent.
            episode: what became of them.
            since: when sending starts again.
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

    def _proven_rate(self, rate: float, known: float, episode: ThrottleEpisode) -> float:
        """Return the rate that was certainly accepted before an episode; much noise makes that uncertain."""
        if self.tolerance > NOISE_SHARE:
            return min(known, DECREASE_FACTOR * rate)
        before = episode.began - max(PROVEN_SECONDS_AND_REQUESTS[0], PROVEN_SECONDS_AND_REQUESTS[1] / rate)
        return max(known, min(rate, self.rate_at(before) or rate))

    def _cut_was_ineffective(self, rate: float, known: float, episode: ThrottleEpisode) -> bool:
        """Return True if episodes keep coming although less is sent than was accepted before."""
        if not self._refuted:
            self._level_before, self._ineffective_requests, self._ineffective_429s = known, 0, 0
        if rate >= self._accepted:
            return False
        self._ineffective_cuts += 1
        self._ineffective_requests += episode.requests
        self._ineffective_429s += episode.throttled
        if self._ineffective_cuts < EPISODES_BEFORE_IGNORING:
            return False
        self.tolerance = min(
            MAX_NOISE_SHARE, max(self.tolerance, _tolerance(self._ineffective_429s, self._ineffective_requests))
        )
        return True

    def resume(self, now: float) -> None:
        """Approach the level from below again."""
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
    """Return twice the 429s per success: with fewer, noise would now and then look like an episode."""
    return 2 * refused / max(1, requests - refused)
