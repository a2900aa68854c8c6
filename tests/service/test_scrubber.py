"""Secrets in what a service sends: every spelling is masked before anything is made of it, in both lanes."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from batch_lane_run import Bench
from fake_batch_service import Do, FakeBatchService, answered_line, completion, ending, failed_line, lines
from hypothesis import given
from hypothesis import strategies as st

from runner.service import scrubber as scrubbing
from runner.service.scrubber import Scrubber
from runner.types import Secret

SECRET = "sk-Ab3/x+9=Zq-0123456789"
SPELLINGS = {
    "itself": SECRET,
    "upper": SECRET.upper(),
    "lower": SECRET.lower(),
    "url": quote(SECRET, safe=""),
    "json": json.dumps(SECRET)[1:-1],
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "bearer": base64.b64encode(f"Bearer {SECRET}".encode()).decode(),
    "inside": base64.b64encode(f"user:{SECRET}!".encode()).decode(),
    "urlsafe": base64.urlsafe_b64encode(f"a{SECRET}".encode()).decode(),
}


def shows(text: str) -> bool:
    """Return True if a text has the secret, or most of it in base64."""
    cores = [base64.b64encode(bytes(n) + SECRET.encode())[8:-8].decode().lower() for n in range(3)]
    cores += [core.translate(str.maketrans("+/", "-_")) for core in cores]
    lower = text.lower()
    return any(part in lower for part in (SECRET.lower(), quote(SECRET, safe="").lower(), *cores))


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(before=st.text(max_size=40), after=st.text(max_size=40))
def test_every_spelling_is_masked_at_the_same_length(spelling: str, before: str, after: str) -> None:
    text = before + SPELLINGS[spelling] + after
    raw = text.encode("utf-8", "surrogatepass")
    assert shows(text)
    scrubbed = Scrubber([Secret(SECRET)]).scrub(raw)
    assert not shows(scrubbed.decode("utf-8", "replace"))
    assert len(scrubbed) == len(raw)


@pytest.mark.parametrize("placeholder", ["EMPTY", "x", "dummy", "no-key-needed", "token"])
def test_placeholders_are_no_secrets(placeholder: str) -> None:
    raw = f"an answer that is {placeholder}".encode()
    assert Scrubber([Secret(placeholder)]).scrub(raw) is raw


@given(st.binary(max_size=200))
def test_other_replies_stay_the_same_object(raw: bytes) -> None:
    assert Scrubber([Secret(SECRET)]).scrub(raw) is raw


@pytest.mark.parametrize("at", range(0, 70, 7))
def test_a_secret_across_two_blocks_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    monkeypatch.setattr(scrubbing, "_BLOCK_BYTES", 64)
    path = tmp_path / "out.jsonl"
    path.write_text("a" * at + SECRET + "b" * 100 + SECRET)
    Scrubber([Secret(SECRET)]).scrub_file(path)
    mask = "*" * len(SECRET)
    assert path.read_text() == "a" * at + mask + "b" * 100 + mask


ECHOES = " ".join(SPELLINGS.values())


def echo_line(custom_id: str, number: int) -> dict[str, Any]:
    """Return a result line that repeats the secret in one place or another."""
    line = answered_line(custom_id)
    reply = completion(f"综合评分为[[4]]。{ECHOES}")
    reply["id"], reply["choices"][0]["finish_reason"] = ECHOES, ECHOES
    line["response"]["body"] = reply
    if number == 1:
        line = failed_line(custom_id, 401, f"Incorrect API key {ECHOES}")
    if number == 2:
        line = {"custom_id": custom_id, "response": None, "error": {"code": "c", "message": ECHOES}}
    return line


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["batch", "online", "failed job"])
async def test_no_file_has_the_token_that_a_service_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str
) -> None:
    monkeypatch.setenv("SCRUBBED", SECRET)

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        if mode == "failed job":
            return ending(f"Failed {ECHOES}" if number else "Failed", errors={"data": [{"message": ECHOES}]})
        return ending(output=lines(*(echo_line(each, index) for index, each in enumerate(ids))))

    def chat(count: int, _: Do) -> web.Response:
        if count % 3 == 0:
            return web.json_response({"error": {"message": ECHOES, "code": ECHOES}}, status=400)
        reply = completion(f"综合评分为[[4]]。{ECHOES}" if count % 3 == 1 else "")
        reply["choices"][0]["message"]["refusal"] = ECHOES
        reply["id"] = ECHOES
        return web.json_response(reply, headers={"x-request-id": SECRET})

    async with FakeBatchService(end, chat=chat) as service:
        router = {"mode": "online" if mode == "online" else "batch"}
        bench = Bench(tmp_path, service.url, 6, router=router)
        bench.config["service"]["token_env"] = "SCRUBBED"
        await bench.run()
    files = [path for path in bench.directory.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert not shows(path.read_bytes().decode("utf-8", "replace")), path
    shown = capfd.readouterr()
    assert not shows(shown.out + shown.err)
    rows = bench.all_rows
    assert not shows(json.dumps(rows, default=str))
    assert any("****" in json.dumps(row, default=str) for row in rows) or mode == "failed job"
