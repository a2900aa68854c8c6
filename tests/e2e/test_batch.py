"""Whole runs by batch: each request has one row and was paid for once, whichever lane it went through."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

SAMPLES = 120
DELAY = 0.3
GONE = {"pai": "PostpaidBillOverdue", "openai": "insufficient_quota"}
LEFTOVERS = ("online", "resubmit")
SPEED = "+0 x50000"  # the faked clock: 25 hours, a window and its grace, take less than two seconds


def assert_whole(written: list[dict[str, Any]], samples: int = SAMPLES) -> None:
    """One row per request, none missing."""
    assert sorted(row["ordinal"] for row in written) == list(range(samples))
    assert len({row["custom_id"] for row in written}) == samples
    assert all((row["route"] == "batch") == (row["batch_id"] is not None) for row in written)


def counts(written: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """Return the number of rows of each route and status."""
    return Counter((row["route"], row["status"]) for row in written)


def logged(folder: Path) -> list[str]:
    """Return the warnings and errors of run.log."""
    entries = [json.loads(line) for line in (folder / "out" / "run.log").read_text("utf-8").splitlines()]
    return [entry["message"] for entry in entries if entry["level"] != "info"]


@pytest.mark.parametrize("dialect", GONE)
def test_batches_finish_a_run_whose_online_quota_is_exhausted(
    dialect, cli, tmp_path, serve, write_batch_run, rows, record
):
    service = serve(dialect=dialect, credit=40, batch={"delay": DELAY})
    write_batch_run(service.url, SAMPLES, service={"dialect": dialect, "batch": True}, router={"mode": "auto"})
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    written, manifest, stats = rows(tmp_path / "out"), record(), service.stats()
    assert_whole(written)
    assert counts(written) == {("online", "ok"): 40, ("batch", "ok"): 80}
    assert (stats["distinct_ok"], stats["paid_twice"], stats["lines_twice"], stats["batch_lines"]) == (
        SAMPLES,
        0,
        0,
        80,
    )

    assert (manifest["route"], manifest["lanes"], manifest["exit_code"]) == ("online", ["online", "batch"], 0)
    assert [(turn["lane"], turn["left"]) for turn in manifest["story"]] == [("online", SAMPLES), ("batch", 80)]
    assert manifest["story"][0]["reason"] == manifest["route_reason"]
    why = manifest["story"][1]["reason"]
    assert "on_exhausted_quota" in why and GONE[dialect] in why and why in done.stderr


def test_an_exhausted_quota_may_also_stop_the_run(cli, tmp_path, serve, write_batch_run, rows, record):
    service = serve(credit=40, batch={"delay": DELAY})
    write_batch_run(service.url, SAMPLES, router={"mode": "auto", "on_exhausted_quota": "stop"})
    done = cli("run", "judge.yaml")
    assert done.returncode == 3
    assert (record()["stop_reason"], record()["lanes"]) == ("quota", ["online"])
    assert "error: quota" in done.stderr
    assert counts(rows(tmp_path / "out")) == {("online", "ok"): 40}
    assert service.stats()["batches"] == 0

    assert cli("run", "judge.yaml", "--set", "router.on_exhausted_quota=batch").returncode == 0
    written = rows(tmp_path / "out")
    assert_whole(written)
    assert counts(written) == {("online", "ok"): 40, ("batch", "ok"): 80}
    assert service.stats()["paid_twice"] == 0


@pytest.mark.parametrize("leftovers", LEFTOVERS)
def test_leftovers_of_an_expired_batch_are_sent_again(leftovers, cli, tmp_path, serve, write_batch_run, rows, record):
    service = serve(batch={"delay": DELAY, "expire": 1})
    write_batch_run(service.url, SAMPLES, router={"leftovers": leftovers})
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    assert_left_half_of_a_shard(leftovers, rows(tmp_path / "out"), record(), service.stats())
    assert record()["batches"]["expired"] == 1


def assert_left_half_of_a_shard(leftovers, written, manifest, stats):
    """25 of the 50 requests of one batch were leftovers, sent again as `leftovers` says; none was paid twice."""
    lane = {"online": "online", "resubmit": "batch"}[leftovers]
    again = [row for row in written if row["route"] == "online" or row["attempts"] == 2]
    assert_whole(written)
    assert {row["status"] for row in written} == {"ok"}
    assert (len(again), {row["route"] for row in again}) == (25, {lane})
    assert (stats["distinct_ok"], stats["paid_twice"]) == (SAMPLES, 0)
    assert (stats["requests"], stats["lines_twice"]) == ((25, 0) if leftovers == "online" else (0, 25))
    assert [(turn["lane"], turn["left"]) for turn in manifest["story"]] == [("batch", SAMPLES), (lane, 25)]
    assert manifest["story"][1]["reason"].endswith(f"(router.leftovers: {leftovers})")
    assert (manifest["route"], manifest["route_reason"]) == ("batch", "router.mode is batch")


@pytest.mark.parametrize(("fault", "cause"), [({"expire": 2}, "batch_expired"), ({"lose": 0.4}, "batch_lost")])
def test_exhausted_resubmits_leave_failed_rows_for_a_later_run(
    fault, cause, cli, tmp_path, serve, write_batch_run, rows, record
):
    service = serve(seed=2, batch={"delay": DELAY, **fault})
    batch = {"shard_lines": 500, "resubmits": 1}
    write_batch_run(service.url, SAMPLES, router={"leftovers": "resubmit"}, batch=batch)
    first = cli("run", "judge.yaml")
    assert first.returncode == 1
    written = rows(tmp_path / "out")
    failed = [row for row in written if row["status"] == "failed"]
    assert_whole(written)
    assert failed and {(row["error_type"], row["attempts"], row["route"]) for row in failed} == {(cause, 2, "batch")}
    assert all(row["error_message"] and row["cost"] is None and row["score"] is None for row in failed)
    assert f"{len(failed)} of {SAMPLES} rows are not ok" in first.stderr

    before = service.stats()
    assert cli("run", "judge.yaml", "--set", "router.leftovers=online").returncode == 0
    after, written = service.stats(), rows(tmp_path / "out")
    assert_whole(written)
    assert {row["status"] for row in written} == {"ok"}
    assert after["batch_lines"] - before["batch_lines"] == len(failed)
    assert after["requests"] <= len(failed) and after["paid_twice"] == 0


@pytest.mark.parametrize("call", ["files", "batches"])
def test_a_service_without_a_batch_api_is_used_online(call, cli, tmp_path, serve, write_batch_run, rows, record):
    service = serve(batch={"unsupported": [call]})
    write_batch_run(service.url, SAMPLES, router={"mode": "auto", "batch_from": 50})
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    written, manifest = rows(tmp_path / "out"), record()
    assert_whole(written)
    assert counts(written) == {("online", "ok"): SAMPLES}
    assert (manifest["route"], manifest["lanes"]) == ("online", ["batch", "online"])
    assert "no Batch API" in manifest["route_reason"] and f"on /{call}" in manifest["route_reason"]
    assert manifest["route_reason"] in done.stderr
    assert (service.stats()["batches"], service.stats()["dup_ok"]) == (0, 0)


@pytest.mark.parametrize(("samples", "lane"), [(60, "batch"), (49, "online")])
def test_the_route_is_planned_announced_and_followed(
    samples, lane, cli, tmp_path, serve, write_batch_run, rows, record
):
    service = serve(batch={"delay": DELAY})
    batch = {"shard_lines": 25}
    write_batch_run(service.url, samples, router={"mode": "auto", "batch_from": 50}, batch=batch)
    plan = json.loads(cli("plan", "judge.yaml", "--json").stdout)
    assert service.stats()["requests"] + service.stats()["files"] == 0
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    manifest = record()
    assert (
        (plan["route"], plan["reason"])
        == (manifest["route"], manifest["route_reason"])
        == (lane, manifest["story"][0]["reason"])
    )
    assert f"{samples} open requests" in plan["reason"] and "batch_from" in plan["reason"]
    assert f"{lane}: {plan['reason']}\n" in done.stderr
    assert plan["batch"]["shards"] == {60: 3, 49: 2}[samples]
    assert manifest["batches"] == ({"completed": plan["batch"]["shards"]} if lane == "batch" else {})
    assert counts(rows(tmp_path / "out")) == {(lane, "ok"): samples}


def test_an_overdue_batch_is_cancelled_and_its_answers_are_kept(cli, tmp_path, serve, write_batch_run, rows, record):
    service = serve(batch={"delay": DELAY, "hold": 1})
    write_batch_run(service.url, SAMPLES, batch={"window": "1s"})
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    assert_cancelled_in_time("online", tmp_path, rows, record, service)


@pytest.mark.parametrize("leftovers", LEFTOVERS)
def test_a_batch_that_outlasts_a_whole_day_is_cancelled(
    leftovers, cli, tmp_path, serve, write_batch_run, rows, record, fast_clock
):
    service = serve(batch={"delay": DELAY, "hold": 1})
    write_batch_run(service.url, SAMPLES, router={"leftovers": leftovers})
    done = cli("run", "judge.yaml", env=fast_clock)
    assert done.returncode == 0, done.stderr
    assert_cancelled_in_time(leftovers, tmp_path, rows, record, service)


@pytest.fixture
def fast_clock() -> dict[str, str]:
    """The environment of a process whose clock runs days in seconds; its timers run at normal speed."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed (apt-get install faketime)")
    command = ("faketime", "-f", SPEED, "printenv", "LD_PRELOAD", "FAKETIME")
    library, clock = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {"LD_PRELOAD": library, "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def assert_cancelled_in_time(leftovers, folder, rows, record, service):
    """The batch that did not end was cancelled once; half of its rows are there, the other half was sent again."""
    assert_left_half_of_a_shard(leftovers, rows(folder / "out"), record(), service.stats())
    assert service.stats()["batch_status"]["Cancelled"] == record()["batches"]["cancelled"] == 1
    warned = [line for line in logged(folder) if "cancelled" in line]
    assert len(warned) == 1 and warned[0].endswith("it exceeded its window")


def write_pairs(path: Path, count: int) -> None:
    """Samples with two answers of different lengths, and a label."""
    rng = random.Random(count)
    words = ("light", "air", "blue", "sea", "wind", "stone", "river", "cloud", "rain", "snow")

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.randint(3, 60)))

    lines = [
        {"id": f"p{n}", "question": f"Why {text()}?", "answer1": text(), "answer2": text(), "winner": rng.choice("12")}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


PANEL = [
    {"name": "built-in", "kind": "pai_pairwise", "swap": True, "repeats": 2},
    {
        "name": "own",
        "kind": "template",
        "model": "pai-judge-plus",
        "swap": True,
        "repeats": 2,
        "system": "Compare two answers.",
        "user": "{question}\n[The Start of Assistant A's Answer]\n{answer1}\n[The End of Assistant A's Answer]\n"
        "[The Start of Assistant B's Answer]\n{answer2}\n[The End of Assistant B's Answer]\n"
        'Say "[[A]]", "[[B]]" or "[[C]]" for a tie.',
        "verdict": {"format": "mt_bench_pair"},
    },
]
PRICES = {
    "pai-judge": {"input": 4, "output": 12, "batch": 0.5},
    "pai-judge-plus": {"input": 9, "output": 30, "batch": 0.25},
}
FACTORS = {"built-in": 0.5, "own": 0.25}


@pytest.mark.parametrize("dialect", ["pai", "openai"])
def test_a_panel_gives_the_same_verdicts_by_batch_as_online(dialect, cli, tmp_path, serve, write_batch_run, rows):
    pairs, requests = 30, 30 * 8
    service = serve(dialect=dialect, batch={"delay": DELAY})
    write_batch_run(
        service.url,
        pairs,
        dataset={"path": "data.jsonl", "human_label": "winner"},
        judges=PANEL,
        judge=None,
        service={"dialect": dialect, "batch": True},
        prices={"models": PRICES},
        output={"directory": "out"},
    )
    write_pairs(tmp_path / "data.jsonl", pairs)
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    stats = service.stats()
    assert (stats["batch_lines"], stats["lines_twice"], stats["requests"]) == (requests, 0, 0)
    assert cli("run", "judge.yaml", "--set", "router.mode=online", "--run-dir", "online").returncode == 0

    by_batch = {row["custom_id"]: row for row in rows(tmp_path / "out")}
    online = {row["custom_id"]: row for row in rows(tmp_path / "online")}
    assert len(by_batch) == len(online) == requests == len(rows(tmp_path / "out"))
    assert {row["route"] for row in by_batch.values()} == {"batch"}
    same = ("status", "winner", "score1", "score2", "response", "request_hash", "prompt_tokens", "human_winner")
    assert {key: [row[name] for name in same] for key, row in by_batch.items()} == {
        key: [row[name] for name in same] for key, row in online.items()
    }
    for key, row in by_batch.items():
        assert row["cost"] == pytest.approx(FACTORS[row["judge"]] * online[key]["cost"]) and row["cost"] > 0
    verdicts, expected = verdicts_of(tmp_path / "out"), verdicts_of(tmp_path / "online")
    assert verdicts == expected and len(verdicts) == pairs
    assert len({verdict["winner"] for verdict in verdicts}) > 1


def verdicts_of(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of samples.parquet without cost; votes and dimensions, stored by arrival, are sorted."""
    lines = pq.read_table(directory / "samples.parquet").drop(["cost"]).to_pylist()
    for line in lines:
        for name in ("votes", "dimensions"):
            line[name] = sorted(line[name], key=json.dumps)
    return lines


@pytest.mark.parametrize("dialect", ["openai", "dashscope"])
def test_lost_and_failed_lines_of_every_dialect_are_sent_again(dialect, cli, tmp_path, serve, write_batch_run, rows):
    trouble = {"delay": DELAY, "lose": 0.1, "errors_in_output": 0.1, "fail": 1}
    service = serve(seed=5, dialect=dialect, batch=trouble)
    write_batch_run(service.url, SAMPLES, service={"dialect": dialect, "batch": True})
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    assert_whole(rows(tmp_path / "out"))
    stats = service.stats()
    assert 50 < stats["requests"] < SAMPLES and stats["lines_lost"] > 0
    assert (stats["distinct_ok"], stats["paid_twice"], stats["lines_twice"]) == (SAMPLES, 0, 0)


ODD = {
    "torn": ({"garble": 0.2}, ["lines that are not complete JSON were ignored"]),
    "strange": (
        {"strangers": 0.2, "repeats": 0.2, "body_as_text": True, "status_word": "Pondering"},
        [
            "unknown status 'Pondering', treated as running",
            "lines for requests that are not in it were ignored",
            "duplicate lines for requests were ignored",
        ],
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_results_are_logged_and_lose_no_row(what, cli, tmp_path, serve, write_batch_run, rows):
    options, warnings = ODD[what]
    service = serve(seed=4, batch={"delay": DELAY, **options})
    write_batch_run(service.url, 60, batch={"shard_lines": 500})
    done = cli("run", "judge.yaml")
    assert done.returncode == 0, done.stderr
    written, said = rows(tmp_path / "out"), logged(tmp_path)
    assert_whole(written, 60)
    assert {row["status"] for row in written} == {"ok"}
    assert len(said) == len(warnings)
    assert all(line.startswith("batch ") and line.endswith(end) for line, end in zip(said, warnings, strict=True))
    assert service.stats()["lines_twice"] == 0


def test_no_token_is_written_into_the_run_directory(cli, tmp_path, serve, secret, write_batch_run):
    service = serve(token=secret, seed=3, batch={"delay": 2, "expire": 1, "lose": 0.1})
    write_batch_run(service.url, SAMPLES, service={"token_env": "JUDGE_MODEL_TOKEN"})
    left = cli("run", "judge.yaml", "--max-time", "1s")
    assert left.returncode == 4
    assert_nowhere(secret, tmp_path, left.stderr, at_least="batches/shard-00000.requests.jsonl")
    refused = cli("run", "judge.yaml", env={"JUDGE_MODEL_TOKEN": f"{secret}-wrong"})
    assert refused.returncode == 3
    assert_nowhere(secret, tmp_path, refused.stderr, at_least="run.log")
    done = cli("run", "judge.yaml", "--set", "batch.delete_files=false")
    assert done.returncode == 0
    assert_nowhere(secret, tmp_path, done.stderr, at_least="batches/shard-00000.json")


def assert_nowhere(secret, folder, said, at_least):
    """Neither a file of the run directory nor what was printed holds the token."""
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert folder / "out" / at_least in files
    assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert secret not in said
