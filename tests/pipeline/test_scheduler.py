"""Which lane runs next: a table of situations, and a property test that the scheduler always ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import NoBatchApi, RunStopped
from runner.pipeline.scheduler import LaneName, LanePolicy, LaneScheduler
from runner.planning import Route

QUOTA = RunStopped("quota", "the bill is overdue", exit_code=3)
ONLINE, BATCH = Route("online", "few requests"), Route("batch", "many requests")


def policy(
    route: Route = BATCH,
    leftovers: Literal["online", "resubmit"] = "online",
    resubmits: int = 2,
    falls_back: bool = True,
    quota_gone: bool = False,
    batch_gone: bool = False,
) -> LanePolicy:
    return LanePolicy(route, leftovers, resubmits, falls_back, QUOTA if quota_gone else None, batch_gone)


NO_FALLBACK = {"falls_back": False, "quota_gone": True}
RESUBMIT = {"leftovers": "resubmit"}
QUOTA_GONE = {"quota_gone": True}
NO_BATCH = {"batch_gone": True}

SITUATIONS: list[tuple[dict[str, Any], list[LaneName | None]]] = [
    # the lanes of requests to which 0, 1, 2, 3, 4 batches gave no answer
    ({}, ["batch", "online", "online", "online", "online"]),
    ({"route": ONLINE}, ["online", "online", "online", "online", "online"]),
    (RESUBMIT, ["batch", "batch", "batch", "online", "online"]),
    ({**RESUBMIT, "route": ONLINE}, ["online", "batch", "batch", "online", "online"]),
    ({**RESUBMIT, "resubmits": 0}, ["batch", "online", "online", "online", "online"]),
    # the online quota is exhausted, and batches take over, up to the configured number
    ({**QUOTA_GONE}, ["batch", "batch", "batch", None, None]),
    ({**QUOTA_GONE, "route": ONLINE}, ["batch", "batch", "batch", None, None]),
    ({**QUOTA_GONE, "resubmits": 0}, ["batch", None, None, None, None]),
    ({**QUOTA_GONE, **RESUBMIT}, ["batch", "batch", "batch", None, None]),
    # ... or they do not
    ({**NO_FALLBACK}, ["batch", None, None, None, None]),
    ({**NO_FALLBACK, "route": ONLINE}, [None, None, None, None, None]),
    ({**NO_FALLBACK, **RESUBMIT}, ["batch", "batch", "batch", None, None]),
    # the service has no Batch API
    ({**NO_BATCH}, ["online", "online", "online", "online", "online"]),
    ({**NO_BATCH, **RESUBMIT}, ["online", "online", "online", "online", "online"]),
    ({**NO_BATCH, "route": ONLINE}, ["online", "online", "online", "online", "online"]),
    ({**NO_BATCH, **QUOTA_GONE}, [None, None, None, None, None]),
    ({**NO_BATCH, **QUOTA_GONE, **RESUBMIT}, [None, None, None, None, None]),
]


@pytest.mark.parametrize(("situation", "lanes"), SITUATIONS)
def test_the_lane_of_a_request(situation: dict[str, Any], lanes: list[LaneName | None]) -> None:
    assert [policy(**situation).lane_for(tries) for tries in range(5)] == lanes


@pytest.mark.parametrize(
    ("situation", "final"),
    [
        ({}, []),
        ({"resubmits": 0}, []),
        (RESUBMIT, [3, 4]),
        ({**RESUBMIT, "resubmits": 0}, [1, 2, 3, 4]),
        ({**RESUBMIT, **NO_BATCH}, [3, 4]),
    ],
)
def test_when_a_request_is_final(situation: dict[str, Any], final: list[int]) -> None:
    assert [tries for tries in range(5) if policy(**situation).is_final(tries)] == final


MANY = "many requests"
UNANSWERED = "2,000 requests that batches did not answer (router.leftovers: {})"
EXHAUSTED = "the online quota is exhausted (router.on_exhausted_quota): the bill is overdue"

CASES: list[tuple[dict[str, Any], dict[int, int], int, LaneName | None, str]] = [
    ({}, {}, 0, None, ""),
    ({}, {0: 5}, 0, "batch", MANY),
    ({}, {0: 5}, 2, "batch", MANY),
    ({}, {}, 2, "batch", "2 batches of this run to collect"),
    ({}, {1: 2000}, 0, "online", UNANSWERED.format("online")),
    ({}, {1: 1500, 2: 500}, 0, "online", UNANSWERED.format("online")),
    ({}, {1: 7}, 2, "batch", "2 batches of this run to collect"),
    ({}, {0: 3, 1: 2000}, 0, "batch", MANY),
    ({"route": ONLINE}, {0: 5}, 0, "online", "few requests"),
    ({"route": ONLINE}, {0: 5}, 2, "online", "few requests"),
    ({"route": ONLINE}, {}, 2, "batch", "2 batches of this run to collect"),
    ({"route": ONLINE}, {1: 2000}, 2, "batch", "2 batches of this run to collect"),
    ({"route": ONLINE}, {1: 2000}, 0, "online", UNANSWERED.format("online")),
    (RESUBMIT, {1: 2000}, 0, "batch", UNANSWERED.format("resubmit")),
    (RESUBMIT, {3: 2000}, 0, "online", UNANSWERED.format("resubmit")),
    ({**RESUBMIT, "route": ONLINE}, {0: 5, 1: 2000}, 0, "online", "few requests"),
    ({**QUOTA_GONE, "route": ONLINE}, {0: 5}, 0, "batch", EXHAUSTED),
    ({**QUOTA_GONE}, {1: 5}, 0, "batch", EXHAUSTED),
    ({**QUOTA_GONE}, {3: 5}, 0, None, ""),
    ({**QUOTA_GONE}, {3: 5}, 1, "batch", EXHAUSTED),
    ({**QUOTA_GONE, **NO_BATCH}, {0: 5}, 0, None, ""),
    ({**NO_FALLBACK, "route": ONLINE}, {0: 5}, 0, None, ""),
    ({**NO_BATCH, "route": ONLINE}, {0: 5}, 0, "online", "few requests"),
]


@pytest.mark.parametrize(("situation", "missing", "batches", "name", "reason"), CASES)
def test_the_next_lane_and_why(
    situation: dict[str, Any], missing: dict[int, int], batches: int, name: LaneName | None, reason: str
) -> None:
    chosen = policy(**situation)
    assert chosen.next_lane(missing, batches > 0) == name
    if name is not None:
        assert chosen.reason(name, missing, batches) == reason


class SimulatedRun:
    """A run with requests, and services that answer some of them.

    Attributes:
        tries: for each request without a row, the number of batches that gave it no answer.
        asked: how often each request was sent, by lane.
        failed: requests whose row records that batches gave no answer.
        lanes_run: the lanes in the order in which they ran.
    """

    def __init__(self, tries: list[int], rng: Random, answers: float, credit: int, has_batches: bool) -> None:
        self.tries = dict(enumerate(tries))
        self.asked: Counter[tuple[LaneName, int]] = Counter()
        self.failed: set[int] = set()
        self.lanes_run: list[LaneName] = []
        self.rng = rng
        self.answers = answers
        self.credit = credit
        self.has_batches = has_batches
        self.options = SimpleNamespace(cancel=False)
        self.ledger = SimpleNamespace(open_shards=[])
        self.done = SimpleNamespace(missing=lambda: len(self.tries), missing_by_tries=self._missing_by_tries)

    def _missing_by_tries(self) -> dict[int, int]:
        return dict(Counter(self.tries.values()))

    def online(self, accepted: Iterator[int]) -> None:
        for request in accepted:
            if not self.credit:
                raise QUOTA
            self.credit -= 1
            self.asked["online", request] += 1
            del self.tries[request]

    def batch(self, accepted: Iterator[int], is_final: Callable[[int], bool]) -> None:
        if not self.has_batches:
            raise NoBatchApi("HTTP 404 on /files")
        for request in accepted:
            self.asked["batch", request] += 1
            if self.rng.random() < self.answers:
                del self.tries[request]
            elif is_final(self.tries[request] + 1):
                del self.tries[request]
                self.failed.add(request)
            else:
                self.tries[request] += 1

    @asynccontextmanager
    async def lane(
        self, name: LaneName, accept: Callable[[int], bool], is_final: Callable[[int], bool]
    ) -> AsyncIterator[Any]:
        self.lanes_run.append(name)
        assert len(self.lanes_run) <= 12, "the scheduler does not end"
        accepted = iter([request for request, tries in self.tries.items() if accept(tries)])

        async def run() -> None:
            if name == "online":
                self.online(accepted)
            else:
                self.batch(accepted, is_final)

        yield SimpleNamespace(run=run, name=name)


POLICIES = st.builds(
    policy,
    route=st.sampled_from([ONLINE, BATCH]),
    leftovers=st.sampled_from(["online", "resubmit"]),
    resubmits=st.integers(0, 3),
    falls_back=st.booleans(),
)


@settings(max_examples=300)
@given(
    POLICIES,
    st.lists(st.integers(0, 3), max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    st.sampled_from([0, 2, 99]),
    st.booleans(),
)
def test_the_scheduler_ends_and_sends_no_request_too_often(
    chosen: LanePolicy, tries: list[int], rng: Random, answers: float, credit: int, has_batches: bool
) -> None:
    simulation = SimulatedRun(tries, rng, answers, credit, has_batches)
    manifest: Any = SimpleNamespace(start_lane=lambda lane, reason: None, route=chosen.route)
    run: Any = simulation
    lanes = LaneScheduler(run, manifest, chosen, simulation.lane, lambda text: None)
    try:
        asyncio.run(lanes.run())
        assert simulation.tries == {}
    except RunStopped as stop:
        assert stop is QUOTA
        assert not simulation.credit
        assert not chosen.falls_back or not has_batches or min(simulation.tries.values(), default=9) > chosen.resubmits
    for request, before in enumerate(tries):
        assert simulation.asked["online", request] <= 1
        assert simulation.asked["batch", request] <= max(0, 1 + chosen.resubmits - before)
        assert sum(simulation.asked[lane, request] for lane in ("online", "batch")) <= 2 + chosen.resubmits
    if simulation.failed:
        assert chosen.leftovers == "resubmit"
    if not has_batches and "batch" in simulation.lanes_run:
        assert simulation.lanes_run.count("batch") == 1
        assert manifest.route.lane == "online"
