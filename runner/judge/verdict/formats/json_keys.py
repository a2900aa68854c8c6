"""`format: json`: reads the verdict from the configured keys of an object anywhere in the text.

All outermost objects that have the required keys count; different verdicts in them are a conflict. An object with
unreadable values, such as the prompt's own `{"score": <1 to 5>}`, is ignored if a later object is readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from runner.config import JudgeConfig
from runner.errors import ConfigError
from runner.judge.verdict.common import Reader, Scale, ScoreMention, unreadable
from runner.judge.verdict.formats.pai_pairwise import contradicts, winner_of
from runner.judge.verdict.loose_json import Ambiguous, dig, located_objects
from runner.judge.verdict.score_values import dimensions_in, mention_in, mention_pair
from runner.judge.verdict.winner_names import meanings, winner_in_map, winner_named
from runner.types import Dimension, Verdict, Winner

RULE = "json.keys"

_MAX_WORDS_CHARS = 80  # a longer text explains more than it names a winner


class _Keys(msgspec.Struct, frozen=True):
    """The configured keys, `verdict.map` and the scale."""

    score: str | None
    winner: str | None
    dimensions: str | None
    explanation: str | None
    map: Mapping[str, str]
    scale: Scale

    @property
    def required(self) -> tuple[str, ...]:
        """The keys that an object must have."""
        return tuple(key for key in (self.score, self.winner) if key is not None)


class _Unreadable(Exception):
    """The value of a key is not a verdict."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem


def reader(judge: JudgeConfig) -> Reader:
    """Return the reader of objects with the configured keys, on the judge's scale if it has one.

    Raises:
        ConfigError: neither `verdict.score` nor `verdict.winner` is set.
    """
    verdict = judge.verdict
    if verdict is None or (verdict.score is None and verdict.winner is None):
        raise ConfigError(f"judge `{judge.name}`: format json needs the key of the score, of the winner, or both")
    keys = _Keys(verdict.score, verdict.winner, verdict.dimensions, verdict.explanation, meanings(verdict), judge.scale)
    return lambda text: _read(text, keys)


def _read(text: str, keys: _Keys) -> Verdict:
    found = list(located_objects(text))
    candidates = [each for each in found if each.data is not None and _has_keys(each.data, keys)]
    if not candidates:
        wanted = " and ".join(f"`{key}`" for key in keys.required)
        return unreadable("no_verdict", f"no object with {wanted}" if found else "no JSON object")
    verdicts = [_of_object(each.data or {}, keys) for each in candidates]
    broken = [] if found[-1] is candidates[-1] else found[found.index(candidates[-1]) + 1 :]
    if any(each.data is None and _may_have_keys(text[each.start : each.end], keys) for each in broken):
        return unreadable("no_verdict", "the last object with the keys is broken", RULE)
    readable = [verdict for verdict in verdicts if verdict.problem != "no_verdict"]
    if not readable or verdicts[-1].problem == "no_verdict":
        return verdicts[-1]
    if (
        len(readable) > 1
        and len({(each.problem, each.score, each.score1, each.score2, each.winner) for each in readable}) > 1
    ):
        return unreadable("conflict", f"{len(readable)} objects have different verdicts", RULE)
    return readable[-1]


def _has_keys(data: Mapping[str, Any], keys: _Keys) -> bool:
    return all(dig(data, key) is not None for key in keys.required)


def _may_have_keys(broken: str, keys: _Keys) -> bool:
    """Return True if the text of a broken object contains all keys as quoted strings."""
    names = [key.rpartition(".")[2] for key in keys.required]
    return all(f'{name}"' in broken or f"{name}'" in broken for name in names)


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
    """Return the overall score, the score of answer 1 and that of answer 2; one key can hold both answers' scores."""
    if keys.score is None:
        return None, None, None
    value = _value(data, keys.score)
    mentions: tuple[ScoreMention, ...] = (mention_pair(value) or ()) if keys.winner is not None else ()
    if not mentions and (mention := mention_in(value)) is not None:
        mentions = (mention,)
    if not mentions:
        raise _Unreadable("no_verdict", f"`{keys.score}` is not a number: {value!r:.80}")
    for each in mentions:
        if not each.fits(keys.scale):
            raise _Unreadable("out_of_scale", f"{each} is not on the scale {keys.scale}")
    return (None, mentions[0].value, mentions[1].value) if len(mentions) == 2 else (mentions[0].value, None, None)


def _winner(value: Any, keys: _Keys) -> Winner:
    """Return the winner by `verdict.map` (or 1, 2, tie); without a map, by the usual names of the answers."""
    word = f"{value:g}" if isinstance(value, float) else value.strip() if isinstance(value, str) else None
    if word is None:
        winner = None
    else:
        winner = winner_in_map(word, keys.map) if keys.map else winner_named(word) or _winner_in_words(word)
    if winner is None:
        where = " by verdict.map" if keys.map else ""
        raise _Unreadable("no_verdict", f"`{keys.winner}` names no winner{where}: {value!r:.80}")
    return winner


def _winner_in_words(words: str) -> Winner | None:
    """Return the answer that a short text calls better, by its name: `Response 1 is better than Response 2`."""
    winner = winner_of(words) if len(words) <= _MAX_WORDS_CHARS else None
    return None if winner == "tie" else winner


def _value(data: Mapping[str, Any], key: str) -> Any:
    value = dig(data, key)
    if isinstance(value, Ambiguous):
        raise _Unreadable("conflict", f"`{key}` occurs twice with different values")
    return value


def _dimensions(data: Mapping[str, Any], keys: _Keys) -> tuple[Dimension, ...]:
    return () if keys.dimensions is None else dimensions_in(dig(data, keys.dimensions), keys.scale)


def _explanation(data: Mapping[str, Any], keys: _Keys) -> str | None:
    value = None if keys.explanation is None else dig(data, keys.explanation)
    return (value.strip() or None) if isinstance(value, str) else None
