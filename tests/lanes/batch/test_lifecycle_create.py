"""Whole runs against services that fail before there is a batch, or may have one, or have none at all."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from batch_lane_run import FINE, UNDECIDED, Bench, how
from fake_batch_service import Broken, Do, Hook, Scripted, ending, first, page, said

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start

pytestmark = pytest.mark.anyio


def lost(reply: web.Response | Broken | Callable[[], web.Response], calls: int = 1) -> Hook:
    """The first creations take effect, and their answer is lost in this way."""

    def hook(count: int, do: Do) -> web.Response | Broken:
        right = do()
        if count > calls:
            return right
        return reply() if callable(reply) else reply

    return hook


# Creating


@pytest.mark.parametrize("leftovers", ["online", "resubmit"])
async def test_a_batch_that_is_refused_goes_on_as_leftovers_do(tmp_path: Path, leftovers: str) -> None:
    refuse = first(99, lambda: said(400, "no batches for this model", "model_not_batchable"))
    async with Scripted(create=refuse) as service:
        bench = Bench(tmp_path, service.url, router={"leftovers": leftovers}, batch={"resubmits": 1})
        summary = await bench.run()
        reason = "no batches for this model (model_not_batchable)"
        assert reason in bench.shard()["reason"]
        if leftovers == "online":
            assert how(summary) == FINE
            assert (bench.column("route"), service.calls["create"]) == (["online"] * 4, 1)
        else:
            assert how(summary) == (1, None)
            assert service.calls["create"] == 2
            assert bench.column("error_type") == ["batch_lost"] * 4
            assert all(reason in message for message in bench.column("error_message"))
        assert service.jobs == {}
        assert len(service.deleted) == service.calls["upload"]


async def test_a_refused_token_at_create_is_paid_for_once(tmp_path: Path) -> None:
    async with Scripted(create=first(1, lambda: said(401))) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run()) == (3, "authentication")
        assert (bench.shard()["step"], bench.rows) == ("create", {})
        assert how(await bench.run()) == FINE
        assert (service.calls["upload"], service.calls["list"], len(service.jobs)) == (1, 0, 1)


async def test_a_busy_service_is_waited_for_at_create(tmp_path: Path) -> None:
    async with Scripted(create=first(2, lambda: said(429, **{"retry-after-ms": "60"}))) as service:
        bench = Bench(tmp_path, service.url)
        began = time.monotonic()
        summary = await bench.run()
        assert time.monotonic() - began > 0.12
        assert (how(summary), summary.throttled, summary.retries) == (FINE, 2, 2)
        assert (len(service.jobs), service.calls["list"]) == (1, 0)


async def test_a_run_that_ends_while_nothing_was_created_knows_that(tmp_path: Path) -> None:
    async with Scripted(create=first(1, lambda: said(429, **{"Retry-After": "4"}))) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run(max_time=0.3, grace=2)) == (4, "max_time")
        assert bench.shard()["step"] == "create"
        assert how(await bench.run()) == FINE
        assert (service.calls["list"], len(service.jobs)) == (0, 1)


async def test_a_creation_that_is_answered_with_201_is_a_creation(tmp_path: Path) -> None:
    def created(_: int, do: Do) -> web.Response:
        reply = do()
        reply.set_status(201)
        return reply

    async with Scripted(create=created) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run()) == FINE
        assert (len(service.jobs), service.asked.total()) == (1, 0)


ANSWERS = [
    Broken.RESET,
    Broken.CUT,
    lambda: said(500),
    lambda: said(504),
    lambda: said(408),
    lambda: web.Response(body=b"<html>proxy</html>"),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("took_effect", [True, False])
async def test_a_lost_answer_to_create_is_asked_after(tmp_path: Path, answer: Any, took_effect: bool) -> None:
    async with Scripted(create=(lost if took_effect else lambda reply: first(1, reply))(answer)) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run()) == FINE
        assert (len(service.jobs), service.twice, service.asked.total()) == (1, {}, 0)
        assert (service.calls["create"], service.calls["list"]) == ((1, 1) if took_effect else (2, 2))
        assert bench.column("batch_id") == ["batch-0"] * 4


async def test_a_batch_that_is_late_in_the_list_is_adopted(tmp_path: Path) -> None:
    async with Scripted(create=lost(Broken.RESET), list=first(1, lambda: page([]))) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run()) == FINE
        assert (len(service.jobs), service.calls["list"], service.calls["create"]) == (1, 2, 1)


async def test_of_several_lost_creations_each_finds_its_own(tmp_path: Path) -> None:
    async with Scripted(create=lost(Broken.RESET, 4)) as service:
        bench = Bench(tmp_path, service.url, rows=8, batch={"shard_lines": 2, "parallel": 4})
        assert how(await bench.run()) == FINE
        assert (len(service.jobs), service.twice) == (4, {})
        by_job = {job: [row["custom_id"] for row in bench.all_rows if row["batch_id"] == job] for job in service.jobs}
        assert {name: sorted(ids) for name, ids in by_job.items()} == {
            name: sorted(job["ids"]) for name, job in service.jobs.items()
        }


@pytest.mark.parametrize(
    "reply", [lambda: said(404), lambda: said(405), lambda: said(403), lambda: web.json_response({"jobs": []})]
)
async def test_without_a_list_a_lost_creation_waits(tmp_path: Path, reply: Callable[[], web.Response]) -> None:
    async with Scripted(create=lost(Broken.RESET), list=first(99, reply)) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run()) == UNDECIDED
        assert "cannot be known" in bench.shard()["stuck"]
        assert how(await bench.run()) == UNDECIDED
        assert (len(service.jobs), service.asked.total(), bench.rows) == (1, 0, {})
        assert how(await bench.run(resubmit_unknown=True)) == FINE
        assert len(service.jobs) == 2


async def test_a_lost_creation_after_a_full_queue_does_not_find_the_job_before(tmp_path: Path) -> None:
    full = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed", errors=full) if number == 0 else ending(answered=ids)

    def second(count: int, do: Do) -> web.Response | Broken:
        reply = do()
        return Broken.RESET if count == 2 else reply

    async with Scripted(end, create=second) as service:
        bench = Bench(tmp_path, service.url)
        assert how(await bench.run()) == FINE
        assert list(service.jobs) == ["batch-0", "batch-1"]
        assert bench.column("batch_id") == ["batch-1"] * 4


# No Batch API at all


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("route", ["upload", "create"])
@pytest.mark.parametrize("mode", ["batch", "auto"])
async def test_a_service_without_batches_is_asked_online(tmp_path: Path, route: str, status: int, mode: str) -> None:
    async with Scripted(**{route: first(99, lambda: said(status, "nothing here"))}) as service:  # type: ignore[arg-type]
        bench = Bench(
            *(tmp_path, service.url, 20),
            router={"mode": mode, "batch_from": 2},
            batch={"shard_lines": 3, "parallel": 2},
        )
        assert how(await bench.run()) == FINE
        assert bench.column("route") == ["online"] * 20
        assert set(service.asked.values()) == {1}
        assert bench.record["route"] == "online"
        where = {"upload": "/files", "create": "/batches"}[route]
        assert re.search(f"no Batch API.*HTTP {status}.*{where}", bench.record["route_reason"])
        assert bench.record["lanes"] == ["batch", "online"]
        assert set(bench.record["batches"]) <= {"given up"}


async def test_what_was_packed_but_not_begun_goes_online_too(tmp_path: Path) -> None:
    """A panel of two models has two files begun at once; where there is no Batch API neither may be forgotten."""
    async with Scripted(upload=first(99, lambda: said(404))) as service:
        judges = [{"name": name, "kind": "pai_single", "model": name} for name in ("pai-judge", "pai-judge-plus")]
        bench = Bench(tmp_path, service.url, 7, service={"dialect": "openai"}, batch={"shard_lines": 5, "parallel": 1})
        del bench.config["judge"]
        bench.config["judges"] = judges
        assert how(await bench.run()) == FINE
        assert len(bench.all_rows) == 14


# A full account


FULL = "The storage quota of this account is exceeded: 100 GB"


async def test_our_collected_files_make_room(tmp_path: Path) -> None:
    service = Scripted()

    def upload(_: int, do: Do) -> web.Response:
        return said(400, FULL) if len(service.files) > 1 else do()

    service.hooks["upload"] = upload
    async with service:
        bench = Bench(tmp_path, service.url, 6, batch={"shard_lines": 2, "parallel": 1, "delete_files": False})
        assert how(await bench.run()) == FINE
        assert bench.column("route") == ["batch"] * 6
        assert service.deleted == ["file-0", "batch-0-output", "file-2", "batch-1-output"]
        assert sorted(service.files) == ["batch-2-output", "file-4"]  # what is not in the way stays
        assert bench.logged("account is full", "deleted 2 finished files")


async def test_files_of_an_earlier_address_make_no_room_and_do_no_harm(tmp_path: Path) -> None:
    async with Scripted() as before, Scripted(upload=first(99, lambda: said(400, FULL))) as service:
        bench = Bench(tmp_path, before.url, 2, batch={"delete_files": False})
        assert how(await bench.run()) == FINE
        bench.write(4)
        bench.config["service"]["base_url"] = service.url
        assert how(await bench.run()) == (3, "storage")
        assert (len(before.files), service.calls["delete"]) == (2, 0)


async def test_an_account_that_stays_full_stops_the_run(tmp_path: Path) -> None:
    async with Scripted(upload=first(2, lambda: said(400, FULL))) as service:
        bench = Bench(tmp_path, service.url)
        for _ in range(2):
            summary = await bench.run()
            assert how(summary) == (3, "storage")
            assert "100 GB" in (summary.message or "")
            assert bench.shard()["step"] == "upload"
        assert how(await bench.run()) == FINE
        assert bench.column("route") == ["batch"] * 4


async def test_an_account_that_our_own_running_batches_fill_is_got_through(tmp_path: Path) -> None:
    """There is room for two uploads; what is collected makes room for the next, if need be in the next run."""
    service = Scripted()

    def upload(_: int, do: Do) -> web.Response:
        return said(400, FULL) if sum(name.startswith("file") for name in service.files) >= 2 else do()

    service.hooks["upload"] = upload
    async with service:
        bench = Bench(tmp_path, service.url, 10, batch={"shard_lines": 2, "parallel": 3})
        ended = [how(await bench.run()) for _ in range(4)]
        assert ended[-1] == FINE
        assert {*ended} <= {FINE, (3, "storage")}
        assert (len(bench.rows), service.twice, service.files) == (10, {}, {})


async def test_a_file_that_is_too_large_is_no_full_account(tmp_path: Path) -> None:
    async with await start(EmulatorOptions.from_mapping({"batch": {"delay": 0.02}})) as emulator:
        bench = Bench(tmp_path, f"{emulator.url}/v1", batch={"shard_mb": 11}, judge={"model": "of-unknown-context"})
        large = json.dumps({"question": "question 0", "answer": "a" * 2_700_000}) + "\n"
        bench.data.write_text(4 * large)
        await bench.run()
        assert len(bench.rows) == 4
        assert "file_too_large" in bench.shard()["reason"]
