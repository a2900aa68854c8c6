"""Takes and releases leases step by step, where a test needs what happens between entering and leaving the block."""

from __future__ import annotations

from contextlib import suppress

from runner.limits import Lease, RequestLimiter


async def acquire(limiter: RequestLimiter, variant: int = 0, body: bytes = b"") -> Lease:
    """Enter a lease."""
    return await limiter.acquire(variant, body).__aenter__()


def fail(lease: Lease, error: BaseException) -> None:
    """Leave the block of a request that was sent, with an error."""
    lease.sent()
    _leave(lease, error)


def release_unsent(lease: Lease) -> None:
    """Leave the block of a request that was not sent."""
    _leave(lease, None)


def _leave(lease: Lease, error: BaseException | None) -> None:
    leaving = lease.__aexit__(None if error is None else type(error), error, None)
    with suppress(StopIteration):  # leaving awaits nothing
        leaving.send(None)
        raise AssertionError("leaving a lease waited for something")
