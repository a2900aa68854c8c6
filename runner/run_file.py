"""The keys of `run.json` with their types: a file that was damaged or edited by hand is refused with the key's name.

Every key may be missing, because earlier versions wrote fewer; `reading` alone may be null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

# What a file counts: JSON's programs agree about whole numbers up to here.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

Text = str | None
Objects = dict[str, dict[str, Any]]


class _Asked(msgspec.Struct):
    service_kind: Text = msgspec.field(name="service.kind", default=None)


class _Prices(msgspec.Struct):
    currency: Text = None


class _Reading(msgspec.Struct):
    judges: Objects = {}
    columns: dict[str, Any] = {}
    prices: _Prices | None = None


class _StoryEntry(msgspec.Struct):
    lane: str
    reason: Text = None
    at: Text = None
    left: Count = 0


class _Counts(msgspec.Struct):
    total: Count = 0
    beyond_limit: Count = 0


class _RunFile(msgspec.Struct):
    id: Text = None
    name: Text = None
    tags: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    base: Text = None
    base_relative: Text = None
    emulated: bool = False
    state: Text = None
    exit_code: int | None = None
    stop_reason: Text = None
    stop_message: Text = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    route: Text = None
    route_reason: Text = None
    lanes: list[str] = []
    story: list[_StoryEntry] = []
    counts: _Counts = msgspec.field(default_factory=_Counts)
    created_at: Text = None
    started_at: Text = None
    updated_at: Text = None
    schema: Text = None
    asking: dict[str, _Asked] = {}
    reading: _Reading | None = None
    dataset: dict[str, Any] = {}


def run_file_problem(data: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the content of a run.json, with the key; None if every known key has its type."""
    try:
        msgspec.convert(data, _RunFile)
    except msgspec.ValidationError as error:
        return str(error)
    return None
