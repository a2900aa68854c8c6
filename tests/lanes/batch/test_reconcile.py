"""From result files to rows: odd files, torn files, and the same files twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from batch_lane_run import COMPLETE, Bench, exit_of
from fake_batch_service import (
    BrokenReply,
    Do,
    FakeBatchService,
    all_answered,
    answered_line,
    completion,
    ending,
    error_reply,
    failed_line,
    first,
    lines,
)

from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start

pytestmark = pytest.mark.anyio

ONLY_BATCH: dict[str, Any] = {"router": {"leftovers": "resubmit"}, "batch": {"resubmits": 0}}


def ended(**files: Any) -> dict[str, Any]:
    return {"status": "Succeeded", "request_counts": {"total": 0, "completed": 0, "failed": 0}, **files}


async def collected(folder: Path, output: Any, rows: int = 4, **sections: Any) -> tuple[Bench, FakeBatchService, Any]:
    """One run whose first batch has the files that `output` makes of its custom_ids; later ones answer everything."""

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        if number:
            return all_answered(number, ids)
        made = output(ids)
        return ended(**made) if isinstance(made, dict) else ended(output=made)

    async with FakeBatchService(end) as service:
        bench = Bench(folder, service.url, rows, **sections)
        return bench, service, await bench.run()


def text(line: dict[str, Any]) -> dict[str, Any]:
    """A line whose body is JSON in a string."""
    response = {**line["response"], "body": json.dumps(line["response"]["body"], ensure_ascii=False)}
    return {**line, "response": response}


WHOLE: list[tuple[str, Any]] = [
    ("the other way round", lambda ids: lines(*map(answered_line, reversed(ids)))),
    ("bodies as texts", lambda ids: lines(*(text(answered_line(name)) for name in ids))),
    ("all in the error file", lambda ids: {"error": lines(*map(answered_line, ids))}),
    (
        "some in each",
        lambda ids: {"output": lines(*map(answered_line, ids[:1])), "error": lines(*map(answered_line, ids[1:]))},
    ),
    ("an empty error file", lambda ids: {"output": lines(*map(answered_line, ids)), "error": b""}),
    ("blank lines", lambda ids: lines(*map(answered_line, ids)).replace(b"\n", b"\r\n\n")),
    (
        "answered besides",
        lambda ids: {"output": lines(*map(answered_line, ids)), "error": lines(*map(failed_line, ids))},
    ),
    ("failed first", lambda ids: lines(*map(failed_line, ids), *map(answered_line, ids))),
    ("refused first", lambda ids: lines(*(failed_line(name, 400) for name in ids), *map(answered_line, ids))),
    ("doubled", lambda ids: lines(*map(answered_line, ids + ids))),
    ("strangers", lambda ids: lines(*map(answered_line, [*ids, "99-judge-o-0", "0-other-o-0", "x", ""]))),
    ("torn", lambda ids: b'{"custom_id":"0-ju\nnull\n[1]\n\xff\n' + lines(*map(answered_line, ids)) + b'{"id'),
]


@pytest.mark.parametrize(("name", "output"), WHOLE)
async def test_every_answer_is_found_in_either_file(tmp_path: Path, name: str, output: Any) -> None:
    bench, service, summary = await collected(tmp_path, output)
    assert exit_of(summary) == COMPLETE
    assert bench.column("route") == ["batch"] * 4
    assert bench.column("score") == [4.0] * 4
    assert (len(service.jobs), service.online_calls.total()) == (1, 0)
    warnings = [message.split(": ", 1)[1] for message in bench.logged("were ignored")]
    assert warnings == {
        "answered besides": ["4 duplicate lines for requests were ignored"],
        "failed first": ["4 duplicate lines for requests were ignored"],
        "refused first": ["4 duplicate lines for requests were ignored"],
        "doubled": ["4 duplicate lines for requests were ignored"],
        "strangers": ["4 lines for requests that are not in it were ignored"],
        "torn": ["5 lines that are not complete JSON were ignored"],
    }.get(name, [])


def error(custom_id: str, code: str, message: str = "why") -> dict[str, Any]:
    return {"id": "l", "custom_id": custom_id, "response": None, "error": {"code": code, "message": message}}


LEFT: list[tuple[str, Any, str, str]] = [
    ("missing", lambda _: [], "batch_lost", "ended without a line for this request"),
    ("500 in the output file", lambda name: [failed_line(name)], "server_error", "HTTP 500: broken"),
    ("429", lambda name: [failed_line(name, 429)], "server_error", "HTTP 429: broken"),
    ("408", lambda name: [failed_line(name, 408)], "server_error", "HTTP 408: broken"),
    ("expired", lambda name: [error(name, "batch_expired", "too late")], "batch_expired", "too late"),
    ("cancelled", lambda name: [error(name, "batch_cancelled", "stopped")], "batch_lost", "stopped"),
    ("error", lambda name: [error(name, "worker_lost", "gone")], "server_error", "worker_lost: gone"),
    ("no answer", lambda name: [{**answered_line(name), "response": None}], "bad_reply", "without a response"),
    (
        "empty answer",
        lambda name: [{**answered_line(name), "response": {"status_code": 200, "body": {}}}],
        "bad_reply",
        "",
    ),
]


@pytest.mark.parametrize(("name", "line", "error_type", "words"), LEFT)
async def test_leftovers_are_sent_again_and_their_last_row_gives_the_reason(
    tmp_path: Path, name: str, line: Any, error_type: str, words: str
) -> None:
    def output(ids: list[str]) -> bytes:
        return lines(answered_line(ids[0]), *line(ids[1]), *map(answered_line, ids[2:]))

    for folder in ("resent", "final"):
        (tmp_path / folder).mkdir()
    bench, service, summary = await collected(tmp_path / "resent", output)
    assert exit_of(summary) == COMPLETE, name
    assert (bench.column("route"), service.online_calls) == (["batch", "online", "batch", "batch"], {1: 1})
    bench, service, summary = await collected(tmp_path / "final", output, **ONLY_BATCH)
    assert exit_of(summary) == (1, None)
    row = bench.rows[1]
    assert (row["status"], row["error_type"], row["batch_id"], row["attempts"]) == ("failed", error_type, "batch-0", 1)
    assert words in row["error_message"]
    assert service.online_calls.total() == 0


@pytest.mark.parametrize(("status", "error_type"), [(400, "bad_request"), (404, "bad_request"), (422, "bad_request")])
async def test_a_refused_line_is_a_row_not_a_leftover(tmp_path: Path, status: int, error_type: str) -> None:
    bench, service, summary = await collected(
        tmp_path, lambda ids: lines(*map(answered_line, ids[1:]), failed_line(ids[0], status, "not this one"))
    )
    assert exit_of(summary) == (1, None)
    row = bench.rows[0]
    assert (row["status"], row["error_type"], row["route"]) == ("failed", error_type, "batch")
    assert row["error_message"] == f"HTTP {status}: not this one"
    assert (service.online_calls.total(), len(service.jobs)) == (0, 1)


async def test_refused_content_is_a_row_not_a_leftover(tmp_path: Path) -> None:
    refusal = {"error": {"code": "data_inspection_failed", "message": "unfit"}}

    def output(ids: list[str]) -> bytes:
        refused = {**answered_line(ids[0]), "response": {"status_code": 400, "body": refusal}}
        return lines(refused, error(ids[1], "data_inspection_failed"), *map(answered_line, ids[2:]))

    bench, service, _ = await collected(tmp_path, output)
    assert bench.column("error_type") == ["content_filter", "content_filter", None, None]
    assert service.online_calls.total() == 0


async def test_tries_add_up_over_batches_and_lanes(tmp_path: Path) -> None:
    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return ending("Succeeded", ids[: 1 if number < 2 else 9])

    async with FakeBatchService(end) as service:
        bench = Bench(tmp_path, service.url, router={"leftovers": "resubmit"}, batch={"resubmits": 2})
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("batch_id") == ["batch-0", "batch-1", "batch-2", "batch-2"]
        assert bench.column("attempts") == [1, 2, 3, 3]
        assert [len(job["ids"]) for job in service.jobs.values()] == [4, 3, 2]


async def test_tries_are_remembered_by_the_next_run(tmp_path: Path) -> None:
    async with FakeBatchService(lambda _, ids: ending("Succeeded", ids[:-1], ids[-1:])) as service:
        service.hooks["upload"] = lambda count, do: error_reply(401) if count in (2, 4) else do()
        bench = Bench(tmp_path, service.url, 6, router={"leftovers": "resubmit"}, batch={"resubmits": 2})
        for _ in range(2):
            assert exit_of(await bench.run()) == (3, "authentication")
        assert exit_of(await bench.run()) == (1, None)
        assert [len(job["ids"]) for job in service.jobs.values()] == [6, 1, 1]
        assert bench.rows[5]["error_type"] == "server_error"
        assert bench.rows[5]["attempts"] == 3


async def test_results_collected_twice_make_each_row_once(tmp_path: Path) -> None:
    """The run ends after its rows are written and before the next step: the same files are read again."""

    def delete(count: int, do: Do) -> Any:
        return error_reply(401) if count == 1 else do()

    async with FakeBatchService(lambda _, ids: ending("Succeeded", ids[:3]), delete=delete) as service:
        bench = Bench(tmp_path, service.url, 6, router={"leftovers": "resubmit"}, batch={"resubmits": 1})
        assert exit_of(await bench.run()) == (3, "authentication")
        state = bench.shard()
        assert (state["step"], state["answered"], len(bench.rows)) == ("delete", 3, 3)
        service.end = all_answered
        path = bench.directory / "batches" / "shard-00000.json"
        path.write_text(json.dumps({**state, "step": "reconcile", "answered": 0, "kept_files": []}))
        assert exit_of(await bench.run()) == COMPLETE
        assert (bench.shard()["step"], bench.shard()["answered"]) == ("closed", 3)
        assert bench.column("attempts") == [1] * 3 + [2] * 3
        assert {name: count for name, count in service.submitted.items() if count > 1} == {
            f"{n}-judge-o-0": 2 for n in (3, 4, 5)
        }


async def test_a_download_that_the_end_of_the_run_prevents_is_done_by_the_next(tmp_path: Path) -> None:
    async with FakeBatchService(content=first(9, BrokenReply.RESET)) as service:
        bench = Bench(tmp_path, service.url, online={"retry": {"base": 0.001, "ceiling": 0.002, "patience": 0.0}})
        assert exit_of(await bench.run()) == (4, "outage")
        assert (bench.shard()["step"], bench.rows) == ("download", {})
        service.hooks.clear()
        assert exit_of(await bench.run()) == COMPLETE
        assert (len(service.jobs), bench.column("route")) == (1, ["batch"] * 4)


async def test_columns_of_the_members_are_in_the_rows(tmp_path: Path) -> None:
    async with FakeBatchService() as service:
        bench = Bench(tmp_path, service.url, 2, dataset={"human_label": "rating", "keep": ["tags", "note"]})
        bench.write(2, rating=3.5, tags=["a", "好"], note="一\u2028二")
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("human_score") == [3.5] * 2
        assert bench.column("tags") == ['["a","好"]'] * 2
        assert bench.column("note") == ["一\u2028二"] * 2
        assert bench.column("sample_id") == ["s0", "s1"]
        assert bench.column("latency_s") == [None] * 2
        assert bench.column("total_tokens") == [12] * 2


async def test_batches_have_their_own_prices(tmp_path: Path) -> None:
    prices = {"per": 1, "models": {"pai-judge": {"input": 2, "output": 3, "batch": 0.5}}}
    bench, _, summary = await collected(tmp_path, lambda ids: lines(*map(answered_line, ids[:2])), prices=prices)
    online = 2.0 * 7 + 3.0 * 5
    assert bench.column("cost") == [online / 2, online / 2, online, online]
    assert summary.counts.cost == 3 * online


async def test_an_answer_without_a_verdict_is_not_a_leftover(tmp_path: Path) -> None:
    def output(ids: list[str]) -> bytes:
        unclear = {**answered_line(ids[0]), "response": {"status_code": 200, "body": completion("I cannot say.")}}
        return lines(unclear, *map(answered_line, ids[1:]))

    bench, service, summary = await collected(tmp_path, output, judge={"reask": 0})
    assert exit_of(summary) == (1, None)
    assert (bench.rows[0]["status"], bench.rows[0]["response"]) == ("unparsed", "I cannot say.")
    assert (service.online_calls.total(), len(service.jobs)) == (0, 1)


@pytest.mark.parametrize("dialect", ["pai", "openai", "dashscope"])
async def test_damaged_result_files_of_the_emulator_lose_no_request(tmp_path: Path, dialect: str) -> None:
    batch = {"delay": 0.02, "lose": 0.1, "errors_in_output": 0.1, "garble": 0.1, "repeats": 0.2, "strangers": 0.1}
    batch |= {"expire": 1, "fail": 1, "body_as_text": dialect == "openai"}
    options = EmulatorOptions.from_mapping({"dialect": dialect, "seed": 5, "batch": batch})
    async with await start(options) as emulator:
        bench = Bench(
            *(tmp_path, f"{emulator.url}/v1", 120),
            service={"dialect": dialect},
            router={"leftovers": "resubmit"},
            batch={"shard_lines": 40, "resubmits": 1},
        )
        await bench.run()
        assert len(bench.rows) == 120
        causes = {row["error_type"] for row in bench.all_rows if row["status"] == "failed"}
        assert causes <= {"batch_lost", "server_error", "bad_reply", "batch_expired"}
        assert await rest(bench) == COMPLETE
        async with aiohttp.ClientSession() as session, session.get(f"{emulator.url}/emulator/stats") as reply:
            assert (await reply.json())["files_held"] == 0


async def rest(bench: Bench) -> tuple[int, str | None]:
    """Send the requests that failed for a transient cause again, online."""
    bench.config["router"] = {"mode": "online"}
    return exit_of(await bench.run())
