"""What the programs of this folder share: the question that every client asks, and room for many connections."""

from __future__ import annotations

import re
import resource
from contextlib import suppress

PROMPT = (
    "Compare two replies to one question and say which one helps more.\n\nQuestion:\n{question}\n\n[A]\n{answer1}\n\n"
    "[B]\n{answer2}\n\nReason briefly, then end with [[A]], [[B]] or, if neither is better, [[C]]."
)
VERDICT = re.compile(r"\[\[([ABC])\]\]")
MANY = 1 << 20
FEW = 10_240  # what macOS lets a process have where it calls its limit unlimited


def raise_file_limit() -> None:
    """Every connection is an open file."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FEW if hard == resource.RLIM_INFINITY else min(hard, MANY)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
