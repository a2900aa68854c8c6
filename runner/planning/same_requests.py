"""Refuses a template whose requests are all alike although the samples differ: each would be paid, and say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

from runner.dataset import RawRow, chunks
from runner.errors import BadRow, ConfigError
from runner.judge import Panel, Template
from runner.planning.inputs import RunInputs
from runner.types import Sample

MAX_ROWS_READ = 20_000  # of requests that are all alike; usually the second row has another one

_NOT_COMPARED = frozenset({"id", "model", "model1", "model2"})


def check_requests_differ(inputs: RunInputs) -> None:
    """Require that each template names something of the dataset, and that its requests are not all alike.

    Reads rows until each judge has two different requests, so usually two.

    Raises:
        ConfigError: a template names nothing, or the requests of samples that differ are all alike.
    """
    problem = find_same_requests(inputs)
    if problem is not None:
        where = f"{inputs.config.source}: " if inputs.config.source.name else ""
        raise ConfigError(f"{where}{problem}")


def find_same_requests(inputs: RunInputs) -> str | None:
    """Return which judge's requests are all alike, and why; None if there is none."""
    open_judges = []
    for index, judge in enumerate(inputs.panel.judges):
        if judge.kind != "template":
            continue
        names = tuple(name for text in judge.prompts for name in Template(text).names)
        hint = inputs.lookalikes.get(judge.name)
        meant = "" if hint is None else f"; {hint}"
        if not names:
            return (
                f"judge `{judge.name}`: the template names no field and no column, so every request would be the same; "
                f"expected a name in braces, such as {{answer}}{meant}"
            )
        variant = next(n for n, variant in enumerate(inputs.panel.variants) if variant.judge_index == index)
        open_judges.append(_Requests(inputs.panel, variant, judge.name, names, meant))
    if not open_judges:
        return None
    for raw in islice(_rows(inputs), MAX_ROWS_READ):
        sample = inputs.reader.sample(raw)
        open_judges = [requests for requests in open_judges if not requests.differ(sample)]
        if not open_judges:
            break
    return next((problem for requests in open_judges if (problem := requests.problem()) is not None), None)


def _rows(inputs: RunInputs) -> Iterator[RawRow]:
    """Yield the rows of the dataset; the files are opened only after the rows that are known."""
    yield from inputs.first_rows
    rows = chain.from_iterable(chunks(inputs.files, columns=inputs.reader.columns))
    yield from islice(rows, len(inputs.first_rows), None)


class _Requests:
    """The requests of one judge, as long as they are all alike."""

    def __init__(self, panel: Panel, variant: int, judge: str, names: tuple[str, ...], meant: str) -> None:
        self._panel, self._variant = panel, variant
        self._judge, self._names, self._meant = judge, names, meant
        self._hash: str | None = None
        self._first: Mapping[str, Any] = {}
        self._differing: dict[str, None] = {}
        self._count = 0

    def differ(self, sample: Sample) -> bool:
        """Add a sample; return True if its request differs from the earlier ones. A row without a request is passed."""
        try:
            request_hash = self._panel.request(sample, self._variant).request_hash
        except BadRow:
            return False
        self._count += 1
        values = _compared(sample)
        if self._hash is None:
            self._hash, self._first = request_hash, values
        if request_hash != self._hash:
            return True
        self._differing.update((name, None) for name in values if values[name] != self._first.get(name))
        return False

    def problem(self) -> str | None:
        """Return what is wrong if the samples differ and their requests do not."""
        if not self._differing:
            return None
        which = "the first" if self._count == MAX_ROWS_READ else "all"
        names = ", ".join(f"{{{name}}}" for name in dict.fromkeys(self._names))
        differing = ", ".join(list(self._differing)[:5])
        return (
            f"judge `{self._judge}`: {which} {self._count:,} samples make the same request, although they differ in "
            f"{differing}; the template names only {names}{self._meant}"
        )


def _compared(sample: Sample) -> Mapping[str, Any]:
    """Return what is judged in a sample: its fields, or without mapped fields its columns."""
    fields = {name: value for name, value in sample.fields.items() if name not in _NOT_COMPARED}
    return fields or {name: value for name, value in sample.record.items() if value != sample.fields.get("id")}
