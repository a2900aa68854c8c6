"""What a run looks like at one moment, as `status.json`, the terminal and the log show it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.core import duration

RATE_WINDOW_SECONDS = 30.0


class Progress(msgspec.Struct):
    """The figures of `status.json` (contract, section 3).

    Attributes:
        route: the lane at work, or the one that was chosen.
        batches: how many shards are in each state, the closed ones by how their batch ended.
        jobs: the open ones: shard, batch_id, state, the service's word, requests, finished, age_s, stuck.
        answered_in_batches: lines that the service has finished and that are no rows yet.
        services: by name, while they are asked online: state, in_flight, concurrency, retries, throttled, because.
    """

    state: str
    route: str | None
    total: int
    done: int
    ok: int
    unparsed: int
    failed: int
    in_flight: int
    rate: float | None
    eta_s: float | None
    retries: int
    throttled: int
    tokens: int
    cost: float | None
    batches: dict[str, int]
    jobs: list[dict[str, Any]]
    answered_in_batches: int
    started_at: str
    updated_at: str
    name: str
    tags: dict[str, Any]
    services: dict[str, dict[str, Any]] = {}
    paused_because: str | None = None
    exit_code: int | None = None
    stop_reason: str | None = None

    @property
    def shown(self) -> int:
        """What is done, for who watches: rows, and finished lines of batches; all of it only when each is a row."""
        most = self.total if self.done >= self.total else self.total - 1
        return min(self.done + self.answered_in_batches, most)


class RateMeter:
    """Rows per second over the last half minute, and the time that is left at that rate."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> float | None:
        """Note how many rows there are at `now` (seconds); returns the rate, None until there is one."""
        seen = self._seen
        seen.append((now, done))
        while len(seen) > 2 and now - seen[1][0] >= RATE_WINDOW_SECONDS:
            seen.popleft()
        span = now - seen[0][0]
        return (done - seen[0][1]) / span if span > 0 else None


def eta(total: int, done: int, in_batches: int, rate: float | None) -> float | None:
    """Seconds that are left at this rate; None where nothing moves, or only the service knows (it is finalizing)."""
    if total <= done:
        return 0.0
    left = total - done - in_batches
    return left / rate if rate and left > 0 else None


def one_line(progress: Progress) -> str:
    """Progress as one plain line."""
    share = f" ({100 * progress.shown / progress.total:.1f}%)" if progress.total else ""
    pieces = [
        f"{progress.state}: {progress.done:,} of {progress.total:,}{share}",
        f"{progress.rate:.1f} rows/s" if progress.rate is not None else "- rows/s",
        f"eta {duration(progress.eta_s)}",
        f"{progress.in_flight} in flight",
        f"{progress.failed} failed",
        f"{progress.unparsed} unparsed",
        f"{progress.retries} retries",
        f"{progress.throttled} 429s",
        f"{progress.tokens:,} tokens",
    ]
    if progress.cost is not None:
        pieces.append(f"cost {progress.cost:.4f}")
    if progress.batches:
        pieces.append(f"batches: {states(progress.batches)}")
    if len(progress.services) > 1:
        pieces.append(", ".join(f"{name} {seen['state']}" for name, seen in progress.services.items()))
    if progress.paused_because:
        pieces.append(f"paused: {progress.paused_because}")
    return ", ".join(pieces)


def states(batches: Mapping[str, int]) -> str:
    """`3 running, 12 completed`."""
    return ", ".join(f"{count} {state}" for state, count in batches.items())
