"""A local emulator of a judge service. It speaks the service's HTTP API and imports nothing else from the runner.

This package exports the options. The server is in `runner.emulator.http.server`, which imports a web server.
"""

from __future__ import annotations

from runner.emulator.options import EmulatorOptions

__all__ = ["EmulatorOptions"]
