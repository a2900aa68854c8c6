"""What the open requests are like: tokens, bytes and upload files, from all of them or from an even sample."""

from __future__ import annotations

import math
from itertools import chain

import msgspec

from runner.config import BatchConfig, JudgeConfig, PricesConfig
from runner.core import COMPLETION_CAP_PARAMETERS, COMPLETION_TOKENS, TEMPLATE_TOKENS, estimate_body, price_of
from runner.dataset import DatasetFingerprint, NextWanted, chunks
from runner.errors import BadRow
from runner.lanes.batch import BatchEndpoint, ShardGroup, group_variants, line_of
from runner.planning.inputs import RunInputs
from runner.planning.routing import LaneName, batch_services
from runner.results import CompletionIndex, RowCounts
from runner.types import JudgeRequest, Sample, Usage

SAMPLES_MEASURED = 5000
"""No more samples than these are read, evenly over those that are open."""

ROWS_SHOWN = 5


class JudgeEstimate(msgspec.Struct, frozen=True):
    """What the open requests of one judge are like.

    Attributes:
        name: the judge's.
        model: the judge's.
        requests: how many of them can be asked.
        prompt_tokens: mean per request, the service's own prompt included.
        completion_tokens: mean per request.
        completion_from: where that mean comes from.
    """

    name: str
    model: str
    requests: int
    prompt_tokens: float
    completion_tokens: float
    completion_from: str

    @property
    def usage(self) -> Usage:
        """Tokens of all its open requests together."""
        prompt, completion = round(self.requests * self.prompt_tokens), round(self.requests * self.completion_tokens)
        return Usage(prompt, completion, prompt + completion)


class Estimate(msgspec.Struct, frozen=True):
    """What all open requests are like.

    Attributes:
        judges: what those of each judge are like.
        shards: the upload files that they fill.
        bytes: the size of these files together.
        samples: how many samples were read for this.
        exact: whether these were all that are open.
        bad_rows: how many of the samples read cannot be asked, by one judge at least.
        problems: what is wrong with the first of them.
    """

    judges: tuple[JudgeEstimate, ...]
    shards: int
    bytes: int
    samples: int
    exact: bool
    bad_rows: int
    problems: tuple[str, ...]

    @property
    def usage(self) -> Usage:
        """Tokens of all open requests together."""
        return sum((judge.usage for judge in self.judges), Usage(0, 0, 0))

    def cost(self, prices: PricesConfig | None, lane: LaneName) -> float | None:
        """What all open requests cost in a lane; None where the price of a model is not known."""
        if prices is None or any(judge.model not in prices.models for judge in self.judges):
            return None
        models = [prices.models[judge.model] for judge in self.judges]
        each = [price_of(model.input, model.output, prices.per, model.batch) for model in models]
        return sum(price(judge.usage, lane) or 0.0 for price, judge in zip(each, self.judges, strict=True))


def estimate_requests(checked: RunInputs, counted: DatasetFingerprint, done: CompletionIndex) -> Estimate:
    """Look at the open requests, or at an even sample of them, and say what all of them are like.

    Reads the dataset once, and skips what is not looked at; memory does not grow with it.

    Args:
        checked: the configuration, its judges and its files.
        counted: the rows of the files.
        done: which requests have their row, and how long the answers there are were.

    Raises:
        DatasetError: the dataset cannot be read to its end.
    """
    look = _Look(checked, done)
    wanted, exact = _evenly(done)
    for raw in chain.from_iterable(chunks(checked.files, wanted, known=counted, columns=checked.reader.columns)):
        look.at(checked.reader.sample(raw))
    scale = 1.0 if exact or not look.seen else done.missing() / look.seen
    return Estimate(
        judges=tuple(
            _of_judge(judge, round(requests * scale), tokens / requests if requests else 0.0, done.counts)
            for judge, requests, tokens in zip(checked.panel.judges, look.requests, look.prompt_tokens, strict=True)
        ),
        shards=sum(shards.count if exact else shards.scaled(scale) for shards in look.shards.values()),
        bytes=round(scale * sum(shards.bytes for shards in look.shards.values())),
        samples=look.samples,
        exact=exact,
        bad_rows=look.bad_rows,
        problems=tuple(look.problems),
    )


def _evenly(done: CompletionIndex) -> tuple[NextWanted, bool]:
    """Which samples are looked at, and whether these are all that are open."""
    first = done.next_wanted(0)
    stride = max(1, math.ceil((done.samples - first) / SAMPLES_MEASURED))

    def wanted(ordinal: int) -> int:
        return done.next_wanted(first + -(-(ordinal - first) // stride) * stride)

    return wanted, stride == 1


def _of_judge(judge: JudgeConfig, requests: int, prompt_tokens: float, counts: RowCounts) -> JudgeEstimate:
    """One judge's figures; an answer is as long as those there are, or as `max_tokens` lets it be."""
    answered = counts.ok + counts.unparsed
    if answered and counts.completion_tokens:
        completion = counts.completion_tokens / answered
        source = f"the mean of {answered:,} answers"
    else:
        completion, source = float(COMPLETION_TOKENS), "assumed"
    for cap in COMPLETION_CAP_PARAMETERS:
        most = judge.parameters.get(cap)
        if isinstance(most, int) and most < completion:
            completion, source = float(most), f"parameters.{cap}"
    return JudgeEstimate(judge.name, judge.model, requests, prompt_tokens, completion, source)


class _Look:
    """Adds up what the open requests of the samples it is shown are like."""

    def __init__(self, checked: RunInputs, done: CompletionIndex) -> None:
        self._panel, self._done = checked.panel, done
        judges = checked.panel.judges
        self.requests = [0] * len(judges)
        self.prompt_tokens = [0] * len(judges)
        self.seen = self.samples = self.bad_rows = 0
        self.problems: list[str] = []
        self._template = [TEMPLATE_TOKENS if judge.is_builtin else 0 for judge in judges]
        self._piles = group_variants(_sites(checked), [judge.model for judge in judges])
        self.shards = {pile: _Shards(checked.config.batch, pile) for pile in self._piles}

    def at(self, sample: Sample) -> None:
        """Look at the requests of one sample that lack their row."""
        self.samples += 1
        problem = None
        for number, variant in enumerate(self._panel.variants):
            if self._done.is_done_or_submitted(sample.ordinal, number):
                continue
            self.seen += 1
            try:
                self._add(self._panel.request(sample, number), variant.judge_index)
            except BadRow as error:
                problem = f"{sample.place}: {error}"
        if problem is not None:
            self.bad_rows += 1
            if len(self.problems) < ROWS_SHOWN:
                self.problems.append(problem)

    def _add(self, request: JudgeRequest, judge: int) -> None:
        self.requests[judge] += 1
        self.prompt_tokens[judge] += self._template[judge] + estimate_body(request.body)
        self.shards[self._piles[judge]].add(request)


def _sites(checked: RunInputs) -> list[list[BatchEndpoint]]:
    """For each judge, who would be asked by batch."""
    each = [batch_services(judge, checked.config.services) for judge in checked.panel.judges]
    return [[BatchEndpoint(service.name, service.base_url, service.dialect) for service in some] for some in each]


class _Shards:
    """Fills the upload files of a pile one after the other, each as far as it goes."""

    def __init__(self, batch: BatchConfig, pile: ShardGroup) -> None:
        self._pile = pile
        self._site: BatchEndpoint | None = None
        self._most_bytes = batch.shard_bytes
        self._most_lines = batch.shard_lines
        self._open_bytes = self._open_lines = 0
        self.count = self.lines = self.bytes = 0

    def add(self, request: JudgeRequest) -> None:
        """Add one line; one that no file can take becomes a failed row."""
        if max(len(line_of(request, site.dialect)) for site in self._pile.endpoints) > self._most_bytes:
            return
        size = 0 if self._site is None else len(line_of(request, self._site.dialect))
        if self._site is None or self._open_bytes + size > self._most_bytes or self._open_lines == self._most_lines:
            self._site = self._pile.next_endpoint()
            size = len(line_of(request, self._site.dialect))
            self.count += 1
            self._open_bytes = self._open_lines = 0
        self._open_bytes += size
        self._open_lines += 1
        self.bytes += size
        self.lines += 1

    def scaled(self, scale: float) -> int:
        """How many files `scale` times as many such lines fill."""
        if not self.lines:
            return 0
        fit = min(self._most_lines, self._most_bytes * self.lines // self.bytes)
        return math.ceil(self.lines * scale / fit)
