"""Whole runs against services whose batches fail, or whose files are missing, cut off or cannot be deleted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_lane_run import COMPLETE, UNDECIDED, Bench, exit_of
from fake_batch_service import (
    Do,
    FakeBatchService,
    all_answered,
    answered_line,
    ending,
    error_reply,
    failed_line,
    first,
    lines,
)

from runner.lanes.batch import result_files, result_lines

pytestmark = pytest.mark.anyio


# Jobs that end without success


async def test_a_full_queue_is_awaited_and_does_not_count_as_a_try(tmp_path: Path) -> None:
    errors = {"object": "list", "data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed", errors=errors) if number < 3 else ending(answered=ids)

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url, router={"leftovers": "resubmit"}, batch={"resubmits": 0})
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("batch_id") == ["batch-3"] * 4
        assert bench.column("attempts") == [1] * 4
        assert bench.shard()["former"] == ["batch-0", "batch-1", "batch-2"]
        assert service.calls["upload"] == 1


@pytest.mark.parametrize("status", ["expired", "cancelled", "failed"])
@pytest.mark.parametrize("leftovers", ["online", "resubmit"])
async def test_partial_results_are_kept_and_the_rest_is_sent_again(tmp_path: Path, status: str, leftovers: str) -> None:
    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending(status, ids[:3], ids[3:4]) if number == 0 else ending(answered=ids)

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url, 6, router={"leftovers": leftovers})
        assert exit_of(await bench.run()) == COMPLETE
        rest = "online" if leftovers == "online" else "batch"
        assert bench.column("route") == ["batch"] * 3 + [rest] * 3
        assert service.online_calls == ({3: 1, 4: 1, 5: 1} if leftovers == "online" else {})
        again = {} if leftovers == "online" else {f"{n}-judge-o-0": 2 for n in (3, 4, 5)}
        assert service.submitted_twice == again


@pytest.mark.parametrize(
    ("status", "error_type", "words"),
    [
        ("failed", "batch_lost", "the batch failed as a whole: model_not_found: no such model"),
        ("expired", "batch_expired", "expired before this request was answered: model_not_found: no such model"),
        ("cancelled", "batch_lost", "was cancelled before this request was answered: model_not_found"),
    ],
)
async def test_the_errors_of_a_job_are_in_its_rows(tmp_path: Path, status: str, error_type: str, words: str) -> None:
    errors = {"object": "list", "data": [{"code": "model_not_found", "message": "no such model", "line": None}]}
    async with FakeBatchService(lambda _, __: ending(status, errors=errors)) as service:
        bench = Bench(tmp_path, service.url, router={"leftovers": "resubmit"}, batch={"resubmits": 0})
        assert exit_of(await bench.run()) == (1, None)
        assert bench.column("status") == ["failed"] * 4
        assert bench.column("error_type") == [error_type] * 4
        assert all(words in message for message in bench.column("error_message"))
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)
        assert bench.logged("batch batch-0: the service says: model_not_found: no such model")


async def test_the_closing_lines_say_why_batches_failed(tmp_path: Path) -> None:
    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending("failed", errors={"message": "no such model" if number else "bad line"})

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url, 6, batch={"shard_lines": 2})
        summary = await bench.run()
        assert exit_of(summary) == COMPLETE
        assert summary.notes == (
            "2 batches with 4 requests failed: no such model",
            "1 batch with 2 requests failed: bad line",
        )


@pytest.mark.parametrize(
    "message",
    [
        "Enqueued request limit reached for x. Limit: 10 enqueued requests.",
        "The number of enqueued tokens has surpassed the configured limit of 30K.",
        "Too many batches are in progress",
        "The input file is still being processed",
    ],
)
async def test_a_batch_that_failed_for_what_time_changes_is_created_again(tmp_path: Path, message: str) -> None:
    def end(number: int, ids: list[str]) -> dict[str, Any]:
        errors = {"object": "list", "data": [{"code": None, "message": message, "line": None}]}
        return ending("failed", errors=errors) if number < 2 else ending(answered=ids)

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("batch_id"), service.online_calls.total()) == (["batch-2"] * 4, 0)
        assert bench.logged(message, "created again")


async def test_a_failed_batch_with_answers_is_collected_and_not_created_again(tmp_path: Path) -> None:
    errors = {"message": "Enqueued token limit reached"}
    async with FakeBatchService(lambda _, ids: ending("failed", ids[:3], errors=errors)) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("route"), len(service.jobs)) == (["batch"] * 3 + ["online"], 1)


async def test_a_job_that_counts_answers_but_names_no_file_waits_for_a_decision(tmp_path: Path) -> None:
    counts = {"total": 4, "completed": 4, "failed": 0}
    async with FakeBatchService(lambda _, __: {"status": "Succeeded", "request_counts": counts}) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert "names no file" in bench.shard()["stuck"]
        service._end(service.newest, all_answered(0, service.newest["ids"]))
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)


@pytest.mark.parametrize("polls", [2, 7])
async def test_result_files_that_are_named_later_are_awaited(
    tmp_path: Path, polls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "LOOK_AGAIN_SECONDS", 300.0)
    service = FakeBatchService()

    def look(count: int, do: Do) -> web.Response:
        return web.json_response({"id": "batch-0", "status": "Succeeded"}) if count <= polls else do()

    service.hooks["job"] = look
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["job"], bench.column("route")) == (polls + 1, ["batch"] * 4)


async def test_a_job_whose_lines_all_failed_has_only_an_error_file(tmp_path: Path) -> None:
    async with FakeBatchService(lambda _, ids: ending("Succeeded", failed=ids)) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["online"] * 4


async def test_a_job_that_failed_before_it_started_has_no_file(tmp_path: Path) -> None:
    async with FakeBatchService(lambda _, __: {"status": "Failed", "request_counts": None}) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("route"), service.calls["content"]) == (["online"] * 4, 0)


# Result files


async def test_a_missing_output_file_waits_for_a_decision(tmp_path: Path) -> None:
    async with FakeBatchService(content=first(1, lambda: error_reply(404, "no such file"))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert "cannot be downloaded" in bench.shard()["stuck"]
        assert service.deleted == []
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)


async def test_a_missing_error_file_does_not_stop_the_shard(tmp_path: Path) -> None:
    service = FakeBatchService(lambda _, ids: ending("Succeeded", ids[:3], ids[3:]))
    service.hooks["content"] = lambda count, do: error_reply(404) if count % 2 == 0 else do()
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 3 + ["online"]
        assert (service.deleted, bench.shard()["missing"], len(bench.shard()["kept_files"])) == ([], 1, 3)


@pytest.mark.parametrize("cuts", [1, 2, 3])
async def test_a_file_that_ends_within_a_line_is_downloaded_again(tmp_path: Path, cuts: int) -> None:
    service = FakeBatchService()

    def content(count: int, do: Do) -> web.Response:
        whole = do().body
        assert isinstance(whole, bytes)
        return web.Response(body=whole[:-25] if count <= cuts else whole)

    service.hooks["content"] = content
    async with service:
        bench = Bench(tmp_path, service.url)
        is_last = cuts == result_files.MAX_DOWNLOADS
        assert exit_of(await bench.run()) == (UNDECIDED if is_last else COMPLETE)
        assert (service.calls["content"], len(bench.rows)) == ((3, 3) if is_last else (cuts + 1, 4))
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 4


UNREADABLE_FILES: dict[str, Callable[[list[str]], bytes]] = {
    "compressed": lambda ids: gzip.compress(lines(*map(answered_line, ids))),
    "an array": lambda ids: json.dumps([answered_line(name) for name in ids]).encode(),
    "empty": lambda _: b"",
    "another batch's": lambda _: lines(answered_line("jr-000000000000-0-0")),
}


@pytest.mark.parametrize("counts", [None, {"total": 4, "completed": 0, "failed": 0}], ids=["no-counts", "zero"])
@pytest.mark.parametrize("kind", UNREADABLE_FILES)
async def test_a_completed_batch_without_one_readable_line_is_not_paid_again(
    tmp_path: Path, kind: str, counts: dict[str, int] | None
) -> None:
    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending(output=UNREADABLE_FILES[kind](ids), request_counts=counts)

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert "no readable line about any of its requests" in bench.shard()["stuck"]
        assert (len(service.jobs), service.online_calls.total(), service.deleted) == (1, 0, [])
        assert service.calls["content"] == result_files.MAX_DOWNLOADS


async def test_a_result_file_without_an_end_waits_for_a_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_files, "MAX_BYTES_PER_REQUEST", 1000)
    output = lines(*(answered_line(f"stranger-{number}") for number in range(1000)))
    async with FakeBatchService(lambda _, ids: ending(answered=ids, output=output)) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert "more than 4,000 bytes" in bench.shard()["stuck"]
        assert (service.calls["content"], service.online_calls.total(), service.deleted) == (1, 0, [])
        assert not list((bench.directory / "batches").glob("*.tmp"))


async def test_a_line_without_an_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_lines, "MAX_LINE_BYTES", 5000)

    def end(_: int, ids: list[str]) -> dict[str, Any]:
        good = lines(*map(answered_line, ids[:-1]))
        return ending(output=good[:-1] + b"\n" + b"x" * 60_000 + b"\n" + lines(answered_line(ids[-1])))

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 4


async def test_a_last_line_without_a_newline_is_complete(tmp_path: Path) -> None:
    async with FakeBatchService(lambda _, ids: ending(output=lines(*map(answered_line, ids))[:-1])) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["content"], bench.column("route")) == (1, ["batch"] * 4)


# Deleting


@pytest.mark.parametrize("status", [400, 403, 405, 409])
async def test_files_that_cannot_be_deleted_do_not_stop_the_run(tmp_path: Path, status: int) -> None:
    async with FakeBatchService(delete=first(9, lambda: error_reply(status, "locked", "Locked"))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(bench.rows), service.calls["delete"]) == (4, 2)
        assert bench.shard()["kept_files"] == ["file-0", "batch-0-output"]
        assert len(bench.logged("stays at the service", "locked")) == 2


async def test_nothing_is_deleted_before_all_rows_are_written(tmp_path: Path) -> None:
    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending("Succeeded", ids[:2], error=lines(failed_line(ids[2]), failed_line(ids[3], 400)))

    rows: list[int] = []
    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url)

        def delete(_: int, do: Do) -> web.Response:
            kept = (bench.directory / "journal").glob("*")
            rows.append(sum(path.read_bytes().count(b'"custom_id"') for path in kept))
            return do()

        service.hooks["delete"] = delete
        assert exit_of(await bench.run()) == (1, None)
        assert rows == [3, 3, 3]
        assert service.deleted == ["file-0", "batch-0-output", "batch-0-error"]
        assert service.files == {}
