"""Shared by the programs of this folder: the prompt of every client, and the limit of open files."""

from __future__ import annotations

import re
import resource
from contextlib import suppress

PROMPT = (
    "Compare two replies to one question and say which one helps more.\n\nQuestion:\n{question}\n\n[A]\n{answer1}\n\n"
    "[B]\n{answer2}\n\nReason briefly, then end with [[A]], [[B]] or, if neither is better, [[C]]."
)
VERDICT = re.compile(r"\[\[([ABC])\]\]")
MAX_FILES = 1 << 20
MAX_FILES_IF_UNLIMITED = 10_240  # macOS reports its limit as unlimited but does not allow more


def raise_file_limit() -> None:
    """Raise the soft limit of open files, because every connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES_IF_UNLIMITED if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
