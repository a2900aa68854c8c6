"""The command line, with one function per command."""

from __future__ import annotations

from runner.cli.commands import app, main

__all__ = ["app", "main"]
