"""Previews for the terminal: the first requests before a run, a few rows after it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from runner.core import estimate_body
from runner.dataset import chunks
from runner.errors import BadRow, DatasetError
from runner.planning.first_rows import FirstRows
from runner.planning.inputs import RunInputs
from runner.planning.same_requests import check_requests_differ
from runner.planning.shared_ids import IdCheck
from runner.results import RunDirectory, open_snapshot

ROWS_CHECKED = 100
MAX_BAD_ROWS = 10


class Preview(msgspec.Struct, frozen=True):
    """The requests of the first rows of the dataset.

    Attributes:
        bodies: the JSON bodies of the first requests, as text.
        warnings: what is valid but probably not meant, and a line for each of the first rows that gives no request.
        described: one line about all rows that were checked.
    """

    bodies: list[str]
    warnings: list[str]
    described: str


def preview_requests(inputs: RunInputs, show: int) -> Preview:
    """Build the requests of the first rows, and keep the bodies of the first `show` requests.

    Raises:
        ConfigError: all requests of a template are alike.
        DatasetError: the dataset is empty, or none of the first rows gives a request.
    """
    check_requests_differ(inputs)
    bodies: list[str] = []
    warnings: list[str] = []
    sizes: list[int] = []
    first_rows, ids = FirstRows(inputs.config), IdCheck(has_ids="id" in inputs.reader.fields)
    rows = 0
    for raw in islice((raw for chunk in chunks(inputs.files) for raw in chunk), max(ROWS_CHECKED, show)):
        rows += 1
        sample = inputs.reader.sample(raw)
        first_rows.add(sample)
        ids.add(sample)
        try:
            for variant in range(len(inputs.panel.variants)):
                body = inputs.panel.request(sample, variant).body
                sizes.append(estimate_body(body))
                if len(bodies) < show:
                    bodies.append(body.decode())
        except BadRow as error:
            warnings.append(f"{sample.place}: would be a failed row: {error}")
    if not rows:
        raise DatasetError(f"{', '.join(inputs.config.dataset.paths)}: the dataset is empty")
    if not sizes:
        raise DatasetError(f"none of the first {rows} rows gives a request; the first: {warnings[0]}")
    described = (
        f"the first {rows} rows make {len(sizes)} requests of about {sum(sizes) // len(sizes)} prompt tokens each "
        f"(without the service's own template)"
    )
    warnings = [*inputs.warnings, *first_rows.warnings(), *ids.warnings(), *warnings[:MAX_BAD_ROWS]]
    return Preview(bodies, warnings, described)


def preview_rows(directory: Path, count: int = 5) -> Iterator[str]:
    """Yield a few rows of a run, those with the lowest ordinals of the first chunk, as lines of text."""
    with open_snapshot(RunDirectory(directory)) as (_, chunks_of_rows):
        rows = sorted(next((chunk for chunk in chunks_of_rows if chunk), []), key=lambda row: row["ordinal"])[:count]
    for row in rows:
        verdict = row["winner"] if row["score"] is None else row["score"]
        scores = "" if row["score1"] is None else f"  scores {row['score1']:g} : {row['score2']:g}"
        text = " ".join((row["response"] or row["error_message"] or "").split())
        yield f"{row['sample_id']:<12} {row['status']:<9} {verdict!s:<5}{scores}  {text[:60]}"
