"""The batch steps of the service's page, with its Python and its curl calls, against the emulator."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess

import openai
import pytest

pytestmark = pytest.mark.anyio

TOKEN = "sesame"
QUESTION = '请给出"常德德山山有德"对应的下联'
UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FIELDS = re.findall(
    r"\w+",
    """id object endpoint errors input_file_id completion_window status output_file_id error_file_id created_at
    in_process_at expires_at FinalizingAt completed_at failed_at expired_at cancelling_at cancelled_at
    request_counts metadata""",
)


@pytest.fixture
def sample(tmp_path, bodies):
    """The page's input file: two lines, for two models."""
    path = tmp_path / "input.jsonl"
    made = [
        {"custom_id": f"request-{number}", "body": {**bodies.single(QUESTION), "model": model}}
        for number, model in enumerate(("pai-judge", "pai-judge-plus"), 1)
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in made), encoding="utf-8")
    return path


def documented(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=f"Authorization: Bearer {TOKEN}", base_url=f"{url}/v1", max_retries=0)


def python_steps(url, path):
    """Run steps two to five, each with its own client, as on the page."""
    with documented(url) as client, path.open("rb") as source:
        uploaded = client.files.create(file=source, purpose="batch")
    with documented(url) as client:
        created = client.batches.create(
            endpoint="/v1/chat/completions", input_file_id=uploaded.id, completion_window="24h"
        )
    with documented(url) as client:
        ended = client.batches.retrieve(batch_id=created.id)
    with documented(url) as client:
        content = client.files.content(file_id=ended.output_file_id)
    for shown in (uploaded, created, ended):
        assert json.loads(shown.model_dump_json(indent=4))["id"] == shown.id
    return uploaded, created, ended, content.text


async def test_the_python_steps_work_with_the_official_client(emulate, sample):
    async with emulate(token=TOKEN, batch={"delay": 0}) as caller:
        uploaded, created, ended, text = await asyncio.to_thread(python_steps, caller.url, sample)
    assert re.fullmatch("file-batch-[0-9A-F]{32}", uploaded.id)
    assert (uploaded.bytes, uploaded.filename, uploaded.status) == (sample.stat().st_size, "input.jsonl", None)
    assert re.fullmatch(f"batch_{UUID}", created.id)
    assert set(created.to_dict()) == set(ended.to_dict()) == set(FIELDS)
    assert (created.status, created.request_counts.total, created.output_file_id) == ("Creating", 2, None)
    assert created.model_extra == {"in_process_at": None, "FinalizingAt": None}
    assert (ended.status, ended.request_counts.to_dict()) == ("Succeeded", {"total": 2, "completed": 2, "failed": 0})
    assert ended.output_file_id == "file-batch_output-" + created.id.removeprefix("batch_")
    assert ended.error_file_id is ended.errors is ended.metadata is None
    assert ended.completed_at >= ended.model_extra["FinalizingAt"] >= ended.expires_at >= ended.created_at
    assert ended.expires_at == ended.model_extra["in_process_at"]
    check_output([json.loads(line) for line in text.splitlines()])


def check_output(lines):
    """Check that result lines have the form of the page's."""
    assert sorted(line["custom_id"] for line in lines) == ["request-1", "request-2"]
    for line in lines:
        assert list(line) == ["id", "custom_id", "response", "error"]
        assert re.fullmatch(UUID, line["id"])
        assert list(line["response"]) == ["status_code", "request_id", "body"]
        assert (line["response"]["status_code"], line["response"]["request_id"], line["error"]) == (
            200,
            line["id"],
            None,
        )
        body = line["response"]["body"]
        assert list(body) == ["created", "usage", "model", "id", "choices", "object"]
        assert (body["id"], body["object"]) == (f"chatcmpl-{line['id']}", "chat.completion")
        assert body["model"] == ("pai-judge" if line["custom_id"] == "request-1" else "pai-judge-plus")
        (choice,) = body["choices"]
        assert (choice["finish_reason"], choice["index"], list(choice["message"])) == ("stop", 0, ["content"])
        assert choice["message"]["content"].startswith("我认为该回复的综合评分为[[")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
async def test_the_curl_steps_work(emulate, sample):
    async def curl(*arguments: str) -> bytes:
        command = ["curl", "-sS", "--noproxy", "*", *arguments, "-H", f"Authorization: Bearer {TOKEN}"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True, timeout=20)
        return done.stdout

    async with emulate(token=TOKEN, batch={"delay": 0}) as caller:
        base = f"{caller.url}/v1"
        uploaded = json.loads(await curl("-XPOST", f"{base}/files", "-F", "purpose=batch", "-F", f"file=@{sample}"))
        order = {
            "input_file_id": uploaded["id"],
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
        }
        created = json.loads(await curl("-XPOST", f"{base}/batches", "-d", json.dumps(order, indent=4)))
        ended = json.loads(await curl("-XGET", f"{base}/batches/{created['id']}"))
        text = await curl("-XGET", f"{base}/files/{ended['output_file_id']}/content")
    assert list(created) == list(ended) == FIELDS
    assert (uploaded["filename"], created["status"], ended["status"]) == ("input.jsonl", "Creating", "Succeeded")
    check_output([json.loads(line) for line in text.splitlines()])
