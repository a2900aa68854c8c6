"""Acquire and release leases in separate calls, for tests that act while a lease is held."""

from __future__ import annotations

from contextlib import suppress

from runner.limits import Lease, RequestLimiter


async def acquire(limiter: RequestLimiter, variant: int = 0, body: bytes = b"") -> Lease:
    """Acquire a lease."""
    return await limiter.acquire(variant, body).__aenter__()


def fail(lease: Lease, error: BaseException) -> None:
    """Release the lease of a request that was sent and failed."""
    lease.sent()
    _exit(lease, error)


def release_unsent(lease: Lease) -> None:
    """Release the lease of a request that was not sent."""
    _exit(lease, None)


def _exit(lease: Lease, error: BaseException | None) -> None:
    exiting = lease.__aexit__(None if error is None else type(error), error, None)
    with suppress(StopIteration):  # __aexit__ awaits nothing
        exiting.send(None)
        raise AssertionError("releasing a lease awaited something")
