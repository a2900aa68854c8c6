"""The choice of the lane: every rule on both sides of its threshold, with the figures in the reason."""

from __future__ import annotations

import pytest

from runner.config import JudgeConfig, LimitsConfig, ModelPrice, PricesConfig, RouterConfig, ServiceConfig, TokenLimits
from runner.planning import Route, batch_services, why_not_batch
from runner.planning.routing import Demand, batch_price_factor, choose_route, has_batch_api, online_seconds
from runner.types import Usage

AUTO = RouterConfig()
HOUR = 3600.0
MANY = "20,000 open requests, at least 20,000 (router.batch_from)"
FEW = "19,999 open requests, fewer than 20,000 (router.batch_from)"

CHOICES = [
    # a mode in the YAML overrides everything else
    (RouterConfig(mode="online"), True, 90_000, 90 * HOUR, None, "online", "router.mode is online"),
    (RouterConfig(mode="batch"), True, 1, 1.0, 9.0, "batch", "router.mode is batch"),
    (RouterConfig(mode="batch"), False, 1, None, None, "batch", "router.mode is batch"),
    # auto, but only one lane is possible
    (AUTO, True, 0, None, None, "online", "no open requests"),
    (RouterConfig(batch_from=0), True, 0, None, None, "online", "no open requests"),
    (AUTO, False, 90_000, 90 * HOUR, 0.5, "online", "the service has no Batch API (service.batch)"),
    # the number of open requests
    (AUTO, True, 19_999, None, None, "online", FEW),
    (AUTO, True, 20_000, None, None, "batch", MANY),
    (AUTO, True, 20_000, 10.0, 0.5, "batch", MANY),
    (RouterConfig(batch_from=0), True, 1, None, None, "batch", "1 open request, at least 0 (router.batch_from)"),
    (AUTO, True, 19_999, 185.0, 0.5, "online", f"{FEW}; online takes about 3m05s"),
    # the estimated time
    (AUTO, True, 19_999, 6 * HOUR, None, "online", f"{FEW}; online takes about 6h00m"),
    (
        *(AUTO, True, 19_999, 6 * HOUR + 60, None, "batch"),
        "19,999 open requests would take 6h01m online, longer than 6h00m (router.online_within)",
    ),
    (RouterConfig(online_within=60), True, 1, 61.0, None, "batch", "1 open request would take 1m01s online"),
    # the price of batches
    (AUTO, True, 20_000, HOUR, 1.0, "batch", MANY),
    (
        *(AUTO, True, 20_000, HOUR, 1.5, "online"),
        "20,000 open requests would cost 1.5 times as much by batch, and online takes about 1h00m, within 6h00m "
        "(router.online_within)",
    ),
    (AUTO, True, 20_000, 6 * HOUR, 1.5, "online", "1.5 times as much by batch"),
    (AUTO, True, 20_000, None, 1.5, "online", "1.5 times as much by batch, and online has no known limit"),
    (AUTO, True, 20_000, 7 * HOUR, 1.5, "batch", "20,000 open requests would take 7h00m online"),
    (AUTO, True, 19_999, None, 1.5, "online", FEW),
]


@pytest.mark.parametrize(("router", "has_batch", "requests", "online_s", "factor", "lane", "reason"), CHOICES)
def test_the_chosen_lane_and_its_reason(router, has_batch, requests, online_s, factor, lane, reason):
    no_batch = None if has_batch else "the service has no Batch API (service.batch)"
    route = choose_route(router, no_batch, requests, online_s, factor)
    assert isinstance(route, Route)
    assert route.lane == lane
    assert reason in route.reason


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ({}, True),
        ({"dialect": "dashscope", "base_url": "https://host/v1"}, True),
        ({"dialect": "openai", "base_url": "https://api.openai.com/v1"}, True),
        ({"dialect": "openai", "base_url": "https://api.openai.com.evil.example/v1"}, False),
        ({"dialect": "openai", "base_url": "http://127.0.0.1:8000/v1"}, False),
        ({"dialect": "openai", "base_url": "http://127.0.0.1:8000/v1", "batch": True}, True),
        ({"dialect": "openai", "kind": "emulator"}, True),
        ({"kind": "emulator", "batch": False}, False),
        ({"batch": False}, False),
    ],
)
def test_which_services_have_a_batch_api(service, expected):
    assert has_batch_api(ServiceConfig.model_validate(service)) is expected


@pytest.mark.parametrize(
    ("limits", "tokens", "expected"),
    [
        ({}, Usage(500, 100, 600), None),
        ({"rpm": 60}, Usage(500, 100, 600), 30.0),
        ({"rpm": 60}, Usage(), 30.0),
        ({"tpm": 600}, Usage(500, 100, 600), 60.0),
        ({"tpm": 600}, Usage(), None),
        ({"rpm": 60, "tpm": 60_000}, Usage(500, 100, 600), 30.0),
        ({"rpm": 60, "tpm": 100}, Usage(500, 100, 600), 360.0),
        ({"tpm": TokenLimits(input=500, output=50)}, Usage(500, 100, 600), 120.0),
        ({"tpm": TokenLimits(input=100, output=50)}, Usage(500, 100, 600), 300.0),
    ],
)
def test_online_takes_as_long_as_the_tightest_limit(limits, tokens, expected):
    demand = Demand(frozenset({"default"}), 30, tokens)
    assert online_seconds([demand], {"default": LimitsConfig.model_validate(limits)}) == expected


A, B, C = (frozenset({name}) for name in "abc")


@pytest.mark.parametrize(
    ("demands", "rpm", "expected"),
    [
        # one judge, two services: both quotas
        ([(A | B, 120)], {"a": 60, "b": 180}, 30.0),
        # a judge each: the slower one
        ([(A, 120), (B, 60)], {"a": 60, "b": 60}, 120.0),
        # a shared service does not help a judge that cannot use it
        ([(A, 120), (A | B, 0)], {"a": 60, "b": 600}, 120.0),
        # and its own requests count too: all three judges together are the slowest
        ([(A, 60), (B, 60), (A | B, 240)], {"a": 60, "b": 60}, 180.0),
        ([(A | B, 60), (B | C, 60)], {"a": 30, "b": 30, "c": 30}, 80.0),
        # a service without a limit: only judges that cannot use it are limited by a quota
        ([(A | B, 900)], {"a": 60, "b": None}, None),
        ([(A, 60), (A | B, 900)], {"a": 60, "b": None}, 60.0),
        ([], {"a": 60}, None),
    ],
)
def test_quotas_add_up_for_the_judges_that_can_use_them(demands, rpm, expected):
    limits = {name: LimitsConfig(rpm=limit) for name, limit in rpm.items()}
    assert online_seconds([Demand(*demand) for demand in demands], limits) == expected


def test_separate_and_joint_token_limits_add_up():
    limits = {"a": LimitsConfig(tpm=TokenLimits(input=500, output=100)), "b": LimitsConfig(tpm=600)}
    assert online_seconds([Demand(A | B, 1, Usage(600, 600, 1200))], limits) == 60.0
    assert online_seconds([Demand(A | B, 1, Usage(0, 1400, 1400))], limits) == 120.0


def test_each_judge_needs_a_service_with_a_batch_api():
    services = [
        ServiceConfig(name="a"),
        ServiceConfig(name="b", dialect="openai", base_url="http://127.0.0.1:9/v1"),
        ServiceConfig(name="c", batch=False),
    ]
    both, none = JudgeConfig(name="x", service=("b", "a")), JudgeConfig(name="y", service=("c", "b"))
    assert [service.name for service in batch_services(both, services)] == ["a"]
    assert why_not_batch([both], services) is None
    assert batch_services(none, services) == [services[2], services[1]]
    assert why_not_batch([both, none], services) == "no service of the judge 'y' has a Batch API (service.batch)"
    only = [ServiceConfig(batch=False)]
    assert why_not_batch([JudgeConfig()], only) == "the service has no Batch API (service.batch)"


def test_the_batch_price_factor_is_that_of_the_most_expensive_model():
    prices = PricesConfig(
        models={"a": ModelPrice(input=1, output=1, batch=0.5), "b": ModelPrice(input=1, output=1, batch=1.5)}
    )
    assert batch_price_factor(None, ["a"]) is None
    assert batch_price_factor(prices, ["c"]) is None
    assert batch_price_factor(prices, ["a", "c"]) == 0.5
    assert batch_price_factor(prices, ["a", "b"]) == 1.5
