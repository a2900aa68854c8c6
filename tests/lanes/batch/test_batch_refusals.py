"""The words of refusals; docs/batch.md says where those of the services come from."""

from __future__ import annotations

import pytest

from runner.errors import Fatal, RateLimited, Refused, ServerFault
from runner.lanes.batch.refusals import file_not_ready, file_state, queue_full, says_file_not_ready, says_queue_full

FULL = [
    # OpenAI
    "token_limit_exceeded Enqueued token limit reached for gpt-x in organization org-1. Limit: 90,000 enqueued tokens.",
    "Enqueued request limit reached for embed-x in organization org-1. Limit: 1,000,000 enqueued requests.",
    "Please try again once some in_progress batches have been completed.",
    # Azure
    "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment 'x'.",
    "Please either increase the limit or try again once the current jobs have finished.",
    # LiteLLM
    "Batch rate limit exceeded for key: 900 of 1000 enqueued tokens are in use",
    # Gemini
    "Too many concurrent batch jobs",
    "You exceeded the maximum of 100 concurrent batch requests",
    # Anthropic
    "The number of batch requests in the processing queue exceeds your organization's limit",
    # AWS, Fireworks and others
    "Maximum number of jobs supported is 100",
    "You have 5 batches in progress, which is the maximum.",
    "Limit of 3 open batches reached",
    "You already have too many pending batch jobs; try later",
    "Too many files in progress",
    "Too many requests in progress",
    "The batch queue is full",
    "batch quota exceeded",
    "too_many_batches",
    "batch_limit_exceeded: wait",
    "当前进行中的任务数超过上限",
]
NOT_FULL = [
    "no batches for this model (model_not_batchable)",
    "The storage quota of this account is exceeded: 100 GB",
    "the file has 60000 lines (too_many_tasks)",
    "The maximum number of requests per batch is 50,000",
    "The maximum number of requests in a batch file is 50,000.",
    "The batch exceeds the limit of 50,000 requests in one file",
    "A file can have at most 10 MB (file_too_large)",
    "You exceeded your current requests list. (limit_requests)",
    "Rate limit reached for requests per minute.",
    "This model's maximum context length is 8192 tokens",
    "max_tokens must be at most 4096",
    "You do not have access to this model",
    "",
]
NOT_READY = [
    "The input file 'f' is in 'pending' state. Only files with status 'Processed' are accepted. (invalidPayload)",
    "No such File object: file-1",
    "File shard.jsonl not found",
    "The file is still being processed",
    "input file is not ready",
    "input_file_id: file not yet processed",
    "File file-9 does not exist",
    "文件正在处理中",
]
READY = ["The input file was not uploaded for a batch.", "The file's name must end in .jsonl.", "model not found", ""]


@pytest.mark.parametrize(
    ("says", "yes", "no"), [(says_queue_full, FULL, NOT_FULL), (says_file_not_ready, NOT_READY, READY)]
)
def test_wordings(says, yes, no) -> None:
    assert [text for text in yes if not says(text) or not says(text.upper())] == []
    assert [text for text in no if says(text)] == []


def test_only_a_certain_refusal_counts() -> None:
    for error in (
        Refused(FULL[0], status=400),
        Fatal(FULL[0], reason="authentication", status=403),
        RateLimited(FULL[0], status=429),
    ):
        assert queue_full(error)
    for error in (ServerFault(FULL[0], status=500), Fatal(FULL[0], reason="quota", status=429), Refused(FULL[0])):
        assert not queue_full(error)
    assert file_not_ready(ServerFault(NOT_READY[0], status=409))
    assert not file_not_ready(ServerFault(NOT_READY[0], status=502))


def test_long_texts_take_no_time() -> None:
    for text in ("file " * 20_000, "open batch " * 10_000, "queue" + " " * 100_000, "\u2028in progress " * 9_000):
        says_queue_full(text)
        says_file_not_ready(text)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("ready", ("processed", "uploaded", "available", "completed", "succeeded", None, "", 7, {}, "whatever")),
        ("waiting", ("pending", "Validating", "PROCESSING", "running", "not_started", "in progress", "uploading")),
        ("failed", ("error", "Failed", "deleted", "EXPIRED")),
    ],
)
def test_the_status_of_a_file(state, words) -> None:
    assert {file_state(word) for word in words} == {state}
