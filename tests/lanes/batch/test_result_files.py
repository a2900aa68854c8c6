"""Whole runs against services whose result files come late, come short, or break off: nothing is paid for twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from batch_lane_run import COMPLETE, DETACHED, UNDECIDED, Bench, exit_of
from fake_batch_service import CutReply, Do, FakeBatchService, ending, error_reply, first

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.lanes.batch import result_files

pytestmark = pytest.mark.anyio

AGAIN = "Run the same command again"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again for as long as the product does; the tests' poll intervals make that quick."""
    monkeypatch.setattr(result_files, "LOOK_AGAIN_SECONDS", 300.0)


def short(times: int, keep: Callable[[list[bytes]], list[bytes]]) -> Callable[[int, Do], web.Response]:
    """Hand out some lines of a result file at the first downloads, as a whole 200."""

    def content(count: int, do: Do) -> web.Response:
        whole = do().body
        assert isinstance(whole, bytes)
        return web.Response(body=b"".join(keep(whole.splitlines(keepends=True))) if count <= times else whole)

    return content


@pytest.mark.parametrize("times", [1, 2])
async def test_a_short_file_is_downloaded_again_before_anything_is_asked_again(tmp_path: Path, times: int) -> None:
    async with FakeBatchService(content=short(times, lambda lines: lines[:2])) as service:
        bench = Bench(tmp_path, service.url, 6)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("route"), service.online_calls.total()) == (["batch"] * 6, 0)
        assert (service.calls["content"], len(service.jobs)) == (times + 1, 1)
        assert service.deleted == ["file-0", "batch-0-output"]
        assert len(bench.logged("counts 6 lines", "4 of them are not in its files")) == times


async def test_every_line_of_several_short_downloads_is_kept(tmp_path: Path) -> None:
    parts = iter(((0, 2), (4, 6), (1, 4)))
    async with FakeBatchService() as service:
        service.hooks["content"] = short(9, lambda lines: lines[slice(*next(parts))])
        bench = Bench(tmp_path, service.url, 6)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("route"), service.calls["content"]) == (["batch"] * 6, 3)


@pytest.mark.parametrize("resubmits", [False, True])
async def test_a_file_that_stays_short_waits_for_a_decision(tmp_path: Path, resubmits: bool) -> None:
    """The service counts six answers, so asking for the other three again would pay for them twice."""
    async with FakeBatchService(content=short(9, lambda lines: lines[::2])) as service:
        bench = Bench(tmp_path, service.url, 6, judge={"parameters": {"max_tokens": 9}}, budget={"tokens": 10**6})
        for runs in (1, 2):
            summary = await bench.run()
            assert exit_of(summary) == UNDECIDED
            assert "3 of them are not in its files" in (summary.message or "")
            assert (summary.message or "").index(AGAIN) < (summary.message or "").index("--resubmit-unknown")
            assert (len(bench.rows), service.online_calls.total(), service.deleted) == (3, 0, [])
            assert (bench.shard()["step"], service.calls["content"]) == ("poll", 3 * runs)
        if not resubmits:
            service.hooks.clear()
        assert exit_of(await bench.run(resubmit_unknown=resubmits)) == COMPLETE
        again = {f"{n}-judge-o-0": 2 for n in (1, 3, 5)} if resubmits else {}
        assert (len(bench.rows), service.submitted_twice, service.online_calls.total()) == (6, again, 0)
        assert ("batch-0-output" in service.files) is resubmits


async def test_lines_that_are_missing_everywhere_are_leftovers_if_the_service_does_not_count_them(
    tmp_path: Path,
) -> None:
    counts = {"total": 6, "completed": 4, "failed": 0}
    async with FakeBatchService(lambda _, ids: ending(answered=ids[:4], request_counts=counts)) as service:
        bench = Bench(tmp_path, service.url, 6)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("route"), service.calls["content"]) == (["batch"] * 4 + ["online"] * 2, 1)
        assert service.files == {}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_file_that_is_not_there_yet_is_looked_for_again(tmp_path: Path, status: int) -> None:
    async with FakeBatchService(content=first(8, lambda: error_reply(status, "no such file"))) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["content"], bench.column("route"), len(service.jobs)) == (9, ["batch"] * 4, 1)
        assert len(bench.logged("is not there yet", "no such file")) == 1


@pytest.mark.usefixtures("patient")
async def test_an_error_file_that_never_comes_is_not_needed_if_every_request_has_a_line(tmp_path: Path) -> None:
    async with FakeBatchService(lambda _, ids: ending(answered=ids, error_file_id="ghost")) as service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["content"], bench.column("route")) == (2, ["batch"] * 4)


@pytest.mark.usefixtures("patient")
async def test_a_batch_and_the_names_of_its_files_may_come_late(tmp_path: Path) -> None:
    service = FakeBatchService()

    def look(count: int, do: Do) -> web.Response:
        if count <= 6:
            return error_reply(404, "no such batch")
        return web.json_response({"id": "batch-0", "status": "Succeeded"}) if count <= 12 else do()

    service.hooks["job"] = look
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (service.calls["job"], bench.column("route"), len(service.jobs)) == (13, ["batch"] * 4, 1)


@pytest.mark.parametrize("name", ["output", "error"])
async def test_one_of_two_files_may_be_named_later(tmp_path: Path, name: str) -> None:
    service = FakeBatchService(lambda _, ids: ending(answered=ids[:3], failed=ids[3:]))

    def look(count: int, do: Do) -> web.Response:
        do()
        job = service.public(service.newest)
        return web.json_response({**job, f"{name}_file_id": None} if count < 3 else job)

    service.hooks["job"] = look
    async with service:
        bench = Bench(tmp_path, service.url)
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.column("route"), service.online_calls) == (["batch"] * 3 + ["online"], {3: 1})
        assert (service.calls["job"], service.files) == (3, {})


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("route", ["content", "job", "short"])
async def test_a_detached_run_does_not_wait_for_what_is_not_there(tmp_path: Path, route: str) -> None:
    """It leaves the shard to a later run as long as the batch's window is open, and then a person must decide."""
    async with FakeBatchService() as service:
        bench = Bench(tmp_path, service.url)
        if route == "short":
            service.hooks["content"] = short(99, lambda lines: lines[:1])
        else:
            service.hooks[route] = first(99, lambda: error_reply(404))
        assert exit_of(await bench.run(detach=True)) == DETACHED
        assert exit_of(await bench.run(detach=True)) == DETACHED
        service.hooks.clear()
        assert exit_of(await bench.run(detach=True)) == COMPLETE
        assert (bench.column("route"), len(service.jobs)) == (["batch"] * 4, 1)


async def test_a_download_that_always_breaks_at_one_place_keeps_the_lines_before_it(tmp_path: Path) -> None:
    """The service gives no ranges, so no run can get the rest; a person may have it asked again."""

    def content(_: int, do: Do) -> CutReply:
        whole = do().body
        assert isinstance(whole, bytes)
        return CutReply(whole[:900], len(whole))

    async with FakeBatchService(content=content) as service:
        bench = Bench(tmp_path, service.url, online={"retry": {"base": 0.01, "ceiling": 0.02, "patience": 0.05}})
        summary = await bench.run()
        size = len(service.files["batch-0-output"])
        assert exit_of(summary) == UNDECIDED
        assert f"breaks off after 900 of {size:,} bytes each time" in (summary.message or "")
        kept = service.files["batch-0-output"][:900].count(b"\n")
        assert (kept, len(bench.rows), service.online_calls.total(), service.deleted) == (2, 2, 0, [])
        service.hooks["content"] = lambda count, do: do() if len(service.jobs) == 2 else content(count, do)
        assert exit_of(await bench.run(resubmit_unknown=True)) == COMPLETE
        assert service.submitted_twice == {f"{n}-judge-o-0": 2 for n in (2, 3)}


@pytest.mark.parametrize("dialect", ["pai", "openai", "dashscope"])
async def test_late_short_and_broken_files_of_the_emulator_cost_nothing(
    tmp_path: Path, patient: None, dialect: str
) -> None:
    batch = {"delay": 0.02, "content_404": 2, "short_results": 1, "break_after": 4000, "repeats": 0.1, "garble": 0.02}
    batch |= {"lose": 0.02, "errors_in_output": 0.05, "expire": 1}
    options = EmulatorOptions.from_mapping({"dialect": dialect, "seed": 3, "batch": batch})
    async with await start(options) as emulator:
        bench = Bench(
            *(tmp_path, f"{emulator.url}/v1", 60),
            service={"dialect": dialect},
            batch={"shard_lines": 20, "parallel": 3},
        )
        assert exit_of(await bench.run()) == COMPLETE
        stats = emulator.stats.snapshot()
        assert (len(bench.rows), stats["paid_twice"], stats["lines_twice"]) == (60, 0, 0)
