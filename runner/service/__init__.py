"""The HTTP client of a judge service, and the parser of its responses."""

from __future__ import annotations

from runner.service.bodies import body_excerpt
from runner.service.client import Client, check_connection, emulated
from runner.service.completions import Completion, read_completion, response_from_completion
from runner.service.embedded import EmbeddedEmulator, become_emulator, check_options, embedded_emulator
from runner.service.partial_file import PartialFile
from runner.service.responses import error_from_response
from runner.service.retry import backoff, clock_text, too_long_a_wait

__all__ = [
    "Client",
    "Completion",
    "EmbeddedEmulator",
    "PartialFile",
    "backoff",
    "become_emulator",
    "body_excerpt",
    "check_connection",
    "check_options",
    "clock_text",
    "embedded_emulator",
    "emulated",
    "error_from_response",
    "read_completion",
    "response_from_completion",
    "too_long_a_wait",
]
