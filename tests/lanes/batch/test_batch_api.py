"""The single calls to Files and Batch against a service that answers oddly or not at all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from fake_batch_service import BrokenReply, Do, FakeBatchService, Hook, error_reply, first, page

from runner.config import RetryConfig, ServiceConfig, TimeoutConfig
from runner.core import Drained, DrainSignal
from runner.errors import (
    ConnectFailed,
    Fatal,
    NoBatchApi,
    RateLimited,
    Refused,
    ReplyTooLarge,
    RunStopped,
    ServerFault,
    ServiceError,
    Transient,
)
from runner.lanes import Traffic
from runner.lanes.batch import api as batch_api
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.job_status import BatchJob
from runner.lanes.batch.listing import Listing as WholeListing
from runner.lanes.batch.refusals import storage_full
from runner.service import Client

pytestmark = pytest.mark.anyio

POLICY = RetryConfig(attempts=2, base=0.001, ceiling=0.002, patience=5.0)
Sleep = Callable[[float], Awaitable[None]]


class RecordingApi(BatchApi):
    """An API that records how long it slept between attempts, in seconds."""

    sleeps: list[float]


@asynccontextmanager
async def api_of(
    service: FakeBatchService,
    sleep: Sleep | None = None,
    window: float = 86400.0,
    policy: RetryConfig = POLICY,
    dialect: str = "pai",
) -> AsyncIterator[RecordingApi]:
    """The API of a service; it does not sleep between attempts."""
    config = ServiceConfig(
        base_url=service.url, token_env=None, timeout=TimeoutConfig(connect=5, total=0.3), max_reply_mb=1
    )
    sleeps: list[float] = []

    async def note(seconds: float) -> None:
        sleeps.append(seconds)
        if sleep is not None:
            await sleep(seconds)

    async with Client(config, service.url, None) as client:
        api = RecordingApi(client, dialect, window, policy, note, Traffic())
        api.sleeps = sleeps
        yield api


async def ids_of(api: BatchApi, file_id: str) -> list[str]:
    """Return the ids of the batches of a file, as the list shows them."""
    return [one.job.id for one in (await api.listing()).batches if one.input_file_id == file_id]


def upload_file(folder: Path) -> Path:
    path = folder / "shard.jsonl"
    path.write_bytes(b'{"custom_id":"0-judge-o-0","body":{}}\n')
    return path


async def test_create_requests_the_chat_endpoint_and_at_least_24_hours(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        for window in (5.0, 86400.0, 86401.0, 14 * 86400.0):
            async with api_of(service, window=window) as api:
                file_id = (await api.upload(upload_file(tmp_path))).id
                job = await api.create(file_id)
                assert (job.state, job.known, job.word) == ("running", True, "Creating")
        assert [body["completion_window"] for body in service.bodies] == ["24h", "24h", "25h", "336h"]
        assert {body["endpoint"] for body in service.bodies} == {"/v1/chat/completions"}
        assert service.files[file_id] == upload_file(tmp_path).read_bytes()


async def test_create_waits_for_retry_after_of_a_429(tmp_path: Path) -> None:
    def busy() -> web.Response:
        return error_reply(429, **{"Retry-After": "3"})

    async with FakeBatchService(create=first(2, busy)) as service, api_of(service) as api:
        job = await api.create((await api.upload(upload_file(tmp_path))).id)
        assert job.id == "batch-0"
        assert api.sleeps == [3.0, 3.0]
        assert (api.traffic.throttled, api.traffic.retries) == (2, 2)
        assert list(service.jobs) == ["batch-0"]


async def test_create_is_retried_while_the_service_is_unreachable(tmp_path: Path) -> None:
    service = FakeBatchService()
    async with service:
        pass
    service.files["file-0"] = upload_file(tmp_path).read_bytes()
    seen: list[str | None] = []

    async def come_back(_: float) -> None:
        seen.append(api.last_failure)
        if len(seen) == 2:
            await service.__aenter__()

    async with api_of(service, come_back) as api:
        try:
            job = await api.create("file-0")
        finally:
            await service.__aexit__()
        assert (job.id, len(service.jobs), api.last_failure) == ("batch-0", 1, None)
        assert all(trouble and "Connect" in trouble for trouble in seen)


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, None, "cut", "nothing", "list", "no id"])
async def test_create_is_never_retried_if_it_may_have_taken_effect(tmp_path: Path, status: object) -> None:
    odd = {"nothing": b"", "list": b"[1]", "no id": b'{"status":"Creating"}'}

    def lost(_: int, do: Do) -> web.Response | BrokenReply:
        do()
        if isinstance(status, int):
            return error_reply(status)
        if isinstance(status, str) and status in odd:
            return web.Response(body=odd[status])
        return BrokenReply.CUT if status == "cut" else BrokenReply.RESET

    async with FakeBatchService(create=lost) as service, api_of(service) as api:
        file_id = (await api.upload(upload_file(tmp_path))).id
        api.sleeps.clear()  # on a busy machine an upload may time out and be retried
        with pytest.raises(Transient) as caught:
            await api.create(file_id)
        assert not isinstance(caught.value, ConnectFailed | RateLimited)
        assert (service.calls["create"], len(service.jobs), api.sleeps) == (1, 1, [])
        assert await ids_of(api, file_id) == ["batch-0"]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_missing_files_or_batches_route_means_no_batch_api(tmp_path: Path, status: int) -> None:
    async with FakeBatchService(create=first(9, lambda: error_reply(status))) as service, api_of(service) as api:
        with pytest.raises(NoBatchApi, match=f"HTTP {status}.*on /batches"):
            await api.create("file-0")
    async with FakeBatchService(upload=first(9, lambda: error_reply(status))) as service, api_of(service) as api:
        with pytest.raises(NoBatchApi, match=f"HTTP {status}.*on /files"):
            await api.upload(upload_file(tmp_path))
        assert service.calls["upload"] == 1


async def test_a_404_about_the_file_does_not_mean_no_batch_api() -> None:
    gone = first(9, lambda: error_reply(404, "No such File: file-9"))
    async with FakeBatchService(create=gone) as service, api_of(service) as api:
        with pytest.raises(Fatal, match="file-9"):
            await api.create("file-9")


async def test_an_upload_is_retried_in_full(tmp_path: Path) -> None:
    hooks: Hook = first(3, BrokenReply.RESET, first(4, lambda: error_reply(503)))
    async with FakeBatchService(upload=hooks) as service, api_of(service) as api:
        file_id = (await api.upload(upload_file(tmp_path))).id
        assert service.files == {file_id: upload_file(tmp_path).read_bytes()}
        assert (service.calls["upload"], api.traffic.retries, api.last_failure) == (5, 4, None)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(401, "InvalidApiKey", "authentication"), (402, "", "quota"), (429, "PrepaidBillOverdue", "quota")],
)
async def test_errors_that_affect_every_call_stop_the_run(tmp_path: Path, status: int, code: str, reason: str) -> None:
    refuse = first(9, lambda: error_reply(status, code=code))
    hooked = FakeBatchService(upload=refuse, create=refuse, list=refuse, job=refuse)
    async with hooked as service, api_of(service) as api:
        calls: list[Awaitable[Any]] = [
            api.upload(upload_file(tmp_path)),
            api.create("file-0"),
            api.listing(),
            api.job("batch-0"),
        ]
        for call in calls:
            with pytest.raises(RunStopped) as caught:
                await call
            assert (caught.value.reason, caught.value.exit_code) == (reason, 3)


async def test_an_outage_longer_than_patience_stops_the_run() -> None:
    policy = RetryConfig(attempts=2, base=0.001, ceiling=0.002, patience=0.0)
    async with (
        FakeBatchService(job=first(9, lambda: error_reply(503))) as service,
        api_of(service, policy=policy) as api,
    ):
        with pytest.raises(RunStopped) as caught:
            await api.job("batch-0")
        assert (caught.value.reason, caught.value.exit_code) == ("outage", 4)
        assert "HTTP 503" in str(caught.value)


async def test_the_patience_begins_after_the_waits_that_the_service_asks_for() -> None:
    policy = RetryConfig(attempts=2, base=0.001, ceiling=0.002, patience=0.0, max_retry_after=100.0)
    asking = first(2, lambda: error_reply(429, **{"Retry-After": "40"}))
    async with FakeBatchService(job=asking) as service, api_of(service, policy=policy) as api:
        assert await api.job("batch-0") is None
        assert api.sleeps == [40, 40]
    asking = first(9, lambda: error_reply(429, **{"Retry-After": "101"}))
    async with FakeBatchService(job=asking) as service, api_of(service, policy=policy) as api:
        with pytest.raises(RunStopped, match=r"asks to wait until .*, longer than 100 s") as caught:
            await api.job("batch-0")
        assert (caught.value.reason, caught.value.exit_code, api.sleeps) == ("outage", 4, [])
        assert "asked to wait until" in (api.last_failure or "")


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_an_unknown_job_is_none(status: int) -> None:
    async with FakeBatchService(job=first(9, lambda: error_reply(status))) as service, api_of(service) as api:
        assert await api.job("batch-0") is None


async def test_an_id_with_special_characters_stays_one_path_segment() -> None:
    async with FakeBatchService() as service, api_of(service) as api:
        assert await api.job("a/b?c 好%2F") is None
        assert service.paths == ["/v1/batches/a%2Fb%3Fc%20%E5%A5%BD%252F"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"id": "b"}, BatchJob("b", "running", "None", False)),
        ({"id": 7, "status": "COMPLETED"}, BatchJob("7", "completed", "COMPLETED", True)),
        ({"id": "b", "status": None, "request_counts": None}, BatchJob("b", "running", "None", False)),
        ({"id": "b", "status": {"x": 1}}, BatchJob("b", "running", "{'x': 1}", False)),
        (
            {"id": "b", "status": "Succeeded", "output_file_id": "", "error_file_id": None},
            BatchJob("b", "completed", "Succeeded", True),
        ),
        (
            {"id": "b", "status": "Succeeded", "output_file_id": 5, "request_counts": {"completed": 3.0, "failed": -1}},
            BatchJob("b", "completed", "Succeeded", True, output_file_id="5", completed=3),
        ),
        (
            {"id": "b", "status": "Running", "request_counts": {"total": "9", "completed": True, "failed": 1e300}},
            BatchJob("b", "running", "Running", True),
        ),
        ({"id": "b", "status": "Failed", "errors": ["x"]}, BatchJob("b", "failed", "Failed", True, errors=["x"])),
    ],
)
async def test_malformed_fields_of_a_job_are_ignored(given: dict[str, Any], expected: BatchJob) -> None:
    async with FakeBatchService(job=first(1, lambda: web.json_response(given))) as service, api_of(service) as api:
        assert await api.job("b") == expected


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"status":"Succeeded"}', b"\xff", b"[" * 100_000])
async def test_a_200_that_is_not_a_job_is_retried(body: bytes) -> None:
    replies = first(2, lambda: web.Response(body=body), lambda _, __: web.json_response({"id": "b", "status": "x"}))
    async with FakeBatchService(job=replies) as service, api_of(service) as api:
        found = await api.job("b")
        assert found is not None
        assert service.calls["job"] == 3


async def test_a_reply_without_an_end_is_no_outage() -> None:
    def large(_: int, __: Do) -> web.Response:
        return web.Response(body=b" " * 1_100_000, content_type="application/json")

    async with FakeBatchService(job=large) as service, api_of(service) as api:
        with pytest.raises(ReplyTooLarge):
            await api.job("batch-0")
        assert service.calls["job"] == 3


@pytest.mark.parametrize("body", [b"[]", b"null", b'"batch-1"', b'{"status":"Succeeded"}'])
async def test_a_shape_that_cannot_be_read_is_no_outage(tmp_path: Path, body: bytes) -> None:
    odd = first(9, lambda: web.Response(body=body))
    hooked = FakeBatchService(upload=odd, create=odd, list=odd, job=odd)
    async with hooked as service, api_of(service) as api:
        calls: list[Awaitable[Any]] = [api.upload(upload_file(tmp_path)), api.create("f"), api.job("b")]
        for call in calls if body == b"[]" else [*calls, api.listing()]:
            with pytest.raises(ServiceError, match="a 200 ") as caught:
                await call
            assert body.decode() in str(caught.value)
        assert (service.calls["upload"], service.calls["create"], service.calls["job"]) == (3, 1, 3)


async def test_wrapped_jobs_and_bare_lists_are_read() -> None:
    job = {"id": "b1", "status": "Running", "input_file_id": "mine"}
    hooked = FakeBatchService(
        create=lambda _, __: web.json_response({"job": job, "warning": ""}, status=201),
        job=lambda _, __: web.json_response({"batch": job}),
        list=lambda _, __: web.json_response([job]),
    )
    async with hooked as service, api_of(service) as api:
        found = await api.job("b1")
        assert found is not None
        assert ((await api.create("mine")).id, found.id) == ("b1", "b1")
        assert await ids_of(api, "mine") == ["b1"]
        assert service.calls["list"] == 1


async def test_a_service_that_refuses_metadata_gets_none() -> None:
    def strict(_: int, do: Do) -> web.Response:
        refused = error_reply(400, "metadata: extra fields not permitted")
        return refused if "metadata" in service.bodies[-1] else do()

    async with FakeBatchService(create=strict) as service, api_of(service, dialect="openai") as api:
        service.files["f"] = b""
        for _ in range(2):
            await api.create("f", "judge-runner-1")
        assert [body.get("metadata") for body in service.bodies] == [{"judge_runner": "judge-runner-1"}, None, None]


def many(count: int, mine: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"b{n}", "status": "x", "input_file_id": "mine" if n == mine else f"other-{n}", **more}
        for n in range(count)
    ]


class Listing:
    """Pages of jobs, in the style of one service or another."""

    def __init__(self, jobs: list[dict[str, Any]], style: str) -> None:
        self.jobs = jobs
        self.style = style
        self.service = FakeBatchService(list=self._page)

    def _page(self, _: int, __: Do) -> web.Response:
        query = self.service.queries[-1]
        limit = min(int(query["limit"]), 20)
        ids = [job["id"] for job in self.jobs]
        start = ids.index(query["after"]) + 1 if "after" in query and self.style != "deaf" else 0
        shown = self.jobs[start : start + limit]
        more = start + limit < len(self.jobs)
        if self.style == "null" and not shown:
            return web.json_response({"data": None})
        if self.style == "last_id":
            return page(shown, has_more=more, first_id=shown[0]["id"], last_id=shown[-1]["id"])
        return page(shown) if self.style in ("bare", "null") else page(shown, has_more=more)


@pytest.mark.parametrize("style", ["after", "last_id", "bare", "null"])
@pytest.mark.parametrize("mine", [0, 19, 20, 44, 99])
async def test_all_pages_of_the_list_are_searched(style: str, mine: int) -> None:
    listing = Listing(many(45, mine), style)
    async with listing.service as service, api_of(service) as api:
        assert await ids_of(api, "mine") == ([f"b{mine}"] if mine < 45 else [])
        assert len(service.queries) == (4 if style in ("bare", "null") else 3)
        assert all(query["limit"] == "100" for query in service.queries)


async def test_a_service_that_ignores_after_does_not_cause_an_endless_loop() -> None:
    listing = Listing(many(15, 3), "deaf")
    async with listing.service as service, api_of(service) as api:
        assert await ids_of(api, "mine") == ["b3"]
        assert len(service.queries) == 1  # the service says that there are no more
    listing = Listing(many(45, 3), "deaf")
    async with listing.service as service, api_of(service) as api:
        assert await ids_of(api, "mine") == ["b3"]
        assert len(service.queries) == 2


async def test_a_list_with_more_pages_that_never_arrive_does_not_prove_absence() -> None:
    listing = Listing(many(45, 44), "deaf")
    async with listing.service as service, api_of(service) as api:
        assert not (await api.listing()).is_whole


@pytest.mark.parametrize("last_id", [None, "b-always"])
async def test_a_list_without_an_end_proves_nothing_and_a_drain_ends_the_search(
    last_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_api, "MAX_LIST_PAGES", 7)

    def endless(count: int, _: Do) -> web.Response:
        return page([{"id": f"b{count}", "status": "x"}], has_more=True, last_id=last_id)

    async with FakeBatchService(list=endless) as service, api_of(service) as api:
        found = await api.listing()
        assert not found.is_whole
        assert [one.job.id for one in found.batches] == [f"b{number + 1}" for number in range(2 if last_id else 7)]
    drain = DrainSignal()
    drain.set()
    async with FakeBatchService(list=endless) as service, api_of(service, drain.sleep) as api:
        with pytest.raises(Drained):
            await api.listing()
        assert service.calls["list"] == 1


@pytest.mark.parametrize("data", [{}, {"batches": [{"id": "b"}]}, {"data": {"id": "b"}}, {"data": "none"}])
async def test_a_list_of_an_unknown_shape_does_not_prove_absence(data: dict[str, Any]) -> None:
    async with FakeBatchService(list=lambda _, __: web.json_response(data)) as service, api_of(service) as api:
        with pytest.raises(ServiceError, match="list"):
            await api.listing()


@pytest.mark.parametrize("data", [None, []])
async def test_an_empty_list_is_whole(data: object) -> None:
    async with (
        FakeBatchService(list=lambda _, __: web.json_response({"data": data})) as service,
        api_of(service) as api,
    ):
        assert await api.listing() == WholeListing(())
        assert len(service.queries) == 1


async def test_numeric_ids_are_found_in_the_list() -> None:
    entry = {"id": 12, "status": "Running", "input_file_id": 34}
    async with FakeBatchService(list=lambda _, __: page([entry])) as service, api_of(service) as api:
        assert await ids_of(api, "34") == ["12"]


async def test_malformed_entries_of_a_list_are_skipped() -> None:
    entries: list[Any] = [None, "b1", {}, {"id": None, "input_file_id": "mine"}, *many(2, 1)]
    async with FakeBatchService(list=lambda _, __: page(entries)) as service, api_of(service) as api:
        assert await ids_of(api, "mine") == ["b1"]


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_service_without_a_list_raises_its_status(status: int) -> None:
    async with FakeBatchService(list=first(9, lambda: error_reply(status))) as service, api_of(service) as api:
        with pytest.raises(ServiceError) as caught:
            await api.listing()
        assert caught.value.status == status


@pytest.mark.parametrize("status", [403, 409])
async def test_a_forbidden_call_does_not_stop_the_run(status: int) -> None:
    refuse = first(9, lambda: error_reply(status))
    async with FakeBatchService(list=refuse, cancel=refuse, delete=refuse) as service, api_of(service) as api:
        service.jobs["batch-0"] = {"ids": []}
        calls: list[Awaitable[Any]] = [api.listing(), api.cancel("batch-0"), api.delete("file-0")]
        for call in calls:
            with pytest.raises(ServiceError, match=f"HTTP {status}"):
                await call
        assert api.sleeps == []


@pytest.mark.parametrize("status", [201, 202])
async def test_any_2xx_is_a_success(tmp_path: Path, status: int) -> None:
    def created(_: int, do: Do) -> web.Response:
        reply = do()
        reply.set_status(status)
        return reply

    async with FakeBatchService(upload=created, create=created, cancel=created) as service, api_of(service) as api:
        file_id = (await api.upload(upload_file(tmp_path))).id
        job = await api.create(file_id)
        await api.cancel(job.id)
        assert (job.id, service.calls["create"]) == ("batch-0", 1)


async def test_deleting_a_deleted_file_succeeds(tmp_path: Path) -> None:
    async with FakeBatchService() as service, api_of(service) as api:
        file_id = (await api.upload(upload_file(tmp_path))).id
        await api.delete(file_id)
        await api.delete(file_id)
        assert (service.deleted, service.files) == ([file_id], {})


async def test_a_cut_off_download_is_retried_and_leaves_no_partial_file(tmp_path: Path) -> None:
    content = json.dumps({"text": "好" * 1000}).encode()
    service = FakeBatchService(content=first(2, BrokenReply.CUT, lambda _, __: web.Response(body=content)))
    async with service, api_of(service) as api:
        await api.download("file-0", tmp_path / "out", 1_000_000)
        assert (tmp_path / "out").read_bytes() == content
        assert service.calls["content"] == 3
    assert names(tmp_path) == ["out"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("status", "message", "full"),
    [
        (400, "The account's storage quota of 100 GB is exceeded (storage_quota_exceeded)", True),
        (400, "Total file size exceeds the limit of 100 GB per account", True),
        (403, "You have exceeded your file storage limit", True),
        (429, "Maximum number of files reached: the limit is 10000 files", True),
        (507, "file store is full", True),
        (400, "A file may have 10 MB (10485760 bytes). (file_too_large)", False),
        (413, "File size exceeds the limit of 10 MB", False),
        (400, "The file is too large: it exceeds the maximum file size of 200 MB", False),
        (429, "Rate limit reached for file uploads: 1000 per minute", False),
        (429, "Enqueued token limit reached", False),
        (400, "the file has an invalid line 3", False),
        (500, "storage quota exceeded", False),
    ],
)
def test_a_full_account_is_distinguished_from_a_large_file(status: int, message: str, full: bool) -> None:
    kinds: dict[int, type[ServiceError]] = {429: RateLimited, 500: ServerFault}
    assert storage_full(kinds.get(status, Refused)(f"HTTP {status}: {message}", status=status)) is full
