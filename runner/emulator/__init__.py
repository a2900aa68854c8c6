"""A local stand-in for a judge service: it speaks the service's HTTP and knows nothing of the runner.

What it can be told is here; what serves is in `runner.emulator.server`, which imports a web server.
"""

from __future__ import annotations

from runner.emulator.options import EmulatorOptions

__all__ = ["EmulatorOptions"]
