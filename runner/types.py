"""The values that travel through a run: what is asked, what came back, what it means.

None of them can hold itself, so the garbage collector need not look at them (`gc=False`): there are many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import msgspec

Winner = Literal["1", "2", "tie"]
"""Which answer is better, numbered as the dataset numbers them."""

Row = dict[str, Any]
"""One line of the results: request, outcome and verdict by column name."""


class Secret:
    """A text that cannot be printed, logged, pickled or written by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; call this only where it goes onto the wire."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One row of the dataset.

    Attributes:
        ordinal: its position in the whole dataset, from 0; blank lines do not count.
        id: the dataset's own id, or the ordinal as text.
        fields: the mapped fields (`question`, `answer`, `answer1`, ...) as the dataset gives them;
            a field whose column the row does not have is absent.
        record: every column of the row, for templates that name columns.
        columns: what its result rows carry: `human_winner`, `human_score`, `human_label` (where a label is
            mapped), `model`, `model1`, `model2` (where mapped) and the kept columns.
        place: file and line (or row), for messages.
        problem: why the row cannot be used at all (broken JSON, ...), or None.
    """

    ordinal: int
    id: str
    fields: Mapping[str, Any]
    record: Mapping[str, Any]
    columns: Mapping[str, Any]
    place: str
    problem: str | None = None


class Dimension(msgspec.Struct, frozen=True, gc=False):
    """A score below the overall one; `answer` is 1 or 2 in a pairwise verdict, else None."""

    name: str
    answer: int | None
    score: float


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What a judge's text means, or why it means nothing.

    A value that could not be read is None, never 0, -1 or a tie. `problem` is None for a verdict that was read; else
    it is one of `no_verdict`, `conflict`, `out_of_scale`, `truncated`, and `detail` says what was found.
    `rule` names the parsing rule that fired.
    """

    rule: str | None = None
    score: float | None = None
    winner: Winner | None = None
    score1: float | None = None
    score2: float | None = None
    label: str | None = None
    dimensions: tuple[Dimension, ...] = ()
    contradiction: bool | None = None
    explanation: str | None = None
    problem: str | None = None
    detail: str | None = None


class JudgeRequest(msgspec.Struct, frozen=True, gc=False):
    """One chat body, ready to be sent.

    Attributes:
        sample: the sample it asks about.
        variant: its number within the sample (judge, order, repeat).
        custom_id: its stable name, `{ordinal}-{judge}-{o|s}-{repeat}`.
        body: the JSON body, UTF-8.
        request_hash: a hash of the body, 32 hex digits.
    """

    sample: Sample
    variant: int
    custom_id: str
    body: bytes
    request_hash: str


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the service counted them; None where it did not say."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            _sum(self.prompt, other.prompt), _sum(self.completion, other.completion), _sum(self.total, other.total)
        )


class JudgeResponse(msgspec.Struct, frozen=True, gc=False):
    """A whole answer of the service; `text` is None where the message carries none."""

    text: str | None
    finish_reason: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    refusal: str | None = None


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a request has no answer: one of the contract's `error_type` words and what was seen."""

    error_type: str
    message: str


Outcome = JudgeResponse | Failure


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


class RequestResult(msgspec.Struct, frozen=True, gc=False):
    """What asking one request came to.

    Attributes:
        outcome: the answer, or why there is none.
        verdict: what the answer means; None for a failure.
        attempts: calls made, all of them.
        usage: tokens of all attempts, where the service counted them.
        latency_s: seconds of the answering attempt.
        route: `online` or `batch`; None where nothing was sent.
        batch_id: the batch that answered, or did not.
        service: who was asked; None where that is the variant's only service.
    """

    outcome: Outcome
    verdict: Verdict | None = None
    attempts: int = 0
    usage: Usage = Usage()
    latency_s: float | None = None
    route: str | None = None
    batch_id: str | None = None
    service: str | None = None
