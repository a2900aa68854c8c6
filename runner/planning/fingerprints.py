"""What may change between two runs in one directory, and what may not (contract, section 3).

*Asking* decides what a stored answer is the answer to: it may not change. *Reading* decides what an answer means: when
it changes, the stored answers are read again. Everything else is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runner.config import Column, Constant, DatasetConfig, JudgeConfig, RunConfig
from runner.errors import RunDirectoryError
from runner.judge import used_names

Data = dict[str, Any]


def request_fingerprint(config: RunConfig) -> Data:
    """What each judge is asked, by its name, as plain data for `run.json`."""
    kinds = {service.name: service.kind for service in config.services}
    return {judge.name: _asking(judge, config.dataset, kinds[judge.service[0]]) for judge in config.judges}


def _asking(judge: JudgeConfig, dataset: DatasetConfig, service_kind: str) -> Data:
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
    """How answers are read and what the dataset adds to a row, as plain data for `run.json`."""
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
            "human_label": None if label is None else label.model_dump(mode="json"),
            "id": _source(dataset.source_of("id")),
            "keep": [column.model_dump(mode="json") for column in dataset.keep],
            "models": {name: _source(dataset.source_of(name)) for name in ("model", "model1", "model2")},
        },
        "prices": None if prices is None else prices.model_dump(mode="json"),
    }


class Stale(msgspec.Struct, frozen=True):
    """What rows that are there hold otherwise than they would be written now.

    Attributes:
        verdicts: what the answers mean, or what they cost.
        columns: what the dataset adds.
    """

    verdicts: bool
    columns: bool


def what_is_stale(earlier: Mapping[str, Any], now: Data) -> Stale:
    """Compare how rows were read (`run.json`) with how they are read now.

    A judge that was never asked here has no rows to be read again. No known reading means that reading again was cut
    off: everything is stale.
    """
    before, known = earlier.get("reading"), earlier.get("asking", {})
    if before is None:
        return Stale(verdicts=True, columns=True)
    judges = any(before["judges"].get(name) != how for name, how in now["judges"].items() if name in known)
    return Stale(judges or before["prices"] != now["prices"], before["columns"] != now["columns"])


def check_request_fingerprint(where: str, before: Mapping[str, Data], now: Mapping[str, Data]) -> None:
    """Raise RunDirectoryError, saying what differs, where a judge that has rows would be asked something else."""
    differences = [
        f"judge {name!r}: {key} was {_short(before[name].get(key))}, is {_short(now[name].get(key))}"
        for name in now
        if name in before
        for key in now[name]
        if before[name].get(key) != now[name].get(key)
    ]
    if not before.keys() & now.keys() and before:
        known = ", ".join(sorted(before))
        differences.append(f"its judges are {known}; the configuration has {', '.join(sorted(now))}")
    kinds = {judge.get("service.kind") for judge in (*before.values(), *now.values())}
    if "emulator" in kinds and len(kinds) > 1 and not differences:
        differences.append("rows of the emulator and of a real service never share a run directory")
    if differences:
        raise RunDirectoryError(
            f"{where}: belongs to another run: " + "; ".join(differences) + ". What is asked may not change within a "
            "run directory: give another one with --run-dir, or start anew with --fresh"
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
