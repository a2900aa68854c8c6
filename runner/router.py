"""Which lane the open requests go by, and why: pure functions of counts, limits and prices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from runner.config import LimitsConfig, PricesConfig, RouterConfig, ServiceConfig, TokenLimits
from runner.monitor.progress import duration
from runner.types import Usage

Lane = Literal["online", "batch"]

BATCH_DIALECTS = ("pai", "dashscope")
BATCH_HOSTS = ("api.openai.com",)
"""Who is known to have a Batch API; `openai` as a dialect alone says nothing: many servers speak it without one."""


class Route(msgspec.Struct, frozen=True):
    """The lane that is taken first, and the reason in a sentence for a person."""

    lane: Lane
    reason: str


def has_batch_api(service: ServiceConfig) -> bool:
    """Whether a service takes batches: as `service.batch` says, or as is known of its kind, dialect or host."""
    if service.batch != "auto":
        return service.batch
    known = service.dialect in BATCH_DIALECTS or urlsplit(service.base_url).hostname in BATCH_HOSTS
    return known or service.kind == "emulator"


def online_seconds(requests: int, tokens: Usage, limits: LimitsConfig) -> float | None:
    """How long requests take online at least, by the quota alone; None where no limit of ours is known.

    Args:
        requests: how many are asked.
        tokens: what they use together; what is None in it is left out.
        limits: the service's.
    """
    quotas: list[tuple[int | None, int | None]] = [(requests, limits.rpm)]
    if isinstance(limits.tpm, TokenLimits):
        quotas += [(tokens.prompt, limits.tpm.input), (tokens.completion, limits.tpm.output)]
    else:
        quotas.append((tokens.total, limits.tpm))
    return max((60 * used / limit for used, limit in quotas if used is not None and limit is not None), default=None)


def batch_factor(prices: PricesConfig | None, models: Iterable[str]) -> float | None:
    """By what batches multiply the price, of several models the highest; None where no price is known."""
    known = {} if prices is None else prices.models
    return max((known[model].batch for model in models if model in known), default=None)


def choose_route(
    router: RouterConfig, has_batch: bool, requests: int, online_s: float | None, factor: float | None = None
) -> Route:
    """Choose the lane for what is open.

    Args:
        router: the mode and its thresholds.
        has_batch: whether the service has a Batch API, as `has_batch_api` says.
        requests: how many are open.
        online_s: seconds they take online, as `online_seconds` says.
        factor: by what batches multiply the price, as `batch_factor` says.
    """
    if router.mode != "auto":
        return Route(router.mode, f"router.mode is {router.mode}")
    if not requests:
        return Route("online", "nothing is left to ask")
    if not has_batch:
        return Route("online", "the service has no Batch API (service.batch)")
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
