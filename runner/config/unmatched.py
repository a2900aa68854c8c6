"""Values that name nothing: each is valid, and yet it has no effect."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from runner.config.models import RunConfig
from runner.config.yaml_document import UnreadableError, compose
from runner.core import nearest

# The optional fields of a request, from the vendor's Go and Java SDKs (2024-05).
_PAI_FIELDS = ("scene", "scene_desc", "metric", "max_score", "score_desc", "steps", "ref_answer")

_EMPTY_REPORT = "is empty, which means no report; expected `report: {}` for one, or `report: null` for none"


def find_unmatched(config: RunConfig) -> Iterator[str]:
    """Yield a line for each value that has no effect, with the key and what is expected."""
    yield from _prices(config)
    yield from _services(config)
    yield from _pai_fields(config)
    yield from _empty_report(config)
    yield from _ignored_overrides(config)


def _prices(config: RunConfig) -> Iterator[str]:
    models = list(dict.fromkeys(judge.model for judge in config.judges))
    for name in () if config.prices is None else config.prices.models:
        if name not in models:
            guess = nearest(name, models)
            hint = f"did you mean '{guess}'?" if guess else f"the judges' models are {', '.join(models)}"
            yield f"prices.models.{name}: no judge has this model; {hint}"


def _services(config: RunConfig) -> Iterator[str]:
    used = {name for judge in config.judges for name in judge.service}
    for service in config.services:
        if service.name not in used:
            yield f"services: no judge uses the service '{service.name}'"


def _pai_fields(config: RunConfig) -> Iterator[str]:
    """Warn of optional fields of PAI-Judge that look like a misspelt one; other names may be new fields."""
    for judge in config.judges:
        for name in judge.pai:
            guess = None if name in _PAI_FIELDS else nearest(name, _PAI_FIELDS)
            if guess is not None:
                yield f"judge '{judge.name}': pai.{name}: PAI-Judge documents no such field; did you mean '{guess}'?"


def _empty_report(config: RunConfig) -> Iterator[str]:
    """Warn of `report:` without a value, which YAML reads as null: no report."""
    try:
        root = compose(config.document)
    except UnreadableError:
        return
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    for key, value in pairs:
        if key.value == "report" and isinstance(value, yaml.ScalarNode) and value.value == "":
            yield f"report: {_EMPTY_REPORT}"


def _ignored_overrides(config: RunConfig) -> Iterator[str]:
    """Warn of `--set x-key=value`: such keys are only for anchors, and an alias keeps the value of its anchor."""
    for override in config.overrides:
        key, _, value = override.partition("=")
        if key.strip().startswith("x-"):
            yield f"--set {key.strip()}: keys that begin with x- are ignored, so this has no effect"
        elif key.strip() == "report" and not value.strip():
            yield f"--set report=: {_EMPTY_REPORT}"
