"""Refusals, lists, cancellations and the openai dialect with three major versions of the official client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

TOKEN = "sesame"
CALLS = Path(__file__).with_name("sdk_calls.py")
BAD_REQUEST, UNAUTHORIZED, NOT_FOUND = ("BadRequestError", 400), ("AuthenticationError", 401), ("NotFoundError", 404)
REFUSALS = {
    "token: chat": (*UNAUTHORIZED, "invalid_api_key"),
    "token: models": (*UNAUTHORIZED, "invalid_api_key"),
    "token: upload": (*UNAUTHORIZED, "invalid_api_key"),
    "token: job": (*UNAUTHORIZED, "invalid_api_key"),
    "unknown file": (*NOT_FOUND, "not_found"),
    "unknown content": (*NOT_FOUND, "not_found"),
    "unknown file, deleted": (*NOT_FOUND, "not_found"),
    "unknown job": (*NOT_FOUND, "not_found"),
    "unknown job, cancelled": (*NOT_FOUND, "not_found"),
    "unknown input file": (*NOT_FOUND, "not_found"),
    "unknown path": (*NOT_FOUND, "unknown_url"),
    "not jsonl by name": (*BAD_REQUEST, "invalid_file_format"),
    "not json": (*BAD_REQUEST, "invalid_json_line"),
    "no custom_id": (*BAD_REQUEST, "missing_required_parameter"),
    "no body": (*BAD_REQUEST, "missing_required_parameter"),
    "no line": (*BAD_REQUEST, "empty_file"),
    "twice": (*BAD_REQUEST, "duplicate_custom_id"),
    "purpose": (*BAD_REQUEST, "invalid_request"),
    "too large": (*BAD_REQUEST, "file_too_large"),
    "window": (*BAD_REQUEST, "invalid_request"),
    "endpoint": (*BAD_REQUEST, "invalid_request"),
    "list of none": (*BAD_REQUEST, "invalid_request"),
    "list from nowhere": (*BAD_REQUEST, "invalid_request"),
    "two choices": (*BAD_REQUEST, "invalid_request"),
}


@pytest.fixture
def call(sdk, emulator, cli_environment):
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


def test_refusals_are_the_clients_own_exceptions(call):
    found = call("refusals")
    assert {name: (one["class"], one.get("status"), one.get("code")) for name, one in found.items()} == REFUSALS
    for one in found.values():
        assert one["keys"] == ["error"]
        assert one["body"].keys() == {"message", "type", "param", "code"}
        assert one["body"]["message"].endswith(".")


def test_lists_are_paged_and_a_job_can_be_cancelled(call):
    found = call("lists", batch={"delay": 600})
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


def test_the_openai_dialect_fits_the_clients_models(call):
    found = call("strict", dialect="openai", batch={"delay": 0.2})
    assert (found["created"], found["ended"]) == ("validating", "completed")
    assert len(found["texts"]) == 3
    assert all("Rating: [[" in text for text in found["texts"])
    assert found["failed"]["status"] == "failed"
    assert [error["code"] for error in found["failed"]["errors"]["data"]] == ["duplicate_custom_id"]


def test_the_asynchronous_client_works_too(call):
    found = call("asynchronous", batch={"delay": 0})
    assert "Rating: [[" in found["chat"]
    assert (found["status"], found["ids"], found["listed"]) == ("Succeeded", ["r-0", "r-1", "r-2"], True)
