"""Reads verdicts with the regular expression in `verdict.pattern`.

It is the user's own, and may take exponential time on some texts: `(?:a+)+b` does. Python's `re` cannot be stopped, so
the search is that of the package `regex`, which means the same by a pattern and takes a time limit.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping

import regex

from runner.config import JudgeConfig, VerdictConfig
from runner.errors import ConfigError
from runner.judge.verdict.common import NUMBER, Reader, Scale, ScoreMention, to_number, unreadable
from runner.judge.verdict.winner_names import WINNERS, meaning_of, meanings, winner_in_map
from runner.types import Verdict

_NUMBER = re.compile(NUMBER)

# How long a pattern may take on one text, and how long after it has taken that time on several.
SEARCH_SECONDS, SHORT_SEARCH_SECONDS = 1.0, 0.1
MAX_LONG_SEARCHES = 5


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of a pattern.

    It takes the first or last match (`verdict.pick`), and of that match the first group that matched, else all of it.

    Raises:
        ConfigError: the judge has no pattern, or the pattern does not compile.
    """
    verdict = judge.verdict
    if verdict is None or verdict.pattern is None:
        raise ConfigError(f"judge `{judge.name}`: verdict.pattern is missing")
    try:
        find = _finder(regex.compile(verdict.pattern), verdict.pick)
    except regex.error as error:
        raise ConfigError(f"judge `{judge.name}`: verdict.pattern is not a regular expression: {error}") from None
    known = meanings(verdict)

    def read(text: str) -> Verdict:
        try:
            found = find(text)
        except TimeoutError:
            return unreadable(
                "no_verdict", "the pattern takes too long on this text; avoid repeats inside of repeats, as in (a+)+"
            )
        if found is None:
            return unreadable("no_verdict", "the pattern does not match")
        return _verdict_of(found.strip(), verdict, known, judge.scale)

    return read


def _finder(compiled: regex.Pattern[str], pick: str) -> Callable[[str], str | None]:
    """Return a function that finds the text of the verdict, or raises TimeoutError."""
    long_searches = 0

    def find(text: str) -> str | None:
        nonlocal long_searches
        seconds = SEARCH_SECONDS if long_searches < MAX_LONG_SEARCHES else SHORT_SEARCH_SECONDS
        try:
            match = _search(compiled, text, pick, seconds)
        except TimeoutError:
            long_searches += 1
            raise
        if match is None:
            return None
        if not compiled.groups:
            return match[0]
        return next((group for group in match.groups() if group is not None), None)

    return find


def _search(compiled: regex.Pattern[str], text: str, pick: str, seconds: float) -> regex.Match[str] | None:
    if pick == "first":
        return compiled.search(text, timeout=seconds)
    return next(iter(deque(compiled.finditer(text, timeout=seconds), maxlen=1)), None)


def _verdict_of(found: str, verdict: VerdictConfig, known: Mapping[str, str], scale: Scale) -> Verdict:
    rule = f"pattern.{verdict.pick}"
    meaning = meaning_of(found, known)
    if verdict.kind == "winner":
        winner = winner_in_map(found, known) if known else WINNERS.get(found.casefold())
        if winner is None:
            return unreadable("no_verdict", f"{found[:80]!r} is not in verdict.map", rule)
        return Verdict(rule=rule, winner=winner)
    if verdict.kind == "label":
        if meaning is None and known:
            return unreadable("no_verdict", f"{found[:80]!r} is not in verdict.map", rule)
        return Verdict(rule=rule, label=found if meaning is None else meaning)
    number = found if meaning is None else meaning
    if not _NUMBER.fullmatch(number):
        return unreadable("no_verdict", f"{found[:80]!r} is not a number", rule)
    mention = ScoreMention(0, 0, to_number(number), None)
    if not mention.fits(scale):
        return unreadable("out_of_scale", f"{mention} is not on the scale {scale}", rule)
    return Verdict(rule=rule, score=mention.value)
