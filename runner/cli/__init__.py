"""The command line, with one function per command."""

from __future__ import annotations

from runner.cli.commands import app
from runner.cli.process import main

__all__ = ["app", "main"]
