"""Translate pydantic's errors into messages about the YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runner.config.fields import Frozen
from runner.config.models import RunConfig
from runner.config.problems import (
    KeyPath,
    Problem,
    SourceLocation,
    as_written,
    location_of,
    looks_like_token,
    shown,
)
from runner.core import nearest

_MAPPING = ("model_type", "model_attributes_type", "dict_type", "mapping_type")
_ALTERNATIVES = {"judges": ("judge", "judges"), "services": ("service", "services")}
_ELSEWHERE = {
    "judge": "put a list of judges under 'judges'",
    "service": "put a list of services under 'services'",
}


def plain_problems(
    error: ValidationError, data: Mapping[str, Any], locations: Mapping[KeyPath, SourceLocation]
) -> Iterator[Problem]:
    """Yield every error in terms of the YAML. A value that came from the environment is not shown."""
    for detail in error.errors(include_url=False):
        path = as_written(detail["loc"], data)
        raw = location_of(path, locations).raw
        if raw is None:
            yield _problem(detail, path, shown(detail["input"], path), data, locations)
        else:
            while path not in locations:
                path = path[:-1]
            yield Problem(path, _sentence(detail, path, "the value of " + " and ".join(_variables(raw))))


def _variables(raw: str) -> list[str]:
    return [f"${{{name}}}" for name in dict.fromkeys(re.findall(r"\$\{(\w+)", raw))]


def _problem(
    detail: ErrorDetails,
    path: KeyPath,
    found: str,
    data: Mapping[str, Any],
    locations: Mapping[KeyPath, SourceLocation],
) -> Problem:
    if detail["type"] == "missing":
        path = ("judge",) if path == ("judges",) else path
        return Problem(path, "is missing; it is required")
    if detail["type"] != "extra_forbidden":
        return Problem(path, _sentence(detail, path, found))
    one_or_many = path in (("judge",), ("service",)) and f"{path[0]}s" in data
    if one_or_many:
        return Problem(path, f"expected either '{path[0]}' or '{path[0]}s', found both")
    known = keys_at(detail["loc"][:-1])
    guess = nearest(str(path[-1]).lower(), known)
    hint = f"did you mean '{guess}'?" if guess else f"expected one of: {', '.join(known)}"
    hidden = (*path[:-1], "***") if looks_like_token(str(path[-1])) else path
    return Problem(hidden, f"unknown key; {hint}", locations.get(path))


def _sentence(detail: ErrorDetails, path: KeyPath, found: str) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "refused":
        return str(context["why"])
    if kind == "expected":
        return f"expected {context['what']}, found {found}"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", str(context["expected"]))
        guess = nearest(str(detail["input"]).lower(), words) if found.startswith("'") else None
        return f"expected one of: {', '.join(words)}, found {found}" + (f"; did you mean '{guess}'?" if guess else "")
    if kind in _MAPPING:
        hint = f"; {_ELSEWHERE[str(path[0])]}" if found == "a list" and len(path) == 1 and path[0] in _ELSEWHERE else ""
        return f"expected a mapping, found {found}{hint}"
    if kind in ("tuple_type", "list_type"):
        return f"expected a list, found {found}"
    if kind == "extra_forbidden":
        return f"there is an unknown key in {found}"
    return "is missing; it is required" if kind == "missing" else f"cannot be used: found {found}"


def keys_at(path: KeyPath) -> list[str]:
    """Return the keys that a section of the YAML can have."""
    model: type[Frozen] = RunConfig
    for part in path:
        field = model.model_fields.get(str(part))
        model = (_model_in(field.annotation) if field else None) or model
    if model is not RunConfig:
        return list(model.model_fields)
    return [key for name in model.model_fields for key in _ALTERNATIVES.get(name, (name,))]


def _model_in(annotation: Any) -> type[Frozen] | None:
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
