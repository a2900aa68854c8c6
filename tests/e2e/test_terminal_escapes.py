"""Words of a service reach the terminal, the status and the log as text: their control characters do nothing."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.core import escape_controls, escape_controls_in_json

# Clears the screen, sets the title, writes the clipboard, fakes a link; C1 spellings; turns the direction of text.
ATTACK = "bad \x1b[2J\x1b]0;owned\x07\x1b]52;c;b3du\x07\x1b]8;;http://x\x1b\\link \x9b31mred \x90q\x9c \u202ecod.exe\r"
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with a refusal whose message attacks the terminal."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"error": {"message": ATTACK, "code": f"no{ATTACK}"}}).encode()
        self.send_response(401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, url: str) -> Path:
    rows = [{"id": f"{ATTACK}{n}", "question": f"q{n}", "answer": "a"} for n in range(2)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = {
        "dataset": {"path": "d.jsonl"},
        "judge": {"kind": "pai_single"},
        "service": {"base_url": url, "token_env": None},
        "output": {"directory": "out"},
    }
    (tmp_path / "judge.yaml").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def on_terminal(command: list[str], folder: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run a command with a terminal as stdout and stderr; returns its exit code and what it printed."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(command, cwd=folder, env={**env, "TERM": "dumb"}, stdout=terminal, stderr=terminal)
    os.close(terminal)
    printed = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # every writer is gone
            break
        if not piece:
            break
        printed += piece
    os.close(controller)
    return process.wait(), printed.decode().replace("\r\n", "\n")


def test_the_words_of_a_service_are_text_everywhere(
    folder: Path, cli_environment: Callable[..., dict[str, str]]
) -> None:
    judge_runner, env = [sys.executable, "-m", "runner"], cli_environment()
    code, printed = on_terminal([*judge_runner, "run", "judge.yaml"], folder, env)
    assert code == 3
    assert r"HTTP 401: bad \x1b[2J\x1b]0;owned\x07" in printed
    assert CONTROL.findall(printed.replace("\x1b[?25l", "").replace("\x1b[?25h", "")) == []
    for command in (
        "status out",
        "status out --json",
        "validate judge.yaml",
        "validate judge.yaml --show 1",
        "plan judge.yaml",
    ):
        _, printed = on_terminal([*judge_runner, *command.split()], folder, env)
        assert CONTROL.findall(printed) == [], command
    log = (folder / "out" / "run.log").read_text(encoding="utf-8")
    assert CONTROL.findall(log) == []
    assert r"HTTP 401: bad \\x1b[2J" in log


@given(st.text())
def test_an_escaped_text_has_no_control_and_keeps_the_rest(text: str) -> None:
    escaped = escape_controls(text)
    assert not CONTROL.search(escaped)
    assert CONTROL.sub("", text) == re.sub(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}", "", escaped) or "\\" in text


@given(
    st.recursive(
        st.text() | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_an_escaped_json_text_has_the_same_value(value: object) -> None:
    text = escape_controls_in_json(json.dumps(value, ensure_ascii=False, indent=2))
    assert json.loads(text) == value
    assert not CONTROL.search(text)
