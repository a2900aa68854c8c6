"""Durations and counts as people write them."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `42s`, `3m05s`, `2h07m`, `4d03h`."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def counted(count: int, one: str, many: str) -> str:
    """`1 batch`, `3,000 batches`."""
    return f"{count:,} {one if count == 1 else many}"
