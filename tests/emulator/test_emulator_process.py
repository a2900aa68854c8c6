"""The emulator as a separate process: as a command and as the child of a run."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import Request, urlopen

import pytest

COMMAND = [sys.executable, "-m", "runner.emulator"]


@contextmanager
def child(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start the emulator as a child process, and kill it at the end of the block."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True, **options)
    try:
        yield process
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def test_an_embedded_child_ignores_signals_and_ends_with_its_parent():
    with child("--embedded", '{"seed": 1}', stdin=subprocess.PIPE) as process:
        port = json.loads(process.stdout.readline())["port"]
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        with urlopen(f"http://127.0.0.1:{port}/emulator/stats", timeout=10) as response:
            assert json.load(response)["requests"] == 0
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_no_temporary_file_remains_after_a_kill(tmp_path):
    with child("--options-json", "{}", env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        url = process.stdout.readline().strip()
        head = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
        line = '{"custom_id": "a", "body": {}}'
        form = head.format("purpose", "", "batch") + head.format("file", '; filename="in.jsonl"', line) + "--x--\r\n"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        with urlopen(Request(f"{url}/files", form.encode(), headers), timeout=10) as response:
            key = json.load(response)["id"]
        with urlopen(f"{url}/files/{key}/content", timeout=10) as response:
            assert response.read() == line.encode()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_stops_at_a_signal(number):
    with child("--options-json", "{}") as process:
        url = process.stdout.readline().strip()
        with urlopen(f"{url}/models", timeout=10) as response:
            assert json.load(response)["object"] == "list"
        process.send_signal(number)
        assert process.wait(timeout=10) == 0


def test_a_port_in_use_is_reported_and_exits_2():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--options-json", json.dumps({"port": port})],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot listen on 127.0.0.1:{port}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"), [("{", "not valid JSON"), ("[]", "not a JSON object"), ('{"rmp": 1}', "did you mean rpm?")]
)
def test_invalid_options_exit_2(options, message):
    done = subprocess.run([*COMMAND, "--embedded", options], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
