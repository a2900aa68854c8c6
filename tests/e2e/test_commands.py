"""Every command as a user types it: its output on stdout and stderr, its exit code, its files."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.config import load_config
from runner.pipeline import execute
from runner.pipeline.finish import finish_run

LATENCY_SECONDS = 0.15


def read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_bytes())
    return data


@pytest.fixture(scope="module")
def slow_emulator(emulator_process):
    """A slow service, so that a test can act while a run is in progress."""
    process = emulator_process({"latency": {"median": LATENCY_SECONDS, "sigma": 0}})
    yield process
    process.close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cli_in, plain_emulator, write_run):
    """A folder with a finished run of 12 samples, and the result of its command."""
    folder = tmp_path_factory.mktemp("finished")
    notes = {"x-notes": {"by": "me"}, "name": "first", "tags": {"team": "evaluation", "round": "2"}}
    write_run(folder, plain_emulator.url, 12, **notes, prices={"models": {"pai-judge": {"input": 4, "output": 12}}})
    return folder, cli_in("run", "judge.yaml", cwd=folder)


def test_validate_and_run_accept_the_files_of_init(cli, tmp_path, plain_emulator, secret, rows):
    made = cli("init", "first")
    assert made.returncode == 0
    assert made.stdout.splitlines() == ["first/judge.yaml", "first/answers.jsonl"]
    assert made.stderr == "next: judge-runner validate first/judge.yaml\n"

    headers = "service.headers={X-Api-Key: '${JUDGE_MODEL_TOKEN}'}"
    validated = cli("validate", "first/judge.yaml", "--set", headers)
    assert validated.returncode == 0
    assert json.loads(validated.stdout)["services"][0]["headers"] == {"X-Api-Key": "***"}
    assert "valid; the first 30 rows make 30 requests" in validated.stderr
    assert secret not in validated.stdout + validated.stderr

    shown = cli("validate", "first/judge.yaml", "--show", "2")
    bodies = [json.loads(line)["messages"][0]["content"][0]["json"] for line in shown.stdout.splitlines()]
    samples = [json.loads(line) for line in (tmp_path / "first/answers.jsonl").read_text("utf-8").splitlines()[:2]]
    assert [body["question"] for body in bodies] == [sample["question"] for sample in samples]

    ran = cli("run", "first/judge.yaml", "--set", f"service.base_url={plain_emulator.url}")
    assert ran.returncode == 0
    assert len(rows(tmp_path / "first/runs/answers")) == 30
    assert secret not in "".join(p.read_text("utf-8", "replace") for p in tmp_path.rglob("*") if p.is_file())


def test_quickstart_prints_rows_and_paths(cli, tmp_path):
    started = time.monotonic()
    done = cli("quickstart", env={"JUDGE_MODEL_TOKEN": None})
    assert done.returncode == 0
    assert time.monotonic() - started < 60
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines[:5]] == [[f"qs-00{n}", "ok"] for n in range(1, 6)]
    paths = dict(line.split(maxsplit=1) for line in lines[5:])
    assert paths["rows:"] == f"{tmp_path / 'quickstart' / 'results'}/*.parquet"
    assert pq.read_table(paths["samples:"]).num_rows == 40
    assert "emulat" in Path(paths["report:"]).read_text(encoding="utf-8")
    assert "40 of 40" in done.stderr and "error" not in done.stderr
    assert read(tmp_path / "quickstart/run.json")["emulated"] is True


def test_version_and_schema_are_printed_to_stdout(cli):
    version = cli("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.split()[0] == "judge-runner"
    schema = cli("schema")
    assert (schema.returncode, schema.stderr) == (0, "")
    assert {"dataset", "judge", "judges", "service"} <= json.loads(schema.stdout)["properties"].keys()


def test_a_run_prints_its_summary_only_to_stderr(finished):
    folder, done = finished
    assert (done.returncode, done.stdout) == (0, "")
    route, *lines = done.stderr.splitlines()
    assert route == "online: 12 open requests, fewer than 20,000 (router.batch_from)"
    summary = dict(line.split("  ", 1) for line in lines)
    assert summary["rows"].strip() == "12 of 12"
    assert summary["ok / unparsed / failed"].strip() == "12 / 0 / 0"
    assert summary["run directory"].strip() == str(folder / "out")
    assert all(line == line.rstrip() for line in done.stderr.splitlines())


def test_name_and_tags_are_stored_and_x_keys_are_ignored(finished, cli_in):
    folder, _ = finished
    for name in ("run.json", "status.json"):
        data = read(folder / "out" / name)
        assert (data["name"], data["tags"]) == ("first", {"team": "evaluation", "round": "2"})
        assert (data["state"], data["exit_code"], data["stop_reason"]) == ("finished", 0, None)
    assert (folder / "out/config.yaml").read_text("utf-8") == (folder / "judge.yaml").read_text("utf-8")

    status = cli_in("status", "out", cwd=folder)
    assert (status.returncode, status.stderr) == (0, "")
    assert status.stdout.startswith("first: finished, 12 of 12 rows (100.0 %)\n")
    assert json.loads(cli_in("status", "out", "--json", cwd=folder).stdout) == read(folder / "out/status.json")


def test_exports_contain_the_same_rows(finished, cli_in, rows):
    folder, _ = finished
    expected = {row["custom_id"]: row["score"] for row in rows(folder / "out")}
    assert len(expected) == 12
    for ending in ("csv", "jsonl", "parquet"):
        done = cli_in("export", "out", f"all.{ending}", cwd=folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"all.{ending}\n", "12 rows\n")
    with (folder / "all.csv").open(newline="", encoding="utf-8") as lines:
        assert {row["custom_id"]: float(row["score"]) for row in csv.DictReader(lines)} == expected
    parsed = [json.loads(line) for line in (folder / "all.jsonl").read_text("utf-8").splitlines()]
    assert {row["custom_id"]: row["score"] for row in parsed} == expected
    table = pq.read_table(folder / "all.parquet")
    assert dict(zip(*(table[name].to_pylist() for name in ("custom_id", "score")), strict=True)) == expected

    assert cli_in("export", "out", "samples.csv", "--samples", cwd=folder).returncode == 0
    with (folder / "samples.csv").open(newline="", encoding="utf-8") as lines:
        assert [row["category"] for row in csv.DictReader(lines)] == [f"c{n % 3}" for n in range(12)]


def test_a_finished_run_sends_nothing_and_fresh_moves_it_aside(finished, cli_in, plain_emulator, rows):
    folder, _ = finished
    sent = plain_emulator.stats()["requests"]
    again = cli_in("run", "out", "--quiet", cwd=folder)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert plain_emulator.stats()["requests"] == sent

    fresh = cli_in("run", "judge.yaml", "--fresh", "--quiet", "--limit", "5", cwd=folder)
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "", "")
    aside = [path for path in folder.iterdir() if path.name.startswith("out.")]
    assert [len(rows(path)) for path in (*aside, folder / "out")] == [12, 5]

    rest = cli_in("resume", "out", cwd=folder)
    assert rest.returncode == 0 and "new in this run         7 in" in rest.stderr
    assert sorted(row["ordinal"] for row in rows(folder / "out")) == list(range(12))


def test_emulate_accepts_flags_and_a_file(tmp_path, spawn):
    (tmp_path / "emulator.yaml").write_text("token: right\nfaults: {500: 1}\n", encoding="utf-8")
    process = spawn("emulate", "--port", "0", "--config", "emulator.yaml", "--faults.500", "0", "--max_x=1")
    assert process.wait(30) == 2
    assert "unknown emulator option max_x" in process.stderr.read()

    process = spawn("emulate", "--port", "0", "--config", "emulator.yaml", "--faults.500", "0", "--seed=7")
    url = process.stdout.readline().strip()
    pair = {"question": "Why?", "answer1": "So.", "answer2": "Because it is so."}
    content = [{"mode": "pairwise", "type": "json", "json": pair}]
    body = json.dumps({"model": "pai-judge", "messages": [{"role": "user", "content": content}]}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError, match="401"):
        opener.open(urllib.request.Request(f"{url}/chat/completions", body), timeout=10)
    right = {"Authorization": "Bearer right"}
    with opener.open(urllib.request.Request(f"{url}/chat/completions", body, right), timeout=10) as reply:
        assert "[[" in json.load(reply)["choices"][0]["message"]["content"]
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == 0


def test_rows_that_are_not_ok_give_exit_code_1_and_can_be_retried(cli, tmp_path, emulator, write_run, rows):
    service = emulator(seed=5, faults={"unparsable": 0.3, "refuse": 0.2})
    write_run(tmp_path, service.url, 40, judge={"reask": 0})
    first = cli("run", "judge.yaml")
    before = {row["custom_id"]: row["status"] for row in rows(tmp_path / "out")}
    failed, unparsed = (sum(s == word for s in before.values()) for word in ("failed", "unparsed"))
    assert failed and unparsed
    assert first.returncode == 1
    assert f"error: {failed + unparsed} of 40 rows are not ok, more than output.tolerate allows" in first.stderr
    assert {r["error_type"] for r in rows(tmp_path / "out") if r["status"] == "failed"} <= {
        "content_filter",
        "bad_request",
    }

    sent = service.stats()["requests"]
    assert cli("run", "judge.yaml", "--set", "output.tolerate=0.9").returncode == 0
    assert cli("run", "out", "--quiet", "--set", "output.tolerate=0").returncode == 1
    assert service.stats()["requests"] == sent

    cli("run", "judge.yaml", "--retry", "failed")
    assert service.stats()["requests"] == sent + failed
    cli("run", "judge.yaml", "--retry", "unparsed")
    assert service.stats()["requests"] == sent + failed + unparsed
    after = {row["custom_id"]: row["status"] for row in rows(tmp_path / "out")}
    assert len(rows(tmp_path / "out")) == len(after) == 40
    assert sum(s == "unparsed" for s in after.values()) < unparsed
    assert all(after[name] == "ok" for name, status in before.items() if status == "ok")


def test_a_wrong_token_stops_with_3_and_the_right_one_resumes(cli, tmp_path, emulator, secret, write_run, rows, state):
    service = emulator(token="right")
    write_run(tmp_path, service.url, 8, service={"base_url": service.url})
    wrong = cli("run", "judge.yaml")
    assert wrong.returncode == 3
    assert "error: authentication: the service refused: " in wrong.stderr
    assert "Traceback" not in wrong.stderr and secret not in wrong.stderr
    assert (state()["state"], state()["exit_code"]) == ("stopped", 3)
    assert rows(tmp_path / "out") == []
    assert cli("run", "judge.yaml", env={"JUDGE_MODEL_TOKEN": "right"}).returncode == 0
    assert len(rows(tmp_path / "out")) == 8


def test_max_time_drains_with_4_and_the_same_command_resumes(cli, tmp_path, slow_emulator, write_run, rows, state):
    write_run(tmp_path, slow_emulator.url, 40)
    done = cli("run", "judge.yaml", "--max-time", "0.4s")
    assert done.returncode == 4
    assert "error: max_time: --max-time: 0.4 s have passed; run the same command again to resume" in done.stderr
    assert (state()["state"], state()["stop_reason"]) == ("stopped", "max_time")
    some = len(rows(tmp_path / "out"))
    assert 0 < some < 40
    assert pq.read_table(tmp_path / "out/samples.parquet").num_rows == some
    assert cli("run", "judge.yaml", "--set", "service.limits.concurrency=40").returncode == 0
    assert len({row["custom_id"] for row in rows(tmp_path / "out")}) == len(rows(tmp_path / "out")) == 40


def test_status_and_export_work_during_a_run_and_after_a_kill(
    cli, spawn, until, tmp_path, slow_emulator, write_run, rows, state
):
    write_run(tmp_path, slow_emulator.url, 600)
    process = spawn("run", "judge.yaml")
    until(lambda: state().get("done", 0) > 4)
    status = json.loads(cli("status", "out", "--json").stdout)
    assert status["state"] == "running" and status["total"] == 600
    assert 1 <= status["in_flight"] <= 4  # a worker may be between two requests when status.json is written
    second = cli("run", "judge.yaml")
    assert second.returncode == 2
    assert f"another judge-runner uses this run directory (process {process.pid} on" in second.stderr
    assert cli("export", "out", "now.jsonl").returncode == 0
    ids = [json.loads(line)["custom_id"] for line in (tmp_path / "now.jsonl").read_text("utf-8").splitlines()]
    assert len(ids) == len(set(ids)) > 4
    assert "not there yet" in cli("export", "out", "now.csv", "--samples").stderr

    assert process.poll() is None
    process.kill()
    process.wait()
    killed = cli("status", "out")
    assert killed.stdout.startswith("judge: interrupted, ")
    assert "no process is running it; run the same command again to resume" in killed.stdout
    assert cli("run", "judge.yaml", "--set", "service.limits.concurrency=80").returncode == 0
    assert sorted(row["ordinal"] for row in rows(tmp_path / "out")) == list(range(600))


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_drains(spawn, until, tmp_path, slow_emulator, number, code, word, write_run, rows, state):
    before = slow_emulator.stats()
    write_run(tmp_path, slow_emulator.url, 200)
    process = spawn("run", "judge.yaml")
    until(lambda: state().get("in_flight", 0) == 4)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (code, "")
    assert f"{word}: waiting for 4 in-flight requests; Ctrl-C again stops now" in err
    assert f"error: {word}: drained; run the same command again to resume" in err
    assert (state()["exit_code"], state()["stop_reason"]) == (code, word)
    written = rows(tmp_path / "out")
    after = slow_emulator.stats()
    assert len(written) == sum(after["status"].values()) - sum(before["status"].values())
    assert {row["status"] for row in written} == {"ok"}


def test_a_second_signal_stops_at_once(spawn, until, tmp_path, emulator, write_run):
    service = emulator(faults={"hang": 1})
    write_run(tmp_path, service.url, 20)
    process = spawn("run", "judge.yaml")
    until(lambda: service.stats()["in_flight"] == 4)
    process.send_signal(signal.SIGINT)
    until(lambda: "waiting for 4" in process.stderr.readline())
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert time.monotonic() - started < 3
    assert "Traceback" not in process.stderr.read()


def test_a_signal_while_the_run_finishes_does_not_abort_it(tmp_path, plain_emulator, write_run, monkeypatch):
    def finish_after_signal(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return finish_run(*arguments)

    write_run(tmp_path, plain_emulator.url, 5)
    monkeypatch.setattr(execute, "finish_run", finish_after_signal)
    assert execute.run(load_config(tmp_path / "judge.yaml")).exit_code == 0
    assert pq.read_table(tmp_path / "out/samples.parquet").num_rows == 5


def test_a_run_can_be_started_in_a_thread(tmp_path, plain_emulator, write_run):
    write_run(tmp_path, plain_emulator.url, 5)
    with ThreadPoolExecutor(1) as thread:
        summary = thread.submit(execute.run, load_config(tmp_path / "judge.yaml")).result(60)
    assert (summary.exit_code, summary.counts.ok) == (0, 5)


def test_a_terminal_shows_a_live_bar(tmp_path, slow_emulator, cli_environment, write_run):
    write_run(tmp_path, slow_emulator.url, 40)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "runner", "run", "judge.yaml"], cli_environment())
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    output = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            piece = b""
        if not piece:
            break
        output += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    text = output.decode()
    assert "running" in text and "━" in text and "/40" in text and "rows/s  eta" in text and "in flight 4" in text
    assert "…" not in text
    assert text.rstrip().endswith(f"run directory           {tmp_path / 'out'}")
