"""The limit on open files: a connection counts as one, so it bounds how many requests can be in flight."""

from __future__ import annotations

import errno
import resource
import sys
from contextlib import suppress

from runner.errors import UsageError

# Files that a run needs besides its connections: the journal, parts that are written and read, the log, state files,
# the dataset, the report, the event loop and the interpreter. A run has about 20 of them open at a time.
RESERVED_OPEN_FILES = 64

NO_MORE_FILES = frozenset({errno.EMFILE, errno.ENFILE})


def raise_open_file_limit() -> None:
    """Allow this process as many open files as the system lets it: thousands of requests need thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if hard != resource.RLIM_INFINITY else 1 << 20
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, limit), hard))


def open_file_limit() -> int | None:
    """Return how many files this process may have open; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def connections_per_service(services: int) -> int:
    """Return how many connections each of several services may have within the limit on open files.

    Raises:
        UsageError: the limit leaves no connection for each.
    """
    limit = open_file_limit()
    if limit is None:
        return sys.maxsize
    if limit < RESERVED_OPEN_FILES + services:
        raise UsageError(
            f"this process may have {limit} open files; a run needs at least {RESERVED_OPEN_FILES + services}: raise "
            "the limit (ulimit -n)"
        )
    return (limit - RESERVED_OPEN_FILES) // services
