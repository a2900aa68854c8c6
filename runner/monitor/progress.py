"""The state of a run at one moment, as `status.json`, the terminal and the log show it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.core import duration
from runner.run_file import Count, Seconds

RATE_WINDOW_SECONDS = 30.0


class Progress(msgspec.Struct):
    """The figures of `status.json`.

    Attributes:
        route: the lane that is running, or the chosen one.
        rate: rows per second; None until it is known.
        eta_s: seconds until the run ends at this rate; None if unknown.
        batches: the number of shards in each state; closed shards by how their batch ended.
        jobs: the open shards: shard, batch_id, state, word (the service's status), requests, finished, age_s, stuck.
        retries: attempts that were repeated, in all calls.
        throttled: replies with status 429, in all calls.
        causes: why rows are not `ok`, the commonest first: error_type, count, example.
        stop_message: why the run stopped and what to do.
        beyond_limit: stored rows about later samples than those of this call (`--limit`); not in `total` and `done`.
        answered_in_batches: lines that the service has finished but that are not rows yet.
        services: by name, while they are used online: state, in_flight, concurrency, retries, throttled, because.
        emulated: True if an emulator answers: the verdicts are made up.
    """

    state: str
    route: str | None
    total: Count
    done: Count
    ok: Count
    unparsed: Count
    failed: Count
    in_flight: Count
    rate: float | None
    eta_s: Seconds | None
    retries: Count
    throttled: Count
    tokens: Count
    cost: float | None
    batches: dict[str, Count]
    jobs: list[dict[str, Any]]
    answered_in_batches: Count
    started_at: str
    updated_at: str
    name: str
    tags: dict[str, Any]
    services: dict[str, dict[str, Any]] = {}
    paused_because: str | None = None
    emulated: bool = False
    beyond_limit: Count = 0
    causes: list[dict[str, Any]] = []
    exit_code: int | None = None
    stop_reason: str | None = None
    stop_message: str | None = None

    @property
    def shown(self) -> int:
        """Finished requests as displayed: rows and finished lines of batches, below the total until all are rows."""
        limit = self.total if self.done >= self.total else self.total - 1
        return min(self.done + self.answered_in_batches, limit)


class RateMeter:
    """Rows per second over the last 30 seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def update(self, now: float, done: int) -> float | None:
        """Add the number of rows at `now` (seconds); returns the rate, or None after the first call."""
        samples = self._samples
        samples.append((now, done))
        while len(samples) > 2 and now - samples[1][0] >= RATE_WINDOW_SECONDS:
            samples.popleft()
        span = now - samples[0][0]
        return (done - samples[0][1]) / span if span > 0 else None


def eta(total: int, done: int, in_batches: int, rate: float | None) -> float | None:
    """Return the seconds until the end at this rate.

    None if the rate is 0 or unknown, or if all pending requests are finished in batches that the service is finalizing.
    """
    if total <= done:
        return 0.0
    pending = total - done - in_batches
    return pending / rate if rate and pending > 0 else None


def one_line(progress: Progress) -> str:
    """Format the progress as one line of text."""
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
        pieces.append(f"batches: {format_states(progress.batches)}")
    if len(progress.services) > 1:
        pieces.append(", ".join(f"{name} {service['state']}" for name, service in progress.services.items()))
    if progress.paused_because:
        pieces.append(f"paused: {progress.paused_because}")
    return ", ".join(pieces)


def format_states(batches: Mapping[str, int]) -> str:
    """Format the number of shards by state: `3 running, 12 completed`."""
    return ", ".join(f"{count} {state}" for state, count in batches.items())
