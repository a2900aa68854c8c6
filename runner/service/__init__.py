"""The HTTP client of a judge service, and the parser of its responses."""

from __future__ import annotations

from runner.service.client import Client
from runner.service.embedded import become_emulator, check_options, embedded_emulator
from runner.service.responses import (
    Completion,
    body_excerpt,
    error_from_response,
    read_completion,
    response_from_completion,
)
from runner.service.retry import backoff

__all__ = [
    "Client",
    "Completion",
    "backoff",
    "become_emulator",
    "body_excerpt",
    "check_options",
    "embedded_emulator",
    "error_from_response",
    "read_completion",
    "response_from_completion",
]
