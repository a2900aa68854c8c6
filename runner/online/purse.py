"""Stands here until runner/budget.py is there."""

from __future__ import annotations

from typing import Any, Protocol

from runner.types import Usage

Reserved = Any


class Budget(Protocol):
    async def enter(self, variant: int, body: bytes) -> Reserved: ...
    def settle(self, reserved: Reserved, usage: Usage) -> None: ...
    def refund(self, reserved: Reserved, *, requests_too: bool) -> None: ...
    def drain(self) -> None: ...
