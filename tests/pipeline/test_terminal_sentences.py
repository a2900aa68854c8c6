"""Every line at the end of a run and in `status`: a run that must have it and one that must not."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.monitor import describe
from runner.monitor import status as status_module
from runner.pipeline import RunSummary
from runner.results import Cause, RowCounts

PLAIN = RunSummary(Path("out"), 0, None, None, 30, RowCounts(ok=30), 30, 2.0, 0, 0)
# For each line that a run may have: the changes that must bring it.
LINES: dict[str, dict[str, Any]] = {
    " (--limit); 30 rows are stored": {"counts": RowCounts(ok=3), "total": 3, "beyond_limit": 27},
    "cost                    0.5000": {"counts": RowCounts(ok=30, cost=0.5)},
    "lanes                   online, then batch": {"lanes": ("online", "batch")},
    "in batches              7 in 2 batches, which the same": {"in_batches": 7, "open_batches": 2},
    "report                  out/report/index.html": {"report": Path("out/report/index.html")},
    "report                  not written": {"report_problem": "the report was not written: no space"},
    "emulated                the verdicts are made up": {"emulated": True},
    "causes                  2 x timeout: no answer": {"causes": (Cause("timeout", 2, "no answer"),)},
}
ALWAYS = {"rows", "ok / unparsed / failed", "new in this run", "retries / 429s", "tokens", "run directory"}

STATUS = {
    "name": "j", "state": "running", "route": "online", "total": 30, "done": 20, "ok": 18, "unparsed": 1, "failed": 1,
    "in_flight": 2, "rate": 1.5, "eta_s": 7, "retries": 4, "throttled": 3, "tokens": 99, "started_at": "a",
    "updated_at": "b",
}  # fmt: skip
FINISHED = {"state": "finished", "done": 3, "total": 3}
JOB = {"batch_id": "b1", "state": "running", "finished": 1, "requests": 4, "age_s": 60}
STATUS_LINES: dict[str, dict[str, Any]] = {
    ", and 5 lines finished in batches": {"answered_in_batches": 5},
    "; 30 rows are stored, this call was about the first samples only": {**FINISHED, "beyond_limit": 27},
    "   cost 0.5000": {"cost": 0.5},
    "  emulated: the verdicts are made up": {"emulated": True},
    "  batches: ": {"batches": {"running": 1}},
    "    b1: running, 1 of 4 lines, for 1m00s": {"jobs": [JOB]},
    "; no answer for an hour": {"jobs": [{**JOB, "stuck": "no answer for an hour"}]},
    "    shard 3: ": {"jobs": [{**JOB, "batch_id": None, "shard": 3}]},
    "  paused: refused": {"paused_because": "refused"},
    "  2 x timeout: no answer": {"causes": [{"error_type": "timeout", "count": 2, "example": "no answer"}]},
    "  stopped: budget (exit code 3)": {"state": "stopped", "stop_reason": "budget", "exit_code": 3},
    "  no process is running it; run the same command again to resume": {"state": "interrupted"},
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_at_the_end_appears_where_it_must_and_nowhere_else(line: str) -> None:
    assert line in "\n".join(msgspec.structs.replace(PLAIN, **LINES[line]).lines())
    assert line not in "\n".join(PLAIN.lines())


def test_the_summary_of_an_ordinary_run() -> None:
    assert {line[:24].strip() for line in PLAIN.lines()} == ALWAYS
    assert PLAIN.problem() is None
    retried = msgspec.structs.replace(PLAIN, retries=4, throttled=3)
    assert "retries / 429s          4 / 3" in list(retried.lines())


def test_a_problem_is_named_only_if_there_is_one() -> None:
    bad = msgspec.structs.replace(PLAIN, exit_code=1, counts=RowCounts(ok=28, unparsed=2))
    assert (problem := bad.problem()) is not None
    assert problem.startswith("2 of 30 rows are not ok, more than output.tolerate allows")
    stopped = msgspec.structs.replace(PLAIN, exit_code=4, stop_reason="max_time", message="the time is up")
    assert stopped.problem() == "max_time: the time is up"


@pytest.mark.parametrize("line", STATUS_LINES)
def test_a_line_of_the_status_appears_where_it_must_and_nowhere_else(line: str) -> None:
    assert line in describe({**STATUS, **STATUS_LINES[line]})
    assert line not in describe(STATUS)


def test_only_a_running_run_has_a_rate() -> None:
    assert "  rate 1.5 rows/s   eta 7s   in flight 2" in describe(STATUS)
    for state in ("finished", "stopped", "interrupted"):
        assert "  rate" not in describe({**STATUS, "state": state})


def test_the_code_has_no_further_line() -> None:
    """A new line fails here until a test has it."""
    summary = {text for text in _texts(inspect.getsource(RunSummary.lines)) if text[:1].isalpha() and "{" not in text}
    assert summary == ALWAYS | {"cost", "lanes", "in batches", "report", "not written", "emulated", "causes"} | {
        "batch", "batches", "the verdicts are made up",
    }  # fmt: skip
    source = inspect.getsource(status_module.describe)
    lines = [text for text in _texts(source) if text.startswith(("  ", "; ", ", and"))]
    covered = [*STATUS_LINES, *describe(STATUS).splitlines()]
    assert all(any(_begins(line, text) for line in covered) for text in lines), lines


def _begins(line: str, text: str) -> bool:
    return line.startswith(text.split("{}")[0])


def _texts(source: str) -> list[str]:
    tree = ast.parse(textwrap.dedent(source))
    joined = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    inner = {id(part) for node in joined for part in node.values}
    parts = ["".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values) for node in joined]
    body = tree.body[0]
    assert isinstance(body, ast.FunctionDef)
    first = body.body[0]
    hidden = inner | ({id(first.value)} if isinstance(first, ast.Expr) else set())
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in hidden]
    return [*parts, *(node.value for node in plain if isinstance(node.value, str))]
