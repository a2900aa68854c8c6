"""The state of a run, as `judge-runner status` shows it from another terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.core import damaged, duration, read_json
from runner.errors import UsageError
from runner.monitor.progress import Progress, format_states
from runner.run_file import Count, Seconds

FINAL_STATES = frozenset({"finished", "stopped"})
INACTIVE_STATES = FINAL_STATES | {"interrupted"}

_ADVICE = "The next `judge-runner run` writes it anew; nothing else needs it"


class _Job(msgspec.Struct):
    shard: Count
    batch_id: str | None
    state: str
    requests: Count
    finished: Count
    created_at: Seconds | None
    age_s: float | None
    stuck: str | None


class _Cause(msgspec.Struct):
    error_type: str
    count: Count
    example: str


class _Lists(msgspec.Struct):
    jobs: list[_Job]
    causes: Sequence[_Cause] = ()


def read_status(status: Path, held: bool | None) -> dict[str, Any]:
    """Read `status.json`. A run that is not final while no process holds its directory is `interrupted`.

    Args:
        status: the path of `status.json`.
        held: True if a process holds the lock of the run directory; None if no one can know.

    Raises:
        UsageError: the file does not exist or cannot be read.
    """
    try:
        data = read_json(status, dict[str, Any])
        for part in (Progress, _Lists):
            msgspec.convert(data, part)
    except FileNotFoundError:
        raise UsageError(f"{status.parent}: no status.json here; is it a run directory?") from None
    except msgspec.ValidationError as error:
        raise damaged(status, error, _ADVICE) from error
    if data.get("state") not in FINAL_STATES and held is False:
        data["state"] = "interrupted"
    for job in data.get("jobs") or ():  # the age grows even if no process updates status.json
        job["age_s"] = None if job.get("created_at") is None else round(time.time() - job["created_at"], 1)
    return data


def describe(data: Mapping[str, Any]) -> str:
    """Format the status as a few lines of text."""
    total, done = data.get("total") or 0, data.get("done") or 0
    share = f" ({100 * done / total:.1f} %)" if total else ""
    rate = data.get("rate")
    finished = data.get("answered_in_batches")
    in_batches = f", and {finished:,} lines finished in batches" if finished else ""
    beyond = data.get("beyond_limit") or 0
    limited = f"; {done + beyond:,} rows are stored, this call was about the first samples only" if beyond else ""
    lines = [
        f"{data.get('name')}: {data.get('state')}, {done:,} of {total:,} rows{share}{in_batches}{limited}",
        f"  ok {data.get('ok'):,}   unparsed {data.get('unparsed'):,}   failed {data.get('failed'):,}",
        f"  retries {data.get('retries'):,}   429s {data.get('throttled'):,}   tokens {data.get('tokens'):,}"
        + (f"   cost {data['cost']:.4f}" if data.get("cost") is not None else ""),
        f"  route {data.get('route')}   started {data.get('started_at')}   updated {data.get('updated_at')}",
    ]
    if data.get("state") not in INACTIVE_STATES:
        speed = "-" if rate is None else f"{rate:.1f} rows/s"
        lines.insert(2, f"  rate {speed}   eta {duration(data.get('eta_s'))}   in flight {data.get('in_flight')}")
    if data.get("emulated"):
        lines.append("  emulated: the verdicts are made up")
    if data.get("batches"):
        lines.append(f"  batches: {format_states(data['batches'])}")
    lines += [_job(job) for job in data.get("jobs") or ()]
    if data.get("paused_because"):
        lines.append(f"  paused: {data['paused_because']}")
    lines += [
        f"  {each['count']:,} x {each['error_type']}" + (f": {each['example']}" if each["example"] else "")
        for each in data.get("causes") or ()
    ]
    if data.get("stop_reason"):
        message = f": {data['stop_message']}" if data.get("stop_message") else ""
        lines.append(f"  stopped: {data['stop_reason']} (exit code {data.get('exit_code')}){message}")
    if data.get("state") == "interrupted":
        lines.append("  no process is running it; run the same command again to resume")
    return "\n".join(lines)


def _job(job: Mapping[str, Any]) -> str:
    """Format one open batch as a line."""
    line = (
        f"    {job.get('batch_id') or 'shard ' + str(job.get('shard'))}: {job.get('state')}, "
        f"{job.get('finished'):,} of {job.get('requests'):,} lines, for {duration(job.get('age_s'))}"
    )
    return f"{line}; {job['stuck']}" if job.get("stuck") else line
