"""The model that answered, cached tokens, answers that are not whole, and the marks of made-up verdicts: whole runs."""

from __future__ import annotations

import csv
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from aiohttp import web
from fake_service import READABLE, Service, configure, judge, rows_by_ordinal

from runner import RunOptions, arun, load_config
from runner.pipeline import rescore_run

PRICES = {"models": {"pai-judge": {"input": 10, "output": 30, "cached": 2, "batch": 0.5}}}
EMULATED_KEY = b"judge_runner.emulated"


def reply(content: Any = READABLE, reason: str | None = "stop", **more: Any) -> web.Response:
    message = content if isinstance(content, dict) else {"role": "assistant", "content": content}
    usage = {"prompt_tokens": 2000, "completion_tokens": 10, "total_tokens": 2010}
    usage |= more.pop("usage", {})
    choice = {"message": message, "finish_reason": reason, **more.pop("choice", {})}
    return web.json_response({"id": "c-1", "choices": [choice], "usage": usage, **more})


def run_log(folder: Path) -> str:
    return (folder / "run" / "run.log").read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_another_model_than_asked_is_kept_and_warned_of(tmp_path: Path) -> None:
    def answer(ordinal: int, _: int) -> web.Response:
        return reply(model="pai-judge" if ordinal % 2 else "small-fallback")

    summary, _ = await judge(tmp_path, answer, 5, report={})
    note = "Judge judge: asked was pai-judge, and several models answered: small-fallback (3 rows), pai-judge (2 rows)."
    assert summary.notes == (note,)
    assert not summary.emulated
    assert {row["served_model"] for row in rows_by_ordinal(tmp_path).values()} == {"pai-judge", "small-fallback"}
    assert note in run_log(tmp_path)
    counted = json.loads((tmp_path / "run" / "run.json").read_bytes())["counts"]["served"]
    assert counted == {"judge": {"small-fallback": 3, "pai-judge": 2}}
    assert note in (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    lines = pq.read_table(tmp_path / "run" / "samples.parquet").to_pylist()
    assert [line["served_model"] for line in lines] == ["small-fallback", "pai-judge"] * 2 + ["small-fallback"]
    assert EMULATED_KEY not in pq.read_metadata(tmp_path / "run" / "samples.parquet").metadata


@pytest.mark.parametrize("name", ["pai-judge", "pai-judge-2026-05-01", None])
@pytest.mark.anyio
async def test_the_model_that_was_asked_is_no_warning(tmp_path: Path, name: str | None) -> None:
    summary, _ = await judge(tmp_path, lambda *_: reply(model=name), 3, report={})
    assert summary.notes == ()
    assert "asked was" not in run_log(tmp_path)
    assert "asked was" not in (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert {row["served_model"] for row in rows_by_ordinal(tmp_path).values()} == {name}


@pytest.mark.anyio
async def test_cached_tokens_are_kept_and_have_their_price(tmp_path: Path) -> None:
    def answer(ordinal: int, _: int) -> web.Response:
        return reply(usage={"prompt_tokens_details": {"cached_tokens": 1536}} if ordinal else {})

    summary, _ = await judge(tmp_path, answer, 2, prices=PRICES)
    rows = rows_by_ordinal(tmp_path)
    assert [rows[n]["cached_tokens"] for n in (0, 1)] == [None, 1536]
    costs = [2000 * 10 + 10 * 30, 464 * 10 + 1536 * 2 + 10 * 30]
    assert [rows[n]["cost"] for n in (0, 1)] == pytest.approx([cost / 1e6 for cost in costs])
    assert summary.counts.cached_tokens == 1536
    assert summary.counts.cost == pytest.approx(sum(costs) / 1e6)

    config = load_config(tmp_path / "judge.yaml", ["prices.models.pai-judge.cached=null"])
    assert rescore_run(config).counts.cost == pytest.approx(2 * costs[0] / 1e6)


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ({"reason": "error", "choice": {"error": {"code": 502, "message": "gone"}}}, "ok"),
        ({"reason": "insufficient_system_resource"}, "ok"),
        ({"reason": "stop", "error": {"code": 500, "message": "gone"}}, "ok"),
        ({"reason": "content_filter"}, "content_filter"),
        ({"reason": "sensitive"}, "content_filter"),
    ],
)
@pytest.mark.anyio
async def test_an_answer_that_is_not_whole_is_no_verdict(tmp_path: Path, broken: dict[str, Any], seen: str) -> None:
    half = "综合评分为[[2]],理由如下。"  # the whole answer says 4
    _, service = await judge(
        tmp_path, lambda ordinal, n: reply(half, **broken) if n == 1 and ordinal else reply(), 4, prices=PRICES
    )
    rows = rows_by_ordinal(tmp_path)
    again = seen == "ok"
    for ordinal in (1, 2, 3):
        row = rows[ordinal]
        assert (row["error_type"] or row["status"], row["score"]) == (seen, 4 if again else None)
        assert service.requests[ordinal] == (2 if again else 1)
        assert row["prompt_tokens"] == 2000 * service.requests[ordinal]  # what broke off was paid for, too
        assert row["cost"] == pytest.approx(0.0203 * service.requests[ordinal])


@pytest.mark.anyio
async def test_a_text_in_the_wrong_field_is_kept_for_rescoring(tmp_path: Path) -> None:
    def answer(ordinal: int, _: int) -> web.Response:
        wrong = {"content": None, "reasoning_content": READABLE}
        return reply(wrong if ordinal else {"content": [READABLE[:6], READABLE[6:]]})

    summary, service = await judge(tmp_path, answer, 3)
    assert (summary.counts.ok, summary.counts.unparsed) == (1, 2)
    rows = rows_by_ordinal(tmp_path)
    assert {row["response"] for row in rows.values()} == {READABLE}
    assert "reasoning_content" in rows[1]["error_message"]
    sent = service.requests.total()
    assert rescore_run(load_config(tmp_path / "judge.yaml")).counts.ok == 3
    assert service.requests.total() == sent


@pytest.mark.anyio
async def test_retrying_counts_the_models_of_the_rows_that_are_left(tmp_path: Path) -> None:
    _, _ = await judge(tmp_path, lambda ordinal, _: reply("nothing" if ordinal else READABLE, model="a"), 3)
    async with Service(lambda ordinal, _: reply("nothing" if ordinal == 1 else READABLE, model="b")) as service:
        path = configure(tmp_path, f"http://127.0.0.1:{service.port}/v1", 3)
        summary = await arun(load_config(path), RunOptions(quiet=True, retry=frozenset({"unparsed"})))
    assert summary.counts.served == {"judge": {"a": 1, "b": 2}}


@pytest.mark.parametrize("mode", ["online", "batch", "embedded"])
def test_made_up_verdicts_are_marked_wherever_people_look(
    mode: str, tmp_path: Path, cli: Callable[..., Any], plain_emulator: Any, write_run: Callable[..., None]
) -> None:
    sections: dict[str, Any] = {"router": {"mode": "batch" if mode == "batch" else "online"}, "report": {}}
    if mode == "embedded":
        sections["service"] = {"kind": "emulator", "token_env": None}
    write_run(tmp_path, plain_emulator.url, 4, batch={"poll": {"first": 0.05, "ceiling": 0.2}}, **sections)
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    mark = "the verdicts are made up"
    assert mark in done.stderr
    assert f"emulated: {mark}" in cli("status", "out").stdout
    for name in ("run.json", "status.json", "report/summary.json"):
        data = json.loads((tmp_path / "out" / name).read_bytes())
        assert data.get("run", data)["emulated"] is True, name
    assert "Emulated." in (tmp_path / "out" / "report" / "index.html").read_text(encoding="utf-8")

    for name, *flags in (
        ("rows.csv",),
        ("rows.parquet",),
        ("samples.csv", "--samples"),
        ("samples.parquet", "--samples"),
    ):
        assert cli("export", "out", name, *flags).returncode == 0
    for name in ("rows.csv", "samples.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as lines:
            assert {line["served_model"] for line in csv.DictReader(lines)} == {"emulated:pai-judge"}
    for path in (*(tmp_path / "out").rglob("*.parquet"), *tmp_path.glob("*.parquet")):
        assert pq.read_metadata(path).metadata[EMULATED_KEY] == b"true"
        assert pq.read_schema(path).metadata[EMULATED_KEY] == b"true"


def test_a_report_marks_rows_of_an_emulator_that_run_json_does_not_know(
    tmp_path: Path, cli: Callable[..., Any], plain_emulator: Any, write_run: Callable[..., None]
) -> None:
    write_run(tmp_path, plain_emulator.url, 2)
    assert cli("run", "judge.yaml").returncode == 0
    path = tmp_path / "out" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "emulated": False}), encoding="utf-8")
    assert cli("report", "out").returncode == 0
    assert json.loads((tmp_path / "out" / "report" / "summary.json").read_bytes())["run"]["emulated"] is True


def test_every_reply_of_the_emulator_names_it(plain_emulator: Any) -> None:
    for path, status in (("/models", 200), ("/files", 200), ("/nowhere", 404)):
        connection = http.client.HTTPConnection("127.0.0.1", plain_emulator.port, timeout=10)
        connection.request("GET", f"/v1{path}")
        reply = connection.getresponse()
        assert (reply.status, reply.headers["X-Emulated-By"]) == (status, "judge-runner")
        connection.close()
