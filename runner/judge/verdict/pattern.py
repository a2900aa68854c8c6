"""A verdict that the user's own regular expression finds."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping

from runner.config import JudgeConfig, VerdictConfig
from runner.errors import ConfigError
from runner.judge.verdict.reading import NUMBER, Mark, Reader, Scale, to_number, unreadable
from runner.types import Verdict, Winner

_NUMBER = re.compile(NUMBER)
_WINNERS: dict[str, Winner] = {"1": "1", "2": "2", "tie": "tie"}


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of a pattern: its first or last match, group 1 where it has groups.

    Raises:
        ConfigError: the judge has no pattern, or one that does not compile.
    """
    verdict = judge.verdict
    if verdict is None or verdict.pattern is None:
        raise ConfigError(f"judge `{judge.name}`: verdict.pattern is missing")
    try:
        compiled = re.compile(verdict.pattern)
    except re.error as error:
        raise ConfigError(f"judge `{judge.name}`: verdict.pattern is not a regular expression: {error}") from None
    meanings = _meanings(verdict)

    def read(text: str) -> Verdict:
        found = _pick(compiled, text, verdict.pick)
        if found is None:
            return unreadable("no_verdict", "the pattern does not match")
        return _mean(found.strip(), verdict, meanings, judge.scale)

    return read


def _pick(compiled: re.Pattern[str], text: str, pick: str) -> str | None:
    if pick == "first":
        match = compiled.search(text)
    else:
        match = next(iter(deque(compiled.finditer(text), maxlen=1)), None)
    if match is None:
        return None
    return match[1] if compiled.groups else match[0]


def _mean(found: str, verdict: VerdictConfig, meanings: Mapping[str, str], scale: Scale) -> Verdict:
    rule = f"pattern.{verdict.pick}"
    meant = meanings.get(found, meanings.get(found.casefold()))
    if verdict.kind == "winner":
        winner = _WINNERS.get(found.casefold() if meant is None else meant)
        if winner is None:
            return unreadable("no_verdict", f"{found[:80]!r} is not in verdict.map", rule)
        return Verdict(rule=rule, winner=winner)
    if verdict.kind == "label":
        if meant is None and meanings:
            return unreadable("no_verdict", f"{found[:80]!r} is not in verdict.map", rule)
        return Verdict(rule=rule, label=found if meant is None else meant)
    number = found if meant is None else meant
    if not _NUMBER.fullmatch(number):
        return unreadable("no_verdict", f"{found[:80]!r} is not a number", rule)
    mark = Mark(0, 0, to_number(number), None)
    if not mark.fits(scale):
        return unreadable("out_of_scale", f"{mark} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mark.value)


def _meanings(verdict: VerdictConfig) -> dict[str, str]:
    """Return the map with its words as texts; a word counts in any case unless the map tells cases apart."""
    exact = {str(word): str(meaning) for word, meaning in (verdict.map or {}).items()}
    return {word.casefold(): meaning for word, meaning in exact.items()} | exact
