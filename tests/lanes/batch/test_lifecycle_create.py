"""Whole runs against services that fail before a batch exists, may have created one, or have no Batch API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_lane_run import COMPLETE, DETACHED, UNDECIDED, Bench, exit_of
from fake_batch_service import BrokenReply, Do, FakeBatchService, Hook, ending, error_reply, first, page

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.lanes.batch import listing, submission

pytestmark = pytest.mark.anyio


def lost(reply: web.Response | BrokenReply | Callable[[], web.Response], calls: int = 1) -> Hook:
    """The first creations take effect, and their replies are lost in this way."""

    def hook(count: int, do: Do) -> web.Response | BrokenReply:
        right = do()
        if count > calls:
            return right
        return reply() if callable(reply) else reply

    return hook


# Creating


@pytest.mark.parametrize("leftovers", ["online", "resubmit"])
async def test_requests_of_a_refused_batch_are_leftovers(tmp_path: Path, leftovers: str) -> None:
    refuse = first(99, lambda: error_reply(400, "no batches for this model", "model_not_batchable"))
    async with FakeBatchService(create=refuse) as service:
        bench = Bench(tmp_path, service.url, router={"leftovers": leftovers}, batch={"resubmits": 1})
        summary = await bench.run()
        reason = "no batches for this model (model_not_batchable)"
        assert reason in bench.shard()["reason"]
        if leftovers == "online":
            assert exit_of(summary) == COMPLETE
            assert (bench.column("route"), service.calls["create"]) == (["online"] * 4, 1)
        else:
            assert exit_of(summary) == (1, None)
            assert service.calls["create"] == 2
            assert bench.column("error_type") == ["batch_lost"] * 4
            assert all(reason in message for message in bench.column("error_message"))
        assert service.jobs == {}
        assert len(service.deleted) == service.calls["upload"]


async def test_a_token_refused_at_create_costs_no_second_upload(tmp_path: Path) -> None:
    async with FakeBatchService(create=first(1, lambda: error_reply(401))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == (3, "authentication")
        assert (bench.shard()["step"], bench.rows) == ("create", {})
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["upload"], service.calls["list"], len(service.jobs)) == (1, 0, 1)


async def test_create_waits_for_a_busy_service(tmp_path: Path) -> None:
    async with FakeBatchService(create=first(2, lambda: error_reply(429, **{"retry-after-ms": "60"}))) as service:
        bench = Bench(tmp_path, service.url)
        began = time.monotonic()
        summary = await bench.run()
        assert time.monotonic() - began > 0.12
        assert (exit_of(summary), summary.throttled, summary.retries) == (COMPLETE, 2, 2)
        assert (len(service.jobs), service.calls["list"]) == (1, 0)


async def test_a_run_that_ends_before_a_creation_needs_no_lookup_later(tmp_path: Path) -> None:
    async with FakeBatchService(create=first(1, lambda: error_reply(429, **{"Retry-After": "4"}))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run(max_time=0.3, grace=2)) == (4, "max_time")
        assert bench.shard()["step"] == "create"
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["list"], len(service.jobs)) == (0, 1)


async def test_a_201_is_a_creation(tmp_path: Path) -> None:
    def created(_: int, do: Do) -> web.Response:
        reply = do()
        reply.set_status(201)
        return reply

    async with FakeBatchService(create=created) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)


# Somebody else's batch: it shows that the list shows batches at all.
LONG_AGO = {"id": "batch-x", "status": "Succeeded", "input_file_id": "file-x", "created_at": 1_600_000_000}

ANSWERS = [
    BrokenReply.RESET,
    BrokenReply.CUT,
    lambda: error_reply(500),
    lambda: error_reply(504),
    lambda: error_reply(408),
    lambda: web.Response(body=b"<html>proxy</html>"),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("took_effect", [True, False])
async def test_a_lost_reply_to_create_is_looked_up(tmp_path: Path, answer: Any, took_effect: bool) -> None:
    async with FakeBatchService(create=(lost if took_effect else lambda reply: first(1, reply))(answer)) as service:
        service.jobs["batch-x"] = {**LONG_AGO, "number": -1, "ids": []}
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.submitted_twice, service.online_calls.total()) == (2, {}, 0)
        assert (service.calls["create"], service.calls["list"]) == ((1, 1) if took_effect else (2, 2))
        assert bench.column("batch_id") == ["batch-1"] * 4


async def test_a_batch_that_appears_late_in_the_list_is_adopted(tmp_path: Path) -> None:
    async with FakeBatchService(create=lost(BrokenReply.RESET), list=first(1, lambda: page([]))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.calls["list"], service.calls["create"]) == (1, 2, 1)


async def test_several_lost_creations_find_their_own_batches(tmp_path: Path) -> None:
    async with FakeBatchService(create=lost(BrokenReply.RESET, 4)) as service:
        bench = Bench(tmp_path, service.url, rows=8, batch={"shard_lines": 2, "parallel": 4})
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.submitted_twice) == (4, {})
        by_job = {job: [row["custom_id"] for row in bench.all_rows if row["batch_id"] == job] for job in service.jobs}
        assert {name: sorted(ids) for name, ids in by_job.items()} == {
            name: sorted(job["ids"]) for name, job in service.jobs.items()
        }


@pytest.mark.parametrize(
    "reply",
    [
        lambda: error_reply(404),
        lambda: error_reply(405),
        lambda: error_reply(403),
        lambda: web.json_response({"jobs": []}),
    ],
)
async def test_a_lost_creation_waits_for_a_decision_if_there_is_no_list(
    tmp_path: Path, reply: Callable[[], web.Response]
) -> None:
    async with FakeBatchService(create=lost(BrokenReply.RESET), list=first(99, reply)) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == UNDECIDED
        assert "cannot be known" in bench.shard()["stuck"]
        assert exit_of(await bench.run()) == UNDECIDED
        assert (len(service.jobs), service.online_calls.total(), bench.rows) == (1, 0, {})
        assert exit_of(await bench.run(resubmit_unknown=True)) == COMPLETE
        assert len(service.jobs) == 2


async def test_a_lost_creation_after_a_full_queue_does_not_adopt_the_earlier_job(tmp_path: Path) -> None:
    full = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed", errors=full) if number == 0 else ending(answered=ids)

    def second(count: int, do: Do) -> web.Response | BrokenReply:
        reply = do()
        return BrokenReply.RESET if count == 2 else reply

    async with FakeBatchService(end, create=second) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert list(service.jobs) == ["batch-0", "batch-1"]
        assert bench.column("batch_id") == ["batch-1"] * 4


def listed_as(service: FakeBatchService, file_of: Callable[[str], str]) -> None:
    """Let its list name other input files than the jobs have."""

    def shown(_: int, __: Do) -> web.Response:
        jobs = [
            {**service.public(job), "input_file_id": file_of(job["input_file_id"])} for job in service.jobs.values()
        ]
        return page(jobs[::-1], has_more=False)

    service.hooks["list"] = shown


@pytest.mark.parametrize(("dialect", "found"), [("openai", True), ("dashscope", True), ("pai", False)])
async def test_a_batch_is_recognised_by_its_metadata(tmp_path: Path, dialect: str, found: bool) -> None:
    async with FakeBatchService(create=lost(BrokenReply.RESET)) as service:
        listed_as(service, lambda file_id: f"raw-{file_id}")
        bench = Bench(tmp_path, service.url, service={"dialect": dialect, "batch": True})
        assert exit_of(await bench.run()) == (COMPLETE if found else UNDECIDED)
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)
        assert found or "about that time" in bench.shard()["stuck"]


async def test_a_batch_is_recognised_by_the_name_of_its_file(tmp_path: Path) -> None:
    async with FakeBatchService(create=lost(BrokenReply.RESET)) as service:

        def copied(file_id: str) -> str:
            service.files[f"raw-{file_id}"] = b""
            service.names[f"raw-{file_id}"] = service.names[file_id]
            return f"raw-{file_id}"

        listed_as(service, copied)
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.calls["create"]) == (1, 1)


@pytest.mark.parametrize("keeps_names", [True, False])
async def test_a_file_of_another_name_is_anothers_if_names_are_kept(tmp_path: Path, keeps_names: bool) -> None:
    async with FakeBatchService(create=first(1, BrokenReply.RESET)) as service:
        service.jobs["batch-x"] = {"id": "batch-x", "status": "Creating", "input_file_id": "x", "number": 0, "ids": []}
        service.files["x"], service.names["x"] = b"", "theirs.jsonl"
        if not keeps_names:
            service.hooks["file"] = lambda _, __: web.json_response({"id": "any", "filename": "upload.jsonl"})
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == (COMPLETE if keeps_names else UNDECIDED)
        assert service.calls["create"] == (2 if keeps_names else 1)


async def test_a_list_that_lacks_known_batches_proves_nothing(tmp_path: Path) -> None:
    def second(count: int, do: Do) -> web.Response | BrokenReply:
        reply = do()
        return BrokenReply.RESET if count == 2 else reply

    async with FakeBatchService(create=second, list=lambda _, __: page([LONG_AGO], has_more=False)) as service:
        bench = Bench(tmp_path, service.url, rows=6, batch={"shard_lines": 2, "parallel": 1})
        summary = await bench.run()
        assert exit_of(summary) == UNDECIDED
        assert "lacks the batch batch-0 of this run" in (summary.message or "")
        assert (len(service.jobs), service.submitted_twice, sorted(bench.rows)) == (3, {}, [0, 1, 4, 5])
        del service.hooks["list"]
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.submitted_twice, service.online_calls.total()) == (3, {}, 0)


async def test_absence_counts_only_after_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ABSENT_ALONE_SECONDS", 100.0)
    async with FakeBatchService(create=first(1, BrokenReply.RESET)) as service:
        service.jobs["batch-x"] = {**LONG_AGO, "number": -1, "ids": []}
        bench = Bench(tmp_path, service.url, online={"retry": {"patience": 0.05, "base": 0.01}})
        summary = await bench.run()
        assert exit_of(summary) == UNDECIDED
        assert "run the same command again 100 s after the creation" in (summary.message or "")
        assert service.calls["create"] == 1
        assert exit_of(await bench.run(detach=True)) == DETACHED
        path = bench.directory / "batches" / "shard-00000.json"
        path.write_text(json.dumps({**bench.shard(), "sent_at": time.time() - 101}))
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["create"], service.submitted_twice) == (2, {})


# Files that are not processed yet, and full queues


@pytest.mark.parametrize("word", ["pending", "Processing", "validating"])
async def test_create_waits_until_the_file_is_processed(tmp_path: Path, word: str) -> None:
    def status(name: str) -> Callable[[int, Do], web.Response]:
        return lambda count, _: web.json_response({"id": "file-0", "status": name if count < 3 else "processed"})

    service = FakeBatchService(file=status(word))
    service.hooks["upload"] = lambda _, do: web.json_response({**json.loads(do().text or ""), "status": word})
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["file"], service.calls["create"], service.online_calls.total()) == (3, 1, 0)


async def test_a_file_that_the_service_cannot_use_fails_its_batch(tmp_path: Path) -> None:
    service = FakeBatchService(
        file=lambda _, __: web.json_response({"id": "f", "status": "error", "status_details": "line 3"})
    )
    service.hooks["upload"] = lambda _, do: web.json_response({**json.loads(do().text or ""), "status": "pending"})
    async with service:
        summary = await Bench(tmp_path, service.url).run()
        assert exit_of(summary) == COMPLETE
        assert service.calls["create"] == 0
        assert "4 requests failed: the service could not use its file: error line 3" in summary.notes[0]


QUEUE = "Enqueued request limit reached for x in organization y. Limit: 10 enqueued requests."
PENDING = "The input file 'file-0' is in 'pending' state. Please check the file status and try again."


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, QUEUE),
        (403, QUEUE),
        (429, "Too many active batches"),
        (400, PENDING),
        (404, "no such file: file-0"),
        (409, PENDING),
        (429, PENDING),
    ],
)
async def test_a_refusal_that_time_changes_is_awaited_at_batch_price(tmp_path: Path, status: int, message: str) -> None:
    async with FakeBatchService(create=first(3, lambda: error_reply(status, message))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["create"], service.calls["list"], service.online_calls.total()) == (4, 0, 0)
        assert bench.column("route") == ["batch"] * 4


@pytest.mark.parametrize("message", [QUEUE, PENDING])
async def test_what_never_changes_waits_for_a_decision(
    tmp_path: Path, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "FILE_PATIENCE_SECONDS", 0.05)
    async with FakeBatchService(create=first(999, lambda: error_reply(400, message))) as service:
        bench = Bench(tmp_path, service.url, batch={"window": 0.05})
        summary = await bench.run()
        assert exit_of(summary) == UNDECIDED
        assert message in (summary.message or "") and "Nothing was paid" in (summary.message or "")
        assert bench.shard()["step"] == "create"
        service.hooks.clear()
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.online_calls.total()) == (1, 0)


async def test_a_detached_run_leaves_a_full_queue(tmp_path: Path) -> None:
    async with FakeBatchService(create=first(1, lambda: error_reply(403, QUEUE))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run(detach=True)) == DETACHED
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["create"], service.online_calls.total()) == (2, 0)


# Replies that cannot be read


async def test_creations_of_an_unreadable_shape_stop_the_run(tmp_path: Path) -> None:
    def odd(_: int, do: Do) -> web.Response:
        return web.json_response({"task": {"uuid": json.loads(do().text or "")["id"]}})

    async with FakeBatchService(create=odd, list=first(99, lambda: web.json_response({"tasks": []}))) as service:
        bench = Bench(tmp_path, service.url, rows=12, batch={"shard_lines": 2, "parallel": 1})
        for _ in range(3):
            summary = await bench.run()
            assert exit_of(summary) == UNDECIDED
            assert '{"task": {"uuid": "batch-1"}}' in (summary.message or "")
            assert f"{service.url}/batches" in (summary.message or "")
            assert (len(service.jobs), service.online_calls.total()) == (2, 0)
        service.hooks.clear()
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), service.submitted_twice, service.online_calls.total()) == (6, {}, 0)


# No Batch API at all


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("route", ["upload", "create"])
@pytest.mark.parametrize("mode", ["batch", "auto"])
async def test_a_service_without_a_batch_api_is_used_online(tmp_path: Path, route: str, status: int, mode: str) -> None:
    async with FakeBatchService(**{route: first(99, lambda: error_reply(status, "nothing here"))}) as service:  # type: ignore[arg-type]
        bench = Bench(
            *(tmp_path, service.url, 20),
            router={"mode": mode, "batch_from": 2},
            batch={"shard_lines": 3, "parallel": 2},
        )
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["online"] * 20
        assert set(service.online_calls.values()) == {1}
        assert bench.record["route"] == "online"
        where = {"upload": "/files", "create": "/batches"}[route]
        assert re.search(f"no Batch API.*HTTP {status}.*{where}", bench.record["route_reason"])
        assert bench.record["lanes"] == ["batch", "online"]
        assert set(bench.record["batches"]) <= {"given up"}


async def test_packed_but_unsent_requests_go_online_too(tmp_path: Path) -> None:
    """A panel of two models has two open shards at once; without a Batch API the requests of neither may be lost."""
    async with FakeBatchService(upload=first(99, lambda: error_reply(404))) as service:
        judges = [{"name": name, "kind": "pai_single", "model": name} for name in ("pai-judge", "pai-judge-plus")]
        bench = Bench(tmp_path, service.url, 7, service={"dialect": "openai"}, batch={"shard_lines": 5, "parallel": 1})
        del bench.config["judge"]
        bench.config["judges"] = judges
        assert exit_of(await bench.run()) == COMPLETE
        assert len(bench.all_rows) == 14


# A full account


FULL = "The storage quota of this account is exceeded: 100 GB"


async def test_deleting_collected_files_frees_storage(tmp_path: Path) -> None:
    service = FakeBatchService()

    def upload(_: int, do: Do) -> web.Response:
        return error_reply(400, FULL) if len(service.files) > 1 else do()

    service.hooks["upload"] = upload
    async with service:
        bench = Bench(tmp_path, service.url, 6, batch={"shard_lines": 2, "parallel": 1, "delete_files": False})
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 6
        assert service.deleted == ["file-0", "batch-0-output", "file-2", "batch-1-output"]
        assert sorted(service.files) == ["batch-2-output", "file-4"]  # files are kept unless storage is needed
        assert bench.logged("account is full", "deleted 2 finished files")


async def test_files_at_an_earlier_address_are_not_deleted_for_storage(tmp_path: Path) -> None:
    async with (
        FakeBatchService() as before,
        FakeBatchService(upload=first(99, lambda: error_reply(400, FULL))) as service,
    ):
        bench = Bench(tmp_path, before.url, 2, batch={"delete_files": False})
        assert exit_of(await bench.run()) == COMPLETE
        bench.write(4)
        bench.config["service"]["base_url"] = service.url
        assert exit_of(await bench.run()) == (3, "storage")
        assert (len(before.files), service.calls["delete"]) == (2, 0)


async def test_an_account_that_stays_full_stops_the_run(tmp_path: Path) -> None:
    async with FakeBatchService(upload=first(2, lambda: error_reply(400, FULL))) as service:
        bench = Bench(tmp_path, service.url)
        for _ in range(2):
            summary = await bench.run()
            assert exit_of(summary) == (3, "storage")
            assert "100 GB" in (summary.message or "")
            assert bench.shard()["step"] == "upload"
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("route") == ["batch"] * 4


async def test_a_run_finishes_although_its_own_batches_fill_the_account(tmp_path: Path) -> None:
    """The account has room for two uploads. Collected files make room for the next, in the next run if necessary."""
    service = FakeBatchService()

    def upload(_: int, do: Do) -> web.Response:
        return error_reply(400, FULL) if sum(name.startswith("file") for name in service.files) >= 2 else do()

    service.hooks["upload"] = upload
    async with service:
        bench = Bench(tmp_path, service.url, 10, batch={"shard_lines": 2, "parallel": 3})
        ended = [exit_of(await bench.run()) for _ in range(4)]
        assert ended[-1] == COMPLETE
        assert {*ended} <= {COMPLETE, (3, "storage")}
        assert (len(bench.rows), service.submitted_twice, service.files) == (10, {}, {})


async def test_a_file_that_is_too_large_is_not_a_full_account(tmp_path: Path) -> None:
    async with await start(EmulatorOptions.from_mapping({"batch": {"delay": 0.02}})) as emulator:
        bench = Bench(tmp_path, f"{emulator.url}/v1", batch={"shard_mb": 11}, judge={"model": "of-unknown-context"})
        large = json.dumps({"question": "question 0", "answer": "a" * 2_700_000}) + "\n"
        bench.data.write_text(4 * large)
        await bench.run()
        assert len(bench.rows) == 4
        assert "file_too_large" in bench.shard()["reason"]
