"""Every example of the page, in Python with three major versions of the official client, and with curl."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess

import pytest
from page_examples import filled, is_valid

TOKEN = "sesame"
CHATS = ("single", "pairwise", "template")


@pytest.fixture
def service(emulator):
    return emulator(token=TOKEN, latency={"median": 0.0, "sigma": 0.0}, batch={"delay": 0.0})


@pytest.fixture
def input_file(page, tmp_path):
    path = tmp_path / "input.jsonl"
    path.write_text(page.lines, encoding="utf-8")
    return path


def check_chats(shown):
    for name in CHATS:
        (choice,) = shown[name]["choices"]
        assert shown[name]["model"] == "pai-judge"
        assert shown[name]["usage"]["total_tokens"] > 0
        assert (choice["finish_reason"], choice["message"]["role"]) == ("stop", "assistant")
        assert "分" in choice["message"]["content"] or "[[" in choice["message"]["content"]
    assert shown["pairwise"]["choices"] != shown["single"]["choices"]


def check_batch(shown, path):
    assert (shown["upload"]["purpose"], shown["upload"]["bytes"]) == ("batch", path.stat().st_size)
    assert shown["create"]["input_file_id"] == shown["upload"]["id"]
    assert (shown["create"]["status"], shown["create"]["output_file_id"]) == ("Creating", None)
    assert (shown["retrieve"]["status"], shown["retrieve"]["id"]) == ("Succeeded", shown["create"]["id"])
    assert shown["retrieve"]["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


def remember_ids(name, reply, known):
    """Store the ids of this reply that the next examples need."""
    if name == "upload":
        known["file"] = reply["id"]
    elif name == "create":
        known["batch"] = reply["id"]
    elif name == "retrieve":
        known["output"] = reply["output_file_id"]


def test_every_python_example_works(sdk, page, service, input_file, tmp_path, cli_environment):
    known, shown = {"url": service.url, "path": str(input_file)}, {}
    for name, example in page.examples.items():
        program = tmp_path / f"{name}.py"
        program.write_text(filled(example.python, known), encoding="utf-8")
        done = subprocess.run(
            [sdk, program],
            env=cli_environment({"JUDGE_MODEL_TOKEN": TOKEN, "PYTHONPATH": None}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if name in CHATS:
            shown[name] = ast.literal_eval(done.stdout)
        elif name == "content":
            assert "HttpxBinaryResponseContent" in done.stdout
        else:
            shown[name] = json.loads(done.stdout)
            remember_ids(name, shown[name], known)
    check_chats(shown)
    check_batch(shown, input_file)
    assert service.stats()["polls"] == 1


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_every_valid_curl_example_works_and_the_invalid_ones_are_a_400(
    page, service, input_file, tmp_path, cli_environment
):
    (tmp_path / ".curlrc").write_text('silent\nwrite-out = "%{stderr}%{http_code}"\n')
    known, shown, invalid = {"url": service.url, "path": str(input_file)}, {}, set()
    for name, example in page.examples.items():
        done = subprocess.run(
            ["sh", "-c", filled(example.curl, known)],
            env=cli_environment({"JUDGE_MODEL_TOKEN": TOKEN, "CURL_HOME": str(tmp_path)}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        if not is_valid(example.curl):
            invalid.add(name)
            assert done.stderr == "400"
            assert json.loads(done.stdout)["error"].keys() == {"message", "type", "param", "code"}
            continue
        assert done.stderr == "200", done.stdout
        if name != "content":
            shown[name] = json.loads(done.stdout)
            remember_ids(name, shown[name], known)
    check_batch(shown, input_file)
    if invalid:
        assert invalid == {"pairwise", "template"}  # a message nested in a content; two strings without an operator
    else:
        check_chats(shown)
    lines = [json.loads(line) for line in (tmp_path / "output.jsonl").read_text(encoding="utf-8").splitlines()]
    custom_ids = [json.loads(line)["custom_id"] for line in page.lines.splitlines()]
    assert sorted(line["custom_id"] for line in lines) == custom_ids
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in lines)
