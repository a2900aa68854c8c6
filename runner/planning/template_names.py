"""The names in templates: which paths of the dataset they use, and texts that look like names and are none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from runner.config import FIELDS_BY_NAME, Column, Constant, DatasetConfig, JudgeConfig
from runner.core import MISSING, splits, value_at
from runner.dataset import Columns
from runner.errors import ConfigError
from runner.judge import Lookalike, find_lookalikes


def used_paths(dataset: DatasetConfig, names: Iterable[str]) -> list[str]:
    """Return the paths of the dataset that fields, labels, kept columns and templates use.

    Args:
        dataset: the dataset section.
        names: the names in the templates.
    """
    sources = (source for source in dataset.fields.values() if isinstance(source, Column))
    label = () if dataset.human_label is None else (dataset.human_label.column,)
    in_templates = (path for name in names if (path := dataset.path_of(name)) is not None)
    kept = (item.column for item in dataset.keep)
    return list(dict.fromkeys((*(source.path for source in sources), *label, *kept, *in_templates)))


def known_fields(dataset: DatasetConfig, found: Columns) -> set[str]:
    """Return the fields that templates can name: the mapped ones, and the usual ones whose column exists."""
    return {*dataset.fields, *(name for name in FIELDS_BY_NAME if found.has(name))}


def check_constants(dataset: DatasetConfig, names: Mapping[str, Collection[str]]) -> None:
    """Require that a path below a constant leads somewhere.

    Args:
        dataset: the dataset section.
        names: the names in the templates of each judge.

    Raises:
        ConfigError: it does not.
    """
    for judge, name in ((judge, name) for judge, own in names.items() for name in own):
        for root, rest in splits(name):
            source = dataset.source_of(root)
            if source is None:
                continue
            if isinstance(source, Constant) and rest and value_at(source.value, rest) is MISSING:
                raise ConfigError(f"judge `{judge}`: `{{{name}}}`: the constant dataset.fields.{root} has no `{rest}`")
            break


def lookalikes_of(judge: JudgeConfig, dataset: DatasetConfig, found: Columns) -> Iterator[Lookalike]:
    """Yield the texts in a judge's prompts that look like placeholders of known fields or columns and are none."""
    fields, columns = known_fields(dataset, found), set(found.names)

    def is_known(name: str) -> bool:
        if name in fields or name in columns:
            return True
        path = dataset.path_of(name) if "." in name else None
        return path is not None and found.has(path)

    for text in judge.prompts:
        yield from find_lookalikes(text, is_known)
