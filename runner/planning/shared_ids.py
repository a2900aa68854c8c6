"""Ids that several of the first rows have, or may have: their own, and the ordinal where a row has none."""

from __future__ import annotations

from runner.types import Sample

_ADVICE = "a join by sample_id mixes them; `ordinal` tells them apart"


class IdCheck:
    """Collects the ids of the first samples.

    Args:
        has_ids: True if the dataset has a column with ids; without one every id is an ordinal.
    """

    def __init__(self, *, has_ids: bool) -> None:
        self._has_ids = has_ids
        self._places: dict[str, str] = {}
        self._stand_ins: dict[str, str] = {}
        self._has_numbers = False
        self._shared: list[str] = []

    def add(self, sample: Sample) -> None:
        """Look at the id of one sample, also of one that cannot be judged."""
        is_stand_in = sample.id == str(sample.ordinal) and str(sample.fields.get("id")) != sample.id
        if is_stand_in:
            self._stand_ins[sample.id] = sample.place
        else:
            self._has_numbers = self._has_numbers or sample.id.isdecimal()
        earlier = self._places.setdefault(sample.id, sample.place)
        if earlier != sample.place:
            self._shared.append(f"{sample.id!r} ({earlier} and {sample.place})")

    def warnings(self) -> list[str]:
        """Return a line about ids that belong to several rows, or may."""
        if not self._has_ids:
            return []
        without = "" if not self._stand_ins else f"; the ordinal is the id of rows without one ({self._first_without})"
        if self._shared:
            rows = "a row has" if len(self._shared) == 1 else f"{len(self._shared)} rows have"
            return [f"id: {rows} the id of an earlier row: {', '.join(self._shared[:3])}{without}; {_ADVICE}"]
        if self._stand_ins and self._has_numbers:
            return [f"id: the ids are numbers{without}, which can be the id of another row; {_ADVICE}"]
        return []

    @property
    def _first_without(self) -> str:
        return next(iter(self._stand_ins.values()))
