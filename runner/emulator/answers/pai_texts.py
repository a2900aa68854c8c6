"""The text of a built-in evaluation, in the exact forms that the PAI-Judge page shows.

The page shows both forms in Chinese. The English single form is that of the paper on the service's predecessor. The
English pairwise form is a translation of the page's. No public text shows a tie: `[[回复1和回复2质量相当]]` and its
English counterpart are this emulator's guess.
"""

from __future__ import annotations

from runner.emulator.answers.phrases import EN, ZH, Criterion, Language
from runner.emulator.answers.scoring import Comparison, Rating, criterion_score


def phrases_for(chinese: bool) -> Language:
    """Return the phrases of the language."""
    return ZH if chinese else EN


def single_text(rating: Rating, chinese: bool) -> str:
    """Write a single evaluation: the overall score first, then strengths and shortcomings with their own scores."""
    phrases = phrases_for(chinese)
    subject = "回复" if chinese else "The response "
    good: list[str] = []
    poor: list[str] = []
    for number, criterion in enumerate(phrases.criteria):
        score = criterion_score(rating.score, rating.max_score, rating.variation, number)
        is_good = score * 2 > rating.max_score and (score > rating.score or number < 2)
        points = good if is_good else poor
        points.append(_point(len(points) + 1, criterion, is_good, subject, score, chinese))
    return "".join(
        (
            phrases.rated.format(score=rating.score),
            phrases.strengths,
            *good,
            phrases.shortcomings,
            *poor,
            phrases.in_all.format(score=rating.score),
        )
    )


def pair_text(verdict: Comparison, chinese: bool) -> str:
    """Write a pairwise evaluation: the winner, both overall scores, then each criterion with both scores.

    As on the page, a criterion can name response 2 first, and one number can be the score of both responses.
    """
    phrases = phrases_for(chinese)
    opening = phrases.better.format(winner=verdict.winner) if verdict.winner else phrases.tied
    lines = [opening, phrases.compared.format(score1=verdict.score1, score2=verdict.score2)]
    for number, criterion in enumerate(phrases.criteria[: len(phrases.pair)]):
        first = criterion_score(verdict.score1, verdict.max_score, verdict.variation, number)
        second = criterion_score(verdict.score2, verdict.max_score, verdict.variation, number)
        text = phrases.pair[number].format(
            one=_remark(criterion, first >= second), two=_remark(criterion, second >= first), first=first, second=second
        )
        lines.append(_pair_point(number + 1, criterion, text, chinese))
    both = phrases.both.format(both=phrases.harmless.good, first=verdict.max_score)
    lines.append(_pair_point(len(lines) - 1, phrases.harmless, both, chinese))
    return "".join(lines)


def _point(number: int, criterion: Criterion, is_good: bool, subject: str, score: int, chinese: bool) -> str:
    space, stop = ("", "。") if chinese else (" ", ". ")
    return f"{number}. {criterion.name}:{space}{subject}{_remark(criterion, is_good)}{stop}[[{score}]]\n"


def _pair_point(number: int, criterion: Criterion, text: str, chinese: bool) -> str:
    return f"{number}. {criterion.name}:{'' if chinese else ' '}{text}\n"


def _remark(criterion: Criterion, is_good: bool) -> str:
    return criterion.good if is_good else criterion.poor
