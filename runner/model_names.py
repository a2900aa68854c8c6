"""Is the model that answered the one that was asked? Names alone decide; services write them in several forms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# The beginning of `served_model` in rows that the emulator answered: their verdicts are made up.
EMULATED_PREFIX = "emulated:"

NAMES_SHOWN = 5

# A version at the end of a name: a date, a number of at least three digits (`-001`, `-0613`), `v2`, or a word. But
# `-8b`, `-mini`, `-32k`, `.1` and `-5` name other models.
_VERSION = re.compile(
    r"[-@:_.](?:20\d\d[-_.]?(?:\d\d[-_.]?(?:\d\d)?)?|(?:\d\d-){1,2}20\d\d|\d\d-\d\d|\d{3,8}"
    r"|v\d{1,3}(?:[.:]\d{1,3})*|latest|preview|exp|stable|snapshot)\Z|:\d{1,2}\Z"
)
# Owners before a name: `us.anthropic.`, beside the folders of a path.
_OWNERS = re.compile(r"\A(?:[a-z]+\.)+(?=[a-z])")


def is_emulated(served: Iterable[str | None]) -> bool:
    """Returns True if any of these values of `served_model` is an emulator's."""
    return any(name is not None and name.startswith(EMULATED_PREFIX) for name in served)


def is_same_model(asked: str, served: str) -> bool:
    """Returns True if `served` is the model `asked`, or a version of it: `gpt-4o` and `openai/gpt-4o-2024-08-06`.

    Two different versions are different models; an alias without a version may stand for any of them.
    """
    asked, served = _short(asked), _short(served)
    asked_base, served_base = _without_version(asked), _without_version(served)
    if asked == served or served_base == asked or asked_base == served:
        return True
    is_alias = asked.endswith(("-latest", ":latest"))
    return is_alias and served_base == asked_base


def model_notes(asked: Mapping[str, str], served: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Returns a sentence for each judge that another model, or more than one, answered.

    Args:
        asked: the model of each judge.
        served: for each judge, the number of rows by `served_model`.
    """
    return [note for judge, rows in served.items() if judge in asked and (note := _note(judge, asked[judge], rows))]


def _note(judge: str, asked: str, rows: Mapping[str, int]) -> str | None:
    if 0 < sum(name.startswith(EMULATED_PREFIX) for name in rows) < len(rows):
        return f"Judge {judge}: some rows are the emulator's and made up, others are a model's: {_listed(rows)}."
    named = {name.removeprefix(EMULATED_PREFIX): n for name, n in rows.items()}
    differs = any(not is_same_model(asked, name) for name in named)
    if len({_short(name) for name in named}) > 1:
        what = "several models" if differs else "several versions of the model"
        return f"Judge {judge}: asked was {asked}, and {what} answered: {_listed(named)}."
    return f"Judge {judge}: asked was {asked}, but another model answered: {_listed(named)}." if differs else None


def _listed(rows: Mapping[str, int]) -> str:
    most = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{name} ({n:,} {'row' if n == 1 else 'rows'})" for name, n in most[:NAMES_SHOWN])
    return f"{shown} and {len(most) - NAMES_SHOWN:,} more" if len(most) > NAMES_SHOWN else shown


def _short(name: str) -> str:
    """Returns a name in lower case, without the owners or folders before it."""
    return _OWNERS.sub("", name.strip().lower().replace("\\", "/").rstrip("/").rpartition("/")[2])


def _without_version(name: str) -> str:
    """Returns a name without the versions at its end: `-20240620-v1:0`, `-2024-08-06`."""
    while True:
        shorter = _VERSION.sub("", name)
        if shorter in (name, ""):
            return name
        name = shorter
