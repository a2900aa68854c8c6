"""An account that runs out of credit, and services without Files or Batch."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.anyio

BODY = {"model": "pai-judge", "messages": [{"role": "user", "content": "Rate 1 to 5: hi"}]}


@pytest.mark.parametrize(("dialect", "code"), [("pai", "PostpaidBillOverdue"), ("openai", "insufficient_quota")])
async def test_every_online_request_beyond_the_credit_is_refused(emulate, dialect, code):
    async with emulate(dialect=dialect, credit=2) as caller:
        replies = [await caller.chat(BODY) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 429, 429]
        assert replies[-1].error["code"] == code
        assert caller.running.stats.distinct_ok == 1


async def test_a_service_can_lack_files_or_batches(emulate):
    async with emulate(batch={"unsupported": ["files"]}) as caller:
        reply = await caller.upload(b"{}\n")
        assert (reply.status, reply.error["code"]) == (404, "unknown_url")
    async with emulate(batch={"unsupported": ["batches"]}) as caller:
        reply = await caller.create("file-batch-1")
        assert (reply.status, reply.error["code"]) == (404, "unknown_url")
