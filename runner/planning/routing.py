"""Which lane the open requests go by, and why: pure functions of counts, limits and prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from runner.config import JudgeConfig, LimitsConfig, PricesConfig, RouterConfig, ServiceConfig, TokenLimits
from runner.core import duration
from runner.types import Usage

LaneName = Literal["online", "batch"]

BATCH_DIALECTS = ("pai", "dashscope")
BATCH_HOSTS = ("api.openai.com",)
"""Who is known to have a Batch API; `openai` as a dialect alone says nothing: many servers speak it without one."""


class Route(msgspec.Struct, frozen=True):
    """The lane that is taken first, and the reason in a sentence for a person."""

    lane: LaneName
    reason: str


def has_batch_api(service: ServiceConfig) -> bool:
    """Whether a service takes batches: as `service.batch` says, or as is known of its kind, dialect or host."""
    if service.batch != "auto":
        return service.batch
    known = service.dialect in BATCH_DIALECTS or urlsplit(service.base_url).hostname in BATCH_HOSTS
    return known or service.kind == "emulator"


def batch_services(judge: JudgeConfig, services: Iterable[ServiceConfig]) -> list[ServiceConfig]:
    """The services of a judge that take batches; all of them where none is known to: they are tried if need be."""
    by_name = {service.name: service for service in services}
    asked = [by_name[name] for name in judge.service]
    return [service for service in asked if has_batch_api(service)] or asked


def batch_lack(judges: Iterable[JudgeConfig], services: Sequence[ServiceConfig]) -> str | None:
    """Why not everything could go by batch: the first judge that no service with a Batch API asks; None: it could."""
    for judge in judges:
        if not any(map(has_batch_api, batch_services(judge, services))):
            if len(services) == 1:
                return "the service has no Batch API (service.batch)"
            return f"no service of the judge '{judge.name}' has a Batch API (service.batch)"
    return None


class Demand(msgspec.Struct, frozen=True):
    """What the open requests of one judge ask for, and who may be asked.

    Attributes:
        services: their names; any of them may answer.
        requests: how many are open.
        tokens: what they use together; what is None in it is left out.
    """

    services: frozenset[str]
    requests: int
    tokens: Usage = Usage()


def online_seconds(demands: Collection[Demand], limits: Mapping[str, LimitsConfig]) -> float | None:
    """How long requests take online at least, by the quotas alone; None where no limit of ours is known.

    For some services together: the requests that only they may answer, over the sum of their quotas. The slowest of
    these counts.

    Args:
        demands: of all judges.
        limits: of each service, by its name.
    """
    found = []
    sets = {demand.services for demand in demands}
    for names in sets | ({frozenset().union(*sets)} if sets else set()):
        asked = [demand for demand in demands if demand.services <= names]
        quotas = zip(*(_quotas(limits[name]) for name in names), strict=True)
        used = zip(*(_used(demand) for demand in asked), strict=True)
        for amounts, quota in zip(used, quotas, strict=True):
            if None not in amounts and None not in quota:
                found.append(60 * sum(filter(None, amounts)) / sum(filter(None, quota)))
    return max(found, default=None)


def _used(demand: Demand) -> tuple[int | None, ...]:
    return demand.requests, demand.tokens.total, demand.tokens.prompt, demand.tokens.completion


def _quotas(limits: LimitsConfig) -> tuple[int | None, ...]:
    """Requests, tokens, tokens of prompts and of answers a minute; None where there is no limit."""
    tpm = limits.tpm
    if isinstance(tpm, TokenLimits):
        return limits.rpm, tpm.input + tpm.output, tpm.input, tpm.output
    return limits.rpm, tpm, tpm, tpm


def batch_factor(prices: PricesConfig | None, models: Iterable[str]) -> float | None:
    """By what batches multiply the price, of several models the highest; None where no price is known."""
    known = {} if prices is None else prices.models
    return max((known[model].batch for model in models if model in known), default=None)


def choose_route(
    router: RouterConfig, lack: str | None, requests: int, online_s: float | None, factor: float | None = None
) -> Route:
    """Choose the lane for what is open.

    Args:
        router: the mode and its thresholds.
        lack: why not everything could go by batch, as `batch_lack` says; None: it could.
        requests: how many are open.
        online_s: seconds they take online, as `online_seconds` says.
        factor: by what batches multiply the price, as `batch_factor` says.
    """
    if router.mode != "auto":
        return Route(router.mode, f"router.mode is {router.mode}")
    if not requests:
        return Route("online", "nothing is left to ask")
    if lack is not None:
        return Route("online", lack)
    return _chosen(router, requests, online_s, factor or 0.0)


def _chosen(router: RouterConfig, requests: int, online_s: float | None, factor: float) -> Route:
    """The route where both lanes are there: by count, unless batches are the dearer ones, and by time."""
    count = f"{requests:,} open request{'' if requests == 1 else 's'}"
    within = f"{duration(router.online_within)} (router.online_within)"
    many = requests >= router.batch_from
    if many and factor <= 1:
        return Route("batch", f"{count}, and from {router.batch_from:,} (router.batch_from) on they go by batch")
    if online_s is not None and online_s > router.online_within:
        return Route("batch", f"{count} would take {duration(online_s)} online, longer than {within}")
    if many:
        time = "has no known limit" if online_s is None else f"takes about {duration(online_s)}, within {within}"
        return Route("online", f"{count} would cost {factor:g} times as much by batch, and online {time}")
    done = "" if online_s is None else f", and done online in about {duration(online_s)}"
    return Route("online", f"{count}, fewer than {router.batch_from:,} (router.batch_from){done}")
