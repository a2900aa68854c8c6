"""The HTTP client of a judge service, and what its responses say."""

from __future__ import annotations

from runner.service.client import Client
from runner.service.embedded import become_emulator, check_options, embedded_emulator
from runner.service.responses import Completion, answer_in, error_from, excerpt, read_completion
from runner.service.retry import backoff

__all__ = [
    "Client",
    "Completion",
    "answer_in",
    "backoff",
    "become_emulator",
    "check_options",
    "embedded_emulator",
    "error_from",
    "excerpt",
    "read_completion",
]
