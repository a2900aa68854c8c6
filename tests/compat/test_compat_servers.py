"""Batch runs against third-party servers: every request gets its row, and nothing is paid twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from bench_run import Bench
from external_tools import HERE, Server, newer_python, python_home

from runner.lanes.batch import Ledger

SAMPLES = 120
SHARDS = 3
BATCH = {"shard_lines": 50, "parallel": 2, "poll": {"first": 0.05, "ceiling": 0.2}, "resubmits": 2}
CHAOS = {"drop": 0.08, "malformed": 0.04, "disconnect": 0.08, "ratelimit": 0.05}
VERDICT = {"pattern": r"(completion|\d+)", "kind": "label"}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Rating: [[8]]"}, "finish_reason": "stop"}


class ServerRun(NamedTuple):
    """A third-party server, and a batch run that uses it.

    Attributes:
        changes: the configuration changes that the server requires.
    """

    server: Server
    bench: Bench
    changes: dict[str, Any]

    def run(self, changes: dict[str, Any] | None = None, **options: Any) -> tuple[int, int]:
        """Run once; return the exit code and the number of `ok` rows."""
        summary = self.bench.run({**self.changes, **(changes or {})}, **options)
        return summary.exit_code, summary.counts.ok

    def values(self, column: str) -> Counter[Any]:
        """Count the values of a column over all rows."""
        return Counter(row[column] for row in self.bench.rows)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """All batches of the server."""
        return self.server.get("/v1/batches?limit=100")["data"]


@pytest.fixture
def server_run(tmp_path):
    """Write a dataset and a configuration for a server; return the run."""

    def make(server, changes):
        bench = Bench(tmp_path, server.url)
        bench.write(SAMPLES)
        bench.config["service"] |= {"dialect": "openai", "batch": True}
        bench.config["online"] = {"retry": {"base": 0.05, "ceiling": 0.2}}
        bench.config |= {"router": {"mode": "batch", "leftovers": "resubmit"}, "batch": BATCH}
        return ServerRun(server, bench, changes)

    return make


@pytest.fixture
def aimock(packages, serve, tmp_path, server_run):
    """Start aimock, which answers online from fixtures and by batch with its own text."""
    fixtures = tmp_path / "fixtures"
    fixtures.mkdir()
    known = {"match": {"userMessage": "question"}, "response": {"content": "Rating: [[7]]"}}
    (fixtures / "judge.json").write_text(json.dumps({"fixtures": [known]}), encoding="utf-8")
    program = packages / "@copilotkit" / "aimock" / "dist" / "cli.js"
    command = ["node", str(program), "-p", "{port}", "-f", str(fixtures)]

    def start(*flags):
        return server_run(serve([*command, *flags], tmp_path / "aimock", ready="/health"), {"judge.verdict": VERDICT})

    return start


@pytest.fixture(scope="session")
def aibrix_program():
    return python_home("aibrix") / "aibrix_metadata"


@pytest.fixture
def aibrix(aibrix_program, serve, tmp_path, server_run):
    """Start aibrix in a dry run, which returns the request's body as the response; so the body holds a completion."""
    folder = tmp_path / "aibrix"
    command = [str(aibrix_program), "--dry-run", "--host", "127.0.0.1", "--port", "{port}"]

    def start():
        server = serve(command, folder, {"STORAGE_LOCAL_PATH": str(folder / "store")})
        return server_run(server, {"judge.parameters": {"choices": [CHOICE]}})

    return start


@pytest.fixture(scope="session")
def ogx_program():
    return python_home("ogx", newer_python((3, 12))) / "ogx"


@pytest.fixture
def ogx(ogx_program, serve, emulator, tmp_path, server_run):
    """Start ogx, which sends the lines of its batches to our emulator."""
    folder = tmp_path / "ogx"
    command = [str(ogx_program), "run", "--insecure", "--port", "{port}", str(HERE / "ogx.yaml")]

    def start():
        model = emulator(latency={"median": 0.0, "sigma": 0.0})
        environment = {"JUDGE_URL": model.url, "STORE": str(folder / "store"), "HOME": str(folder)}
        return server_run(serve(command, folder, environment), {"judge.model": "judge/pai-judge"})

    return start


@pytest.fixture(params=("aimock", "aibrix", "ogx"))
def any_server(request):
    """Return each of the servers in turn."""
    return request.getfixturevalue(request.param)()


def forget_creations(directory: Path) -> int:
    """Put a run directory in the state after a crash between creating batches and recording them.

    Returns:
        The number of forgotten creations.
    """
    ledger = Ledger(directory / "batches")
    created = [shard for shard in ledger.open_shards if shard.batch_id]
    for shard in created:
        ledger.save(msgspec.structs.replace(shard, step="confirm", batch_id=None, created_at=None, word=None))
    return len(created)


def test_every_request_is_answered(any_server):
    assert any_server.run() == (0, SAMPLES)
    assert any_server.values("route") == {"batch": SAMPLES}
    assert None not in any_server.values("response")
    assert set(any_server.values("batch_id")) == {job["id"] for job in any_server.jobs}
    assert len(any_server.jobs) == SHARDS


def test_all_our_files_are_deleted(any_server):
    any_server.run()
    ours = {job.get(key) for job in any_server.jobs for key in ("input_file_id", "output_file_id", "error_file_id")}
    assert not ours & {file["id"] for file in any_server.server.get("/v1/files")["data"]}


def test_a_detached_run_is_resumed(any_server):
    assert any_server.run(detach=True)[0] == 4
    assert any_server.run() == (0, SAMPLES)
    assert len(any_server.jobs) == SHARDS


def test_batches_whose_creation_was_never_recorded_are_found(any_server):
    any_server.run(detach=True)
    assert forget_creations(any_server.bench.directory)
    assert any_server.run() == (0, SAMPLES)
    assert len(any_server.jobs) == SHARDS


def test_cancelled_requests_are_sent_again(any_server):
    any_server.run(detach=True)
    code, _ = any_server.run(cancel=True)
    assert {job["status"] for job in any_server.jobs} <= {"cancelled", "completed"}
    # ogx counts the lines that it answered before the cancellation but keeps none of the answers: the user must decide.
    withheld = [job for job in any_server.jobs if (counts := job.get("request_counts")) and counts["completed"]]
    assert code == (3 if any(not job.get("output_file_id") for job in withheld) else 4)
    assert any_server.run(resubmit_unknown=True) == (0, SAMPLES)
    assert any_server.values("route") == {"batch": SAMPLES}


@pytest.mark.parametrize("outcome", ["failed", "expired", "cancelled"])
def test_requests_that_aimock_leaves_unanswered_go_online(aimock, outcome):
    target = aimock()
    changes = {"router.leftovers": "online", "service.headers": {"X-AIMock-Batch-Outcome": outcome}}
    assert target.run(changes) == (0, SAMPLES)
    assert target.values("route") == {"online": SAMPLES}
    assert target.values("label") == {"7": SAMPLES}
    assert [job["status"] for job in target.jobs] == [outcome] * SHARDS


def test_requests_that_aimock_never_answers_end_as_failed_rows(aimock):
    target = aimock()
    assert target.run({"service.headers": {"X-AIMock-Batch-Outcome": "expired"}}) == (1, 0)
    assert target.values("error_type") == {"batch_expired": SAMPLES}
    assert target.values("attempts") == {3: SAMPLES}
    assert len(target.jobs) == 3 * SHARDS


def test_aibrix_responses_without_a_completion_end_as_failed_rows(aibrix):
    target = aibrix()
    assert target.run({"judge.parameters": {}}) == (1, 0)
    assert target.values("error_type") == {"bad_reply": SAMPLES}
    assert target.values("route") == {"batch": SAMPLES}
    assert len(target.jobs) == 3 * SHARDS


def test_chaos_neither_loses_nor_duplicates_requests(aimock):
    target = aimock(*(f"--chaos-{name}={share}" for name, share in CHAOS.items()))
    assert target.run({"router.leftovers": "online"}) == (0, SAMPLES)
    assert set(target.values("label")) <= {"completion", "7"}
    target.server.post("/__aimock/chaos", {})
    assert set(Counter(job["input_file_id"] for job in target.jobs).values()) == {1}
