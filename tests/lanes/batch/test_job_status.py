"""What a job's status and errors mean, in the terms of three services and in unknown ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.lanes.batch.job_status import code_and_message, job_state, may_be_created_later, one_line, reasons

DIALECTS = ("pai", "openai", "dashscope")
ENDINGS = {
    "completed": ("Succeeded", "completed", "COMPLETE", "success"),
    "failed": ("Failed", "error"),
    "expired": ("expired", "EXPIRED"),
    "cancelled": ("cancelled", "Canceled", "Stopped"),
    "cancelling": ("cancelling", "Canceling", "Stopping"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("state", "word"), [(state, word) for state, words in ENDINGS.items() for word in words])
def test_final_statuses_mean_the_same_in_every_dialect(state: str, word: str, dialect: str) -> None:
    assert job_state(word, dialect) == (state, True)
    assert job_state(f" {word.swapcase()}\n", dialect) == (state, True)


@pytest.mark.parametrize(
    ("word", "dialect", "known"),
    [
        ("Creating", "pai", True),
        ("Queuing", "pai", True),
        ("EnvPreparing", "pai", True),
        ("env-preparing", "pai", True),
        ("in_process", "pai", True),
        ("SucceededReserving", "pai", True),
        ("FailedReserving", "pai", True),
        ("validating", "openai", True),
        ("In Progress", "openai", True),
        ("in_progress", "dashscope", True),
        ("finalizing", "dashscope", True),
        ("validating", "pai", False),
        ("Creating", "openai", False),
        ("scheduling", "openai", False),
        ("completed_with_errors", "openai", False),
        ("not completed", "pai", False),
        ("unfailed", "pai", False),
        ("", "pai", False),
        ("完成", "pai", False),
        ("\u017fucceeded", "pai", False),
        (None, "pai", False),
        (200, "pai", False),
        (True, "openai", False),
        (["completed"], "openai", False),
        ({"status": "completed"}, "openai", False),
        ("validating", "somebody", False),
    ],
)
def test_every_other_status_is_a_running_job(word: object, dialect: str, known: bool) -> None:
    assert job_state(word, dialect) == ("running", known)


@given(word=st.text() | st.integers() | st.none() | st.binary(), dialect=st.sampled_from(DIALECTS))
def test_no_unknown_status_is_final(word: object, dialect: str) -> None:
    state, known = job_state(word, dialect)
    assert known or state == "running"


def test_the_statuses_of_the_documentation_are_known(shared: Path) -> None:
    page = next((shared / "seed").glob("*.txt")).read_text("utf-8")
    words = re.findall(r'"status": "(\w+)"', page)
    assert [job_state(word, "pai") for word in words] == [("running", True), ("completed", True)]


LIMIT = "Enqueued token limit reached for gpt-4o in organization org-1. Limit: 2,000,000 enqueued tokens."
UNSUPPORTED = {
    "code": "url_not_found",
    "message": "The provided url '/v1/chat/completion' is not supported by the Batch API.",
    "param": "url",
    "line": 1,
}


def listed(*errors: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(errors)}


@pytest.mark.parametrize(
    ("errors", "limit", "line"),
    [
        (None, False, ""),
        ("", False, ""),
        ([], False, ""),
        ({}, False, ""),
        (listed(), False, ""),
        ({"object": "list", "data": None}, False, ""),
        ({"object": "list"}, False, ""),
        (listed(None, {}), False, ""),
        (
            listed(UNSUPPORTED),
            False,
            "url_not_found: The provided url '/v1/chat/completion' is not supported by the Batch API. (line 1)",
        ),
        (listed({"code": "empty_file", "message": None, "line": None}), False, "empty_file"),
        (listed({"code": None, "message": "odd\n\nthing", "line": "7"}), False, "odd thing"),
        (listed({"type": "x", "message": "y", "line": True}), False, "x: y"),
        ([{"code": "a", "line": 0}, {"code": 5}], False, "a (line 0); 5"),
        (listed({"code": "token_limit_exceeded", "message": "wait"}), True, "token_limit_exceeded: wait"),
        (listed(UNSUPPORTED | {"line": 2, "message": "m"}, {"code": "Token-Limit-Exceeded"}), True, None),
        (listed({"code": "x", "message": LIMIT, "line": None}), True, f"x: {LIMIT}"),
        ({"code": "token_limit_exceeded", "message": "bare"}, True, "token_limit_exceeded: bare"),
        ({"data": {"code": "token_limit_exceeded"}}, True, "token_limit_exceeded"),
        (LIMIT, True, LIMIT),
        ("token_limit_exceeded", True, "token_limit_exceeded"),
        (["plain", "words"], False, "plain; words"),
        ({"detail": [1, "é"]}, False, '{"detail": [1, "é"]}'),
        (17, False, "17"),
        (listed("\ud800"), False, "?"),
    ],
)
def test_errors_of_a_job(errors: object, limit: bool, line: str | None) -> None:
    assert may_be_created_later(errors) is limit
    assert line is None or reasons(errors) == line


def test_many_errors_are_one_short_line() -> None:
    line = reasons(listed(*({"code": "invalid_json_line", "message": "好" * 300, "line": n} for n in range(50_000))))
    assert line.startswith("invalid_json_line: 好")
    assert line.endswith("… and 49995 more")
    assert len(line) < 420
    assert reasons(listed(*({"code": "c", "line": n} for n in range(7)))).endswith("c (line 4) and 2 more")


def test_an_error_that_cannot_be_encoded_is_reported_as_unreadable() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert code_and_message({"code": deep, "message": 10**9000}) == ("(unreadable)", "(unreadable)")
    assert reasons(deep) == "(unreadable)"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["object", "data", "code", "message", "line", "type"]) | st.text(), inner)
    ),
    max_leaves=12,
)


@given(errors=json_values)
def test_any_errors_become_one_line(errors: Any) -> None:
    line = reasons(errors)
    assert "\n" not in line
    assert len(line) < 420
    assert line.encode() is not None
    assert not may_be_created_later(errors) or "token" in str(errors).lower()


def test_one_line_is_truncated() -> None:
    assert one_line(" a\r\n\tb ") == "a b"
    assert one_line("x" * 10**6, 10) == "x" * 10 + "…"
