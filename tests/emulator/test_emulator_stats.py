"""The counters that other tests rely on."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.stats import Stats

answers = st.lists(st.tuples(st.sampled_from([b"a" * 16, b"b" * 16, b"c" * 16]), st.booleans()), max_size=30)


@given(answers)
def test_every_answer_is_either_the_first_of_its_body_or_paid_twice(given_answers):
    stats = Stats()
    for body, batch in given_answers:
        stats.mark_seen(body)
        stats.count_answer(body, 10, 1, batch=batch)
    bodies = [body for body, _ in given_answers]
    found = stats.snapshot()
    assert found["distinct"] == found["distinct_ok"] == len(set(bodies))
    assert found["paid_twice"] == len(bodies) - len(set(bodies))
    assert found["dup_ok"] == len(given_answers) - len(set(given_answers))
    assert found["prompt_tokens"] == 10 * len(bodies)
    assert all(stats.times_seen(body) == bodies.count(body) for body in set(bodies))


def test_accepted_requests_are_counted_per_second():
    now = 50.25
    stats = Stats(clock=lambda: now)
    for now in (50.25, 51.0, 51.24, 51.26, 54.3):  # noqa: B007
        stats.count_accepted()
    assert stats.snapshot()["accepted_per_s"] == [3, 1, 0, 0, 1]


@pytest.mark.anyio
async def test_concurrent_requests_are_counted_once_each(emulate, bodies):
    requests = [bodies.single("Why?", f"because {number}") for number in range(25)]
    async with emulate(latency={"median": 0.8, "sigma": 0}) as caller:
        replies = await asyncio.gather(*(caller.chat(body) for body in requests + requests[:5]))
        stats = await caller.stats()
    assert {reply.status for reply in replies} == {200}
    assert stats["requests"] == stats["status"]["200"] == sum(stats["accepted_per_s"]) == 30
    assert (stats["distinct"], stats["distinct_ok"], stats["dup_ok"], stats["paid_twice"]) == (25, 25, 5, 5)
    assert (stats["max_in_flight"], stats["in_flight"], stats["batches"]) == (30, 0, 0)
    usages = [reply.json["usage"] for reply in replies]
    assert stats["prompt_tokens"] == sum(usage["prompt_tokens"] for usage in usages)
    assert stats["completion_tokens"] == sum(usage["completion_tokens"] for usage in usages)
    assert len({reply.json["id"] for reply in replies}) == 30


@pytest.mark.anyio
async def test_a_reset_clears_all_counters(emulate, bodies):
    async with emulate(token="t") as caller:
        first = await caller.chat(bodies.single(), headers={"Authorization": "Bearer t"})
        assert (await caller.call("POST", "/emulator/reset")).status == 200
        cleared = await caller.stats()
        again = await caller.chat(bodies.single(), headers={"Authorization": "Bearer t"})
    assert (cleared["requests"], cleared["distinct"], cleared["status"], cleared["accepted_per_s"]) == (0, 0, {}, [])
    assert again.json["id"] == first.json["id"]
