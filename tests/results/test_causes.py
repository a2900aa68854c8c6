"""Why rows are not ok: counted by kind of message, with an example, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import without_ids
from runner.results.causes import CAUSES_SHOWN, MAX_CAUSES, MAX_EXAMPLE_CHARS, Cause, add_cause, commonest

ROWS = st.lists(st.tuples(st.sampled_from(["bad_request", "timeout", None]), st.text(max_size=30) | st.none()))


def counted(*rows: tuple[str | None, str | None]) -> dict[str, Cause]:
    causes: dict[str, Cause] = {}
    for error_type, message in rows:
        add_cause(causes, error_type, message, 1)
    return causes


def test_messages_that_differ_in_values_only_are_one_cause() -> None:
    causes = counted(
        *(("bad_request", f"HTTP 400: field 'f{n}' has {n} tokens (request id: req_{n:032x})") for n in range(3000)),
        ("bad_request", "HTTP 400: no such model"),
        ("no_verdict", None),
    )
    first, second, third = commonest(causes.values())
    assert (first.error_type, first.count) == ("bad_request", 3000)
    assert str(first).startswith("3,000 x bad_request: HTTP 400: field 'f0' has 0 tokens")
    assert str(second) == "1 x bad_request: HTTP 400: no such model"
    assert str(third) == "1 x no_verdict"


@given(ROWS)
def test_rows_that_are_taken_back_leave_nothing(rows: list[tuple[str | None, str | None]]) -> None:
    causes = counted(*rows)
    assert sum(cause.count for cause in causes.values()) == len(rows)
    for error_type, message in rows:
        add_cause(causes, error_type, message, -1)
    assert causes == {}


def test_memory_is_bounded() -> None:
    words = [chr(97 + n // 26 % 26) + chr(97 + n % 26) + chr(97 + n // 676) for n in range(5 * MAX_CAUSES)]
    causes = counted(*(("bad_request", f"{word} " * 500) for word in words))
    assert len(causes) == MAX_CAUSES + 1
    assert max(len(cause.example) for cause in causes.values()) == MAX_EXAMPLE_CHARS
    (most, *_) = shown = commonest(causes.values())
    assert (most.count, len(shown)) == (4 * MAX_CAUSES, CAUSES_SHOWN)
    for word in words:
        add_cause(causes, "bad_request", f"{word} " * 500, -1)
    assert causes == {}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("no (8f14e45f-ceea-467f-9575-1a2b3c4d5e6f)", "no (11111111-2222-3333-4444-555555555555)", True),
        ("no, req_011CSHoEeqs5C35K2UUqR7Fy", "no, req_9f3KdPqs5C35K2UUqR7Fx1", True),
        ("no at 2026-11-30T10:00:01.123Z", "no at 2026-12-01T00:10:59Z", True),
        ("no, 20251201123456789", "no, 20251201123456999", True),
        ("requested 9000 tokens", "requested 9001 tokens", False),
        ("model a-1 is unknown", "model b-1 is unknown", False),
    ],
)
def test_ids_do_not_tell_messages_apart(one: str, other: str, same: bool) -> None:
    assert (without_ids(one) == without_ids(other)) is same
