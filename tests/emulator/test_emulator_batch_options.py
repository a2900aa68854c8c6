"""The options of batches: each fault occurs as configured, and again with the same seed."""

from __future__ import annotations

import json
from itertools import pairwise

import aiohttp
import pytest

pytestmark = pytest.mark.anyio


def ids(lines) -> set[str]:
    return {line["custom_id"] for line in lines}


async def test_the_first_jobs_are_held_then_expire_then_fail(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 10, "hold": 1, "expire": 1, "fail": 1}) as caller:
        keys = [(await caller.submit(lines(9, start=10 * number)))["id"] for number in range(4)]
        clock.now += 1000
        jobs = [await caller.job(key) for key in keys]
        stats = await caller.stats()
        output, errors = await caller.results(keys[1])
        await caller.call("POST", f"/v1/batches/{keys[0]}/cancel")
        clock.now += 1
        held_output, held_errors = await caller.results(keys[0])
    assert [job["status"] for job in jobs] == ["Running", "Expired", "Failed", "Succeeded"]
    assert jobs[1]["request_counts"] == {"total": 9, "completed": 4, "failed": 5}
    assert jobs[1]["expired_at"] == jobs[1]["created_at"] + 10
    assert (len(output), len(errors), len(ids(output + errors))) == (4, 5, 9)
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert [problem["code"] for problem in jobs[2]["errors"]["data"]] == ["internal_error"]
    assert (jobs[2]["output_file_id"], jobs[2]["error_file_id"]) == (None, None)
    assert jobs[2]["request_counts"] == {"total": 9, "completed": 0, "failed": 0}
    assert stats["distinct_ok"] == 4 + 9
    assert (len(held_output), len(held_errors)) == (4, 5)


async def test_lost_lines_are_in_no_result_file_and_not_paid(emulate, lines):
    async with emulate(seed=5, batch={"delay": 0, "lose": 0.2}) as caller:
        first = await caller.submit(lines(200))
        output, errors = await caller.results(first["id"])
        job = await caller.job(first["id"])
        missing = [line for line in lines(200) if line["custom_id"] not in ids(output)]
        again, _ = await caller.results((await caller.submit(missing))["id"])
        stats = await caller.stats()
    assert (errors, job["request_counts"]["failed"], job["error_file_id"]) == ([], 0, None)
    assert job["request_counts"]["completed"] == 200 - len(missing)
    assert 20 < len(missing) < 60
    assert 0 < len(again) < len(missing)
    assert stats["distinct_ok"] == len(output) + len(again)
    assert stats["lines_lost"] == 2 * len(missing) - len(again)
    assert (stats["paid_twice"], stats["lines_twice"]) == (0, len(missing))


async def test_result_files_are_late_then_short_and_break_off(emulate, lines):
    async with emulate(batch={"delay": 0, "content_404": 1, "short_results": 1, "break_after": 5000}) as caller:
        job = await caller.job((await caller.submit(lines(20)))["id"])
        path = f"/v1/files/{job['output_file_id']}/content"

        async def piece(start):
            return await caller.call("GET", path, headers={"Range": f"bytes={start}-"})

        assert (await caller.call("GET", path)).status == 404
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.call("GET", path)  # half of the lines
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.call("GET", path)
        size = int((await piece(10**6)).headers["Content-Range"].removeprefix("bytes */"))
        last = await piece(size - 5000)
        with pytest.raises(aiohttp.ClientPayloadError):
            await piece(size - 5001)
        end = await piece(size)
    assert (last.status, len(last.raw)) == (206, 5000)
    assert last.headers["Content-Range"] == f"bytes {size - 5000}-{size - 1}/{size}"
    assert (end.status, end.headers["Content-Range"]) == (416, f"bytes */{size}")

    async with emulate(batch={"delay": 0, "short_results": 2}) as caller:
        key = (await caller.submit(lines(21)))["id"]
        assert [len((await caller.results(key))[0]) for _ in range(3)] == [10, 10, 21]
        assert (await caller.job(key))["request_counts"]["completed"] == 21


async def test_errors_in_the_output_file_do_not_count_as_failed(emulate, lines):
    async with emulate(batch={"delay": 0, "errors_in_output": 0.25}) as caller:
        key = (await caller.submit(lines(200)))["id"]
        output, errors = await caller.results(key)
        job = await caller.job(key)
        stats = await caller.stats()
    failed = [line for line in output if line["response"]["status_code"] != 200]
    assert (len(output), errors, job["request_counts"]["failed"]) == (200, [], 0)
    assert 30 < len(failed) < 70
    assert {(line["response"]["status_code"], line["error"]) for line in failed} == {(500, None)}
    assert failed[0]["response"]["body"]["error"]["code"] == "internal_error"
    assert stats["distinct_ok"] == 200 - len(failed)


@pytest.mark.parametrize("dialect", ["pai", "dashscope"])
async def test_line_faults_make_failed_lines_and_connection_faults_do_not_occur(emulate, lines, dialect):
    faults = {"500": 0.1, "503": 0.1, "429": 0.1, "refuse": 0.1, "unparsable": 0.1, "reset": 0.2, "malformed": 0.2}
    given = lines(200, method="POST", url="/v1/chat/completions")
    async with emulate(dialect=dialect, faults=faults, batch={"delay": 0}) as caller:
        key = (await caller.submit(given))["id"]
        output, errors = await caller.results(key)
        job = await caller.job(key)
        stats = await caller.stats()
    statuses = [line["response"]["status_code"] for line in output + errors]
    failed = [status for status in statuses if status != 200]
    assert (len(statuses), set(statuses)) == (200, {200, 400, 429, 500, 503})
    assert set(stats["faults"]) == {"429", "500", "503", "refuse", "unparsable"}
    assert sum(stats["faults"].values()) - stats["faults"]["unparsable"] == len(failed)
    assert stats["distinct_ok"] == 200 - len(failed)
    if dialect == "pai":
        assert (len(errors), job["request_counts"]["failed"]) == (len(failed), len(failed))
        assert "data_inspection_failed" in {line["response"]["body"]["error"]["code"] for line in errors}
    else:
        assert (errors, job["request_counts"]["failed"]) == ([], 0)


async def test_a_job_exists_although_the_response_to_its_creation_is_lost(emulate, lines):
    async with emulate(batch={"delay": 0, "drop_create": 1}) as caller:
        file = await caller.upload(json.dumps(lines(1)[0]).encode())
        with pytest.raises(aiohttp.ClientConnectionError):
            await caller.create(file.json["id"])
        (job,) = (await caller.call("GET", "/v1/batches")).json["data"]
        stats = await caller.stats()
    assert (job["input_file_id"], job["status"]) == (file.json["id"], "Succeeded")
    assert stats["batches"] == 1


async def test_unsupported_calls_are_404(emulate, lines):
    async with emulate(batch={"unsupported": ["list", "cancel", "delete"]}) as caller:
        job = await caller.submit(lines(1))
        replies = [
            await caller.call("GET", "/v1/batches"),
            await caller.call("GET", "/v1/files"),
            await caller.call("POST", f"/v1/batches/{job['id']}/cancel"),
            await caller.call("DELETE", f"/v1/files/{job['input_file_id']}"),
        ]
        supported = await caller.call("GET", f"/v1/files/{job['input_file_id']}")
    assert [(reply.status, reply.error["code"]) for reply in replies] == [(404, "unknown_url")] * 4
    assert supported.status == 200


async def test_cancelling_can_have_no_effect(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 10, "ignore_cancel": True}) as caller:
        key = (await caller.submit(lines(2)))["id"]
        reply = await caller.call("POST", f"/v1/batches/{key}/cancel")
        clock.now += 10
        ended = await caller.job(key)
    assert (reply.status, reply.json["status"], ended["status"]) == (200, "Creating", "Succeeded")


async def test_a_job_fails_while_open_jobs_have_too_many_lines(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 10, "enqueued": 5}) as caller:
        keys = [(await caller.submit(lines(3, start=3 * number)))["id"] for number in range(2)]
        refused = await caller.job(keys[1])
        clock.now += 10
        keys.append((await caller.submit(lines(3, start=3)))["id"])
        clock.now += 10
        jobs = [await caller.job(key) for key in keys]
        stats = await caller.stats()
    (problem,) = refused["errors"]["data"]
    assert (refused["status"], problem["code"], problem["line"]) == ("Failed", "token_limit_exceeded", None)
    assert problem["message"].startswith("Enqueued token limit reached")
    assert [job["status"] for job in jobs] == ["Succeeded", "Failed", "Succeeded"]
    assert (stats["batches"], stats["batch_lines"], stats["lines_twice"]) == (3, 6, 0)


async def test_a_running_job_can_have_any_status_word(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 10, "status_word": "scheduling"}) as caller:
        key = (await caller.submit(lines(2)))["id"]
        clock.now += 5
        running = await caller.job(key)
        stats = await caller.stats()
        clock.now += 5
        ended = await caller.job(key)
    assert (running["status"], stats["batch_status"]) == ("scheduling", {"scheduling": 1})
    assert ended["status"] == "Succeeded"


async def test_result_lines_can_be_garbled_repeated_unknown_and_text(emulate, lines):
    options = {"delay": 0, "garble": 0.2, "repeats": 0.2, "strangers": 0.2, "body_as_text": True}
    async with emulate(batch=options) as caller:
        job = await caller.job((await caller.submit(lines(200)))["id"])
        raw = (await caller.call("GET", f"/v1/files/{job['output_file_id']}/content")).raw
        stats = await caller.stats()
    complete, garbled = [], 0
    for text in raw.splitlines():
        try:
            complete.append(json.loads(text))
        except ValueError:
            garbled += 1
    known = [line["custom_id"] for line in complete if line["custom_id"].startswith("request-")]
    unknown = len(complete) - len(known)
    assert 20 < garbled < 100
    assert 20 < unknown < 60
    assert 15 < len(known) - len(set(known)) < 60
    assert stats["distinct_ok"] == len(set(known)) < 200
    assert stats["dup_ok"] == stats["paid_twice"] == 0
    assert {json.loads(line["response"]["body"])["object"] for line in complete} == {"chat.completion"}


async def test_the_same_seed_gives_the_same_results(emulate, lines):
    options = {"delay": 0, "expire": 1, "lose": 0.1, "errors_in_output": 0.1, "garble": 0.1, "repeats": 0.1}
    outcomes = []
    for seed in (3, 3, 4):
        async with emulate(seed=seed, faults={"500": 0.1}, noise=0.2, batch=options) as caller:
            found = []
            for start in (0, 0, 40):
                job = await caller.job((await caller.submit(lines(40, start)))["id"])
                for key in (job["output_file_id"], job["error_file_id"]):
                    raw = (await caller.call("GET", f"/v1/files/{key}/content")).raw
                    found.append([line[:100] for line in raw.splitlines()])
            outcomes.append(found)
    assert outcomes[0] == outcomes[1] != outcomes[2]


async def test_a_list_can_lag_behind_and_name_other_files(emulate, clock, lines):
    async with emulate(clock, batch={"delay": 10, "list_lag": 30, "list_other_files": True}) as caller:
        made = await caller.submit(lines(2))
        assert (await caller.call("GET", "/v1/batches")).json["data"] == []
        clock.now += 30
        (shown,) = (await caller.call("GET", "/v1/batches")).json["data"]
        assert (shown["id"], shown["input_file_id"]) == (made["id"], f"raw-{made['input_file_id']}")
        assert (await caller.job(made["id"]))["input_file_id"] == made["input_file_id"]


async def test_a_file_is_pending_for_a_while(emulate, clock, lines):
    async with emulate(clock, batch={"file_pending": 30}) as caller:
        file = (await caller.upload(json.dumps(lines(1)[0]).encode())).json
        refused = await caller.create(file["id"])
        assert (file["status"], refused.status, refused.error["code"]) == ("pending", 400, "invalidPayload")
        clock.now += 30
        assert "status" not in (await caller.call("GET", f"/v1/files/{file['id']}")).json
        assert (await caller.create(file["id"])).status == 200


@pytest.mark.parametrize("status", [400, 403, 429])
async def test_a_creation_is_refused_while_open_jobs_have_too_many_lines(emulate, clock, lines, status):
    async with emulate(clock, batch={"delay": 10, "enqueued_requests": 5, "enqueued_status": status}) as caller:
        await caller.submit(lines(4))
        second = (await caller.upload(json.dumps(lines(2, start=9)[0]).encode() + b"\n")).json["id"]
        third = (await caller.upload(b"".join(json.dumps(line).encode() + b"\n" for line in lines(2, start=20)))).json[
            "id"
        ]
        assert (await caller.create(second)).status == 200
        refused = await caller.create(third)
        assert (refused.status, refused.error["code"]) == (status, "enqueued_request_limit_reached")
        clock.now += 10
        assert (await caller.create(third)).status == 200
        assert (await caller.stats())["batches"] == 3


async def test_jobs_can_be_wrapped_and_listed_bare(emulate, lines):
    async with emulate(batch={"delay": 0, "wrap": True}) as caller:
        made = (await caller.submit(lines(1)))["job"]
        assert (await caller.job(made["id"]))["job"]["id"] == made["id"]
        assert [one["id"] for one in (await caller.call("GET", "/v1/batches")).json] == [made["id"]]


@pytest.mark.parametrize("dialect", ["pai", "openai"])
async def test_lines_that_fail_are_counted_as_failed_while_a_job_runs(emulate, clock, lines, dialect):
    given = lines(200, method="POST", url="/v1/chat/completions")
    async with emulate(clock, dialect=dialect, faults={"500": 0.3}, batch={"delay": 100}) as caller:
        key = (await caller.submit(given))["id"]
        seen = []
        for _ in range(10):
            clock.now += 10
            seen.append((await caller.job(key))["request_counts"])
    assert all(a["completed"] <= b["completed"] and a["failed"] <= b["failed"] for a, b in pairwise(seen))
    assert 30 < seen[-1]["failed"] < 90
    assert seen[-1] == {"total": 200, "completed": 200 - seen[-1]["failed"], "failed": seen[-1]["failed"]}
