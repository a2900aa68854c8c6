"""`format: json`: the verdict stands under the keys that the YAML names, in an object anywhere in the text.

Every outermost object that has all the keys asked for is in the place: if they say different things, it is a conflict.
One whose values cannot be read (the prompt's own `{"score": <1 to 5>}`, say) does not count beside one that can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runner.config import JudgeConfig
from runner.errors import ConfigError
from runner.judge.verdict.common import Reader, Scale, ScoreMention, unreadable
from runner.judge.verdict.formats.pai_pairwise import contradicts
from runner.judge.verdict.loose_json import Ambiguous, dig, objects
from runner.judge.verdict.score_values import dimensions_in, mark_in, two_marks
from runner.judge.verdict.winner_names import WINNERS, meanings, meant, winner_named
from runner.types import Dimension, Verdict, Winner

RULE = "json.keys"


class _Keys(msgspec.Struct, frozen=True):
    """What is read from where, as the YAML says."""

    score: str | None
    winner: str | None
    dimensions: str | None
    explanation: str | None
    map: Mapping[str, str]
    scale: Scale

    @property
    def asked(self) -> tuple[str, ...]:
        """The keys without which there is no verdict."""
        return tuple(key for key in (self.score, self.winner) if key is not None)


class _Unreadable(Exception):
    """What stands under a key is no verdict."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of an object's keys, on the judge's scale if it has one.

    Raises:
        ConfigError: neither the key of the score nor that of the winner is named.
    """
    verdict = judge.verdict
    if verdict is None or (verdict.score is None and verdict.winner is None):
        raise ConfigError(f"judge `{judge.name}`: format json needs the key of the score, of the winner, or both")
    keys = _Keys(verdict.score, verdict.winner, verdict.dimensions, verdict.explanation, meanings(verdict), judge.scale)
    return lambda text: _read(text, keys)


def _read(text: str, keys: _Keys) -> Verdict:
    found = list(objects(text))
    held = [each for each in found if all(dig(each, key) is not None for key in keys.asked)]
    if not held:
        wanted = " and ".join(f"`{key}`" for key in keys.asked)
        return unreadable("no_verdict", f"no object with {wanted}" if found else "no JSON object")
    verdicts = [_of_object(each, keys) for each in held]
    said = [verdict for verdict in verdicts if verdict.problem != "no_verdict"] or verdicts[-1:]
    if len({(each.problem, each.score, each.score1, each.score2, each.winner) for each in said}) > 1:
        return unreadable("conflict", f"{len(said)} objects say different things", RULE)
    return said[-1]


def _of_object(data: Mapping[str, Any], keys: _Keys) -> Verdict:
    try:
        score, score1, score2 = _scores(data, keys)
        winner = None if keys.winner is None else _winner(_value(data, keys.winner), keys)
    except _Unreadable as error:
        return unreadable(error.problem, str(error), RULE)
    return Verdict(
        rule=RULE,
        score=score,
        winner=winner,
        score1=score1,
        score2=score2,
        contradiction=None if winner is None else contradicts(winner, score1, score2),
        dimensions=_dimensions(data, keys),
        explanation=_explanation(data, keys),
    )


def _scores(data: Mapping[str, Any], keys: _Keys) -> tuple[float | None, float | None, float | None]:
    """The overall score, or those of the two answers where one key holds both."""
    if keys.score is None:
        return None, None, None
    value = _value(data, keys.score)
    marks: tuple[ScoreMention, ...] = (two_marks(value) or ()) if keys.winner is not None else ()
    if not marks and (mark := mark_in(value)) is not None:
        marks = (mark,)
    if not marks:
        raise _Unreadable("no_verdict", f"`{keys.score}` is not a number: {value!r:.80}")
    for each in marks:
        if not each.fits(keys.scale):
            raise _Unreadable("out_of_scale", f"{each} is not on the scale {keys.scale}")
    return (None, marks[0].value, marks[1].value) if len(marks) == 2 else (marks[0].value, None, None)


def _winner(value: Any, keys: _Keys) -> Winner:
    """With a map, its words count, and 1, 2 and tie; without one, the natural names of the answers."""
    word = f"{value:g}" if isinstance(value, float) else value.strip() if isinstance(value, str) else None
    if word is not None and keys.map:
        winner = WINNERS.get(meant(word, keys.map) or word.casefold())
    else:
        winner = None if word is None else winner_named(word)
    if winner is None:
        where = " by verdict.map" if keys.map else ""
        raise _Unreadable("no_verdict", f"`{keys.winner}` names no winner{where}: {value!r:.80}")
    return winner


def _value(data: Mapping[str, Any], key: str) -> Any:
    value = dig(data, key)
    if isinstance(value, Ambiguous):
        raise _Unreadable("conflict", f"`{key}` stands there twice, with different values")
    return value


def _dimensions(data: Mapping[str, Any], keys: _Keys) -> tuple[Dimension, ...]:
    return () if keys.dimensions is None else dimensions_in(dig(data, keys.dimensions), keys.scale)


def _explanation(data: Mapping[str, Any], keys: _Keys) -> str | None:
    value = None if keys.explanation is None else dig(data, keys.explanation)
    return (value.strip() or None) if isinstance(value, str) else None
