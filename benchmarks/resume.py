"""How long a run that is nearly done takes to its first request, against reading the dataset once.

    python benchmarks/resume.py

Makes a dataset of 5,000,100 rows (JSON lines, half a kilobyte each) and the run directory in which all but the last 100
have their row: judge-runner itself begins the run against a local server, and the parts it would have gone on to write
are made of its first rows. Then `judge-runner run` goes on, and is killed when its first request arrives, so that every
round finds the same. Measured are the seconds from the start of the process to that request and its largest memory:

- `resumed`: nothing has changed since;
- `touched`: the dataset has another time than the run remembers, so that all its bytes have to be looked at;
- `whole run` (with `--finish`): to its end, samples.parquet included; checked to ask just those 100 rows.

The bound is 1.5 x the time of a plain read of the dataset plus 4 s (the cache is warm), and 300 MB. Needs about 1 kB of
disk a row while it runs.
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

ROWS, LEFT = 5_000_100, 100
BEGUN = 100
PART_ROWS = 50_000
WINDOW = 64
BLOCK = 1 << 20
SHARE, SECONDS, MEGABYTES = 1.5, 4.0, 300
AIM = 1.2


class Took(NamedTuple):
    """What one process took: seconds to its first request, in all, and of CPU, and its largest memory in MB."""

    first: float
    wall: float
    cpu: float
    peak: float


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--finish", action="store_true", help="let a last run go to its end, and check its rows")
    parser.add_argument("--folder", type=Path, help="make everything there and leave it; what is there is used again")
    parser.add_argument("--extend", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.extend:
        extend(given.extend / "run", given.rows - LEFT)
    elif given.check:
        check(given.check / "run", given.rows)
    elif given.folder:
        asyncio.run(measure(given.folder, given.rows, given.rounds, given.finish))
    else:
        with tempfile.TemporaryDirectory() as name:
            asyncio.run(measure(Path(name), given.rows, given.rounds, given.finish))


async def measure(folder: Path, rows: int, rounds: int, finish: bool) -> None:
    """Make the run, go on with it some rounds, and print medians."""
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
        print(f"{rows - LEFT:,} of {rows:,} rows done; plain read of {size:.2f} GB: {plain:.2f} s")
        print(f"{'':10}{'first request':>15}{'bound':>9}{'CPU':>8}{'peak':>9}")
        report("resumed", resumed, plain)
        report("touched", touched, plain)
        if finish:
            whole = await finished(folder, service, rows)
            print(f"whole run  {whole.wall:.1f} s, {whole.peak:.0f} MB")


def report(name: str, took: list[Took], plain: float) -> None:
    """Print the medians of one kind, and whether they hold."""
    first, _, cpu, peak = (statistics.median(column) for column in zip(*took, strict=True))
    bound = SHARE * plain + SECONDS
    holds = "holds" if first <= bound and peak <= MEGABYTES else "does not hold"
    print(
        f"{name:10}{first:13.2f} s{bound:7.2f} s{cpu:6.2f} s{peak:6.0f} MB  {holds}"
        f" ({AIM} x the plain read + {first - AIM * plain:.2f} s)"
    )


async def make(folder: Path, rows: int, service: Service) -> None:
    """Make the dataset, and the run directory in which all but the last rows are done."""
    need = 1000 * rows
    if shutil.disk_usage(folder).free < need:
        raise SystemExit(f"{folder}: {need / 1e9:.1f} GB are needed")
    began = time.perf_counter()
    await asyncio.to_thread(write_dataset, folder / "data.jsonl", rows)
    configure(folder, service.url)
    service.holds = False
    limit = ["--limit", str(BEGUN)]
    await asyncio.to_thread(run, ["-m", "runner", "run", str(folder / "judge.json"), "--quiet", *limit])
    await asyncio.to_thread(run, [__file__, "--extend", str(folder), "--rows", str(rows)])
    print(f"made in {time.perf_counter() - began:.0f} s")


async def interrupted(folder: Path, service: Service) -> Took:
    """Go on with the run until its first request has come in, and kill it."""
    service.expect(holds=True)
    return await asyncio.to_thread(run, ["-m", "runner", "run", str(folder / "judge.json"), "--quiet"], service)


async def finished(folder: Path, service: Service, rows: int) -> Took:
    """Go on with the run to its end; stop where it asked other rows than were missing, or lost one."""
    service.expect(holds=False)
    took = await asyncio.to_thread(run, ["-m", "runner", "run", str(folder / "judge.json"), "--quiet"])
    if service.asked != {f"question {rows - LEFT + n}" for n in range(LEFT)}:
        raise SystemExit(f"other rows were asked: {len(service.asked)}")
    await asyncio.to_thread(run, [__file__, "--check", str(folder), "--rows", str(rows)])
    return took


def run(command: list[str], service: Service | None = None) -> Took:
    """Run a Python process to its end, or kill it when its first request has come to the service."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    if service is not None:
        while not service.came.wait(0.1) and not has_ended(process.pid):
            pass
        process.kill()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (0 if service is None else -signal.SIGKILL):
        raise SystemExit(f"{command} ended with {process.returncode}")
    first = 0.0 if service is None else service.first - began
    return Took(first, time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def has_ended(pid: int) -> bool:
    """Whether a process has ended; it is left to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def plain_read(path: Path) -> float:
    """Seconds that reading a file takes, a megabyte at a time."""
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(BLOCK):
            pass
    return time.perf_counter() - began


def configure(folder: Path, url: str) -> None:
    """Write the configuration, with the address that the service has now."""
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
    """Write so many samples of half a kilobyte."""
    chance = random.Random(1)
    words = "天空为什么是蓝色的因为空气散射短波光线比长波多得多所以我们看到蓝天而日落时光线穿过更厚的大气层"
    answers = ["".join(chance.choices(words, k=chance.randint(90, 210))) for _ in range(997)]
    with path.open("w", encoding="utf-8") as file:
        file.writelines(
            f'{{"id": "s{n}", "question": "question {n}", "answer": "{answers[n % 997]}"}}\n' for n in range(rows)
        )


def extend(directory: Path, done: int) -> None:
    """Make the parts of a run that has come so far, of the few rows it has."""
    results = RunDirectory(directory).results
    begun = pa.concat_tables([pq.read_table(path) for path in part_paths(results).values()]).sort_by("ordinal")
    tail = begun["custom_id"][0].as_py().partition("-")[2]
    order = shuffled(PART_ROWS)
    for number, start in enumerate(range(0, done, PART_ROWS)):
        ordinals = [start + n for n in order if start + n < done]
        writer = PartWriter(part_path(results, number), begun.schema, "zstd")
        for at in range(0, len(ordinals), ROW_GROUP_MAX_ROWS):
            writer.write(rows_of(begun, ordinals[at : at + ROW_GROUP_MAX_ROWS], tail))
        writer.finish()


def shuffled(count: int) -> list[int]:
    """Numbers in about the order in which answers come: a little off everywhere."""
    chance = random.Random(2)
    return sorted(range(count), key=lambda number: number + chance.uniform(0, WINDOW))


def rows_of(begun: pa.Table, ordinals: list[int], tail: str) -> pa.Table:
    """Rows of these samples, made of others."""
    table = begun.take(pa.array([ordinal % begun.num_rows for ordinal in ordinals]))
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
    return table.cast(begun.schema)


def check(directory: Path, rows: int) -> None:
    """Stop where not every sample has its one row, and its line in samples.parquet."""
    place = RunDirectory(directory)
    tables = [pq.read_table(path, columns=["ordinal"]) for path in part_paths(place.results).values()]
    for table in (pa.concat_tables(tables), pq.read_table(place.samples, columns=["ordinal"])):
        count = len(pc.unique(table["ordinal"]))
        if not table.num_rows == count == rows:
            raise SystemExit(f"{table.num_rows} rows for {count} of {rows} samples")


class Service:
    """Answers every request, or holds it; knows when the first one came."""

    def __init__(self) -> None:
        self.url = ""
        self.first = 0.0
        self.asked: set[str] = set()
        self.holds = False
        self.came = threading.Event()
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

    def expect(self, *, holds: bool) -> None:
        """Wait for a first request anew."""
        self.holds = holds
        self.asked.clear()
        self.came.clear()

    async def _chat(self, request: web.Request) -> web.Response:
        if not self.came.is_set():
            self.first = time.perf_counter()
            self.came.set()
        if self.holds:
            await asyncio.Event().wait()
        body = json.loads(await request.read())
        question = body["messages"][-1]["content"].partition("\n")[0].removeprefix("Question: ")
        self.asked.add(question)
        text = f"The answer to {question} is clear, right and short, and leaves little out. Rating: [[8]]"
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 240, "completion_tokens": 24, "total_tokens": 264}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"id": "chatcmpl-1", "model": "judge", "choices": [choice], "usage": usage})


if __name__ == "__main__":
    main()
