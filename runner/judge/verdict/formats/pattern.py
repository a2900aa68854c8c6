"""Reads verdicts with the regular expression in `verdict.pattern`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping

from runner.config import JudgeConfig, VerdictConfig
from runner.errors import ConfigError
from runner.judge.verdict.common import NUMBER, Reader, Scale, ScoreMention, to_number, unreadable
from runner.judge.verdict.winner_names import WINNERS, meaning_of, meanings, winner_in_map
from runner.types import Verdict

_NUMBER = re.compile(NUMBER)


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
        compiled = re.compile(verdict.pattern)
    except re.error as error:
        raise ConfigError(f"judge `{judge.name}`: verdict.pattern is not a regular expression: {error}") from None
    known = meanings(verdict)

    def read(text: str) -> Verdict:
        found = _pick(compiled, text, verdict.pick)
        if found is None:
            return unreadable("no_verdict", "the pattern does not match")
        return _verdict_of(found.strip(), verdict, known, judge.scale)

    return read


def _pick(compiled: re.Pattern[str], text: str, pick: str) -> str | None:
    if pick == "first":
        match = compiled.search(text)
    else:
        match = next(iter(deque(compiled.finditer(text), maxlen=1)), None)
    if match is None:
        return None
    if not compiled.groups:
        return match[0]
    return next((group for group in match.groups() if group is not None), None)


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
