"""Why a shard stops before it is closed."""

from __future__ import annotations


class Undecided(Exception):
    """It cannot be known if a shard's requests were paid for, or their answers cannot be had: a person must decide."""


class Detached(Exception):
    """A batch keeps running at the service, or its results are not there yet, and the run leaves it (`--detach`)."""
