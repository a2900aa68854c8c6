"""Files: upload, list, download, delete, and what is refused."""

from __future__ import annotations

import json
import re

import openai
import pytest

pytestmark = pytest.mark.anyio

LIMIT = 10 * 1024 * 1024
LINE = b'{"custom_id": "a", "body": {"model": "pai-judge"}}\n'


def padded(size: int) -> bytes:
    """Return one valid line of exactly `size` bytes."""
    head, tail = b'{"custom_id": "a", "body": {}, "pad": "', b'"}\n'
    return head + b"x" * (size - len(head) - len(tail)) + tail


@pytest.mark.parametrize(
    ("dialect", "pattern", "more"),
    [
        ("pai", r"file-batch-[0-9A-F]{32}", set()),
        ("openai", r"file-[0-9A-Za-z]{24}", {"status"}),
        ("dashscope", r"file-batch-[0-9a-f]{32}", {"status"}),
    ],
)
async def test_a_file_has_the_dialect_s_fields_and_is_downloaded_unchanged(emulate, dialect, pattern, more):
    async with emulate(dialect=dialect) as caller:
        uploaded = await caller.upload(LINE, "some_name.jsonl")
        again = await caller.call("GET", f"/v1/files/{uploaded.json['id']}")
        content = await caller.call("GET", f"/v1/files/{uploaded.json['id']}/content")
    file = uploaded.json
    assert re.fullmatch(pattern, file["id"])
    assert set(file) == {"id", "object", "bytes", "created_at", "filename", "purpose"} | more
    assert (file["object"], file["bytes"], file["filename"], file["purpose"]) == (
        "file",
        len(LINE),
        "some_name.jsonl",
        "batch",
    )
    assert again.json == file
    assert (content.raw, content.headers["Content-Length"]) == (LINE, str(len(LINE)))


async def test_ten_mebibytes_are_accepted_and_one_more_byte_is_refused(emulate):
    async with emulate() as caller:
        fits = await caller.upload(padded(LIMIT))
        over = await caller.upload(padded(LIMIT + 1))
        stats = await caller.stats()
        content = await caller.call("GET", f"/v1/files/{fits.json['id']}/content")
    assert (fits.status, fits.json["bytes"], len(content.raw)) == (200, LIMIT, LIMIT)
    assert (over.status, over.error["code"], over.error["param"]) == (400, "file_too_large", "file")
    assert (stats["files"], stats["files_held"]) == (1, 1)


async def test_openai_accepts_larger_files(emulate):
    async with emulate(dialect="openai") as caller:
        assert (await caller.upload(padded(33 * 1024 * 1024))).status == 200


async def test_the_storage_limit_applies_to_all_files_and_deleting_frees_space(emulate):
    async with emulate(batch={"storage_mb": 2}) as caller:
        first = await caller.upload(padded(1024 * 1024))
        second = await caller.upload(padded(1024 * 1024))
        third = await caller.upload(LINE)
        await caller.call("DELETE", f"/v1/files/{first.json['id']}")
        again = await caller.upload(LINE)
    assert [first.status, second.status, third.status, again.status] == [200, 200, 400, 200]
    assert third.error["code"] == "storage_quota_exceeded"


BAD_LINES = [
    (b"", "empty_file", ""),
    (b"\n \n", "empty_file", ""),
    (LINE + b"{half\n", "invalid_json_line", "Line 2: "),
    (LINE + b"\n[1]\n", "invalid_json_line", "Line 3: "),
    (b'\xff{"custom_id": "a"}\n', "invalid_json_line", "Line 1: "),
    (LINE + LINE, "duplicate_custom_id", "Line 2: "),
    (b'{"body": {}}\n', "missing_required_parameter", "Line 1: Every line needs `custom_id`"),
    (b'{"custom_id": 7, "body": {}}\n', "missing_required_parameter", "Line 1: Every line needs `custom_id`"),
    (b'{"custom_id": "a"}\n', "missing_required_parameter", "Line 1: Every line needs `body`"),
    (b'{"custom_id": "a", "body": "{}"}\n', "missing_required_parameter", "Line 1: Every line needs `body`"),
]


@pytest.mark.parametrize(("data", "code", "message"), BAD_LINES)
async def test_pai_refuses_an_invalid_file_at_the_upload(emulate, data, code, message):
    async with emulate() as caller:
        reply = await caller.upload(data)
        stats = await caller.stats()
    assert (reply.status, reply.error["code"], reply.error["param"]) == (400, code, "file")
    assert reply.error["message"].startswith(message)
    assert set(reply.error) == {"message", "type", "param", "code"}
    assert stats["files"] == stats["files_held"] == 0


@pytest.mark.parametrize(
    ("name", "purpose", "param"), [("in.json", "batch", "file"), ("in.jsonl", "fine-tune", "purpose")]
)
async def test_name_and_purpose_are_checked(emulate, name, purpose, param):
    async with emulate() as caller:
        reply = await caller.upload(LINE, name, purpose)
    assert (reply.status, reply.error["param"]) == (400, param)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (LINE, "application/json"),
        (LINE, "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"no form data", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
        (
            b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
        ),
    ],
)
async def test_an_invalid_upload_is_a_400(emulate, body, kind):
    async with emulate() as caller:
        reply = await caller.call("POST", "/v1/files", body, headers={"Content-Type": kind})
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/files/file-none"), ("DELETE", "/v1/files/file-none"), ("GET", "/v1/files/file-none/content")],
)
async def test_an_unknown_file_is_a_404_and_a_wrong_token_a_401(emulate, method, path):
    async with emulate(token="t") as caller:
        unknown = await caller.call(method, path, headers={"Authorization": "Bearer t"})
        denied = await caller.call(method, path, headers={"Authorization": "Bearer u"})
    assert (unknown.status, unknown.error["code"], unknown.error["param"]) == (404, "not_found", "id")
    assert "file-none" in unknown.error["message"]
    assert (denied.status, denied.error["code"]) == (401, "invalid_api_key")


async def test_uploads_and_lists_need_the_token_too(emulate):
    async with emulate(token="t") as caller:
        replies = [await caller.upload(LINE), await caller.call("GET", "/v1/files")]
    assert [reply.status for reply in replies] == [401, 401]


async def test_a_deleted_file_is_a_404(emulate):
    async with emulate() as caller:
        key = (await caller.upload(LINE)).json["id"]
        deleted = await caller.call("DELETE", f"/v1/files/{key}")
        again = await caller.call("DELETE", f"/v1/files/{key}")
        content = await caller.call("GET", f"/v1/files/{key}/content")
    assert deleted.json == {"id": key, "object": "file", "deleted": True}
    assert again.status == content.status == 404


async def test_files_are_listed_in_pages_newest_first(emulate):
    async with emulate() as caller:
        keys = [(await caller.upload(LINE)).json["id"] for _ in range(5)]
        first = (await caller.call("GET", "/v1/files?limit=2")).json
        second = (await caller.call("GET", f"/v1/files?limit=3&after={first['last_id']}")).json
        oldest = (await caller.call("GET", "/v1/files?order=asc&purpose=batch")).json
        others = (await caller.call("GET", "/v1/files?purpose=batch_output")).json
        async with openai.AsyncOpenAI(api_key="any", base_url=f"{caller.url}/v1", max_retries=0) as client:
            listed = [file.id async for file in client.files.list(limit=2)]
    assert [file["id"] for file in first["data"]] == [first["first_id"], first["last_id"]] == [keys[4], keys[3]]
    assert (first["object"], first["has_more"], second["has_more"]) == ("list", True, False)
    assert [file["id"] for file in second["data"]] == [keys[2], keys[1], keys[0]]
    assert [file["id"] for file in oldest["data"]] == keys == listed[::-1]
    assert others == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("after=no", "after"),
        ("order=up", "order"),
    ],
)
async def test_an_invalid_list_query_is_a_400(emulate, query, param):
    async with emulate() as caller:
        reply = await caller.call("GET", f"/v1/files?{query}")
    assert (reply.status, reply.error["param"]) == (400, param)


async def test_the_official_client_raises_its_own_exceptions(emulate, tmp_path):
    broken = tmp_path / "in.jsonl"
    broken.write_text("{half\n")
    async with emulate(token="t") as caller:
        base = f"{caller.url}/v1"
        async with openai.AsyncOpenAI(api_key="t", base_url=base, max_retries=0) as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.files.create(file=broken, purpose="batch")
            with pytest.raises(openai.NotFoundError) as missing:
                await client.files.content("file-none")
        async with openai.AsyncOpenAI(api_key="u", base_url=base, max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError):
                await client.files.list()
    assert (refused.value.code, missing.value.code) == ("invalid_json_line", "not_found")
    assert json.loads(refused.value.response.text)["error"]["message"].startswith("Line 1: ")
