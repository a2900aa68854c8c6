"""What a run would come to: requests, tokens, cost and time on each route; nothing is asked and nothing written."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import suppress

import msgspec

from runner.core import duration
from runner.dataset import DatasetFingerprint, take_fingerprint
from runner.errors import RunDirectoryError
from runner.judge import Panel
from runner.lanes.batch import Ledger
from runner.limits import (
    NO_CAPS,
    SPEND_COLUMNS,
    UNITS_PER_CURRENCY,
    UNLIMITED,
    ZERO_SPEND,
    Spend,
    caps_of,
    read_spent,
    spent_by,
    spent_in_parts,
    units_of,
)
from runner.planning.estimate import Estimate, estimate_requests
from runner.planning.fingerprints import check_request_fingerprint, request_fingerprint
from runner.planning.inputs import RunInputs, RunOptions
from runner.planning.routing import Demand, LaneName, Route, batch_factor, batch_lack, choose_route, online_seconds
from runner.results import (
    TRANSIENT_ERROR_TYPES,
    CompletionIndex,
    RunDirectory,
    part_paths,
    read_segment,
    scan,
    segment_paths,
)
from runner.types import Row

_NOTED = ("ordinal", "judge", "swapped", "repeat", "status", "error_type", *SPEND_COLUMNS)


class PlannedJudge(msgspec.Struct, frozen=True):
    """The requests of one judge.

    Attributes:
        name: the judge's.
        model: the judge's.
        requests: of all samples, answered ones included.
        prompt_tokens: of those that are open, together.
        completion_tokens: the same; `completion_from` says where the mean length of an answer comes from.
        completion_from: `assumed`, `parameters.max_tokens`, or the answers that are there.
    """

    name: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    completion_from: str


class OnlinePlan(msgspec.Struct, frozen=True):
    """All open requests online: `seconds` by the quota alone (None: no limit is set), `cost` (None: no prices)."""

    seconds: float | None
    cost: float | None


class BatchPlan(msgspec.Struct, frozen=True):
    """All open requests by batch.

    Attributes:
        available: whether everything could go by batch: each judge has a service with a Batch API.
        shards: upload files.
        bytes: their size together.
        seconds_at_most: until the last of them is due, so many at a time as `batch.parallel` lets.
        cost: None without prices.
    """

    available: bool
    shards: int
    bytes: int
    seconds_at_most: float
    cost: float | None


class CapPlan(msgspec.Struct, frozen=True):
    """Whether what is open fits under one cap of the budget; `needed` and `requests` are estimates.

    Attributes:
        name: `requests`, `tokens` or `cost`.
        cap: as the YAML says.
        used: so far in this run directory, with what is reserved for its open batches.
        needed: by all that is open, on the route that a run would take.
        fits: whether there is room for all of it.
        requests: how many of the open ones there is room for.
    """

    name: str
    cap: float
    used: float
    needed: float
    fits: bool
    requests: int


class Plan(msgspec.Struct, frozen=True):
    """What a run would come to, as `plan --json` prints it.

    Attributes:
        name: the run's.
        samples: of the dataset, or the first so many with `--limit`.
        requests: of all these samples.
        answered: how many of them have their row in the run directory.
        in_batches: how many are in batches that are not collected yet.
        open: how many are left to ask; all tokens, costs and times are of these.
        judges: the same by judge.
        prompt_tokens: estimated.
        completion_tokens: estimated.
        currency: of the costs; None without prices.
        online: what they come to online.
        batch: what they come to by batch.
        route: which of both a run would take.
        reason: why.
        samples_read: how many samples the figures come from.
        exact: whether these are all that are open, or an even sample of them.
        bad_rows: how many of the samples read cannot be asked and become failed rows.
        problems: what is wrong with the first of them.
        budget: whether it fits, by cap; empty without a budget.
    """

    name: str
    samples: int
    requests: int
    answered: int
    in_batches: int
    open: int
    judges: tuple[PlannedJudge, ...]
    prompt_tokens: int
    completion_tokens: int
    currency: str | None
    online: OnlinePlan
    batch: BatchPlan
    route: LaneName
    reason: str
    samples_read: int
    exact: bool
    bad_rows: int
    problems: tuple[str, ...]
    budget: tuple[CapPlan, ...] = ()

    def as_json(self) -> str:
        """The plan for programs."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    def as_text(self) -> str:
        """The plan for people, in a few lines."""
        judges = ", ".join(f"{judge.name} {judge.requests:,}" for judge in self.judges)
        known = [(self.answered, "answered already"), (self.in_batches, "in batches"), (self.open, "open")]
        left = "".join(f", {count:,} {what}" for count, what in known if self.open < self.requests and count)
        lengths = ", ".join(dict.fromkeys(judge.completion_from for judge in self.judges))
        online, batch = self.online, self.batch
        lines = [
            f"{self.name}: {self.samples:,} samples, {self.requests:,} requests ({judges}){left}",
            f"  tokens  about {self.prompt_tokens:,} prompt, {self.completion_tokens:,} completion (length: {lengths})",
            f"  online  {_cost(online.cost, self.currency)}, {_time(online.seconds)}",
            f"  batch   {_cost(batch.cost, self.currency)}, at most {duration(batch.seconds_at_most)}, "
            f"{batch.shards:,} shards, {batch.bytes / 1e6:,.1f} MB" + ("" if batch.available else " (no Batch API)"),
            f"  route   {self.route}: {self.reason}",
            *(f"  budget  {_fit(cap, self.open, self.currency)}" for cap in self.budget),
            f"  read    {self.samples_read:,} samples, {'all that are open' if self.exact else 'evenly chosen'}",
        ]
        if self.bad_rows:
            lines.append(f"  bad     {self.bad_rows:,} of them cannot be asked and would be failed rows:")
            lines += [f"          {problem}" for problem in self.problems]
        return "\n".join(lines)


def make_plan(checked: RunInputs, options: RunOptions) -> Plan:
    """Plan a run, or what is left of one; raises UsageError where the run directory or the dataset does not fit."""
    config, panel = checked.config, checked.panel
    counted, done, used = _stock(checked, options)
    estimate = estimate_requests(checked, counted, done)
    route = route_of(checked, done.missing(), estimate)
    usage, prices, requests = estimate.usage, config.prices, done.samples * len(panel.variants)
    return Plan(
        name=config.name,
        samples=done.samples,
        requests=requests,
        answered=requests - done.missing() - done.submitted(),
        in_batches=done.submitted(),
        open=done.missing(),
        judges=_judges(checked, done, estimate),
        prompt_tokens=usage.prompt or 0,
        completion_tokens=usage.completion or 0,
        currency=None if prices is None else prices.currency,
        online=OnlinePlan(_online_seconds(checked, done.missing(), estimate), estimate.cost(prices, "online")),
        batch=_by_batch(checked, estimate),
        route=route.lane,
        reason=route.reason,
        samples_read=estimate.samples,
        exact=estimate.exact,
        bad_rows=estimate.bad_rows,
        problems=estimate.problems,
        budget=_budget(checked, used, done.missing(), estimate, route.lane),
    )


def route_of(checked: RunInputs, requests: int, estimate: Estimate | None = None) -> Route:
    """The route of so many open requests; without an estimate, a limit of tokens is not looked at."""
    config = checked.config
    seconds = _online_seconds(checked, requests, estimate)
    factor = batch_factor(config.prices, [judge.model for judge in config.judges])
    return choose_route(config.router, batch_lack(config.judges, config.services), requests, seconds, factor)


def _online_seconds(checked: RunInputs, requests: int, estimate: Estimate | None) -> float | None:
    """By the quotas of all services; without an estimate each judge has its share of the requests."""
    config, variants = checked.config, checked.panel.variants
    demands = []
    for number, judge in enumerate(config.judges):
        if estimate is None:
            share = sum(variant.judge_index == number for variant in variants) / len(variants)
            demands.append(Demand(frozenset(judge.service), math.ceil(requests * share)))
        else:
            found = estimate.judges[number]
            demands.append(Demand(frozenset(judge.service), found.requests, found.usage))
    return online_seconds(demands, {service.name: service.limits for service in config.services})


def _budget(checked: RunInputs, used: Spend, requests: int, estimate: Estimate, lane: LaneName) -> tuple[CapPlan, ...]:
    """Whether what is open fits, by what an open request takes in the mean."""
    caps, cost = caps_of(checked.config.budget), estimate.cost(checked.config.prices, lane)
    needed = Spend(requests, estimate.usage.total or 0, units_of(cost or 0.0))
    plans = []
    for name in Spend.__struct_fields__:
        cap, took, takes = (getattr(spend, name) for spend in (caps, used, needed))
        if cap < UNLIMITED:
            unit = UNITS_PER_CURRENCY if name == "cost" else 1
            room = max(0, cap - took)
            fitting = requests if takes <= room else room * requests // takes
            plans.append(CapPlan(name, cap / unit, took / unit, takes / unit, takes <= room, fitting))
    return tuple(plans)


def _judges(checked: RunInputs, done: CompletionIndex, estimate: Estimate) -> tuple[PlannedJudge, ...]:
    counts = [0] * len(checked.panel.judges)
    for variant in checked.panel.variants:
        counts[variant.judge_index] += done.samples
    return tuple(
        PlannedJudge(j.name, j.model, requests, j.usage.prompt or 0, j.usage.completion or 0, j.completion_from)
        for j, requests in zip(estimate.judges, counts, strict=True)
    )


def _by_batch(checked: RunInputs, estimate: Estimate) -> BatchPlan:
    batch = checked.config.batch
    return BatchPlan(
        available=batch_lack(checked.config.judges, checked.config.services) is None,
        shards=estimate.shards,
        bytes=estimate.bytes,
        seconds_at_most=math.ceil(estimate.shards / batch.parallel) * batch.window,
        cost=estimate.cost(checked.config.prices, "batch"),
    )


def _stock(checked: RunInputs, options: RunOptions) -> tuple[DatasetFingerprint, CompletionIndex, Spend]:
    """The rows of the dataset, which requests have theirs, and what of the budget is used.

    Another process may be writing them meanwhile.
    """
    directory = RunDirectory(checked.config.output.directory)
    earlier = directory.read_run()
    check_request_fingerprint(str(directory.path), earlier.get("asking", {}), request_fingerprint(checked.config))
    counted = take_fingerprint(checked.files, DatasetFingerprint.from_data(earlier["dataset"]) if earlier else None)
    samples = counted.rows if options.limit is None else min(options.limit, counted.rows)
    variants = {(v.judge, v.swapped, v.repeat): number for number, v in enumerate(checked.panel.variants)}
    if not (directory.results.is_dir() and directory.journal.is_dir()):
        return counted, CompletionIndex(samples, variants), ZERO_SPEND
    used = ZERO_SPEND
    try:
        if caps_of(checked.config.budget) != NO_CAPS:
            used = _used(directory)
        waiting = list(_waiting(directory))
        done = scan(directory.path, samples, variants, options.retry)
    except OSError as error:
        raise RunDirectoryError(f"{directory.path}: cannot be read: {error.strerror or error}") from error
    for row in waiting:
        variant = variants.get((row["judge"], row["swapped"], row["repeat"]))
        if variant is not None and not _asked_again(row, options.retry):
            done.mark_answered(row, variant)
    for ordinal, variant in _in_batches(directory, checked.panel):
        if ordinal < samples:
            done.submit(ordinal, variant)
    return counted, done, used


def _used(directory: RunDirectory) -> Spend:
    """What of the budget is used, and what is reserved for open batches.

    Rows that become a part meanwhile are missed, not counted twice: the file, written by who writes them, has more.
    """
    rows = spent_in_parts(directory.results) + spent_by(_waiting(directory))
    shards = [shard for shard in Ledger(directory.path / "batches").open_shards if not shard.is_collected]
    held = sum((shard.reserved or ZERO_SPEND for shard in shards), ZERO_SPEND)
    return rows.maximum(read_spent(directory.path / "budget.json") or ZERO_SPEND) + held


def _waiting(directory: RunDirectory) -> Iterator[Row]:
    """The rows that are in no part yet; read before the parts are, so that none is missed when it becomes one."""
    parts = part_paths(directory.results)
    for number, path in segment_paths(directory.journal).items():
        if number not in parts:
            with suppress(FileNotFoundError):  # it became a part just now
                for _, row in read_segment(path):
                    yield {name: row[name] for name in _NOTED}


def _in_batches(directory: RunDirectory, panel: Panel) -> Iterator[tuple[int, int]]:
    """The requests of batches that are not collected yet, by ordinal and variant."""
    ledger = Ledger(directory.path / "batches")
    for shard in ledger.open_shards:
        with suppress(RunDirectoryError):  # it was collected just now
            for member in ledger.read_members(shard.number):
                place = panel.place(member.custom_id)
                if place is not None:
                    yield place


def _asked_again(row: Row, retry: Collection[str]) -> bool:
    return row["status"] in retry or (row["status"] == "failed" and row["error_type"] in TRANSIENT_ERROR_TYPES)


def _cost(cost: float | None, currency: str | None) -> str:
    return "cost unknown (no price)" if cost is None else f"about {cost:,.{2 if cost >= 1 else 4}f} {currency}"


def _fit(cap: CapPlan, requests: int, currency: str | None) -> str:
    """One cap, for people."""
    money = cap.name == "cost"
    limit, used, needed = (f"{n:,.2f} {currency}" if money else f"{n:,.0f}" for n in (cap.cap, cap.used, cap.needed))
    room = "fits" if cap.fits else f"does not fit, room for about {cap.requests:,} of {requests:,} requests"
    return f"{cap.name}: about {needed} more, {used} of {limit} used: {room}"


def _time(seconds: float | None) -> str:
    return "time unknown (no rpm or tpm)" if seconds is None else f"about {duration(seconds)} by its limits"
