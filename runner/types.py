"""The values that pass through a run: sample, request, response, verdict, row.

There are many of these objects and none can be part of a reference cycle, so the garbage collector does not track them
(`gc=False`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import msgspec

# The better answer, numbered as in the dataset.
Winner = Literal["1", "2", "tie"]

# One row of the results by column name: request, outcome and verdict.
Row = dict[str, Any]

# The columns that results/*.parquet has in every run, in their order.
RESULT_COLUMNS = (
    "sample_id", "ordinal", "judge", "judge_model", "kind", "service", "swapped", "repeat", "custom_id",
    "request_hash", "route", "status", "score", "winner", "score1", "score2", "label", "dimensions", "contradiction",
    "response", "explanation", "rule", "finish_reason", "response_id", "batch_id", "error_type", "error_message",
    "attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost", "latency_s", "finished_at",
    "served_model", "cached_tokens",
)  # fmt: skip

# The columns that follow if the dataset maps a human label, or the models that gave the answers.
LABEL_COLUMNS = ("human_winner", "human_score", "human_label")
MODEL_COLUMNS = ("model", "model1", "model2")

# The fields whose texts samples.parquet can have.
TEXT_FIELDS = ("question", "answer", "answer1", "answer2", "reference")

# The largest count of tokens that the columns can hold. A sum over attempts stops there.
MAX_TOKENS = 2**31 - 1
# The largest value of the columns `repeat` and `attempts`, which have 16 bits.
MAX_REPEATS = 2**15 - 1


class Secret:
    """A text that is not printed, logged, pickled or written to disk by accident."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. Call this only to put it on the wire."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


class Unreadable:
    """Stands for a value of the dataset that is no text and no number, such as bytes that are not UTF-8.

    Nothing writes it: a row that needs it is a bad row.

    Attributes:
        found: what it is, for messages.
    """

    __slots__ = ("found",)

    def __init__(self, found: str) -> None:
        self.found = found

    def __repr__(self) -> str:
        return self.found


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One row of the dataset.

    Attributes:
        ordinal: its position in the whole dataset, from 0; blank lines do not count.
        id: the id in the dataset, or the ordinal as text.
        fields: the mapped fields (`question`, `answer`, `answer1`, ...) with the values of the dataset; a field is
            absent if the row lacks its column.
        record: all columns of the row, for templates that name columns.
        columns: the columns that its result rows copy: `human_winner`, `human_score`, `human_label` (if a label is
            mapped), `model`, `model1`, `model2` (if mapped) and the kept columns.
        place: file and line (or row), for messages.
        problem: why the whole row is unusable (broken JSON, ...), or None.
    """

    ordinal: int
    id: str
    fields: Mapping[str, Any]
    record: Mapping[str, Any]
    columns: Mapping[str, Any]
    place: str
    problem: str | None = None


class Dimension(msgspec.Struct, frozen=True, gc=False):
    """The score of one criterion; `answer` is 1 or 2 in a pairwise verdict, else None."""

    name: str
    answer: int | None
    score: float


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """The verdict in a judge's text, or why there is none.

    A value that could not be read is None, never 0, -1 or a tie. `problem` is None if a verdict was read; else it is
    one of `no_verdict`, `conflict`, `out_of_scale`, `truncated`, and `detail` says what was found.
    `rule` names the parsing rule that matched.
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
    """One chat request, ready to be sent.

    Attributes:
        sample: the sample to be judged.
        variant: the number of its combination of judge, order and repeat within the sample.
        custom_id: its stable id, `{ordinal}-{judge}-{o|s}-{repeat}`.
        body: the JSON body, UTF-8.
        request_hash: a hash of the body, 32 hex digits.
    """

    sample: Sample
    variant: int
    custom_id: str
    body: bytes
    request_hash: str


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the service counted them; None if it did not report them. `cached` is a part of `prompt`."""

    prompt: int | None = None
    completion: int | None = None
    total: int | None = None
    cached: int | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            _sum(self.prompt, other.prompt),
            _sum(self.completion, other.completion),
            _sum(self.total, other.total),
            _sum(self.cached, other.cached),
        )


class JudgeResponse(msgspec.Struct, frozen=True, gc=False):
    """A complete answer of the service.

    Attributes:
        text: the judge's text; None if the reply has none.
        finish_reason: why the text ends, in the service's words.
        response_id: the service's id of the reply.
        usage: the tokens of this call.
        refusal: what the message says in place of a text.
        model: the model that the reply names.
        text_from: the field of the message that holds `text`, if it is that of the judge's thought and the message has
            no text beside it; else None.
    """

    text: str | None
    finish_reason: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    refusal: str | None = None
    model: str | None = None
    text_from: str | None = None


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a request has no answer: an `error_type` of the results, a message, and the tokens of this call."""

    error_type: str
    message: str
    usage: Usage = Usage()


Outcome = JudgeResponse | Failure


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a + b, MAX_TOKENS)


class RequestResult(msgspec.Struct, frozen=True, gc=False):
    """The result of one request.

    Attributes:
        outcome: the answer, or why there is none.
        verdict: the verdict in the answer; None for a failure.
        attempts: the number of calls, failed ones included.
        usage: tokens of all attempts, if the service reported them.
        latency_s: seconds that the successful attempt took.
        route: `online` or `batch`; None if nothing was sent.
        batch_id: the batch that the request was part of, answered or not.
        service: the service that the request was sent to; None if the variant has only one service.
    """

    outcome: Outcome
    verdict: Verdict | None = None
    attempts: int = 0
    usage: Usage = Usage()
    latency_s: float | None = None
    route: str | None = None
    batch_id: str | None = None
    service: str | None = None
