"""The panel: all judges of a run, with the requests that they need for each sample and the readers of their replies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from runner.config import DatasetConfig, JudgeConfig
from runner.core import BYTES_PER_TOKEN, COMPLETION_CAP_PARAMETERS, ending_of, lower_bound
from runner.errors import BadRow, ConfigError
from runner.judge.body import BodyTemplate, template_body
from runner.judge.pai import REQUIRED_FIELDS, pai_body
from runner.judge.template import Template, unknown_names
from runner.judge.verdict import reader_for
from runner.judge.verdict.cut_off import cut_off_reader
from runner.types import Dimension, JudgeRequest, JudgeResponse, Sample, Verdict, Winner

# Input limit of each model in tokens, from the service's documentation.
CONTEXT_TOKENS = {"pai-judge": 32768, "pai-judge-plus": 32768}

_OTHER: dict[Winner, Winner] = {"1": "2", "2": "1", "tie": "tie"}


class Variant(NamedTuple):
    """One of the requests that are made for each sample."""

    judge_index: int
    judge: str
    swapped: bool
    repeat: int


class Panel:
    """Builds the requests for each sample and reads their replies.

    Attributes:
        variants: the requests of one sample, sorted by judge, then order (original, then swapped), then repeat.

    Raises:
        ConfigError: a judge's verdict format is unknown.
    """

    def __init__(self, judges: Sequence[JudgeConfig]) -> None:
        self.judges = tuple(judges)
        self.variants = tuple(
            Variant(index, judge.name, swapped, repeat)
            for index, judge in enumerate(self.judges)
            for swapped in ((False, True) if judge.swap else (False,))
            for repeat in range(judge.repeats)
        )
        bodies = {(v.judge_index, v.swapped): _body(self.judges[v.judge_index], v.swapped) for v in self.variants}
        self._bodies = tuple(bodies[v.judge_index, v.swapped] for v in self.variants)
        self._names = tuple(f"-{v.judge}-{'s' if v.swapped else 'o'}-{v.repeat}" for v in self.variants)
        self._variant_of = {name[1:]: number for number, name in enumerate(self._names)}
        readers = [reader_for(judge) for judge in self.judges]
        self._readers = tuple(readers[v.judge_index] for v in self.variants)
        cut_off = [cut_off_reader(judge, read) for judge, read in zip(self.judges, readers, strict=True)]
        self._cut_off_readers = tuple(cut_off[v.judge_index] for v in self.variants)

    def custom_id(self, ordinal: int, variant: int) -> str:
        """Return the stable id of a request, `{ordinal}-{judge}-{o|s}-{repeat}`; `o` is original order, `s` swapped."""
        return f"{ordinal}{self._names[variant]}"

    def place(self, custom_id: str) -> tuple[int, int] | None:
        """Return the ordinal and the variant of a custom_id, or None if the panel makes no such request."""
        ordinal, _, name = custom_id.partition("-")
        variant = self._variant_of.get(name)
        return None if variant is None or not ordinal.isdecimal() else (int(ordinal), variant)

    def request(self, sample: Sample, variant: int) -> JudgeRequest:
        """Return one request of a sample.

        Raises:
            BadRow: the sample cannot be sent, or is certainly longer than the model's context (`too_long`).
        """
        if sample.problem is not None:
            raise BadRow(sample.problem)
        body = self._bodies[variant].fill(sample)
        self._check_length(sample, variant, len(body))
        request_hash = blake2b(body, digest_size=16).hexdigest()
        return JudgeRequest(sample, variant, self.custom_id(sample.ordinal, variant), body, request_hash)

    def read(self, request: JudgeRequest, response: JudgeResponse) -> Verdict:
        """Return the verdict of a reply, with the answers numbered as in the dataset."""
        return self.read_variant(request.variant, response)

    def read_variant(self, variant: int, response: JudgeResponse) -> Verdict:
        """Return the verdict of a reply to a request of this variant. Rereading a stored reply uses this, too.

        A reader that raises costs its row, not the run: the row is unparsed, with the exception as its reason.
        """
        try:
            verdict = self._read(variant, response)
        except Exception as error:  # noqa: BLE001
            detail = f"the reader of the verdict failed with {type(error).__name__}: {error!s:.200}; this is a bug"
            verdict = Verdict(problem="no_verdict", detail=detail)
        return swap_answers(verdict) if self.variants[variant].swapped else verdict

    def _read(self, variant: int, response: JudgeResponse) -> Verdict:
        ending = ending_of(response.finish_reason)
        if ending in ("filtered", "broken"):  # stored by a version that took such an answer for a whole one
            return Verdict(problem="truncated", detail=f"the answer broke off (finish_reason {response.finish_reason})")
        if ending == "cut":
            return self._cut_off_readers[variant](response.text or "")
        if response.text_from is not None:
            return Verdict(problem="no_verdict", detail=_only_thought(response))
        if response.text is None or not response.text.strip():
            return Verdict(problem="no_verdict", detail=response.refusal or "the message is empty")
        return self._readers[variant](response.text)

    def required_fields(self) -> Mapping[str, tuple[str, ...]]:
        """Return the fields (built-in kinds) and template names that each judge's requests use, by judge."""
        return {judge.name: (*REQUIRED_FIELDS.get(judge.kind, ()), *_template_names(judge)) for judge in self.judges}

    def check_names(self, fields: Collection[str], columns: Collection[str]) -> None:
        """Check that the dataset has all fields and columns that the judges use.

        Args:
            fields: the mapped fields whose columns exist in the dataset.
            columns: the columns of the dataset.

        Raises:
            ConfigError: a field or column is missing; the message names the nearest right spelling.
        """
        for judge in self.judges:
            for field in REQUIRED_FIELDS.get(judge.kind, ()):
                if field not in fields:
                    found = ", ".join(sorted(columns)) or "none"
                    raise ConfigError(
                        f"judge `{judge.name}` ({judge.kind}) needs the field `{field}`: map it to a column under "
                        f"`dataset.fields` (columns found: {found})"
                    )
            for name, nearest in unknown_names(_template_names(judge), fields, columns):
                hint = f"; did you mean `{{{nearest}}}`?" if nearest else ""
                raise ConfigError(f"judge `{judge.name}`: `{{{name}}}` is neither a field nor a column{hint}")

    def _check_length(self, sample: Sample, variant: int, size: int) -> None:
        context = CONTEXT_TOKENS.get(self.judges[self.variants[variant].judge_index].model)
        if context is None or size <= context * BYTES_PER_TOKEN:
            return
        tokens = sum(map(lower_bound, self._bodies[variant].texts(sample)))
        if tokens > context:
            raise BadRow(f"at least {tokens} tokens, but the model takes {context}", "too_long")


def used_names(judge: JudgeConfig, dataset: DatasetConfig) -> tuple[str, ...]:
    """Return the fields and columns that a judge's requests contain, including the reference if it is sent."""
    names = [*REQUIRED_FIELDS.get(judge.kind, ()), *(name.partition(".")[0] for name in _template_names(judge))]
    if judge.is_builtin and dataset.source_of("reference") is not None:
        names.append("reference")
    return tuple(dict.fromkeys(names))


def swap_answers(verdict: Verdict) -> Verdict:
    """Return a verdict with the two answers swapped."""
    return msgspec.structs.replace(
        verdict,
        winner=None if verdict.winner is None else _OTHER[verdict.winner],
        score1=verdict.score2,
        score2=verdict.score1,
        dimensions=tuple(
            Dimension(d.name, None if d.answer is None else 3 - d.answer, d.score) for d in verdict.dimensions
        ),
    )


def _body(judge: JudgeConfig, swapped: bool) -> BodyTemplate:
    return template_body(judge, swapped) if judge.kind == "template" else pai_body(judge, swapped)


def _template_names(judge: JudgeConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for text in judge.prompts for name in Template(text).names))


def _only_thought(response: JudgeResponse) -> str:
    where = "parts of thought" if response.text_from == "content" else response.text_from
    return (
        f"the message is empty, but its {where} has {len(response.text or ''):,} characters, which are kept in "
        "`response`: if they are the answer (check the service's reasoning parser), `judge-runner rescore` reads them"
    )


def reask_body(body: bytes, response: JudgeResponse) -> bytes:
    """Return the body to send again after an unreadable reply.

    It is the same body; if the token cap cut the reply off, the cap is doubled.
    """
    if ending_of(response.finish_reason) != "cut":
        return body
    content: dict[str, Any] = msgspec.json.decode(body)
    for key in COMPLETION_CAP_PARAMETERS:
        if isinstance(content.get(key), int):
            content[key] *= 2
    return msgspec.json.encode(content)
