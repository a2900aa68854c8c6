"""Quota: the buckets over time, and the 429 of each dialect."""

from __future__ import annotations

import pytest

from runner.emulator.quota import Quota, retry_headers


def test_the_bucket_holds_one_minute_and_refills_evenly(clock):
    quota = Quota(rpm=60, clock=clock)
    assert [quota.take(1) for _ in range(60)] == [None] * 60
    denial = quota.take(1)
    assert denial.kind == "requests"
    assert denial.wait == pytest.approx(1.0)
    clock.now += denial.wait
    assert quota.take(1) is None
    assert quota.take(1) is not None
    clock.now += 3600
    assert [quota.take(1) is None for _ in range(61)] == [True] * 60 + [False]


def test_a_burst_can_be_smaller_than_one_minute_of_requests(clock):
    quota = Quota(rpm=600, burst=5, clock=clock)
    assert [quota.take(1) is None for _ in range(6)] == [True] * 5 + [False]


def test_tokens_are_counted_and_a_denied_request_takes_nothing(clock):
    quota = Quota(rpm=100, tpm=1000, clock=clock)
    assert quota.take(900) is None
    denial = quota.take(400)
    assert denial.kind == "tokens"
    assert denial.wait == pytest.approx(300 * 60 / 1000)
    assert quota.headers() == {
        "x-ratelimit-limit-requests": "100",
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "100",
    }
    clock.now += denial.wait
    assert quota.take(400) is None


def test_a_request_larger_than_the_bucket_passes_when_it_is_full_and_empties_it(clock):
    quota = Quota(tpm=100, clock=clock)
    assert quota.take(5000) is None
    assert quota.headers()["x-ratelimit-remaining-tokens"] == "0"
    assert quota.take(5000).wait == pytest.approx(60)
    clock.now += 60
    assert quota.take(5000) is None


def test_retry_after_is_rounded_up():
    assert retry_headers(0.25) == {"Retry-After": "1", "retry-after-ms": "250"}
    assert retry_headers(2.0001) == {"Retry-After": "3", "retry-after-ms": "2001"}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("dialect", "options", "kind", "code"),
    [
        ("pai", {"rpm": 1}, "limit_requests", "limit_requests"),
        ("dashscope", {"rpm": 1}, "limit_requests", "limit_requests"),
        ("openai", {"rpm": 1}, "requests", "rate_limit_exceeded"),
        ("pai", {"tpm": 1000}, "insufficient_quota", "Throttling.AllocationQuota"),
        ("openai", {"tpm": 1000}, "tokens", "rate_limit_exceeded"),
    ],
)
async def test_an_empty_bucket_is_a_429_in_the_dialect_s_wording(emulate, bodies, dialect, options, kind, code):
    async with emulate(dialect=dialect, **options) as caller:
        first, second = [await caller.chat(bodies.single()) for _ in range(2)]
        stats = await caller.stats()
    assert (first.status, second.status) == (200, 429)
    assert (second.error["type"], second.error["code"]) == (kind, code)
    name = "requests" if "rpm" in options else "tokens"
    assert second.headers[f"x-ratelimit-limit-{name}"] == str(next(iter(options.values())))
    assert int(second.headers[f"x-ratelimit-remaining-{name}"]) < 1000
    assert 0 < int(second.headers["retry-after-ms"]) <= 1000 * int(second.headers["Retry-After"]) <= 60_000
    assert sum(stats["accepted_per_s"]) == 1


@pytest.mark.anyio
async def test_a_throttled_attempt_does_not_count_as_seen(emulate, bodies):
    body = bodies.single()
    async with emulate(seed=4, noise=0.5) as caller:
        ids = [(await caller.chat(body)).json["id"] for _ in range(2)]
    async with emulate(seed=4, noise=0.5, rpm=6000, burst=1) as caller:
        throttled = []
        while len(throttled) < 2:
            reply = await caller.chat(body)
            if reply.status == 200:
                throttled.append(reply.json["id"])
    assert throttled == ids
