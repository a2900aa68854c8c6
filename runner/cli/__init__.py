"""The command line: one function for each command."""

from __future__ import annotations

from runner.cli.commands import app, main

__all__ = ["app", "main"]
