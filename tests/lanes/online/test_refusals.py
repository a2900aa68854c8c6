"""Refusals: about one request or about all of them? Other requests decide; see decision 0007."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_service import http_error, judge, ok, rows_by_ordinal, statuses
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.errors import Fatal, Refused, RunStopped
from runner.lanes.online import OnlineLane
from runner.lanes.online.refusals import MAX_KINDS, MIN_FIRST_REFUSALS, NO_TEXT_REPEATS, RefusalDetector
from runner.lanes.online.request_queue import QueuedRequest
from runner.types import Failure, JudgeRequest, Sample

pytestmark = pytest.mark.usefixtures("fast_probes")

LIMIT = 20


def queued(name: str) -> QueuedRequest:
    return QueuedRequest(JudgeRequest(Sample(0, name, {}, {}, {}, "here"), 0, name, b"", ""), b"", 0)


def refusal(status: int, text: str = "no") -> Refused | Fatal:
    if status in (400, 422):
        return Refused(text, status=status)
    reason = "authentication" if status in (401, 403) else "address"
    return Fatal(text, reason=reason, status=status, is_certain=False)


def error(status: int, body: object = None) -> web.Response:
    return web.json_response(body, status=status) if body is not None else web.Response(status=status)


def said(message: str, code: Any = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": code}}


# one request among many


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "ordinal", "concurrency"),
    [(400, 0, 1), (401, 29, 8), (401, 11, 1), (403, 0, 8), (403, 29, 1), (404, 0, 1), (404, 29, 8), (405, 11, 8)],
)
async def test_what_one_request_gets_is_its_own(tmp_path: Path, status: int, ordinal: int, concurrency: int) -> None:
    summary, service = await judge(
        tmp_path,
        lambda number, _: error(status) if number == ordinal else ok(),
        30,
        service={"limits": {"concurrency": concurrency}},
    )
    assert (summary.exit_code, summary.stop_reason) == (1, None)
    rows = rows_by_ordinal(tmp_path)
    failed = {number: row["error_type"] for number, row in rows.items() if row["status"] == "failed"}
    assert (len(rows), failed) == (30, {ordinal: "bad_request"})
    repeats = NO_TEXT_REPEATS if status in (401, 404) else 0
    assert service.requests[ordinal] == rows[ordinal]["attempts"] == 1 + repeats
    assert str(summary.causes[0]).startswith(f"1 x bad_request: HTTP {status}")
    assert f"most often 1 x bad_request: HTTP {status}" in (summary.problem() or "")


@pytest.mark.anyio
async def test_an_empty_404_now_and_then_costs_no_row(tmp_path: Path) -> None:
    def blink(number: int, attempt: int) -> web.Response:
        return error(404 if number % 2 else 401) if number % 5 == 0 and attempt == 1 else ok()

    summary, service = await judge(tmp_path, blink, 60)
    assert (summary.exit_code, summary.counts.ok) == (0, 60)
    assert service.requests.total() == 72


@pytest.mark.anyio
async def test_an_answer_that_could_not_be_read_is_kept_if_the_next_try_is_refused(tmp_path: Path) -> None:
    def answer(number: int, attempt: int) -> web.Response:
        return ok() if number else ok("Hmm.") if attempt == 1 else error(403)

    await judge(tmp_path, answer, 9, judge={"reask": 1})
    row = rows_by_ordinal(tmp_path)[0]
    assert (row["status"], row["response"], row["attempts"]) == ("unparsed", "Hmm.", 2)


# all requests

# status and body of the refusal, the stop reason, and how many requests are answered before
ALL: list[tuple[int, object, str, int]] = [
    (400, said("gpt-x is not a valid model name here"), "refused", 0),
    (422, {"detail": "parameter.top_k: not known (request id: 0f3d-11)"}, "refused", 10),
    (401, said("who are you?"), "authentication", 0),
    (401, said("who are you?"), "authentication", 10),
    (403, None, "authentication", 10),
    (404, {"detail": "Not Found"}, "address", 0),
    (405, None, "address", 10),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "body", "reason", "before"), ALL, ids=[f"{case[0]}-{case[3]}" for case in ALL])
async def test_what_every_request_gets_stops_the_run_and_leaves_no_row(
    tmp_path: Path, status: int, body: object, reason: str, before: int
) -> None:
    left, all_answered = set(range(before)), asyncio.Event()

    async def answer(number: int, _: int) -> web.Response:
        left.discard(number)
        if not left:
            all_answered.set()
        if number < before:
            return ok()
        await all_answered.wait()  # a connection that opens slowly must not bring an answer between the refusals
        return error(status, body)

    summary, service = await judge(tmp_path, answer, 200, service={"limits": {"concurrency": 4}})
    assert (summary.exit_code, summary.stop_reason) == (3, reason)
    assert statuses(tmp_path) == dict.fromkeys(range(before), "ok")
    needed = LIMIT if before or reason == "refused" else MIN_FIRST_REFUSALS
    assert needed <= service.requests.total() - before <= needed + 2 * 4
    message = summary.message or ""
    assert f"(POST http://127.0.0.1:{service.port}/v1/chat/completions)" in message
    assert f"HTTP {status}" in message
    assert "have no row" in message
    summary, service = await judge(tmp_path, lambda *_: ok(), 200)
    assert (summary.exit_code, sorted(service.requests)) == (0, list(range(before, 200)))


@pytest.mark.anyio
async def test_fewer_equal_refusals_are_failed_rows_and_a_token_that_is_refused_once_is_not(tmp_path: Path) -> None:
    summary, _ = await judge(tmp_path, lambda *_: error(400, said("no")), LIMIT - 1)
    assert (summary.exit_code, summary.counts.failed) == (1, LIMIT - 1)
    (tmp_path / "b").mkdir()
    summary, service = await judge(tmp_path / "b", lambda *_: error(401), 1)
    assert (summary.exit_code, summary.stop_reason, summary.counts.done) == (3, "authentication", 0)
    assert service.requests.total() == 1


def word(number: int) -> str:
    """Spell a number in letters."""
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


@pytest.mark.anyio
async def test_refusals_for_different_reasons_are_rows_however_many_there_are(tmp_path: Path) -> None:
    texts: list[Callable[[int], dict[str, Any]]] = [
        lambda number: said(f"the field {word(number)} is odd"),
        lambda number: said("the content policy forbids this", "content_filter"),
        lambda number: said("maximum context length is 8192 tokens"),
        lambda number: said(f"row {word(number)} has no answer"),
    ]

    def answer(number: int, _: int) -> web.Response:
        return error(400, texts[number % 4](number)) if number else ok()

    summary, service = await judge(tmp_path, answer, 201, service={"limits": {"concurrency": 1}})
    assert (summary.exit_code, summary.counts.failed, service.requests.total()) == (1, 200, 201)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "text",
    [
        lambda number: f"invalid request {number}: try later",
        lambda number: f"request id a{number}f: no such model",
        lambda number: f"cannot use the prompt 'sample {word(number)}'",
    ],
)
async def test_one_refusal_of_all_is_recognised_though_each_names_its_own_values(
    tmp_path: Path, text: Callable[[int], str]
) -> None:
    limits = {"limits": {"concurrency": 4}}
    summary, _ = await judge(
        tmp_path, lambda number, _: ok() if number < 10 else error(400, said(text(number))), 200, service=limits
    )
    assert (summary.exit_code, summary.stop_reason, summary.counts.failed) == (3, "refused", 0)


@pytest.mark.anyio
async def test_before_the_first_answer_refusals_are_alike_whatever_they_say(tmp_path: Path) -> None:
    summary, service = await judge(tmp_path, lambda number, _: error(400, said(f"odd: {word(number)}")), 200)
    assert (summary.exit_code, summary.stop_reason, summary.counts.failed) == (3, "refused", 0)
    assert service.requests.total() <= LIMIT + 2 * 64


@pytest.mark.anyio
async def test_samples_that_a_firewall_dislikes_in_a_row_can_be_passed(tmp_path: Path) -> None:
    def dislike(number: int, _: int) -> web.Response:
        return error(403) if number < 30 else ok()

    limits = {"limits": {"concurrency": 1}}
    summary, _ = await judge(tmp_path, dislike, 60, service=limits)
    assert (summary.exit_code, summary.stop_reason) == (3, "authentication")
    summary, _ = await judge(tmp_path, dislike, 60, service=limits, breaker={"refusals": 300})
    assert (summary.exit_code, summary.counts.ok, summary.counts.failed) == (1, 30, 30)
    again, service = await judge(tmp_path, dislike, 60, service=limits, output={"directory": "run", "tolerate": 0.6})
    assert (again.exit_code, service.requests.total()) == (0, 0)
    assert again.causes == summary.causes


@pytest.mark.anyio
async def test_in_a_directory_with_answers_a_few_disliked_samples_are_no_wrong_token(tmp_path: Path) -> None:
    limits = {"limits": {"concurrency": 1}}
    await judge(tmp_path, lambda *_: ok(), 10, service=limits)
    summary, _ = await judge(tmp_path, lambda number, _: error(403) if number < 20 else ok(), 40, service=limits)
    assert (summary.exit_code, summary.counts.failed) == (1, 10)


@pytest.mark.anyio
async def test_a_judge_whose_model_is_refused_does_not_hide_behind_another(tmp_path: Path) -> None:
    calls = count()  # the judges' requests alternate

    def answer(_: int, __: int) -> web.Response:
        return error(400, said("no such model")) if next(calls) % 2 else ok()

    judges = [{"name": name, "kind": "pai_single"} for name in ("a", "b")]
    summary, _ = await judge(tmp_path, answer, 100, judges=judges, service={"limits": {"concurrency": 1}})
    assert (summary.exit_code, summary.stop_reason) == (3, "refused")
    assert "judge 'b'" in (summary.message or "")
    assert (summary.counts.ok, summary.counts.failed) == (20, 0)


@pytest.mark.anyio
async def test_a_drain_leaves_no_row_of_a_held_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes: list[OnlineLane] = []
    run = OnlineLane.run

    async def run_and_note(lane: OnlineLane) -> None:
        lanes.append(lane)
        await run(lane)

    monkeypatch.setattr(OnlineLane, "run", run_and_note)

    def answer(number: int, _: int) -> web.Response:
        if number == 5:
            lanes[0].drain(RunStopped("interrupted", "drained", 130))
        return error(403) if number >= 4 else ok()

    summary, _ = await judge(tmp_path, answer, 50, service={"limits": {"concurrency": 1}})
    assert summary.exit_code == 130
    assert statuses(tmp_path) == dict.fromkeys(range(4), "ok")
    summary, service = await judge(tmp_path, lambda *_: ok(), 50)
    assert (summary.exit_code, sorted(service.requests)) == (0, list(range(4, 50)))


# 429s that one request gets


@pytest.mark.anyio
async def test_requests_that_no_quota_admits_fail_and_the_others_are_answered(tmp_path: Path) -> None:
    too_large = set(range(2, 30, 2))  # more than there are workers

    def answer(number: int, _: int) -> web.Response:
        return http_error(429) if number in too_large else ok()

    summary, _ = await judge(
        tmp_path, answer, 60, service={"limits": {"concurrency": 2}}, retry={"patience": 3, "base": 0.002}
    )
    rows = rows_by_ordinal(tmp_path)
    assert summary.exit_code == 1
    assert {number for number, row in rows.items() if row["status"] == "failed"} == too_large
    assert {rows[number]["error_type"] for number in too_large} == {"bad_request"}
    assert "outage" not in (summary.problem() or "")
    assert "larger than the quota" in summary.causes[0].example


@pytest.mark.anyio
async def test_a_quota_that_is_gone_fails_no_row(tmp_path: Path) -> None:
    summary, _ = await judge(
        tmp_path, lambda number, _: ok() if number < 10 else http_error(429), 40, retry={"patience": 0.5}
    )
    assert (summary.exit_code, summary.stop_reason, summary.counts.failed) == (4, "outage", 0)
    assert "quota" in (summary.message or "")


@pytest.mark.anyio
@pytest.mark.parametrize("left", [2, 4])
async def test_a_quota_that_ends_with_the_last_requests_fails_no_row(tmp_path: Path, left: int) -> None:
    """The answers to requests of the same moment do not show that the quota passes over the others."""
    refused, all_refused = set(range(10, 10 + left)), asyncio.Event()

    async def answer(number: int, _: int) -> web.Response:
        if number >= 10:
            refused.discard(number)
            if not refused:
                all_refused.set()
            return http_error(429)
        await all_refused.wait()  # the answers come after the first 429s
        return ok()

    limits = {"limits": {"concurrency": 20}}
    summary, _ = await judge(tmp_path, answer, 10 + left, service=limits, retry={"patience": 1.0, "base": 0.002})
    assert (summary.exit_code, summary.stop_reason, summary.counts.ok, summary.counts.failed) == (4, "outage", 10, 0)


@pytest.mark.anyio
async def test_one_request_that_no_quota_admits_fails_even_if_it_is_the_last(tmp_path: Path) -> None:
    def answer(number: int, _: int) -> web.Response:
        return http_error(429) if number == 9 else ok()

    limits = {"limits": {"concurrency": 1}}
    summary, _ = await judge(tmp_path, answer, 10, service=limits, retry={"patience": 1.0, "base": 0.002})
    assert (summary.exit_code, summary.counts.ok, summary.counts.failed) == (1, 9, 1)
    assert "larger than the quota" in summary.causes[0].example


# the detector itself


class DetectorMachine(RuleBasedStateMachine):
    """Requests are sent, answered, refused and fail in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._start()

    def _start(self) -> None:
        self.detector = RefusalDetector("here", "http://h", LIMIT, False, self._decided, self._stopped)
        self.sent = 0
        self.newest_answered = 0
        self.flying: dict[int, QueuedRequest] = {}
        self.held: dict[str, int] = {}  # by name, the number of the last request that had been sent
        self.in_row: dict[str, int] = {}
        self.stop: RunStopped | None = None
        self.is_last = False

    def _decided(self, request: QueuedRequest, failure: Failure | None) -> None:
        last_sent = self.held.pop(request.request.custom_id)
        assert self.stop is None
        assert self.is_last or last_sent < self.newest_answered or len(self.in_row) >= MAX_KINDS

    def _stopped(self, stop: RunStopped) -> None:
        self.stop = stop
        needed = LIMIT if self.newest_answered or stop.reason == "refused" else MIN_FIRST_REFUSALS
        assert self.is_last or (not self.flying and max(self.in_row.values()) >= needed)

    @precondition(lambda self: self.stop is None and not self.detector.suspected)
    @rule(count=st.integers(1, 8))
    def send(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.detector.in_flight += 1
            self.flying[self.sent] = queued(str(self.sent))

    def _land(self, pick: int) -> tuple[int, QueuedRequest]:
        number = sorted(self.flying)[pick % len(self.flying)]
        self.detector.in_flight -= 1
        return number, self.flying.pop(number)

    @precondition(lambda self: self.stop is None and self.flying)
    @rule(pick=st.integers(0, 99))
    def answer(self, pick: int) -> None:
        number, _ = self._land(pick)
        self.newest_answered = max(self.newest_answered, number)
        self.in_row.clear()
        self.detector.on_answer(number)

    @precondition(lambda self: self.stop is None and self.flying)
    @rule(pick=st.integers(0, 99), status=st.sampled_from([400, 401, 404]), often=st.integers(1, 25))
    def refuse(self, pick: int, status: int, often: int) -> None:
        for _ in range(min(often, len(self.flying))):
            if self.stop is not None:
                return
            _, request = self._land(pick)
            self.held[request.request.custom_id] = self.sent
            self.in_row[str(status)] = self.in_row.get(str(status), 0) + 1
            self.detector.hold(request, refusal(status), self.sent)

    @precondition(lambda self: self.stop is None and self.flying)
    @rule(pick=st.integers(0, 99))
    def fail(self, pick: int) -> None:
        self._land(pick)
        self.detector.recheck()

    @precondition(lambda self: self.stop is None and not self.flying)
    @rule()
    def end(self) -> None:
        self.is_last = True
        self.detector.decide_last()
        assert self.stop is not None or not self.held
        self.is_last = False

    @precondition(lambda self: self.stop is not None)
    @rule()
    def start_over(self) -> None:
        self.teardown()
        self._start()

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        assert self.stop is not None or not self.detector.suspected or self.flying

    def teardown(self) -> None:
        """Every request is held or was decided, and another service can take those that are held."""
        taken = sorted(request.request.custom_id for request in self.detector.take_held())
        assert taken == sorted(self.held)


DetectorMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestDetector = DetectorMachine.TestCase


def test_refusals_that_all_differ_are_held_in_bounded_number() -> None:
    decided: list[str] = []
    detector = RefusalDetector(
        "here", "http://h", LIMIT, True, lambda request, _: decided.append(request.request.custom_id), print
    )
    for number in range(3 * MAX_KINDS):
        detector.hold(queued(str(number)), refusal(400, f"sample {word(number)} is odd"), number)
    assert decided == [str(number) for number in range(2 * MAX_KINDS)]
