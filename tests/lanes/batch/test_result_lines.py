"""The results of lines, and which line counts if files hold several, torn or unknown ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.lanes.batch.result_lines import Leftover, LineResult, ResultFiles, read_line
from runner.types import Failure, JudgeResponse, Usage

MISSING: Any = object()
ANSWER = JudgeResponse("好 [[4]]", "stop", "c-1")
DIALECTS = st.sampled_from(["pai", "openai", "dashscope"])


def body(text: str = "好 [[4]]", **more: Any) -> dict[str, Any]:
    return {"id": "c-1", "choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}], **more}


def said(code: str | None, message: str = "why") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def reply(content: Any = MISSING, status: Any = 200, error: Any = None, custom_id: str = "0-judge-o-0") -> bytes:
    response = {"status_code": status, "request_id": "r", "body": body() if content is MISSING else content}
    return line({key: value for key, value in response.items() if value is not MISSING}, error, custom_id)


def line(response: Any = None, error: Any = None, custom_id: str = "0-judge-o-0") -> bytes:
    return json.dumps({"id": "x", "custom_id": custom_id, "response": response, "error": error}).encode()


EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


def test_the_lines_of_the_documentation(shared: Path) -> None:
    page = next((shared / "seed").glob("*.txt")).read_text("utf-8")
    lines = [text.strip().encode() for text in page.splitlines() if '"status_code":200' in text]
    usage, response_id = Usage(26, 7, 33), "chatcmpl-dcee3584-6f30-9541-a855-873a6d86b7d9"
    expected = [
        JudgeResponse("2+2 equals 4.", "stop", response_id, usage, model=model)
        for model in ("pai-judge", "pai-judge-plus")
    ]
    assert [read_line(text) for text in lines] == expected


@pytest.mark.parametrize(
    ("choice", "more", "expected"),
    [
        ({"finish_reason": "error"}, {}, "bad_reply"),
        ({"finish_reason": "stop", "error": {"code": 502, "message": "gone"}}, {}, "bad_reply"),
        ({"finish_reason": "stop"}, {"error": {"message": "gone"}}, "bad_reply"),
        ({"finish_reason": "content_filter"}, {}, "content_filter"),
    ],
)
def test_an_answer_that_is_not_whole(choice: dict[str, Any], more: dict[str, Any], expected: str) -> None:
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    content = {"id": "c-1", "choices": [{"message": {"content": "[[2]] and"}, **choice}], "usage": usage, **more}
    found = read_line(reply(content))
    assert isinstance(found, Failure if expected == "content_filter" else Leftover)
    assert found.error_type == expected
    if isinstance(found, Failure):
        assert found.usage == Usage(7, 5, 12, 4)


@pytest.mark.parametrize(
    "raw",
    [
        reply(),
        reply() + b"\r\n",
        b"\xef\xbb\xbf" + reply() + b"\n",
        reply(status="200"),
        reply(status=200.0),
        reply(status=MISSING),
        reply(status=None),
        reply(json.dumps(body())),
        reply(json.dumps(body(), ensure_ascii=False), status=MISSING),
        json.dumps({"custom_id": "a", "response": {"status_code": 200, "body": body()}}).encode(),
        json.dumps({"custom_id": "a", "response": {"body": body()}}, ensure_ascii=False).encode(),
        reply()[:-1] + b', "seconds": NaN}',
        reply()[:-1] + b', "seconds": 1e999, "count": 1' + b"0" * 3000 + b"}",
        reply()[:-1] + b', "note": "\\ud800"}',
        reply(body(note=float("nan"))),
        b'{"custom_id": "a", "error": null, "response": {"status_code": 200, "status_code": 200, "body": '
        + json.dumps(body()).encode()
        + b"}}",
    ],
)
def test_answers(raw: bytes) -> None:
    assert read_line(raw) == ANSWER


@pytest.mark.parametrize(
    ("raw", "kind", "word", "message"),
    [
        (line(error=EXPIRED), Leftover, "batch_expired", EXPIRED["message"]),
        (line(error={"code": "BatchExpired"}), Leftover, "batch_expired", "BatchExpired"),
        (line(error="batch-expired"), Leftover, "batch_expired", "batch-expired"),
        (reply(error=EXPIRED), Leftover, "batch_expired", EXPIRED["message"]),
        (reply({}, 400, EXPIRED), Leftover, "batch_expired", EXPIRED["message"]),
        (line(error={"code": "batch_cancelled", "message": "m"}), Leftover, "batch_lost", "m"),
        (line(error={"code": "BATCH_CANCELED", "message": "m"}), Leftover, "batch_lost", "m"),
        (line(error={"code": "InternalError", "message": "m"}), Leftover, "server_error", "InternalError: m"),
        (line(error={"code": 17, "message": ["m"]}), Leftover, "server_error", '17: ["m"]'),
        (line(error="plain\nwords"), Leftover, "server_error", "plain words"),
        (line(error={}), Leftover, "bad_reply", "without a response"),
        (line(error=""), Leftover, "bad_reply", "without a response"),
        (line(error=False), Leftover, "server_error", "false"),
        (reply(error={"code": "x", "message": "m"}), Leftover, "server_error", "x: m"),
        (reply(said("y"), 500, {"code": "x"}), Leftover, "server_error", "x"),
        (line(error={"code": "DataInspectionFailed", "message": "m"}), Failure, "content_filter", "m"),
        (line(error={"type": "data_inspection_failed", "code": "x"}), Failure, "content_filter", "x"),
        (
            reply(said("content_filter"), 400, {"code": "x", "message": "m"}),
            Failure,
            "content_filter",
            "HTTP 400: x: m",
        ),
        (reply(None, 400, {"code": "x", "message": "m"}), Failure, "bad_request", "HTTP 400: x: m"),
        (reply(said("InvalidParameter"), 400), Failure, "bad_request", "HTTP 400: why (InvalidParameter)"),
        (reply(json.dumps(said("InvalidParameter")), "400"), Failure, "bad_request", "HTTP 400: why"),
        (reply(said("data_inspection_failed"), 400), Failure, "content_filter", "HTTP 400: why"),
        (reply(said("DataInspectionFailed"), 500), Failure, "content_filter", "HTTP 500: why"),
        (reply({"code": "InvalidApiKey", "message": "m", "request_id": "r"}, 401), Failure, "bad_request", "HTTP 401"),
        (reply(said("x"), 402), Failure, "bad_request", "HTTP 402"),
        (reply(said("x"), 403), Failure, "bad_request", "HTTP 403"),
        (reply(said("model_not_found"), 404), Failure, "bad_request", "HTTP 404"),
        (reply(said("Throttling"), 400), Failure, "bad_request", "HTTP 400"),
        (reply("", 450), Failure, "bad_request", "HTTP 450"),
        (reply(MISSING, 422), Failure, "bad_request", "HTTP 422"),
        (reply("not found, says a proxy", 404), Failure, "bad_request", "HTTP 404: not found, says a proxy"),
        (reply(said("x"), 408), Leftover, "server_error", "HTTP 408"),
        (reply(said("x"), 409), Leftover, "server_error", "HTTP 409"),
        (reply(said("limit_requests"), 429), Leftover, "server_error", "HTTP 429"),
        (reply(said("PrepaidBillOverdue"), 429), Leftover, "server_error", "HTTP 429"),
        (reply(said("x"), 500), Leftover, "server_error", "HTTP 500: why"),
        (reply(MISSING, 503), Leftover, "server_error", "HTTP 503"),
        (reply(None, 202), Leftover, "bad_reply", "a 202 without an answer"),
        (reply(said("429"), 200), Leftover, "server_error", "HTTP 200 with 429 inside: why (429)"),
        (reply(said("insufficient_quota"), 200), Leftover, "server_error", "HTTP 200 with 429 inside: why"),
        (reply(said("invalid_request_error"), 200), Failure, "bad_request", "HTTP 200 with 400 inside: why"),
        (reply(MISSING, 0), Leftover, "bad_reply", "HTTP 0"),
        (reply(MISSING, 302), Leftover, "server_error", "HTTP 302"),
        (reply(MISSING, "200 OK"), Leftover, "bad_reply", "an unreadable status_code: 200 OK"),
        (reply(MISSING, "２００"), Leftover, "bad_reply", "an unreadable status_code"),
        (reply(MISSING, 200.5), Leftover, "bad_reply", "an unreadable status_code: 200.5"),
        (reply(MISSING, True), Leftover, "bad_reply", "an unreadable status_code: true"),
        (reply(MISSING, 10**30), Leftover, "bad_reply", "an unreadable status_code: 1000"),
        (reply(MISSING, [200]), Leftover, "bad_reply", "an unreadable status_code: [200]"),
        (reply(said("x")), Leftover, "bad_reply", "a 200 without an answer: why (x)"),
        (reply(said("x"), MISSING), Leftover, "bad_reply", "a 200 without an answer: why (x)"),
        (reply(said("Throttling.RateQuota")), Leftover, "server_error", "why"),
        (reply(said("DataInspectionFailed")), Failure, "content_filter", "why"),
        (reply(said("Arrearage")), Leftover, "server_error", "why"),
        (reply({"choices": []}), Leftover, "bad_reply", "a 200 without an answer"),
        (reply(None), Leftover, "bad_reply", "a 200 without an answer: null"),
        (reply("a text"), Leftover, "bad_reply", "not JSON: a text"),
        (reply(json.dumps(json.dumps(body()))), Leftover, "bad_reply", "a 200 without an answer"),
        (reply(json.dumps(body())[:-5]), Leftover, "bad_reply", "not JSON"),
        (line({"status_code": 200}), Leftover, "bad_reply", "an empty body"),
        (line({}), Leftover, "bad_reply", "an empty body"),
        (line(), Leftover, "bad_reply", "a result line without a response"),
        (line("200"), Leftover, "bad_reply", "a result line without a response"),
        (b'{"custom_id": "a"}', Leftover, "bad_reply", "a result line without a response"),
        (b"", Leftover, "bad_reply", "not a result line: an empty body"),
        (b"[1]", Leftover, "bad_reply", "not a result line: [1]"),
        (reply()[:-1], Leftover, "bad_reply", "not a result line"),
        (reply().replace(b"[[4]]", b"\xff\xfe"), Leftover, "bad_reply", "not JSON"),
    ],
)
def test_lines_without_an_answer(raw: bytes, kind: type, word: str, message: str) -> None:
    found = read_line(raw)
    assert isinstance(found, kind)
    assert not isinstance(found, JudgeResponse)
    assert found.error_type == word
    assert message in found.message


def test_a_quota_error_in_a_line_is_a_leftover_in_every_dialect() -> None:
    for dialect in ("pai", "openai", "dashscope"):
        found = read_line(reply(said("insufficient_quota"), 429), dialect)
        assert isinstance(found, Leftover)
        assert found.error_type == "server_error"


@pytest.mark.parametrize(
    "raw",
    [
        reply({"error": {"code": "c\n" * 10**6, "message": "m" * 10**6}}, 400),
        reply(said("x", "<b>" * 10**6), 500),
        reply("<html>" * 10**6, 502),
        line(error={"code": "c" * 10**6, "message": "m\n" * 10**6}),
        line(error="\ud800 " * 10**6),
        line("\n" * 10**6),
        reply(MISSING, "9" * 10**6),
        b"\x00" * 10**6,
        reply(MISSING, 400, {"code": "1" * 10**6}),
    ],
)
def test_messages_are_one_short_line(raw: bytes) -> None:
    found = read_line(raw)
    assert not isinstance(found, JudgeResponse)
    assert len(found.message) < 450
    assert "\n" not in found.message
    assert found.message.encode() is not None


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("depth", [100, 400, 480, 600, 900, 950, 960, 970, 980, 990, 50_000])
@pytest.mark.parametrize(
    "frame",
    [
        b'{"custom_id": "a", "error": %s}',
        b'{"custom_id": "a", "error": {"code": %s, "message": %s}}',
        b'{"custom_id": "a", "response": {"status_code": 400, "body": %s}}',
        b'{"custom_id": "a", "response": {"status_code": 200.0, "body": %s}}',
        b'{"custom_id": "a", "response": {"status_code": %s}}',
        b'{"custom_id": "a", "response": %s}',
        b'{"custom_id": %s}',
    ],
)
def test_deep_nesting_does_not_crash(frame: bytes, depth: int) -> None:
    assert not isinstance(read_line(frame.replace(b"%s", nested(depth))), JudgeResponse)


def test_a_lone_surrogate_in_an_answer() -> None:
    assert read_line(reply(body("a\ud800"))) == JudgeResponse("a\ufffd", "stop", "c-1")
    found = read_line(reply(json.dumps(body("b"), ensure_ascii=False).replace("b", "\ud800")))
    assert isinstance(found, JudgeResponse | Leftover)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(["id", "custom_id", "response", "error", "status_code", "body", "choices", "message", "code"])
near_misses = st.recursive(
    json_values, lambda inner: st.dictionaries(keys, inner, max_size=5) | st.lists(inner, max_size=3), max_leaves=10
)


def sound(found: LineResult) -> bool:
    if isinstance(found, JudgeResponse):
        return all(text is None or text.encode() is not None for text in (found.text, found.finish_reason))
    return found.message.encode() is not None and "\n" not in found.message and len(found.message) < 450


@given(raw=st.binary(max_size=300) | near_misses.map(lambda value: json.dumps(value).encode()), dialect=DIALECTS)
@example(raw=b'{"response": {"status_code": "\\ud800"}}', dialect="pai")
def test_any_bytes_give_a_result(raw: bytes, dialect: str) -> None:
    assert sound(read_line(raw, dialect))


@given(
    status=json_values | st.integers(-1000, 1000) | st.sampled_from(["200", " 200", "0200", "+200"]), error=json_values
)
@example(status=float("nan"), error=None)
def test_only_a_2xx_without_an_error_is_an_answer(status: Any, error: Any) -> None:
    found = read_line(reply(status=status, error=error))
    is_2xx = re.fullmatch(r"2\d\d(\.0)?", str(status).strip(), re.ASCII) is not None
    answered = error in (None, "", {}) and (status is None or is_2xx)
    assert isinstance(found, JudgeResponse) == answered
    assert sound(found)


@given(raw=st.binary(max_size=40), cut=st.integers(0, 200), place=st.integers(0, 200))
def test_a_damaged_refusal_is_never_an_answer(raw: bytes, cut: int, place: int) -> None:
    whole = reply(said("x"), 500)
    damaged = whole[:place] + raw + whole[min(place + cut, len(whole)) :]
    assert not isinstance(read_line(damaged), JudgeResponse)


# Files


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., ResultFiles]:
    """Write the files of a batch and return them, not entered yet: `files([line, ...], raw, wanted=...)`."""

    def write(*contents: bytes | list[bytes], wanted: tuple[str, ...] = ("a", "b", "c")) -> ResultFiles:
        paths = []
        for number, content in enumerate(contents):
            paths.append(tmp_path / f"{number}.jsonl")
            paths[-1].write_bytes(content if isinstance(content, bytes) else b"".join(x + b"\n" for x in content))
        return ResultFiles(paths, frozenset(wanted), "pai")

    return write


def counts(found: ResultFiles) -> tuple[int, int, int]:
    return found.torn, found.unknown_ids, found.duplicates


def test_every_line_of_both_files_is_found(files: Callable[..., ResultFiles]) -> None:
    output = [reply(custom_id="b"), reply(said("InternalError"), 500, custom_id="a")]
    with files(output, [line(error=EXPIRED, custom_id="c")]) as found:
        assert found.find("b") == ANSWER
        assert found.find("a") == Leftover("server_error", "HTTP 500: why (InternalError)")
        assert found.find("c") == Leftover("batch_expired", EXPIRED["message"], was_run=False)
        assert found.find("d") is None
        assert counts(found) == (0, 0, 0)


def test_empty_files_and_no_files(files: Callable[..., ResultFiles]) -> None:
    with files(b"", b"\n \r\n\n") as found, ResultFiles([], {"a"}, "pai") as none:
        assert found.find("a") is None
        assert none.find("a") is None
        assert counts(found) == counts(none) == (0, 0, 0)


def test_line_ends_byte_order_marks_and_blank_lines(files: Callable[..., ResultFiles]) -> None:
    raw = (
        b"\xef\xbb\xbf" + reply(custom_id="a") + b"\r\n\r\n  \n" + reply(custom_id="b") + b"\r\n" + reply(custom_id="c")
    )
    with files(raw, b"\xef\xbb\xbf" + reply(custom_id="d"), wanted=("a", "b", "c", "d")) as found:
        assert [found.find(name) for name in "abcd"] == [ANSWER] * 4
        assert counts(found) == (0, 0, 0)


@pytest.mark.parametrize("missing", [1, 2, 30, 150])
def test_a_torn_last_line_is_counted(files: Callable[..., ResultFiles], missing: int) -> None:
    with files(reply(custom_id="a") + b"\n" + reply(custom_id="b")[:-missing]) as found:
        assert found.find("a") == ANSWER
        assert found.find("b") is None
        assert counts(found) == (1, 0, 0)


def test_garbled_lines_do_not_hide_the_others(files: Callable[..., ResultFiles]) -> None:
    garbled = [
        b"\x00" * 100,
        b"null",
        b"{}",
        b'{"custom_id": 7}',
        b'{"custom_id": "\xff"}',
        b'{"custom_id": "a", "x": ' + nested(100_000) + b"}",
        reply(custom_id="b") + reply(custom_id="c"),
        b"<html>",
    ]
    with files([*garbled, reply(custom_id="a")]) as found:
        assert found.find("a") == ANSWER
        assert found.find("b") is None
        assert counts(found) == (len(garbled), 0, 0)


def test_lines_with_unknown_ids_are_ignored(files: Callable[..., ResultFiles]) -> None:
    with files([reply(custom_id="z"), reply(custom_id="a"), reply(custom_id="z"), reply(custom_id="\ud800")]) as found:
        assert found.find("z") is None
        assert found.find("a") == ANSWER
        assert counts(found) == (0, 3, 0)


KINDS = {
    "answer": reply(body("first"), custom_id="a"),
    "failure": reply(said("first"), 400, custom_id="a"),
    "leftover": line(error={"code": "first"}, custom_id="a"),
}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_the_better_of_two_lines_counts_or_else_the_first(
    files: Callable[..., ResultFiles], one: str, other: str, apart: bool
) -> None:
    first, second = KINDS[one], KINDS[other].replace(b"first", b"second")
    best = min((one, other), key=list(KINDS).index)
    with files(*([first], [second]) if apart else ([first, second],)) as found:
        assert found.find("a") == read_line(first if best == one else second)
        assert counts(found) == (0, 0, 1)


def test_duplicate_lines_are_each_read_once(files: Callable[..., ResultFiles], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def read(raw: bytes, dialect: str) -> LineResult:
        seen.append(raw)
        return read_line(raw, dialect)

    monkeypatch.setattr("runner.lanes.batch.result_lines.read_line", read)
    lines = [KINDS["leftover"]] * 500 + [KINDS["failure"]] * 500 + [KINDS["answer"]] * 500
    with files(lines) as found:
        assert counts(found) == (0, 0, 1499)
        assert len(seen) == 1001
        assert found.find("a") == read_line(KINDS["answer"])


def test_a_missing_file_leaves_nothing_open(tmp_path: Path) -> None:
    there = tmp_path / "there.jsonl"
    there.write_bytes(reply())
    found = ResultFiles([there, tmp_path / "absent.jsonl"], {"0-judge-o-0"}, "pai")
    with pytest.raises(FileNotFoundError), found:
        pass
    whole = ResultFiles([there], {"0-judge-o-0"}, "pai")
    with whole:
        assert whole.find("0-judge-o-0") == ANSWER
    with pytest.raises(ValueError, match="closed"):
        whole.find("0-judge-o-0")


texts = st.text(st.characters(codec="utf-8"), max_size=40)
statuses = st.sampled_from([200, "200", 400, 404, 408, 429, 500])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.dictionaries(texts.filter(bool), st.tuples(texts, statuses, st.booleans()), max_size=12),
    ascii_only=st.booleans(),
    seed=st.randoms(use_true_random=False),
    last=st.sampled_from([b"", b"\n"]),
)
def test_generated_lines_are_found(
    tmp_path: Path,
    entries: dict[str, tuple[str, Any, bool]],
    ascii_only: bool,
    seed: Any,
    last: bytes,
) -> None:
    lines: tuple[list[bytes], list[bytes]] = ([], [])
    for name, (text, status, wrapped) in seed.sample(list(entries.items()), len(entries)):
        content = json.dumps(body(text)) if wrapped else body(text)
        data = {"custom_id": name, "response": {"status_code": status, "body": content}, "error": None}
        seed.choice(lines).append(json.dumps(data, ensure_ascii=ascii_only).encode())
    paths = [tmp_path / "output.jsonl", tmp_path / "error.jsonl"]
    for path, written in zip(paths, lines, strict=True):
        path.write_bytes(b"\n".join(written) + last)
    with ResultFiles(paths, entries, "openai") as found:
        for name, (text, status, _) in entries.items():
            finding = found.find(name)
            if status in (200, "200"):
                assert finding == JudgeResponse(text, "stop", "c-1")
            else:
                assert isinstance(finding, Failure if status in (400, 404) else Leftover)
        assert counts(found) == (0, 0, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.binary(max_size=200) | st.just(reply(custom_id="a") + b"\n"), max_size=4))
def test_any_files_can_be_read(tmp_path: Path, contents: list[bytes]) -> None:
    path = tmp_path / "any.jsonl"
    path.write_bytes(b"".join(contents))
    lines = [text for text in path.read_bytes().split(b"\n") if text.strip()]
    with ResultFiles([path, path], {"a", ""}, "pai") as found:
        named = [finding for name in ("a", "") if (finding := found.find(name)) is not None]
        assert all(map(sound, named))
        assert len(named) + sum(counts(found)) == 2 * len(lines)
