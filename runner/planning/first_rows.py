"""What the first rows of the dataset say about names in the configuration: labels and columns that match nothing."""

from __future__ import annotations

from runner.config import RunConfig
from runner.planning.labels import LabelCheck
from runner.types import Sample


class FirstRows:
    """Collects the first samples of a run, and warns of names that match nothing in them."""

    def __init__(self, config: RunConfig) -> None:
        groups = () if config.report is None else config.report.group_by
        self._keys = {item.name: "dataset.keep" for item in config.dataset.keep}
        self._keys.update((name, "report.group_by") for name in groups if not name.startswith("human_"))
        self._empty = dict.fromkeys(self._keys, True)
        self._labels = LabelCheck(config)
        self._rows = 0

    def add(self, sample: Sample) -> None:
        """Look at one sample; a row that cannot be read says nothing."""
        if sample.problem is not None:
            return
        self._rows += 1
        self._labels.add(sample)
        for name in self._keys:
            self._empty[name] = self._empty[name] and sample.columns.get(name) in (None, "")

    def warnings(self) -> list[str]:
        """Return a line for each name that matches nothing."""
        rows = "the first row" if self._rows == 1 else f"the first {self._rows} rows"
        empty = [
            f"{self._keys[name]}: '{name}' has no value in {rows}" for name, is_empty in self._empty.items() if is_empty
        ]
        return [*self._labels.warnings(), *(empty if self._rows else ())]
