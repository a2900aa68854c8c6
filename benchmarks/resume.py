"""Measure the time from start to first request of a run that is nearly done, against one read of the dataset.

    python benchmarks/resume.py

The program writes a dataset of 5,000,100 rows (JSON lines, half a kilobyte each) and a run directory in which all rows
but the last 100 are done: judge-runner itself starts the run against a local server, and the later parts are copies of
its first rows. Then `judge-runner run` resumes the run, and is killed when its first request arrives, so that every
round finds the same state. It measures the seconds from process start to that request, and the peak memory:

- `resumed`: nothing has changed since;
- `touched`: the dataset's modification time differs from the recorded one, so all its bytes must be hashed;
- `whole run` (with `--finish`): to its end, samples.parquet included; checks that it sends exactly those 100 requests.

The bound is 1.5 x the time of a plain read of the dataset plus 4 s (with a warm cache), and 300 MB. It needs about 1 kB
of disk per row while it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from aiohttp import web

from runner.results import RunDirectory, part_paths
from runner.results.parts import ROW_GROUP_MAX_ROWS, PartWriter, part_path

ROWS, PENDING = 5_000_100, 100
FIRST_ROWS = 100  # rows that judge-runner itself writes
PART_ROWS = 50_000
REORDER_WINDOW = 64
BLOCK_BYTES = 1 << 20
MAX_READ_RATIO, MAX_EXTRA_SECONDS, MAX_MEGABYTES = 1.5, 4.0, 300
TARGET_READ_RATIO = 1.2


class Cost(NamedTuple):
    """The cost of one process: seconds to its first request, wall and CPU seconds, and peak memory in MB."""

    first: float
    wall: float
    cpu: float
    peak: float


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--finish", action="store_true", help="complete a last run, and check its rows")
    parser.add_argument("--folder", type=Path, help="keep all files there; existing ones are reused")
    parser.add_argument("--extend", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.extend:
        extend(given.extend / "run", given.rows - PENDING)
    elif given.check:
        check(given.check / "run", given.rows)
    elif given.folder:
        asyncio.run(measure(given.folder, given.rows, given.rounds, given.finish))
    else:
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(measure(Path(name), given.rows, given.rounds, given.finish))


async def measure(folder: Path, rows: int, rounds: int, finish: bool) -> None:
    """Make the run, resume it in each round, and print the medians."""
    async with Service() as service:
        data = folder / "data.jsonl"
        if not data.exists():
            await make(folder, rows, service)
        configure(folder, service.url)
        read, resumed, touched = [plain_read(data)], [], []
        await interrupted(folder, service)
        for _ in range(rounds):
            read.append(plain_read(data))
            resumed.append(await interrupted(folder, service))
            os.utime(data)
            touched.append(await interrupted(folder, service))
            print(f"read {read[-1]:.2f} s, resumed {resumed[-1].first:.2f} s, touched {touched[-1].first:.2f} s")
        plain = statistics.median(read[1:])
        size = data.stat().st_size / 1e9
        print(f"{rows - PENDING:,} of {rows:,} rows done; plain read of {size:.2f} GB: {plain:.2f} s")
        print(f"{'':10}{'first request':>15}{'bound':>9}{'CPU':>8}{'peak':>9}")
        report("resumed", resumed, plain)
        report("touched", touched, plain)
        if finish:
            whole = await finished(folder, service, rows)
            print(f"whole run  {whole.wall:.1f} s, {whole.peak:.0f} MB")


def report(name: str, costs: list[Cost], plain: float) -> None:
    """Print the medians of one kind of resume, and if they are within the bound."""
    first, _, cpu, peak = (statistics.median(column) for column in zip(*costs, strict=True))
    bound = MAX_READ_RATIO * plain + MAX_EXTRA_SECONDS
    within = "within the bound" if first <= bound and peak <= MAX_MEGABYTES else "OVER the bound"
    print(
        f"{name:10}{first:13.2f} s{bound:7.2f} s{cpu:6.2f} s{peak:6.0f} MB  {within}"
        f" ({TARGET_READ_RATIO} x the plain read + {first - TARGET_READ_RATIO * plain:.2f} s)"
    )


async def make(folder: Path, rows: int, service: Service) -> None:
    """Write the dataset, and the run directory in which all rows but the last are done."""
    needed = 1000 * rows
    if shutil.disk_usage(folder).free < needed:
        raise SystemExit(f"{folder}: {needed / 1e9:.1f} GB of free disk are needed")
    started = time.perf_counter()
    await asyncio.to_thread(write_dataset, folder / "data.jsonl", rows)
    configure(folder, service.url)
    service.is_stalled = False
    limit = ["--limit", str(FIRST_ROWS)]
    await asyncio.to_thread(run, ["-m", "runner", "run", str(folder / "judge.json"), "--quiet", *limit])
    await asyncio.to_thread(run, [__file__, "--extend", str(folder), "--rows", str(rows)])
    print(f"written in {time.perf_counter() - started:.0f} s")


async def interrupted(folder: Path, service: Service) -> Cost:
    """Resume the run until its first request arrives, and kill it."""
    service.expect(stall=True)
    return await asyncio.to_thread(run, ["-m", "runner", "run", str(folder / "judge.json"), "--quiet"], service)


async def finished(folder: Path, service: Service, rows: int) -> Cost:
    """Resume the run to its end; exits if it sent other requests than the missing ones, or lost a row."""
    service.expect(stall=False)
    cost = await asyncio.to_thread(run, ["-m", "runner", "run", str(folder / "judge.json"), "--quiet"])
    if service.questions != {f"question {rows - PENDING + n}" for n in range(PENDING)}:
        raise SystemExit(f"other requests were sent: {len(service.questions)}")
    await asyncio.to_thread(run, [__file__, "--check", str(folder), "--rows", str(rows)])
    return cost


def run(command: list[str], service: Service | None = None) -> Cost:
    """Run a Python process to its end, or kill it when its first request arrives at the service."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    if service is not None:
        while not service.arrived.wait(0.1) and not has_ended(process.pid):
            pass
        process.kill()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (0 if service is None else -signal.SIGKILL):
        raise SystemExit(f"{command} ended with {process.returncode}")
    first = 0.0 if service is None else service.first - started
    return Cost(first, time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def has_ended(pid: int) -> bool:
    """Return True if a process has ended; it can still be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def plain_read(path: Path) -> float:
    """Return the seconds that it takes to read a file, a megabyte at a time."""
    started = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(BLOCK_BYTES):
            pass
    return time.perf_counter() - started


def configure(folder: Path, url: str) -> None:
    """Write the configuration with the service's current URL."""
    text = "Question: {question}\n\nAnswer: {answer}\n\nRate it from 1 to 10 as [[n]]."
    settings = {
        "dataset": {"path": "data.jsonl"},
        "judge": {"model": "judge", "kind": "template", "user": text, "verdict": {"format": "mt_bench_single"}},
        "service": {"base_url": f"{url}/v1", "token_env": None},
        "output": {"directory": str(folder / "run")},
        "monitor": {"progress": False},
    }
    (folder / "judge.json").write_text(json.dumps(settings))


def write_dataset(path: Path, rows: int) -> None:
    """Write a dataset with this number of rows of half a kilobyte."""
    chance = random.Random(1)
    words = "天空为什么是蓝色的因为空气散射短波光线比长波多得多所以我们看到蓝天而日落时光线穿过更厚的大气层"
    answers = ["".join(chance.choices(words, k=chance.randint(90, 210))) for _ in range(997)]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(
            f'{{"id": "s{n}", "question": "question {n}", "answer": "{answers[n % 997]}"}}\n' for n in range(rows)
        )


def extend(directory: Path, done: int) -> None:
    """Write the parts of a run with this number of rows, as copies of its first rows."""
    results = RunDirectory(directory).results
    first_rows = pa.concat_tables([pq.read_table(path) for path in part_paths(results).values()]).sort_by("ordinal")
    tail = first_rows["custom_id"][0].as_py().partition("-")[2]
    order = shuffled(PART_ROWS)
    for number, start in enumerate(range(0, done, PART_ROWS)):
        ordinals = [start + n for n in order if start + n < done]
        writer = PartWriter(part_path(results, number), first_rows.schema, "zstd")
        for at in range(0, len(ordinals), ROW_GROUP_MAX_ROWS):
            writer.write(rows_of(first_rows, ordinals[at : at + ROW_GROUP_MAX_ROWS], tail))
        writer.finish()


def shuffled(count: int) -> list[int]:
    """Return the numbers in a typical order of answers: locally shuffled."""
    chance = random.Random(2)
    return sorted(range(count), key=lambda number: number + chance.uniform(0, REORDER_WINDOW))


def rows_of(first_rows: pa.Table, ordinals: list[int], tail: str) -> pa.Table:
    """Return rows of these samples, as copies of other rows."""
    table = first_rows.take(pa.array([ordinal % first_rows.num_rows for ordinal in ordinals]))
    numbers = pa.array(ordinals, pa.int64())
    names = numbers.cast(pa.string())
    own = {
        "ordinal": numbers,
        "sample_id": pc.binary_join_element_wise("s", names, ""),
        "custom_id": pc.binary_join_element_wise(names, tail, "-"),
        "request_hash": pc.utf8_lpad(names, 32, "0"),
    }
    for name, column in own.items():
        table = table.set_column(table.column_names.index(name), name, column)
    return table.cast(first_rows.schema)


def check(directory: Path, rows: int) -> None:
    """Exit unless every sample has exactly one row, and one line in samples.parquet."""
    run_directory = RunDirectory(directory)
    tables = [pq.read_table(path, columns=["ordinal"]) for path in part_paths(run_directory.results).values()]
    for table in (pa.concat_tables(tables), pq.read_table(run_directory.samples, columns=["ordinal"])):
        count = len(pc.unique(table["ordinal"]))
        if not table.num_rows == count == rows:
            raise SystemExit(f"{table.num_rows} rows for {count} of {rows} samples")


class Service:
    """A service that answers or stalls every request, and records the time of the first one."""

    def __init__(self) -> None:
        self.url = ""
        self.first = 0.0
        self.questions: set[str] = set()
        self.is_stalled = False
        self.arrived = threading.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Service:
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._chat)])
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def expect(self, *, stall: bool) -> None:
        """Reset the record of the first request; stall all requests if `stall` is True."""
        self.is_stalled = stall
        self.questions.clear()
        self.arrived.clear()

    async def _chat(self, request: web.Request) -> web.Response:
        if not self.arrived.is_set():
            self.first = time.perf_counter()
            self.arrived.set()
        if self.is_stalled:
            await asyncio.Event().wait()
        body = json.loads(await request.read())
        question = body["messages"][-1]["content"].partition("\n")[0].removeprefix("Question: ")
        self.questions.add(question)
        text = f"The answer to {question} is clear, right and short, and leaves little out. Rating: [[8]]"
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 240, "completion_tokens": 24, "total_tokens": 264}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"id": "chatcmpl-1", "model": "judge", "choices": [choice], "usage": usage})


if __name__ == "__main__":
    main()
