"""Batch runs against servers that nobody here wrote: every request has its row, and nothing is paid twice."""

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
SAYS = {"pattern": r"(completion|\d+)", "kind": "label"}
RATED = {"index": 0, "message": {"role": "assistant", "content": "Rating: [[8]]"}, "finish_reason": "stop"}


class Outsider(NamedTuple):
    """A server and a run that goes there by batch.

    Attributes:
        changes: what the configuration needs to be answered there.
    """

    server: Server
    bench: Bench
    changes: dict[str, Any]

    def run(self, changes: dict[str, Any] | None = None, **options: Any) -> tuple[int, int]:
        """Run once; the exit code and how many rows are `ok`."""
        summary = self.bench.run({**self.changes, **(changes or {})}, **options)
        return summary.exit_code, summary.counts.ok

    def told(self, column: str) -> Counter[Any]:
        """What stands in a column of the rows, and how often."""
        return Counter(row[column] for row in self.bench.rows)

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """All batches at the server."""
        return self.server.get("/v1/batches?limit=100")["data"]


@pytest.fixture
def outsider(tmp_path):
    """A dataset and a configuration for a server, whose config sections may be replaced."""

    def make(server, changes):
        bench = Bench(tmp_path, server.url)
        bench.write(SAMPLES)
        bench.config["service"] |= {"dialect": "openai", "batch": True}
        bench.config["online"] = {"retry": {"base": 0.05, "ceiling": 0.2}}
        bench.config |= {"router": {"mode": "batch", "leftovers": "resubmit"}, "batch": BATCH}
        return Outsider(server, bench, changes)

    return make


@pytest.fixture
def aimock(packages, serve, tmp_path, outsider):
    """Start aimock; online it answers from fixtures, by batch with a text of its own."""
    fixtures = tmp_path / "fixtures"
    fixtures.mkdir()
    known = {"match": {"userMessage": "question"}, "response": {"content": "Rating: [[7]]"}}
    (fixtures / "judge.json").write_text(json.dumps({"fixtures": [known]}), encoding="utf-8")
    program = packages / "@copilotkit" / "aimock" / "dist" / "cli.js"
    command = ["node", str(program), "-p", "{port}", "-f", str(fixtures)]

    def start(*flags):
        return outsider(serve([*command, *flags], tmp_path / "aimock", ready="/health"), {"judge.verdict": SAYS})

    return start


@pytest.fixture(scope="session")
def aibrix_program():
    return python_home("aibrix") / "aibrix_metadata"


@pytest.fixture
def aibrix(aibrix_program, serve, tmp_path, outsider):
    """Start aibrix; in a dry run it answers with the body it was sent: with a completion in it, that completion."""
    folder = tmp_path / "aibrix"
    command = [str(aibrix_program), "--dry-run", "--host", "127.0.0.1", "--port", "{port}"]

    def start():
        server = serve(command, folder, {"STORAGE_LOCAL_PATH": str(folder / "store")})
        return outsider(server, {"judge.parameters": {"choices": [RATED]}})

    return start


@pytest.fixture(scope="session")
def ogx_program():
    return python_home("ogx", newer_python((3, 12))) / "ogx"


@pytest.fixture
def ogx(ogx_program, serve, emulator, tmp_path, outsider):
    """Start ogx; it asks our emulator what the lines of its batches ask."""
    folder = tmp_path / "ogx"
    command = [str(ogx_program), "run", "--insecure", "--port", "{port}", str(HERE / "ogx.yaml")]

    def start():
        model = emulator(latency={"median": 0.0, "sigma": 0.0})
        places = {"JUDGE_URL": model.url, "STORE": str(folder / "store"), "HOME": str(folder)}
        return outsider(serve(command, folder, places), {"judge.model": "judge/pai-judge"})

    return start


@pytest.fixture(params=("aimock", "aibrix", "ogx"))
def any_server(request):
    """Each of the servers."""
    return request.getfixturevalue(request.param)()


def forget(directory: Path) -> int:
    """Make a run directory what a crash between a create and its recording leaves; how many creates it forgets."""
    ledger = Ledger(directory / "batches")
    made = [shard for shard in ledger.open_shards if shard.batch_id]
    for shard in made:
        ledger.save(msgspec.structs.replace(shard, step="confirm", batch_id=None, created_at=None, word=None))
    return len(made)


def test_every_request_is_answered(any_server):
    assert any_server.run() == (0, SAMPLES)
    assert any_server.told("route") == {"batch": SAMPLES}
    assert None not in any_server.told("response")
    assert set(any_server.told("batch_id")) == {job["id"] for job in any_server.jobs}
    assert len(any_server.jobs) == SHARDS


def test_none_of_our_files_stays(any_server):
    any_server.run()
    ours = {job.get(key) for job in any_server.jobs for key in ("input_file_id", "output_file_id", "error_file_id")}
    assert not ours & {file["id"] for file in any_server.server.get("/v1/files")["data"]}


def test_a_run_is_left_and_taken_up_again(any_server):
    assert any_server.run(detach=True)[0] == 4
    assert any_server.run() == (0, SAMPLES)
    assert len(any_server.jobs) == SHARDS


def test_batches_whose_creation_was_never_recorded_are_found(any_server):
    any_server.run(detach=True)
    assert forget(any_server.bench.directory)
    assert any_server.run() == (0, SAMPLES)
    assert len(any_server.jobs) == SHARDS


def test_what_was_cancelled_is_asked_again(any_server):
    any_server.run(detach=True)
    code, _ = any_server.run(cancel=True)
    assert {job["status"] for job in any_server.jobs} <= {"cancelled", "completed"}
    # ogx counts lines that it answered before it was told, but keeps none of the answers: a person must decide.
    withheld = [job for job in any_server.jobs if (counts := job.get("request_counts")) and counts["completed"]]
    assert code == (3 if any(not job.get("output_file_id") for job in withheld) else 4)
    assert any_server.run(resubmit_unknown=True) == (0, SAMPLES)
    assert any_server.told("route") == {"batch": SAMPLES}


@pytest.mark.parametrize("outcome", ["failed", "expired", "cancelled"])
def test_what_aimock_leaves_unanswered_goes_online(aimock, outcome):
    place = aimock()
    wanted = {"router.leftovers": "online", "service.headers": {"X-AIMock-Batch-Outcome": outcome}}
    assert place.run(wanted) == (0, SAMPLES)
    assert place.told("route") == {"online": SAMPLES}
    assert place.told("label") == {"7": SAMPLES}
    assert [job["status"] for job in place.jobs] == [outcome] * SHARDS


def test_what_aimock_never_answers_is_a_failed_row_at_last(aimock):
    place = aimock()
    assert place.run({"service.headers": {"X-AIMock-Batch-Outcome": "expired"}}) == (1, 0)
    assert place.told("error_type") == {"batch_expired": SAMPLES}
    assert place.told("attempts") == {3: SAMPLES}
    assert len(place.jobs) == 3 * SHARDS


def test_what_aibrix_answers_without_a_completion_is_a_failed_row_at_last(aibrix):
    place = aibrix()
    assert place.run({"judge.parameters": {}}) == (1, 0)
    assert place.told("error_type") == {"bad_reply": SAMPLES}
    assert place.told("route") == {"batch": SAMPLES}
    assert len(place.jobs) == 3 * SHARDS


def test_chaos_loses_and_doubles_nothing(aimock):
    place = aimock(*(f"--chaos-{name}={share}" for name, share in CHAOS.items()))
    assert place.run({"router.leftovers": "online"}) == (0, SAMPLES)
    assert set(place.told("label")) <= {"completion", "7"}
    place.server.post("/__aimock/chaos", {})
    assert set(Counter(job["input_file_id"] for job in place.jobs).values()) == {1}
