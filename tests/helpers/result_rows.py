"""Rows as a run stores them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runner.types import Row

FINISHED_AT = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def stored_row(ordinal: int = 0, text: str = "Rating: 4", **more: Any) -> Row:
    """Returns a row of judge `j` with every column of a finished request."""
    return {
        "sample_id": f"s{ordinal}",
        "ordinal": ordinal,
        "judge": "j",
        "judge_model": "m",
        "kind": "template",
        "service": "default",
        "swapped": False,
        "repeat": 0,
        "custom_id": f"{ordinal}-j-o-0",
        "request_hash": f"{ordinal:032x}",
        "route": "online",
        "status": "ok",
        "score": 4.0,
        "dimensions": [{"name": "depth", "answer": None, "score": 3.5}],
        "response": text,
        "error_type": None,
        "attempts": 1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "cost": None,
        "latency_s": 0.25,
        "finished_at": FINISHED_AT,
        **more,
    }
