"""A local stand-in for a judge service: it speaks the service's HTTP and knows nothing of the runner."""

from __future__ import annotations

from runner.emulator.options import EmulatorOptions
from runner.emulator.server import Running, serve, start

__all__ = ["EmulatorOptions", "Running", "serve", "start"]
