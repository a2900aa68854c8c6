"""Estimate tokens, bytes and upload files of the open requests, from all of them or from an even sample."""

from __future__ import annotations

import math
from itertools import chain

import msgspec

from runner.config import BatchConfig, JudgeConfig, PricesConfig
from runner.core import COMPLETION_CAP_PARAMETERS, COMPLETION_TOKENS, TEMPLATE_TOKENS, estimate_body, price_of
from runner.dataset import DatasetFingerprint, NextWanted, chunks
from runner.errors import BadRow
from runner.lanes.batch import BatchEndpoint, ShardGroup, group_variants, request_line
from runner.planning.inputs import RunInputs
from runner.planning.routing import LaneName, batch_services
from runner.results import CompletionIndex, RowCounts
from runner.types import JudgeRequest, Sample, Usage

# At most this many samples are read, evenly distributed over those with open requests.
MAX_SAMPLES_READ = 5000
MAX_PROBLEMS_SHOWN = 5


class JudgeEstimate(msgspec.Struct, frozen=True):
    """The open requests of one judge.

    Attributes:
        name: the judge's name.
        model: its model.
        requests: the number of requests that can be built.
        prompt_tokens: mean per request, including the service's own template.
        completion_tokens: mean per request.
        completion_from: the source of that mean.
        cached_share: the share of the prompt tokens that the service had cached, in the rows so far.
    """

    name: str
    model: str
    requests: int
    prompt_tokens: float
    completion_tokens: float
    completion_from: str
    cached_share: float = 0.0

    @property
    def usage(self) -> Usage:
        """The total tokens of its open requests."""
        prompt, completion = round(self.requests * self.prompt_tokens), round(self.requests * self.completion_tokens)
        return Usage(prompt, completion, prompt + completion, round(prompt * self.cached_share))


class Estimate(msgspec.Struct, frozen=True):
    """All open requests.

    Attributes:
        judges: those of each judge.
        shards: the number of upload files that they fill.
        bytes: the total size of these files.
        samples: the number of samples that were read.
        exact: True if these are all samples with open requests.
        bad_rows: the number of these samples for which some request cannot be built.
        problems: the reasons for the first of them.
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
        """The total tokens of all open requests."""
        return sum((judge.usage for judge in self.judges), Usage(0, 0, 0, 0))

    def cost(self, prices: PricesConfig | None, lane: LaneName) -> float | None:
        """Returns the cost of all open requests in a lane; None if the price of a model is unknown."""
        if prices is None or any(judge.model not in prices.models for judge in self.judges):
            return None
        models = [prices.models[judge.model] for judge in self.judges]
        model_prices = [price_of(m.input, m.output, prices.per, m.batch, m.cached) for m in models]
        return sum(price(judge.usage, lane) or 0.0 for price, judge in zip(model_prices, self.judges, strict=True))


def estimate_requests(inputs: RunInputs, fingerprint: DatasetFingerprint, done: CompletionIndex) -> Estimate:
    """Build the open requests, or an even sample of them, and extrapolate to all of them.

    Reads the dataset once and skips the samples that are not needed; memory does not grow with the dataset.

    Args:
        inputs: the configuration, its judges and its files.
        fingerprint: the row counts of the files.
        done: the index of finished requests; its counts give the mean length of the answers.

    Raises:
        DatasetError: the dataset cannot be read to its end.
    """
    totals = _Totals(inputs, done)
    wanted, exact = _even_sample(done)
    for raw in chain.from_iterable(chunks(inputs.files, wanted, known=fingerprint, **inputs.reader.reading)):
        totals.add_sample(inputs.reader.sample(raw))
    scale = 1.0 if exact or not totals.open_requests else done.missing() / totals.open_requests
    return Estimate(
        judges=tuple(
            _judge_estimate(judge, round(requests * scale), tokens / requests if requests else 0.0, done.counts)
            for judge, requests, tokens in zip(inputs.panel.judges, totals.requests, totals.prompt_tokens, strict=True)
        ),
        shards=sum(shards.count if exact else shards.scaled(scale) for shards in totals.shards.values()),
        bytes=round(scale * sum(shards.bytes for shards in totals.shards.values())),
        samples=totals.samples,
        exact=exact,
        bad_rows=totals.bad_rows,
        problems=tuple(totals.problems),
    )


def _even_sample(done: CompletionIndex) -> tuple[NextWanted, bool]:
    """Returns the samples to read, and True if these are all samples with open requests."""
    first = done.next_wanted(0)
    stride = max(1, math.ceil((done.samples - first) / MAX_SAMPLES_READ))

    def wanted(ordinal: int) -> int:
        return done.next_wanted(first + -(-(ordinal - first) // stride) * stride)

    return wanted, stride == 1


def _judge_estimate(judge: JudgeConfig, requests: int, prompt_tokens: float, counts: RowCounts) -> JudgeEstimate:
    """Estimate one judge; the mean length of an answer is that of the stored answers, capped by `max_tokens`."""
    answered = counts.ok + counts.unparsed
    if answered and counts.completion_tokens:
        completion = counts.completion_tokens / answered
        source = f"the mean of {answered:,} answers"
    else:
        completion, source = float(COMPLETION_TOKENS), "assumed"
    for cap in COMPLETION_CAP_PARAMETERS:
        maximum = judge.parameters.get(cap)
        if isinstance(maximum, int) and maximum < completion:
            completion, source = float(maximum), f"parameters.{cap}"
    cached_share = min(1.0, counts.cached_tokens / counts.prompt_tokens) if counts.prompt_tokens else 0.0
    return JudgeEstimate(judge.name, judge.model, requests, prompt_tokens, completion, source, cached_share)


class _Totals:
    """Sums up the open requests of samples.

    Attributes:
        requests: for each judge, the number of requests that can be built.
        prompt_tokens: for each judge, their prompt tokens.
        open_requests: the number of all open requests, including those that cannot be built.
        samples: the number of samples.
        bad_rows: the number of samples for which some request cannot be built.
        problems: the reasons for the first of them.
        shards: the upload files of each group of variants.
    """

    def __init__(self, inputs: RunInputs, done: CompletionIndex) -> None:
        self._panel, self._done = inputs.panel, done
        judges = inputs.panel.judges
        self.requests = [0] * len(judges)
        self.prompt_tokens = [0] * len(judges)
        self.open_requests = self.samples = self.bad_rows = 0
        self.problems: list[str] = []
        self._template_tokens = [TEMPLATE_TOKENS if judge.is_builtin else 0 for judge in judges]
        self._groups = group_variants(_endpoints(inputs), [judge.model for judge in judges])
        self.shards = {group: _Shards(inputs.config.batch, group) for group in self._groups}

    def add_sample(self, sample: Sample) -> None:
        """Add the open requests of one sample."""
        self.samples += 1
        problem = None
        for number, variant in enumerate(self._panel.variants):
            if self._done.is_done_or_submitted(sample.ordinal, number):
                continue
            self.open_requests += 1
            try:
                self._add(self._panel.request(sample, number), variant.judge_index)
            except BadRow as error:
                problem = f"{sample.place}: {error}"
        if problem is not None:
            self.bad_rows += 1
            if len(self.problems) < MAX_PROBLEMS_SHOWN:
                self.problems.append(problem)

    def _add(self, request: JudgeRequest, judge: int) -> None:
        self.requests[judge] += 1
        self.prompt_tokens[judge] += self._template_tokens[judge] + estimate_body(request.body)
        self.shards[self._groups[judge]].add(request)


def _endpoints(inputs: RunInputs) -> list[list[BatchEndpoint]]:
    """Returns for each judge the endpoints that its batches could go to."""
    services = [batch_services(judge, inputs.config.services) for judge in inputs.panel.judges]
    return [[BatchEndpoint(service.name, service.base_url, service.dialect) for service in own] for own in services]


class _Shards:
    """Fills the upload files of a group one after the other, each up to its limits.

    Attributes:
        count: the number of files.
        lines: the number of lines in all files.
        bytes: the size of all files.
    """

    def __init__(self, batch: BatchConfig, group: ShardGroup) -> None:
        self._group = group
        self._endpoint: BatchEndpoint | None = None
        self._max_bytes = batch.shard_bytes
        self._max_lines = batch.shard_lines
        self._open_bytes = self._open_lines = 0
        self.count = self.lines = self.bytes = 0

    def add(self, request: JudgeRequest) -> None:
        """Add the line of a request; a line that no file can hold is skipped, because it becomes a failed row."""
        if max(len(request_line(request, endpoint.dialect)) for endpoint in self._group.endpoints) > self._max_bytes:
            return
        size = 0 if self._endpoint is None else len(request_line(request, self._endpoint.dialect))
        is_full = self._open_bytes + size > self._max_bytes or self._open_lines == self._max_lines
        if self._endpoint is None or is_full:
            self._endpoint = self._group.next_endpoint()
            size = len(request_line(request, self._endpoint.dialect))
            self.count += 1
            self._open_bytes = self._open_lines = 0
        self._open_bytes += size
        self._open_lines += 1
        self.bytes += size
        self.lines += 1

    def scaled(self, scale: float) -> int:
        """Returns the number of files that `scale` times as many lines of this mean size would fill."""
        if not self.lines:
            return 0
        lines_per_file = min(self._max_lines, self._max_bytes * self.lines // self.bytes)
        return math.ceil(self.lines * scale / lines_per_file)
