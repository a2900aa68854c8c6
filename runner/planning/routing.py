"""Choose between the online and the batch lane: pure functions of counts, limits and prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from runner.config import JudgeConfig, LimitsConfig, PricesConfig, RouterConfig, ServiceConfig, TokenLimits
from runner.core import duration
from runner.types import Usage

LaneName = Literal["online", "batch"]

# Services that are known to have a Batch API. The dialect `openai` is not enough: many servers speak it without one.
BATCH_DIALECTS = ("pai", "dashscope")
BATCH_HOSTS = ("api.openai.com",)


class Route(msgspec.Struct, frozen=True):
    """The lane of requests that are in no batch yet, and the reason as a sentence for the user."""

    lane: LaneName
    reason: str


def has_batch_api(service: ServiceConfig) -> bool:
    """Returns True if a service has a Batch API: by `service.batch`, or if that is `auto` by kind, dialect or host."""
    if service.batch != "auto":
        return service.batch
    known = service.dialect in BATCH_DIALECTS or urlsplit(service.base_url).hostname in BATCH_HOSTS
    return known or service.kind == "emulator"


def batch_services(judge: JudgeConfig, services: Iterable[ServiceConfig]) -> list[ServiceConfig]:
    """Returns the services of a judge that have a Batch API; all of them if none is known to have one."""
    by_name = {service.name: service for service in services}
    own = [by_name[name] for name in judge.service]
    return [service for service in own if has_batch_api(service)] or own


def why_not_batch(judges: Iterable[JudgeConfig], services: Sequence[ServiceConfig]) -> str | None:
    """Returns why not all requests can go by batch: the first judge without a Batch API; None if all of them can."""
    for judge in judges:
        if not any(map(has_batch_api, batch_services(judge, services))):
            if len(services) == 1:
                return "the service has no Batch API (service.batch)"
            return f"no service of the judge '{judge.name}' has a Batch API (service.batch)"
    return None


class Demand(msgspec.Struct, frozen=True):
    """The open requests of one judge.

    Attributes:
        services: the names of the services that can answer them.
        requests: their number.
        tokens: their total usage; amounts that are None are ignored.
    """

    services: frozenset[str]
    requests: int
    tokens: Usage = Usage()


def online_seconds(demands: Collection[Demand], limits: Mapping[str, LimitsConfig]) -> float | None:
    """Returns the minimum duration of all requests online in seconds, by the quotas alone; None without known limits.

    A set of services needs at least the requests that only they can answer, divided by the sum of their quotas. The
    result is the maximum over the sets of services of the judges and over all of them together.

    Args:
        demands: the open requests of each judge.
        limits: the limits of each service, by its name.
    """
    durations = []
    sets = {demand.services for demand in demands}
    for names in sets | ({frozenset().union(*sets)} if sets else set()):
        inside = [demand for demand in demands if demand.services <= names]
        quotas = zip(*(_quotas(limits[name]) for name in names), strict=True)
        used = zip(*(_used(demand) for demand in inside), strict=True)
        for amounts, quota in zip(used, quotas, strict=True):
            if None not in amounts and None not in quota:
                durations.append(60 * sum(filter(None, amounts)) / sum(filter(None, quota)))
    return max(durations, default=None)


def _used(demand: Demand) -> tuple[int | None, ...]:
    return demand.requests, demand.tokens.total, demand.tokens.prompt, demand.tokens.completion


def _quotas(limits: LimitsConfig) -> tuple[int | None, ...]:
    """Returns the limits per minute of requests, all tokens, prompt and completion tokens; None if there is none."""
    tpm = limits.tpm
    if isinstance(tpm, TokenLimits):
        return limits.rpm, tpm.input + tpm.output, tpm.input, tpm.output
    return limits.rpm, tpm, tpm, tpm


def batch_price_factor(prices: PricesConfig | None, models: Iterable[str]) -> float | None:
    """Returns the factor by which batches change the price: the highest of these models; None without a known price."""
    known = {} if prices is None else prices.models
    return max((known[model].batch for model in models if model in known), default=None)


def choose_route(
    router: RouterConfig, no_batch: str | None, requests: int, online_s: float | None, factor: float | None = None
) -> Route:
    """Choose the lane for the open requests.

    Args:
        router: the mode and its thresholds.
        no_batch: why not all requests can go by batch (`why_not_batch`); None if they can.
        requests: the number of open requests.
        online_s: their duration online in seconds (`online_seconds`).
        factor: the price of batches relative to online (`batch_price_factor`).
    """
    if router.mode != "auto":
        return Route(router.mode, f"router.mode is {router.mode}")
    if not requests:
        return Route("online", "no open requests")
    if no_batch is not None:
        return Route("online", no_batch)
    return _choose_by_thresholds(router, requests, online_s, factor or 0.0)


def _choose_by_thresholds(router: RouterConfig, requests: int, online_s: float | None, factor: float) -> Route:
    """Choose by request count, unless batch is more expensive, and by the estimated time."""
    count = f"{requests:,} open request{'' if requests == 1 else 's'}"
    within = f"{duration(router.online_within)} (router.online_within)"
    many = requests >= router.batch_from
    if many and factor <= 1:
        return Route("batch", f"{count}, at least {router.batch_from:,} (router.batch_from)")
    if online_s is not None and online_s > router.online_within:
        return Route("batch", f"{count} would take {duration(online_s)} online, longer than {within}")
    if many:
        time = "has no known limit" if online_s is None else f"takes about {duration(online_s)}, within {within}"
        return Route("online", f"{count} would cost {factor:g} times as much by batch, and online {time}")
    time = "" if online_s is None else f"; online takes about {duration(online_s)}"
    return Route("online", f"{count}, fewer than {router.batch_from:,} (router.batch_from){time}")
