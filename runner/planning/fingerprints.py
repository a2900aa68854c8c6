"""Fingerprints of the settings that decide which requests are sent and how responses are parsed.

The request fingerprint (`asking` in run.json) covers what a stored response is the response to: it may not change
within a run directory. The parsing fingerprint (`reading`) covers what a response means: if it changes, the stored
responses are parsed again. All other settings may change freely.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from runner.config import Column, Constant, DatasetConfig, JudgeConfig, KeyPath, RunConfig
from runner.errors import RunDirectoryError
from runner.judge import used_names
from runner.planning.labels import label_kind

Data = dict[str, Any]

# The key that marks the hash of a value that came from a variable.
VARIABLE = "judge_runner.variable"


def request_fingerprint(config: RunConfig) -> Data:
    """Returns for each judge's name the settings that decide its requests, as plain data for run.json."""
    kinds = {service.name: service.kind for service in config.services}
    found = {}
    for number, judge in enumerate(config.judges):
        settings = _judge_fingerprint(judge, config.dataset, kinds[judge.service[0]])
        for name in ("parameters", "pai"):
            settings[name] = _hashed(settings[name], ("judges", number, name), config.variables)
        found[judge.name] = settings
    return found


def _hashed(value: Any, path: KeyPath, variables: Mapping[KeyPath, str]) -> Any:
    """Return a value with a hash in place of each part that came from a variable: it may be a secret."""
    if path in variables:
        return {VARIABLE: variables[path], "sha256": _digest(value)}
    if isinstance(value, Mapping):
        return {key: _hashed(item, (*path, key), variables) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hashed(item, (*path, index), variables) for index, item in enumerate(value)]
    return value


def _digest(value: Any) -> str:
    return sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:32]


def _is_same(before: Any, now: Any) -> bool:
    """Compare two settings, of which any part may be a hash; earlier versions wrote none."""
    for one, other in ((before, now), (now, before)):
        if isinstance(one, dict) and VARIABLE in one:
            known = isinstance(other, dict) and VARIABLE in other
            return bool(one.get("sha256") == (other.get("sha256") if known else _digest(other)))
    if isinstance(before, dict) and isinstance(now, dict):
        return before.keys() == now.keys() and all(_is_same(before[key], now[key]) for key in now)
    if isinstance(before, list | tuple) and isinstance(now, list | tuple):
        return len(before) == len(now) and all(map(_is_same, before, now))
    return bool(before == now)


def _judge_fingerprint(judge: JudgeConfig, dataset: DatasetConfig, service_kind: str) -> Data:
    return {
        "kind": judge.kind,
        "model": judge.model,
        "parameters": dict(judge.parameters),
        "pai": dict(judge.pai),
        "system": judge.system,
        "user": judge.user,
        "fields": {name: _source(dataset.source_of(name)) for name in sorted(used_names(judge, dataset))},
        "service.kind": service_kind,
    }


def _source(source: Column | Constant | None) -> Any:
    if isinstance(source, Constant):
        return {"value": source.value}
    return None if source is None else source.path


def parsing_fingerprint(config: RunConfig) -> Data:
    """Returns the settings that decide how responses are parsed and priced and which columns the dataset adds to a row.

    The result is plain data for run.json.
    """
    dataset = config.dataset
    prices = config.prices
    label = dataset.human_label
    return {
        "judges": {
            judge.name: {
                "verdict": None if judge.verdict is None else judge.verdict.model_dump(mode="json"),
                "scale": None if judge.scale is None else list(judge.scale),
                **({} if judge.dimension is None else {"dimension": judge.dimension}),
            }
            for judge in config.judges
        },
        "columns": {
            "human_label": None if label is None else {**label.model_dump(mode="json"), "means": label_kind(config)},
            "id": _source(dataset.source_of("id")),
            "keep": [column.model_dump(mode="json") for column in dataset.keep],
            "models": {name: _source(dataset.source_of(name)) for name in ("model", "model1", "model2")},
        },
        # Without what is null: earlier versions did not know `cached`.
        "prices": None if prices is None else prices.model_dump(mode="json", exclude_none=True),
    }


class StaleColumns(msgspec.Struct, frozen=True):
    """Which columns of the stored rows are out of date.

    Attributes:
        verdicts: True if those of verdict and cost are.
        columns: True if those of the dataset are.
    """

    verdicts: bool
    columns: bool


def find_stale_columns(earlier: Mapping[str, Any], now: Data) -> StaleColumns:
    """Compare the parsing fingerprint in run.json with the current one.

    A judge without rows in this directory is ignored. If run.json has no parsing fingerprint, parsing was interrupted:
    everything is stale.

    Args:
        earlier: the content of run.json.
        now: the current parsing fingerprint.
    """
    before, known = earlier.get("reading"), earlier.get("asking", {})
    if before is None:
        return StaleColumns(verdicts=True, columns=True)
    judges_changed = any(
        before.get("judges", {}).get(name) != settings for name, settings in now["judges"].items() if name in known
    )
    prices_changed = before.get("prices") != now["prices"]
    return StaleColumns(judges_changed or prices_changed, before.get("columns") != now["columns"])


def check_request_fingerprint(where: str, before: Mapping[str, Data], now: Mapping[str, Data]) -> None:
    """Check that no judge with rows would get other requests now.

    Args:
        where: the run directory, for the message.
        before: the request fingerprint in run.json.
        now: the current request fingerprint.

    Raises:
        RunDirectoryError: the requests would differ; the message says which settings do.
    """
    differences = [
        f"judge {name!r}: {key} was {_short(before[name].get(key))}, is {_short(now[name].get(key))}"
        for name in now
        if name in before
        for key in now[name]
        if not _is_same(before[name].get(key), now[name].get(key))
    ]
    if not before.keys() & now.keys() and before:
        known = ", ".join(sorted(before))
        differences.append(f"its judges are {known}; the configuration has {', '.join(sorted(now))}")
    kinds = {judge.get("service.kind") for judge in (*before.values(), *now.values())}
    if "emulator" in kinds and len(kinds) > 1 and not differences:
        differences.append("rows of the emulator and of a real service never share a run directory")
    if differences:
        raise RunDirectoryError(
            f"{where}: belongs to another run: " + "; ".join(differences) + ". The requests may not change within "
            "a run directory: choose another one with --run-dir, or start over with --fresh"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
