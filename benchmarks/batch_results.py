"""How fast batch results become rows, compared with a plain loop over the same lines.

    python benchmarks/batch_results.py --lines 1000000

A local server holds batches that have ended. `judge-runner run` collects them: it downloads, checks and parses every
line, and writes the rows. The plain loop already has the same result files on its disk. It parses each line with
orjson, finds the verdict with a regular expression and writes the same texts to Parquet, without checks, journal or
resume. Each runs in its own process, in turn, for several rounds. Needs orjson (`pip install -e '.[bench]'`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

TEXTS = 2000
KINDS = {
    "template": {
        "kind": "template",
        "user": "{question}\n\n[A]\n{answer1}\n\n[B]\n{answer2}\n\nEnd with [[A]], [[B]] or [[C]] for a tie.",
        "verdict": {"format": "mt_bench_pair"},
    },
    "pai": {"kind": "pai_pairwise"},
}
CRITERIA = ("准确性", "相关性", "完整性", "清晰度", "无害性")


class Took(NamedTuple):
    """The cost of one process: wall time and CPU time in seconds, peak memory in MB."""

    wall: float
    cpu: float
    peak: float


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, default="template")
    parser.add_argument("--loop", nargs=2, metavar=("FOLDER", "KIND"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.loop:
        loop(Path(given.loop[0]), given.loop[1])
        return
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(Path(name), given.lines, given.rounds, given.kind))


async def measure(folder: Path, lines: int, rounds: int, kind: str) -> None:
    """Run both in each round, and print the medians."""
    write_dataset(folder / "data.jsonl", lines)
    ours, lanes, plain = [], [], []
    for number in range(rounds):
        async with Service(folder, kind) as service:
            config = folder / f"judge-{number}.json"
            config.write_text(json.dumps(configuration(service.url, kind, folder / f"run-{number}")))
            submitted = await asyncio.to_thread(run, ["-m", "runner", "run", str(config), "--detach", "--quiet"])
            service.done = True
            started = time.time()
            ours.append(await asyncio.to_thread(run, ["-m", "runner", "run", str(config), "--quiet"]))
            lanes.append(lane_end(folder / f"run-{number}") - started)
            plain.append(await asyncio.to_thread(run, [__file__, "--loop", str(service.folder), kind]))
            print(
                f"round {number + 1}: submitting {submitted.wall:.1f} s, collecting {lanes[-1]:.1f} s of the run's "
                f"{ours[-1].wall:.1f} s, plain loop {plain[-1].wall:.1f} s"
            )
    ratio = statistics.median(lane / loop_.wall for lane, loop_ in zip(lanes, plain, strict=True))
    print(f"{lines:,} lines, {kind}:")
    print(f"{'':26}{'wall s':>8}{'us/line':>9}{'CPU s':>8}{'peak MB':>9}")
    for name, took in (("plain loop", medians(plain)), ("judge-runner, whole run", medians(ours))):
        print(f"{name:26}{took.wall:8.1f}{1e6 * took.wall / lines:9.1f}{took.cpu:8.1f}{took.peak:9.0f}")
    lane = statistics.median(lanes)
    print(f"{'  of it until collected':26}{lane:8.1f}{1e6 * lane / lines:9.1f}")
    print(f"collected in {ratio:.2f} x the plain loop's time (median of {rounds} rounds)")


def medians(took: Sequence[Took]) -> Took:
    """Return the median of each figure."""
    return Took(*(statistics.median(column) for column in zip(*took, strict=True)))


def run(command: list[str]) -> Took:
    """Run a Python process to its end; exits if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return Took(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def lane_end(directory: Path) -> float:
    """Return the time at which the last shard was closed; samples.parquet and the end of the run follow."""
    return max(path.stat().st_mtime for path in (directory / "batches").glob("shard-*.json"))


def configuration(url: str, kind: str, directory: Path) -> dict[str, object]:
    """Return a configuration that uses the batch lane and submits everything at once."""
    return {
        "dataset": {"path": "data.jsonl", "keep": ["category"]},
        "judge": {"model": "judge", **KINDS[kind]},
        "service": {"base_url": f"{url}/v1", "token_env": None, "batch": True},
        "router": {"mode": "batch"},
        "batch": {"parallel": 1000, "poll": {"first": 0.1, "ceiling": 1}},
        "output": {"directory": str(directory)},
        "monitor": {"progress": False},
    }


def write_dataset(path: Path, count: int) -> None:
    """Write a dataset with this number of pairs."""
    chance = random.Random(1)
    words = "天空为什么是蓝色的因为空气散射短波光线比长波多得多所以我们看到蓝天而日落时光线穿过更厚的大气层"
    texts = ["".join(chance.choices(words, k=chance.randint(60, 200))) for _ in range(TEXTS)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = {"id": f"s{number}", "question": f"问题 {number}", "category": f"c{number % 7}"}
            row |= {"answer1": texts[number % TEXTS], "answer2": texts[(7 * number + 3) % TEXTS]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def answers(kind: str) -> list[str]:
    """Return judge texts as JSON strings."""
    chance = random.Random(2)
    texts = []
    for _ in range(TEXTS):
        winner, one, two = chance.randint(1, 2), chance.randint(1, 5), chance.randint(1, 5)
        if kind == "template":
            words = " ".join(chance.choices(("the", "answer", "is", "clear", "and", "right", "but", "short"), k=90))
            texts.append(f"{words}\n\n[[{'AB'[winner - 1]}]]")
            continue
        body = "".join(
            f"{n + 1}. {name}:回复1的内容与问题相符,因此得分为[[{chance.randint(1, 5)}]]。回复2有一些遗漏,因此得分为"
            f"[[{chance.randint(1, 5)}]]。\n"
            for n, name in enumerate(CRITERIA)
        )
        opening = f"我认为[[回复{winner}更好]],其中回复1的综合评分为[[{one}]],回复2的综合评分为[[{two}]],理由如下:\n"
        texts.append(opening + body)
    return [json.dumps(text, ensure_ascii=False) for text in texts]


class Service:
    """A batch service whose results are available at once; nothing is judged."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.done = False
        self.url = ""
        self._texts = answers(kind)
        self._runner: web.AppRunner | None = None
        self._batches: dict[str, dict[str, object]] = {}

    async def __aenter__(self) -> Service:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.post("/v1/files", self._upload),
                web.post("/v1/batches", self._create),
                web.get("/v1/batches/{id}", self._get_batch),
                web.get("/v1/files/{id}/content", self._content),
                web.delete("/v1/files/{id}", self._delete),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _upload(self, request: web.Request) -> web.Response:
        """Write an answer to every line into a result file, in another order."""
        form = await request.post()
        field = form["file"]
        assert isinstance(field, web.FileField)
        ids = re.findall(rb'^\{"custom_id":"([^"]+)"', field.file.read(), re.MULTILINE)
        random.Random(3).shuffle(ids)
        key = f"file-{len(list(self.folder.iterdir()))}"
        with (self.folder / key).open("w", encoding="utf-8") as out:
            out.writelines(self._line(custom_id.decode()) for custom_id in ids)
        return web.json_response({"id": key, "object": "file"})

    def _line(self, custom_id: str) -> str:
        text = self._texts[int(custom_id.partition("-")[0]) % TEXTS]
        return (
            f'{{"id":"r-{custom_id}","custom_id":"{custom_id}","response":{{"status_code":200,"request_id":"r","body":'
            f'{{"created":1737446797,"usage":{{"completion_tokens":257,"prompt_tokens":790,"total_tokens":1047}},'
            f'"model":"judge","id":"chatcmpl-{custom_id}","choices":[{{"finish_reason":"stop","index":0,"message":'
            f'{{"content":{text}}}}}],"object":"chat.completion"}}}},"error":null}}\n'
        )

    async def _create(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        key = f"batch_{len(self._batches)}"
        self._batches[key] = {"id": key, "input_file_id": body["input_file_id"], "status": "Running"}
        return web.json_response(self._batches[key])

    async def _get_batch(self, request: web.Request) -> web.Response:
        batch = dict(self._batches[request.match_info["id"]])
        if self.done:
            batch |= {"status": "Succeeded", "output_file_id": batch["input_file_id"]}
        return web.json_response(batch)

    async def _content(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(self.folder / request.match_info["id"])

    async def _delete(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.match_info["id"], "deleted": True})


def loop(folder: Path, kind: str) -> None:
    """Run the plain loop over the result files of a folder."""
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    verdict = re.compile(r"\[\[([ABC])\]\]" if kind == "template" else r"\[\[回复([12])更好\]\]")
    score = re.compile(r"\[\[(\d)\]\]")
    texts = ("custom_id", "winner", "response", "finish_reason", "response_id")
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    schema = pa.schema(
        [(n, pa.string()) for n in texts] + [(n, pa.int32()) for n in counts] + [("scores", pa.list_(pa.int8()))]
    )
    with pq.ParquetWriter(folder.parent / "loop.parquet", schema, compression="zstd") as out:
        rows = []
        for path in sorted(folder.iterdir()):
            with path.open("rb") as lines:
                for line in lines:
                    found = orjson.loads(line)
                    body = found["response"]["body"]
                    text = body["choices"][0]["message"]["content"]
                    match = verdict.search(text)
                    rows.append(
                        {
                            "custom_id": found["custom_id"],
                            "winner": match[1] if match else None,
                            "response": text,
                            "finish_reason": body["choices"][0]["finish_reason"],
                            "response_id": body["id"],
                            "scores": [int(n) for n in score.findall(text)],
                            **body["usage"],
                        }
                    )
                    if len(rows) == 10_000:
                        out.write_table(pa.Table.from_pylist(rows, schema))
                        rows = []
        if rows:
            out.write_table(pa.Table.from_pylist(rows, schema))


if __name__ == "__main__":
    main()
