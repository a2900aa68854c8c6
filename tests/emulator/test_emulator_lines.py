"""Input lines: the check never raises, whatever the bytes, and the lines that pass it can be read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.jobs.file_store import Blob
from runner.emulator.jobs.input_lines import MAX_LINES, inspect, line_at

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def blob_of(data: bytes) -> Blob:
    blob = Blob()
    blob.append(data)
    return blob


@given(st.binary(max_size=200), st.sampled_from(["pai", "openai", "dashscope"]))
def test_the_check_never_raises(data, dialect):
    batch_input = inspect(blob_of(data), dialect)
    assert batch_input.problems or len(batch_input.starts)
    assert all(set(problem) == {"code", "message", "param", "line"} for problem in batch_input.problems)


@given(
    st.lists(st.tuples(texts.filter(bool), st.dictionaries(texts, values, max_size=3)), min_size=1, max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \n"]),
    st.booleans(),
)
def test_lines_are_read_as_written(pairs, gap, ends_with_newline):
    unique = list(dict(pairs).items())
    raw = gap.join(json.dumps({"custom_id": key, "body": body}, ensure_ascii=False).encode() for key, body in unique)
    blob = blob_of(raw + gap * ends_with_newline)
    batch_input = inspect(blob, "pai")
    assert not batch_input.problems
    with blob.mapped() as view:
        assert [tuple(line_at(view, start)) for start in batch_input.starts] == unique
    assert len(set(batch_input.keys)) == len(unique)


def test_a_key_depends_on_custom_id_and_body_but_not_on_spacing():
    first, second, other = (
        inspect(blob_of(raw), "pai").keys
        for raw in (
            b'{"custom_id": "a", "body": {"x": 1, "y": 2}}',
            b'{"body":{"y":2,"x":1},"custom_id":"a"}\n',
            b'{"custom_id": "b", "body": {"x": 1, "y": 2}}',
        )
    )
    assert first == second != other


@pytest.mark.parametrize(("dialect", "refused"), [("pai", False), ("openai", True)])
def test_only_pai_accepts_more_than_the_line_limit(dialect, refused):
    rest = '"method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}'
    raw = "".join(f'{{"custom_id": "{number}", {rest}}}\n' for number in range(MAX_LINES + 1))
    codes = [problem["code"] for problem in inspect(blob_of(raw.encode()), dialect).problems]
    assert codes == (["too_many_tasks"] if refused else [])
