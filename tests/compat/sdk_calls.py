"""Calls of the official client to the emulator beyond the page's examples.

Runs in an environment with the `openai` package but without ours: `sdk_calls.py GROUP URL TOKEN` prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import openai
from openai.types import Batch, FileObject
from openai.types.chat import ChatCompletion

ENDPOINT: Any = "/v1/chat/completions"
MESSAGES: Any = [{"role": "user", "content": "Is it good? End with Rating: [[n]]"}]
MAX_UPLOAD_BYTES = 10 * 1024 * 1024

Calls = dict[str, Callable[[], Any]]


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"custom_id": f"r-{number}", "body": {"model": "pai-judge", "messages": MESSAGES}, **more}


def jsonl(lines: Iterable[Any]) -> tuple[str, bytes]:
    return "in.jsonl", "".join(json.dumps(one) + "\n" for one in lines).encode()


def error_of(call: Callable[[], Any]) -> dict[str, Any]:
    """Return the exception that the client raises for a call, or its result if it raises none."""
    try:
        result = call()
    except openai.APIStatusError as error:
        return {
            "class": type(error).__name__,
            "status": error.status_code,
            "code": error.code,
            "body": error.body,
            "keys": sorted(error.response.json()),
        }
    return {"class": None, "result": repr(result)}


def refusals(client: openai.OpenAI) -> dict[str, Any]:
    """Make every call that is refused; return the exceptions by the calls' names."""
    calls = {**wrong_tokens(client), **unknown_ids(client), **invalid_uploads(client), **invalid_requests(client)}
    return {name: error_of(call) for name, call in calls.items()}


def wrong_tokens(client: openai.OpenAI) -> Calls:
    """Return calls with a wrong token, plain and in the form that the page documents."""
    plain = client.with_options(api_key="wrong")
    documented = client.with_options(api_key="Authorization: Bearer wrong")
    return {
        "token: chat": lambda: plain.chat.completions.create(model="pai-judge", messages=MESSAGES),
        "token: models": plain.models.list,
        "token: upload": lambda: documented.files.create(file=jsonl([line(1)]), purpose="batch"),
        "token: job": lambda: documented.batches.retrieve("batch_1"),
    }


def unknown_ids(client: openai.OpenAI) -> Calls:
    """Return calls with unknown ids and an unknown path."""
    return {
        "unknown file": lambda: client.files.retrieve("file-batch-0"),
        "unknown content": lambda: client.files.content("file-batch-0"),
        "unknown file, deleted": lambda: client.files.delete("file-batch-0"),
        "unknown job": lambda: client.batches.retrieve("batch_0"),
        "unknown job, cancelled": lambda: client.batches.cancel("batch_0"),
        "unknown path": lambda: client.embeddings.create(model="pai-judge", input="x"),
    }


def invalid_uploads(client: openai.OpenAI) -> Calls:
    """Return uploads of files that are not valid batch input."""

    def upload(content: bytes, name: str = "in.jsonl", purpose: Any = "batch") -> Callable[[], Any]:
        return lambda: client.files.create(file=(name, content), purpose=purpose)

    _, good = jsonl([line(1)])
    _, twice = jsonl([line(1), line(2), line(1)])
    return {
        "not jsonl by name": upload(good, "in.txt"),
        "not json": upload(b'{"custom_id": "r-1", '),
        "no custom_id": upload(b'{"body": {}}\n'),
        "no body": upload(b'{"custom_id": "r-1"}\n'),
        "no line": upload(b"\n"),
        "twice": upload(twice),
        "purpose": upload(good, purpose="assistants"),
        "too large": upload(b"x" * (MAX_UPLOAD_BYTES + 1)),
    }


def invalid_requests(client: openai.OpenAI) -> Calls:
    """Return creations, lists and chat requests with invalid parameters."""
    file_id = client.files.create(file=jsonl([line(1)]), purpose="batch").id

    def create(key: str, window: Any = "24h", endpoint: Any = ENDPOINT) -> Callable[[], Any]:
        return lambda: client.batches.create(input_file_id=key, completion_window=window, endpoint=endpoint)

    return {
        "unknown input file": create("file-batch-0"),
        "window": create(file_id, window="48h"),
        "endpoint": create(file_id, endpoint="/v1/embeddings"),
        "list of none": lambda: client.batches.list(limit=0),
        "list from nowhere": lambda: client.batches.list(after="batch_0"),
        "two choices": lambda: client.chat.completions.create(model="pai-judge", messages=MESSAGES, n=2),
    }


def lists(client: openai.OpenAI) -> dict[str, Any]:
    """List files and jobs in pages, cancel one job and delete one file."""
    files = [client.files.create(file=jsonl([line(n)]), purpose="batch").id for n in range(5)]
    jobs = [
        client.batches.create(input_file_id=key, completion_window="24h", endpoint=ENDPOINT, metadata={"n": key}).id
        for key in files
    ]
    first = client.batches.list(limit=2)
    cancelling = client.batches.cancel(jobs[0])
    deleted = client.files.delete(files[4])
    return {
        "files": files,
        "jobs": jobs,
        "page": [job.id for job in first.data],
        "more": (first.has_more, first.has_next_page()),
        "listed": [job.id for job in client.batches.list(limit=2)],
        "listed_at_once": [job.id for job in client.batches.list(limit=100)],
        "files_listed": [file.id for file in client.files.list(limit=2, order="asc")],
        "cancel": cancelling.status,
        "cancelled": ended(client, jobs[0]),
        "again": error_of(lambda: client.batches.cancel(jobs[0])),
        "deleted": deleted.deleted,
        "gone": error_of(lambda: client.files.retrieve(files[4])),
    }


def ended(client: openai.OpenAI, key: str) -> dict[str, Any]:
    """Wait until a job has ended; return its status, the lines of both its files and its errors."""
    for _ in range(100):
        job = client.batches.retrieve(key)
        if job.completed_at or job.failed_at or job.cancelled_at or job.expired_at:
            break
        time.sleep(0.05)
    lines = [
        json.loads(text)
        for file_id in (job.output_file_id, job.error_file_id)
        if file_id
        for text in client.files.content(file_id).text.splitlines()
    ]
    return {"status": job.status, "lines": lines, "errors": job.errors and job.errors.to_dict()}


def strict(client: openai.OpenAI) -> dict[str, Any]:
    """Validate the openai dialect against every field of the client's own models."""
    target = {"method": "POST", "url": ENDPOINT}
    file = client.files.create(file=jsonl([line(n, **target) for n in range(3)]), purpose="batch")
    file = client.files.wait_for_processing(file.id, poll_interval=0.05)
    made = client.batches.create(input_file_id=file.id, completion_window="24h", endpoint=ENDPOINT)
    done = ended(client, made.id)
    FileObject.model_validate(file.to_dict())
    for shown in (made, client.batches.retrieve(made.id)):
        Batch.model_validate(shown.to_dict())
    twice = client.files.create(file=jsonl([line(1, **target), line(1, **target)]), purpose="batch")
    failed = client.batches.create(input_file_id=twice.id, completion_window="24h", endpoint=ENDPOINT)
    bodies = [ChatCompletion.model_validate(one["response"]["body"]) for one in done["lines"]]
    return {
        "created": made.status,
        "ended": done["status"],
        "texts": [body.choices[0].message.content for body in bodies],
        "failed": ended(client, failed.id),
    }


async def asynchronous(url: str, token: str) -> dict[str, Any]:
    """Run a chat and a batch through the asynchronous client; stream the results."""
    async with openai.AsyncOpenAI(api_key=token, base_url=url, max_retries=0) as client:
        chat = await client.chat.completions.create(model="pai-judge", messages=MESSAGES)
        file = await client.files.create(file=jsonl([line(n) for n in range(3)]), purpose="batch")
        made = await client.batches.create(input_file_id=file.id, completion_window="24h", endpoint=ENDPOINT)
        job = await client.batches.retrieve(made.id)
        async with client.files.with_streaming_response.content(job.output_file_id or "") as reply:
            lines = [json.loads(text) async for text in reply.iter_lines()]
        return {
            "chat": chat.choices[0].message.content,
            "status": job.status,
            "ids": sorted(one["custom_id"] for one in lines),
            "listed": [one.id async for one in client.batches.list(limit=1)] == [made.id],
        }


def main(group: str, url: str, token: str) -> None:
    with openai.OpenAI(api_key=token, base_url=url, max_retries=0) as client:
        if group == "asynchronous":
            found = asyncio.run(asynchronous(url, token))
        else:
            found = {"refusals": refusals, "lists": lists, "strict": strict}[group](client)
    print(json.dumps({"version": openai.__version__, **found}))


main(*sys.argv[1:])
