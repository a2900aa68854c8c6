"""The text of a built-in evaluation, in exactly the forms the PAI-Judge page shows.

The page shows both forms in Chinese. The English single form is that of the paper on the service's ancestor; the
English pairwise form is a translation of the page's. No public text shows a tie: `[[回复1和回复2质量相当]]` and its
English counterpart are this emulator's guess.
"""

from __future__ import annotations

from runner.emulator.answers.phrases import EN, ZH, Criterion, Language
from runner.emulator.answers.scoring import Comparison, Rating, below


def language(chinese: bool) -> Language:
    """Return the pieces of a language."""
    return ZH if chinese else EN


def single_text(rating: Rating, chinese: bool) -> str:
    """Write a single evaluation: the overall score first, then strengths and shortcomings with their own scores."""
    pieces = language(chinese)
    subject = "回复" if chinese else "The response "
    good: list[str] = []
    poor: list[str] = []
    for number, criterion in enumerate(pieces.criteria):
        score = below(rating.score, rating.top, rating.shade, number)
        is_good = score * 2 > rating.top and (score > rating.score or number < 2)
        listed = good if is_good else poor
        listed.append(_point(len(listed) + 1, criterion, is_good, subject, score, chinese))
    return "".join(
        (
            pieces.rated.format(score=rating.score),
            pieces.strengths,
            *good,
            pieces.shortcomings,
            *poor,
            pieces.in_all.format(score=rating.score),
        )
    )


def pair_text(verdict: Comparison, chinese: bool) -> str:
    """Write a pairwise evaluation: the winner, both overall scores, then each criterion with the scores by label.

    As on the page, a criterion may name response 2 first, and one number may serve both responses.
    """
    pieces = language(chinese)
    head = pieces.better.format(winner=verdict.winner) if verdict.winner else pieces.tied
    lines = [head, pieces.compared.format(score1=verdict.score1, score2=verdict.score2)]
    for number, criterion in enumerate(pieces.criteria[: len(pieces.pair)]):
        first = below(verdict.score1, verdict.top, verdict.shade, number)
        second = below(verdict.score2, verdict.top, verdict.shade, number)
        said = pieces.pair[number].format(
            one=_said(criterion, first >= second), two=_said(criterion, second >= first), first=first, second=second
        )
        lines.append(f"{number + 1}. {criterion.name}:{'' if chinese else ' '}{said}\n")
    both = pieces.both.format(both=pieces.harmless.good, first=verdict.top)
    lines.append(f"{len(lines) - 1}. {pieces.harmless.name}:{'' if chinese else ' '}{both}\n")
    return "".join(lines)


def _point(number: int, criterion: Criterion, is_good: bool, subject: str, score: int, chinese: bool) -> str:
    gap, stop = ("", "。") if chinese else (" ", ". ")
    return f"{number}. {criterion.name}:{gap}{subject}{_said(criterion, is_good)}{stop}[[{score}]]\n"


def _said(criterion: Criterion, is_good: bool) -> str:
    return criterion.good if is_good else criterion.poor
