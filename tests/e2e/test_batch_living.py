"""Using batches: leaving them and coming back, checking their status, cancelling them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from runner.monitor import Progress

SAMPLES, JOBS = 120, 3
# Times in seconds on the service's own clock, on which each job takes 100 seconds.
CREATING, HALF_WAY, FINALIZING, OVER = 0.0, 70.0, 95.0, 100.0

AT_ONCE_SECONDS = 5.0


@pytest.fixture
def service(serve: Callable[..., Any]) -> Any:
    """A service whose clock is stopped at what the test sets."""
    return serve(clock=CREATING, batch={"delay": OVER})


def all_open(state: Callable[[], dict[str, Any]]) -> Callable[[], bool]:
    """Return a check that all batches are running at the service, according to status.json."""
    return lambda: state().get("batches") == {"running": JOBS}


def assert_finished_once(service, written, jobs=JOBS):
    """Every request has its row; no batch was created and no request sent twice."""
    assert sorted(row["custom_id"] for row in written) == sorted(f"{n}-judge-o-0" for n in range(SAMPLES))
    assert {row["status"] for row in written} == {"ok"}
    stats = service.stats()
    assert (stats["batches"], stats["lines_twice"], stats["paid_twice"], stats["distinct_ok"]) == (jobs, 0, 0, SAMPLES)
    assert stats["files_held"] == 0


def test_an_interrupt_leaves_batches_running_and_a_later_run_collects_them(
    cli, spawn, until, tmp_path, service, write_batch_run, rows, record, state
):
    write_batch_run(service.url, SAMPLES)
    process = spawn("run", "judge.yaml")
    until(all_open(state))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, time.monotonic() - began < AT_ONCE_SECONDS) == (130, True)
    assert "interrupted: waiting for shards that are being sent or collected; Ctrl-C again stops now" in said
    assert f"{SAMPLES} in {JOBS} batches, which the same command collects later" in said
    assert "run the same command again" in said
    assert (state()["state"], state()["stop_reason"], state()["exit_code"]) == ("stopped", "interrupted", 130)
    assert service.stats()["batch_status"] == {"Creating": JOBS}

    service.clock = OVER
    done = cli("run", "out")
    assert done.returncode == 0, done.stderr
    assert_finished_once(service, rows(tmp_path / "out"))
    manifest = record()
    assert (manifest["lanes"], manifest["batches"]) == (["batch"], {"completed": JOBS})
    assert [turn["left"] for turn in manifest["story"]] == [SAMPLES, 0]
    assert manifest["story"][1]["reason"] == f"{JOBS} batches of this run to collect"
    assert (manifest["route"], manifest["route_reason"]) == ("batch", "router.mode is batch")

    again = cli("cancel", "out")
    assert again.returncode == 0, again.stderr
    assert_finished_once(service, rows(tmp_path / "out"))
    assert service.stats()["requests"] == 0


def test_a_second_signal_stops_at_once(cli, spawn, until, tmp_path, service, write_batch_run, rows, state):
    write_batch_run(service.url, SAMPLES)
    process = spawn("run", "judge.yaml")
    until(all_open(state))
    with service.frozen():
        seen = state()["updated_at"]
        until(lambda: state()["updated_at"] > seen)
        process.send_signal(signal.SIGINT)
        until(lambda: state()["state"] == "draining")
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert (process.returncode, time.monotonic() - began < AT_ONCE_SECONDS) == (130, True)
    service.clock = OVER
    assert cli("run", "judge.yaml").returncode == 0
    assert_finished_once(service, rows(tmp_path / "out"))


def test_detached_and_time_limited_runs_collect_in_the_end(cli, tmp_path, service, write_batch_run, rows, record):
    write_batch_run(service.url, SAMPLES)
    for clock, target, option, reason in (
        (CREATING, "judge.yaml", "--detach", "detached"),
        (HALF_WAY, "out", "--detach", "detached"),
        (FINALIZING, "out", "--max-time=0.5s", "max_time"),
    ):
        service.clock = clock
        left = cli("run", target, option)
        assert (left.returncode, record()["stop_reason"]) == (4, reason), left.stderr
        assert "run the same command again" in left.stderr
        assert (record()["batches"], rows(tmp_path / "out")) == ({"running": JOBS}, [])
    plan = json.loads(cli("plan", "judge.yaml", "--json").stdout)
    assert (plan["open"], plan["in_batches"], plan["answered"]) == (0, SAMPLES, 0)
    service.clock = OVER
    done = cli("run", "out", "--detach")
    assert done.returncode == 0, done.stderr
    assert_finished_once(service, rows(tmp_path / "out"))
    assert (record()["route"], len(record()["story"])) == ("batch", 4)


def test_status_shows_open_batches_and_is_not_done_before_they_are(
    cli, spawn, until, tmp_path, service, write_batch_run, rows, state
):
    write_batch_run(service.url, SAMPLES)
    process = spawn("run", "judge.yaml")
    for clock, word, finished in (
        (CREATING, "Creating", 0),
        (HALF_WAY, "Running", 60),
        (FINALIZING, "Finalizing", 120),
    ):
        service.clock = clock
        until(lambda word=word: [job["word"] for job in state().get("jobs", ())] == [word] * JOBS)
        data = state()
        assert (data["state"], data["route"], data["batches"]) == ("waiting_batch", "batch", {"running": JOBS})
        assert (data["done"], data["total"], data["answered_in_batches"]) == (0, SAMPLES, finished)
        assert msgspec.convert(data, Progress).shown == min(finished, SAMPLES - 1)
    status, text = json.loads(cli("status", "out", "--json").stdout), cli("status", "out").stdout
    assert (status["state"], status["done"]) == ("waiting_batch", 0)
    assert [(job["requests"], job["finished"]) for job in status["jobs"]] == [(50, 50), (50, 50), (20, 20)]
    assert all(job["state"] == "running" and 0 < job["age_s"] < 100 for job in status["jobs"])
    assert f"batches: {JOBS} running" in text and "0 of 120 rows (0.0 %)" in text
    lines = [f"{job['batch_id']}: running, {job['finished']} of {job['requests']} lines" for job in status["jobs"]]
    assert all(line in text for line in lines)
    service.clock = OVER
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert (state()["done"], state()["batches"], state()["jobs"]) == (SAMPLES, {"completed": JOBS}, [])
    assert "finished, 120 of 120 rows (100.0 %)" in cli("status", "out").stdout
    assert_finished_once(service, rows(tmp_path / "out"))


@pytest.mark.parametrize("where", ["stopped", "running"])
def test_cancel_keeps_the_answers_and_the_next_run_sends_only_the_rest(
    where, cli, spawn, until, tmp_path, serve, write_batch_run, rows, record, state
):
    service = serve(batch={"delay": 0.3, "hold": JOBS})
    write_batch_run(service.url, SAMPLES)
    process = spawn("run", "judge.yaml")
    until(lambda: state().get("answered_in_batches") == SAMPLES // 2)
    if where == "stopped":
        process.terminate()
        assert process.wait(30) == 143
    cancelled = cli("cancel", "out")
    assert cancelled.returncode == 4, cancelled.stderr
    assert process.wait(30) == (143 if where == "stopped" else 4)
    assert "run the same command again" in cancelled.stderr
    assert service.stats()["batch_status"] == {"Cancelled": JOBS}
    manifest = record()
    assert (manifest["state"], manifest["stop_reason"], manifest["batches"]) == (
        "stopped",
        "cancelled",
        {"cancelled": JOBS},
    )
    kept = {row["custom_id"] for row in rows(tmp_path / "out")}
    assert len(kept) == SAMPLES // 2

    done = cli("run", "out")
    assert done.returncode == 0, done.stderr
    written = rows(tmp_path / "out")
    assert_finished_once(service, written)
    assert {row["custom_id"] for row in written if row["route"] == "batch"} == kept
    assert service.stats()["requests"] == SAMPLES // 2


def test_cancel_requires_a_run_directory(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    refused = cli("cancel", "empty")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: empty: ") and "Traceback" not in refused.stderr
    assert not list((tmp_path / "empty").iterdir())


def test_a_plan_for_fewer_samples_than_are_in_batches(cli, service, write_batch_run):
    write_batch_run(service.url, SAMPLES)
    assert cli("run", "judge.yaml", "--detach").returncode == 4
    plan = json.loads(cli("plan", "judge.yaml", "--limit", "30", "--json").stdout)
    assert (plan["requests"], plan["open"], plan["in_batches"]) == (30, 0, 30)
