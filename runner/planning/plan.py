"""Plan a run: requests, tokens, cost and time by either lane. Nothing is sent and nothing is written."""

from __future__ import annotations

import math

import msgspec

from runner.core import duration
from runner.limits import UNITS_PER_CURRENCY, UNLIMITED, Spend, caps_of, units_of
from runner.planning.estimate import Estimate, JudgeEstimate, estimate_requests
from runner.planning.inputs import RunInputs, RunOptions
from runner.planning.routing import (
    Demand,
    LaneName,
    Route,
    batch_price_factor,
    choose_route,
    online_seconds,
    why_not_batch,
)
from runner.planning.run_state import read_run_state
from runner.results import CompletionIndex
from runner.types import Usage


class PlannedJudge(msgspec.Struct, frozen=True):
    """The requests of one judge.

    Attributes:
        name: the judge's name.
        model: its model.
        requests: its requests of all samples, answered or not.
        prompt_tokens: the total of its open requests.
        completion_tokens: the same.
        completion_from: the source of the mean length of an answer: `assumed`, `parameters.max_tokens`, or the stored
            answers.
        cached_tokens: how many of the prompt tokens the service is likely to have cached, by the rows so far.
    """

    name: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    completion_from: str
    cached_tokens: int = 0


class OnlinePlan(msgspec.Struct, frozen=True):
    """All open requests by the online lane.

    Attributes:
        seconds: the minimum duration by the quotas alone; None if no limit is set.
        cost: None without prices.
    """

    seconds: float | None
    cost: float | None


class BatchPlan(msgspec.Struct, frozen=True):
    """All open requests by the batch lane.

    Attributes:
        available: True if every judge has a service with a Batch API.
        shards: the number of upload files.
        bytes: their total size.
        seconds_at_most: the time until the last file is due, with `batch.parallel` files at a time.
        cost: None without prices.
    """

    available: bool
    shards: int
    bytes: int
    seconds_at_most: float
    cost: float | None


class CapPlan(msgspec.Struct, frozen=True):
    """One cap of the budget and the open requests; `needed` and `requests` are estimates.

    Attributes:
        name: `requests`, `tokens` or `cost`.
        cap: the cap in the YAML.
        used: the amount used so far in this run directory, including reservations for its open batches.
        needed: the amount for all open requests, by the lane that a run would choose.
        fits: True if all open requests fit under the cap.
        requests: the number of open requests that fit under the cap.
    """

    name: str
    cap: float
    used: float
    needed: float
    fits: bool
    requests: int


class Plan(msgspec.Struct, frozen=True):
    """The plan of a run, as `plan --json` prints it.

    Attributes:
        name: the name of the run.
        samples: the number of samples of the dataset, at most `--limit`.
        requests: the number of requests of all these samples.
        answered: requests that have a row in the run directory.
        in_batches: requests in batches that are not collected yet.
        open: requests still to send; all tokens, costs and times are for these.
        judges: the requests of each judge.
        prompt_tokens: the estimated total.
        completion_tokens: the estimated total.
        currency: the currency of the costs; None without prices.
        online: time and cost by the online lane.
        batch: files, time and cost by the batch lane.
        route: the lane that a run would choose.
        reason: why it would choose that lane.
        samples_read: the number of samples that the estimates are based on.
        exact: True if these are all samples with open requests, False if they are an even sample of them.
        bad_rows: the number of these samples that give no request and become failed rows.
        problems: the reasons for the first of them.
        budget: the caps of the budget; empty without one.
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
        """Returns the plan as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    def as_text(self) -> str:
        """Returns the plan as a few lines of text."""
        judges = ", ".join(f"{judge.name} {judge.requests:,}" for judge in self.judges)
        states = [(self.answered, "already answered"), (self.in_batches, "in batches"), (self.open, "open")]
        by_state = "".join(f", {count:,} {state}" for count, state in states if self.open < self.requests and count)
        lengths = ", ".join(dict.fromkeys(judge.completion_from for judge in self.judges))
        online, batch = self.online, self.batch
        hits = sum(judge.cached_tokens for judge in self.judges)
        cached = f" ({hits:,} of them cached, as in the rows so far)" if hits else ""
        lines = [
            f"{self.name}: {self.samples:,} samples, {self.requests:,} requests ({judges}){by_state}",
            f"  tokens  about {self.prompt_tokens:,} prompt{cached}, {self.completion_tokens:,} completion "
            f"(length: {lengths})",
            f"  online  {_cost_text(online.cost, self.currency)}, {_time_text(online.seconds)}",
            f"  batch   {_cost_text(batch.cost, self.currency)}, at most {duration(batch.seconds_at_most)}, "
            f"{batch.shards:,} shards, {batch.bytes / 1e6:,.1f} MB" + ("" if batch.available else " (no Batch API)"),
            f"  route   {self.route}: {self.reason}",
            *(f"  budget  {_cap_text(cap, self.open, self.currency)}" for cap in self.budget),
            f"  read    {self.samples_read:,} samples, {'all with open requests' if self.exact else 'evenly chosen'}",
        ]
        if self.bad_rows:
            lines.append(f"  bad     {self.bad_rows:,} of them give no request and would become failed rows:")
            lines += [f"          {problem}" for problem in self.problems]
        return "\n".join(lines)


def make_plan(inputs: RunInputs, options: RunOptions) -> Plan:
    """Plan a run, or the remaining part of one.

    Raises:
        UsageError: the run directory or the dataset is not valid.
    """
    config, state = inputs.config, read_run_state(inputs, options)
    done = state.done
    estimate = estimate_requests(inputs, state.fingerprint, done)
    route = route_requests(inputs, done.missing(), estimate)
    usage, prices, requests = estimate.usage, config.prices, done.samples * len(inputs.panel.variants)
    return Plan(
        name=config.name,
        samples=done.samples,
        requests=requests,
        answered=requests - done.missing() - done.submitted(),
        in_batches=done.submitted(),
        open=done.missing(),
        judges=_planned_judges(inputs, done, estimate),
        prompt_tokens=usage.prompt or 0,
        completion_tokens=usage.completion or 0,
        currency=None if prices is None else prices.currency,
        online=OnlinePlan(_online_seconds(inputs, done.missing(), estimate), estimate.cost(prices, "online")),
        batch=_batch_plan(inputs, estimate),
        route=route.lane,
        reason=route.reason,
        samples_read=estimate.samples,
        exact=estimate.exact,
        bad_rows=estimate.bad_rows,
        problems=estimate.problems,
        budget=_cap_plans(inputs, state.used, done.missing(), estimate, route.lane),
    )


def route_requests(inputs: RunInputs, requests: int, estimate: Estimate | None = None) -> Route:
    """Choose the lane for `requests` open requests; without an estimate, token limits are ignored."""
    config = inputs.config
    seconds = _online_seconds(inputs, requests, estimate)
    factor = batch_price_factor(config.prices, [judge.model for judge in config.judges])
    return choose_route(config.router, why_not_batch(config.judges, config.services), requests, seconds, factor)


def _online_seconds(inputs: RunInputs, requests: int, estimate: Estimate | None) -> float | None:
    """Returns the duration by the quotas of all services; without an estimate each judge has its share of variants."""
    config, variants = inputs.config, inputs.panel.variants
    demands = []
    for number, judge in enumerate(config.judges):
        if estimate is None:
            share = sum(variant.judge_index == number for variant in variants) / len(variants)
            demands.append(Demand(frozenset(judge.service), math.ceil(requests * share)))
        else:
            own = estimate.judges[number]
            demands.append(Demand(frozenset(judge.service), own.requests, own.usage))
    return online_seconds(demands, {service.name: service.limits for service in config.services})


def _cap_plans(
    inputs: RunInputs, used: Spend, requests: int, estimate: Estimate, lane: LaneName
) -> tuple[CapPlan, ...]:
    """Compare the open requests with each cap, by the mean usage of an open request."""
    caps, cost = caps_of(inputs.config.budget), estimate.cost(inputs.config.prices, lane)
    needed = Spend(requests, estimate.usage.total or 0, units_of(cost or 0.0))
    plans = []
    for name in Spend.__struct_fields__:
        cap, used_amount, needed_amount = (getattr(spend, name) for spend in (caps, used, needed))
        if cap < UNLIMITED:
            unit = UNITS_PER_CURRENCY if name == "cost" else 1
            available = max(0, cap - used_amount)
            fits = needed_amount <= available
            fitting = requests if fits else available * requests // needed_amount
            plans.append(CapPlan(name, cap / unit, used_amount / unit, needed_amount / unit, fits, fitting))
    return tuple(plans)


def _planned_judges(inputs: RunInputs, done: CompletionIndex, estimate: Estimate) -> tuple[PlannedJudge, ...]:
    counts = [0] * len(inputs.panel.judges)
    for variant in inputs.panel.variants:
        counts[variant.judge_index] += done.samples
    return tuple(
        _planned_judge(judge, requests, judge.usage) for judge, requests in zip(estimate.judges, counts, strict=True)
    )


def _planned_judge(judge: JudgeEstimate, requests: int, usage: Usage) -> PlannedJudge:
    prompt, completion, cached = usage.prompt or 0, usage.completion or 0, usage.cached or 0
    return PlannedJudge(judge.name, judge.model, requests, prompt, completion, judge.completion_from, cached)


def _batch_plan(inputs: RunInputs, estimate: Estimate) -> BatchPlan:
    batch = inputs.config.batch
    return BatchPlan(
        available=why_not_batch(inputs.config.judges, inputs.config.services) is None,
        shards=estimate.shards,
        bytes=estimate.bytes,
        seconds_at_most=math.ceil(estimate.shards / batch.parallel) * batch.window,
        cost=estimate.cost(inputs.config.prices, "batch"),
    )


def _cost_text(cost: float | None, currency: str | None) -> str:
    return "cost unknown (no price)" if cost is None else f"about {cost:,.{2 if cost >= 1 else 4}f} {currency}"


def _cap_text(cap: CapPlan, requests: int, currency: str | None) -> str:
    money = cap.name == "cost"
    limit, used, needed = (f"{n:,.2f} {currency}" if money else f"{n:,.0f}" for n in (cap.cap, cap.used, cap.needed))
    room = "fits" if cap.fits else f"does not fit, room for about {cap.requests:,} of {requests:,} requests"
    return f"{cap.name}: about {needed} more, {used} of {limit} used: {room}"


def _time_text(seconds: float | None) -> str:
    return "time unknown (no rpm or tpm)" if seconds is None else f"about {duration(seconds)} by its limits"
