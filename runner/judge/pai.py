"""Bodies of PAI-Judge's built-in kinds: the texts are sent as one JSON part, and the service adds its own prompt.

The shape comes from the service's page "API调用示例" (2025-04-08), the optional keys from the vendor's Go and Java
SDKs (2024-05).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from runner.config import JudgeConfig
from runner.errors import BadRow
from runner.judge.body import BodyTemplate, Slot, rendered
from runner.judge.rendering import as_text, strict_text
from runner.judge.template import swap_name
from runner.types import Sample

# The fields that each built-in kind always sends.
REQUIRED_FIELDS = {"pai_single": ("question", "answer"), "pai_pairwise": ("question", "answer1", "answer2")}

_MODES = {"pai_single": b"single", "pai_pairwise": b"pairwise"}


def pai_body(judge: JudgeConfig, swapped: bool) -> BodyTemplate:
    """Return the body of a built-in kind, with the reference and the judge's optional keys if they are set."""
    keys: dict[str, Callable[[Sample], str | None]] = {}
    for field in REQUIRED_FIELDS[judge.kind]:
        keys[field] = _required(swap_name(field, "answer1", "answer2") if swapped else field)
    keys["ref_answer"] = _reference
    for key, value in judge.pai.items():
        if value is not None:
            keys[key] = _option(value, swapped)
    slots = [Slot((b"," if place else b"") + _key(key), text) for place, (key, text) in enumerate(keys.items())]
    opening = b'{"role":"user","content":[{"mode":"' + _MODES[judge.kind] + b'","type":"json","json":{'
    return BodyTemplate(judge, opening, slots, b"}}]}")


def _required(field: str) -> Callable[[Sample], str]:
    def text(sample: Sample) -> str:
        try:
            value = sample.fields[field]
        except KeyError:
            raise BadRow(f"there is no column for field `{field}`") from None
        return value if type(value) is str else strict_text(value, field)

    return text


def _reference(sample: Sample) -> str | None:
    value = sample.fields.get("reference")
    return None if value is None else strict_text(value, "reference")


def _option(value: Any, swapped: bool) -> Callable[[Sample], str]:
    """Return a function for an optional key's text. The service expects strings, also for `max_score`."""
    if isinstance(value, str):
        return rendered(value, swapped)
    constant = as_text(value)
    return lambda _: constant


def _key(name: str) -> bytes:
    return msgspec.json.encode(name) + b":"
