"""Batch jobs: their stages over time in each dialect, and what is refused."""

from __future__ import annotations

import asyncio
import json
import re

import openai
import pytest

pytestmark = pytest.mark.anyio

TARGET = {"method": "POST", "url": "/v1/chat/completions"}


async def test_a_job_goes_through_its_stages_over_time(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 100}) as caller:
        job = await caller.submit(lines(20))
        seen = [(job["status"], job["request_counts"]["completed"])]
        for clock.now in (1024, 1026, 1050, 1070, 1089, 1095, 1100, 9000):
            job = await caller.job(job["id"])
            seen.append((job["status"], job["request_counts"]["completed"]))
        stats = await caller.stats()
    assert seen == [
        ("Creating", 0),
        ("Creating", 0),
        ("Running", 0),
        ("Running", 0),
        ("Running", 10),
        ("Running", 19),
        ("Finalizing", 20),
        ("Succeeded", 20),
        ("Succeeded", 20),
    ]
    created_at = job["created_at"]
    assert (job["in_process_at"], job["FinalizingAt"], job["completed_at"]) == (
        created_at + 25,
        created_at + 90,
        created_at + 100,
    )
    assert [stats[name] for name in ("batches", "batch_lines", "polls", "files", "files_held")] == [1, 20, 8, 1, 2]
    assert (stats["batch_status"], stats["distinct_ok"], stats["paid_twice"]) == ({"Succeeded": 1}, 20, 0)
    assert (stats["requests"], stats["status"], stats["lines_twice"], stats["lines_lost"]) == (0, {}, 0, 0)


@pytest.mark.parametrize("dialect", ["openai", "dashscope"])
async def test_the_other_dialects_have_their_own_status_words_and_fields(emulate, clock, lines, dialect):
    async with emulate(clock, dialect=dialect, batch={"delay": 100}) as caller:
        created = await caller.submit(lines(4, **TARGET))
        found = [created]
        for clock.now in (1030, 1095, 1100):
            found.append(await caller.job(created["id"]))
        output, errors = await caller.results(created["id"])
    ended, created_at = found[-1], created["created_at"]
    assert [job["status"] for job in found] == ["validating", "in_progress", "finalizing", "completed"]
    assert [job["request_counts"]["total"] for job in found] == [0, 4, 4, 4]
    assert (ended["finalizing_at"], ended["completed_at"]) == (created_at + 90, created_at + 100)
    assert not {"in_process_at", "FinalizingAt"} & set(ended)
    assert (len(output), errors) == (4, [])
    message = output[0]["response"]["body"]["choices"][0]["message"]
    assert message["role"] == "assistant"
    if dialect == "openai":
        assert re.fullmatch("batch_[0-9a-f]{32}", ended["id"])
        assert re.fullmatch("file-[0-9A-Za-z]{24}", ended["output_file_id"])
        assert (ended["in_progress_at"], ended["expires_at"], ended["model"]) == (
            created_at + 25,
            created_at + 86_400,
            "pai-judge",
        )
        usages = [line["response"]["body"]["usage"] for line in output]
        assert created["usage"]["total_tokens"] == 0
        assert ended["usage"]["total_tokens"] == sum(usage["total_tokens"] for usage in usages)
    else:
        assert ended["output_file_id"].startswith("file-batch_output-")
        assert (ended["in_progress_at"], ended["expires_at"]) == (created_at, None)


async def test_a_line_gets_the_same_verdict_as_a_call(emulate, lines):
    given = lines(12)
    async with emulate(batch={"delay": 0}) as caller:
        output, _ = await caller.results((await caller.submit(given))["id"])
        online = {line["custom_id"]: (await caller.chat(line["body"])).json for line in given}
        stats = await caller.stats()
    assert [line["custom_id"] for line in output] != [line["custom_id"] for line in given]
    for line in output:
        expected, body = online[line["custom_id"]], line["response"]["body"]
        assert body["choices"][0]["message"]["content"] == expected["choices"][0]["message"]["content"]
        assert body["usage"] == expected["usage"]
    assert (stats["distinct_ok"], stats["dup_ok"], stats["paid_twice"]) == (12, 0, 12)
    assert stats["prompt_tokens"] == 2 * sum(reply["usage"]["prompt_tokens"] for reply in online.values())


async def test_a_second_job_with_the_same_lines_is_counted(emulate, lines):
    async with emulate(batch={"delay": 0}) as caller:
        await caller.submit(lines(5))
        await caller.submit(lines(5, start=3))
        stats = await caller.stats()
    assert (stats["batches"], stats["batch_lines"], stats["lines_twice"]) == (2, 10, 2)
    assert (stats["distinct_ok"], stats["dup_ok"], stats["paid_twice"]) == (8, 2, 2)


async def test_a_line_with_an_invalid_body_is_a_failed_line(emulate, lines):
    streamed = {"custom_id": "streamed", "body": {**lines(1)[0]["body"], "stream": True}}
    given = [*lines(2), {"custom_id": "odd", "body": {"model": "pai-judge"}}, streamed]
    async with emulate(batch={"delay": 0}) as caller:
        created = await caller.submit(given)
        output, errors = await caller.results(created["id"])
        job = await caller.job(created["id"])
    assert len(output) == 2
    line, other = sorted(errors, key=lambda line: line["custom_id"])
    assert (other["custom_id"], other["response"]["body"]["error"]["param"]) == ("streamed", "stream")
    assert (line["custom_id"], line["error"], line["response"]["status_code"]) == ("odd", None, 400)
    assert line["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert job["request_counts"] == {"total": 4, "completed": 2, "failed": 2}
    assert job["error_file_id"] == "file-batch_error-" + job["id"].removeprefix("batch_")


async def test_a_job_whose_lines_all_fail_has_no_output_file(emulate):
    async with emulate(dialect="openai", batch={"delay": 0}) as caller:
        created = await caller.submit([{"custom_id": "odd", "body": {"model": "m"}, **TARGET}])
        job = await caller.job(created["id"])
    assert (job["status"], job["output_file_id"]) == ("completed", None)
    assert job["error_file_id"]


@pytest.mark.parametrize("dialect", ["openai", "dashscope"])
@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"{half\n", "invalid_json_line", 1),
        ([{}, {}], "duplicate_custom_id", 2),
        ([{}, {"custom_id": "b", "url": "/v1/embeddings"}], "url_mismatch", 2),
        ([{"url": None}], "missing_required_parameter", 1),
        ([{"method": "GET"}], "missing_required_parameter", 1),
        ([{}, {"custom_id": "b", "body": {"model": "n"}}], "model_mismatch", 2),
    ],
)
async def test_openai_and_dashscope_reject_an_invalid_file_in_the_job(emulate, dialect, data, code, line):
    if isinstance(data, list):
        usual = {"custom_id": "a", "body": {"model": "m"}, **TARGET}
        data = b"\n".join(json.dumps({**usual, **change}).encode() for change in data)
    async with emulate(dialect=dialect) as caller:
        file = await caller.upload(data)
        created = await caller.create(file.json["id"])
        job = await caller.job(created.json["id"])
        stats = await caller.stats()
    assert (file.status, created.status, created.json["status"]) == (200, 200, "validating")
    assert (job["status"], job["failed_at"], job["errors"]["object"]) == ("failed", job["created_at"], "list")
    assert [(problem["code"], problem["line"]) for problem in job["errors"]["data"]] == [(code, line)]
    assert set(job["errors"]["data"][0]) == {"code", "message", "param", "line"}
    assert job["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert job["output_file_id"] is job["error_file_id"] is None
    assert (stats["batches"], stats["batch_lines"], stats["distinct_ok"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("dialect", "change", "status", "param"),
    [
        ("pai", {"input_file_id": "file-none"}, 404, "input_file_id"),
        ("pai", {"input_file_id": 7}, 400, "input_file_id"),
        ("pai", {"endpoint": "/v1/embeddings"}, 400, "endpoint"),
        ("pai", {"completion_window": "48h"}, 400, "completion_window"),
        ("openai", {"completion_window": "1d"}, 400, "completion_window"),
        ("dashscope", {"completion_window": "23h"}, 400, "completion_window"),
        ("dashscope", {"completion_window": "15d"}, 400, "completion_window"),
        ("pai", {"metadata": {"a": 1}}, 400, "metadata[...]"),
    ],
)
async def test_an_invalid_creation_names_the_parameter(emulate, lines, dialect, change, status, param):
    async with emulate(dialect=dialect) as caller:
        file = await caller.upload(json.dumps(lines(1)[0]).encode())
        reply = await caller.create(file.json["id"], **change)
        stats = await caller.stats()
    assert (reply.status, reply.error["param"], reply.error["type"]) == (status, param, "invalid_request_error")
    assert stats["batches"] == 0


@pytest.mark.parametrize("window", ["24h", "336h", "1d", "14d"])
async def test_dashscope_accepts_longer_windows_and_metadata_is_returned(emulate, lines, window):
    async with emulate(dialect="dashscope") as caller:
        file = await caller.upload(json.dumps(lines(1, **TARGET)[0]).encode())
        reply = await caller.create(file.json["id"], completion_window=window, metadata={"ds_name": "x"})
    assert (reply.json["completion_window"], reply.json["metadata"]) == (window, {"ds_name": "x"})


async def test_invalid_json_and_result_files_create_no_job(emulate, lines):
    async with emulate(batch={"delay": 0}) as caller:
        job = await caller.job((await caller.submit(lines(1)))["id"])
        result = await caller.create(job["output_file_id"])
        broken = await caller.call("POST", "/v1/batches", b"{half")
        latin = await caller.call("POST", "/v1/batches", b'{"input_file_id": "\xff"}')
    assert (result.status, result.error["param"]) == (400, "input_file_id")
    assert broken.status == latin.status == 400


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/batches/batch_none"), ("POST", "/v1/batches/batch_none/cancel")]
)
async def test_an_unknown_job_is_a_404_and_a_wrong_token_a_401(emulate, method, path):
    async with emulate(token="t") as caller:
        unknown = await caller.call(method, path, headers={"Authorization": "Bearer Authorization: Bearer t"})
        denied = [await caller.call(method, path), await caller.call("GET", "/v1/batches"), await caller.create("x")]
    assert (unknown.status, unknown.error["code"], unknown.error["param"]) == (404, "not_found", "id")
    assert [reply.status for reply in denied] == [401, 401, 401]


async def test_jobs_are_listed_in_pages_newest_first(emulate, lines):
    async with emulate(batch={"delay": 0}) as caller:
        keys = [(await caller.submit(lines(1)))["id"] for _ in range(25)]
        first = (await caller.call("GET", "/v1/batches")).json
        second = (await caller.call("GET", f"/v1/batches?after={first['last_id']}&limit=100")).json
        invalid = [await caller.call("GET", f"/v1/batches?{query}") for query in ("limit=101", "after=batch_none")]
        async with openai.AsyncOpenAI(api_key="any", base_url=f"{caller.url}/v1", max_retries=0) as client:
            listed = [batch.id async for batch in client.batches.list(limit=7)]
    assert [job["id"] for job in first["data"] + second["data"]] == keys[::-1] == listed
    assert (len(first["data"]), first["has_more"], second["has_more"]) == (20, True, False)
    assert (first["first_id"], first["last_id"]) == (keys[-1], keys[5])
    assert {job["status"] for job in first["data"]} == {"Succeeded"}
    assert [reply.status for reply in invalid] == [400, 400]


async def test_an_empty_dashscope_list_is_null(emulate):
    async with emulate(dialect="dashscope") as caller:
        reply = await caller.call("GET", "/v1/batches")
    assert reply.json == {"object": "list", "data": None, "first_id": None, "last_id": None, "has_more": False}


async def test_a_cancelled_job_keeps_the_lines_it_ran(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 100}) as caller:
        key = (await caller.submit(lines(20)))["id"]
        clock.now = 1070
        first = await caller.call("POST", f"/v1/batches/{key}/cancel")
        clock.now = 1070.1
        again = await caller.call("POST", f"/v1/batches/{key}/cancel")
        clock.now = 1071
        output, errors = await caller.results(key)
        job = await caller.job(key)
        late = await caller.call("POST", f"/v1/batches/{key}/cancel")
        stats = await caller.stats()
    created_at = job["created_at"]
    assert [reply.json["status"] for reply in (first, again)] == ["Cancelling", "Cancelling"]
    assert (job["status"], job["cancelling_at"], job["cancelled_at"]) == ("Cancelled", created_at + 70, created_at + 70)
    assert (job["in_process_at"], job["FinalizingAt"], job["completed_at"]) == (created_at + 25, None, None)
    assert job["request_counts"] == {"total": 20, "completed": 10, "failed": 10}
    assert {line["response"]["status_code"] for line in output} == {200}
    assert {(line["response"], line["error"]["code"]) for line in errors} == {(None, "batch_cancelled")}
    assert len({line["custom_id"] for line in output + errors}) == 20
    assert (late.status, late.error["code"]) == (409, "batch_ended")
    assert (stats["distinct_ok"], stats["batch_status"]) == (10, {"Cancelled": 1})


@pytest.mark.parametrize("dialect", ["pai", "openai", "dashscope"])
async def test_a_job_cancelled_at_once_runs_no_line(emulate, clock, lines, dialect):
    async with emulate(clock, dialect=dialect, batch={"delay": 100}) as caller:
        key = (await caller.submit(lines(3, **TARGET)))["id"]
        assert (await caller.call("POST", f"/v1/batches/{key}/cancel")).json["status"].lower() == "cancelling"
        clock.now += 1
        job = await caller.job(key)
        output, errors = await caller.results(key)
    assert (job["output_file_id"], output, len(errors)) == (None, [], 3)
    assert job["request_counts"] == {"total": 3, "completed": 0, "failed": 3}
    if dialect == "dashscope":
        assert job["error_file_id"].startswith("file-batch_output-")


async def test_a_job_continues_after_its_input_is_deleted_and_its_client_disconnects(emulate, lines):
    async with emulate(batch={"delay": 0}) as caller:
        job = await caller.submit(lines(300))
        await caller.call("DELETE", f"/v1/files/{job['input_file_id']}")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(caller.job(job["id"]), 0.001)
        output, _ = await caller.results(job["id"])
        stats = await caller.stats()
    assert len({line["custom_id"] for line in output}) == 300
    assert (stats["distinct_ok"], stats["dup_ok"], stats["files_held"]) == (300, 0, 1)


async def test_statistics_include_ended_jobs_that_no_call_retrieved_and_a_reset_keeps_files_and_jobs(
    emulate, clock, lines
):
    async with emulate(clock, batch={"delay": 10}) as caller:
        job = await caller.submit(lines(7))
        before = await caller.stats()
        clock.now += 10
        after = await caller.stats()
        await caller.call("POST", "/emulator/reset")
        cleared = await caller.stats()
        output, _ = await caller.results(job["id"])
    assert [found["distinct_ok"] for found in (before, after, cleared)] == [0, 7, 0]
    assert (before["batch_status"], after["batch_status"]) == ({"Creating": 1}, {"Succeeded": 1})
    assert (cleared["batches"], cleared["files"], cleared["files_held"], len(output)) == (0, 0, 2, 7)
