"""What three major versions of the official client make of refusals, lists, cancellations and the openai dialect."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

TOKEN = "sesame"
CALLS = Path(__file__).with_name("sdk_calls.py")
BAD, KEY, GONE = ("BadRequestError", 400), ("AuthenticationError", 401), ("NotFoundError", 404)
REFUSALS = {
    "token: chat": (*KEY, "invalid_api_key"),
    "token: models": (*KEY, "invalid_api_key"),
    "token: upload": (*KEY, "invalid_api_key"),
    "token: job": (*KEY, "invalid_api_key"),
    "unknown file": (*GONE, "not_found"),
    "unknown content": (*GONE, "not_found"),
    "unknown file, deleted": (*GONE, "not_found"),
    "unknown job": (*GONE, "not_found"),
    "unknown job, cancelled": (*GONE, "not_found"),
    "unknown input file": (*GONE, "not_found"),
    "unknown path": (*GONE, "unknown_url"),
    "not jsonl by name": (*BAD, "invalid_file_format"),
    "not json": (*BAD, "invalid_json_line"),
    "no custom_id": (*BAD, "missing_required_parameter"),
    "no body": (*BAD, "missing_required_parameter"),
    "no line": (*BAD, "empty_file"),
    "twice": (*BAD, "duplicate_custom_id"),
    "purpose": (*BAD, "invalid_request"),
    "too large": (*BAD, "file_too_large"),
    "window": (*BAD, "invalid_request"),
    "endpoint": (*BAD, "invalid_request"),
    "list of none": (*BAD, "invalid_request"),
    "list from nowhere": (*BAD, "invalid_request"),
    "stream": (*BAD, "invalid_request"),
    "two choices": (*BAD, "invalid_request"),
}


@pytest.fixture
def ask(sdk, emulator, cli_environment):
    """Run one group of calls against an emulator with these options."""

    def run(group, **options):
        service = emulator(token=TOKEN, latency={"median": 0.0, "sigma": 0.0}, **options)
        done = subprocess.run(
            [sdk, CALLS, group, service.url, TOKEN],
            env=cli_environment({"PYTHONPATH": None}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found.pop("version").split(".")[0] == sdk.parts[-3].removeprefix("openai-")
        return found

    return run


def test_refusals_are_the_clients_own_exceptions(ask):
    found = ask("refusals")
    assert {name: (one["class"], one.get("status"), one.get("code")) for name, one in found.items()} == REFUSALS
    for one in found.values():
        assert one["keys"] == ["error"]
        assert one["body"].keys() == {"message", "type", "param", "code"}
        assert one["body"]["message"].endswith(".")


def test_lists_are_paged_and_a_job_can_be_cancelled(ask):
    found = ask("lists", batch={"delay": 600})
    newest = found["jobs"][::-1]
    assert (found["page"], found["more"]) == (newest[:2], [True, True])
    assert found["listed"] == found["listed_at_once"] == newest
    assert found["files_listed"] == found["files"][:4]
    assert (found["cancel"], found["cancelled"]["status"]) == ("Cancelling", "Cancelled")
    (line,) = found["cancelled"]["lines"]
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("r-0", None, "batch_cancelled")
    assert (found["again"]["class"], found["again"]["status"]) == ("ConflictError", 409)
    assert found["deleted"] is True
    assert found["gone"]["class"] == "NotFoundError"


def test_the_openai_dialect_fits_the_clients_models(ask):
    found = ask("strict", dialect="openai", batch={"delay": 0.2})
    assert (found["created"], found["ended"]) == ("validating", "completed")
    assert len(found["texts"]) == 3
    assert all("Rating: [[" in text for text in found["texts"])
    assert found["failed"]["status"] == "failed"
    assert [error["code"] for error in found["failed"]["errors"]["data"]] == ["duplicate_custom_id"]


def test_the_asynchronous_client_works_too(ask):
    found = ask("in_turns", batch={"delay": 0})
    assert "Rating: [[" in found["chat"]
    assert (found["status"], found["ids"], found["listed"]) == ("Succeeded", ["r-0", "r-1", "r-2"], True)
