"""Measure the CPU time that judge-runner itself spends on one request, step by step, without the network.

    python benchmarks/request_path.py

Prints the microseconds of each step (the best of several rounds) on the packaged samples and the emulator's texts, and
their sum: what a run adds to the HTTP call. Compare steps and versions, not machines.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib import resources
from itertools import cycle, islice
from typing import TypeVar

from runner.config import load_config
from runner.dataset import chunks
from runner.emulator import EmulatorOptions
from runner.emulator.http.server import start
from runner.planning import RunInputs, check_inputs
from runner.results import RowCounts, encode_row
from runner.results.schema import make_row, to_batch
from runner.service import read_completion
from runner.types import RequestResult

Item = TypeVar("Item")
ROUNDS, CALLS, BATCH_ROWS = 7, 400, 64
SHARED = {
    "judge": "judge",
    "judge_model": "pai-judge",
    "kind": "pai_pairwise",
    "service": "default",
    "swapped": False,
    "repeat": 0,
}


def main() -> None:
    """Measure every step and print the table."""
    gc.freeze()
    gc.disable()
    with resources.as_file(resources.files("runner.packaged")) as folder:
        inputs = check_inputs(load_config(folder / "quickstart.yaml"))
        steps = measure(inputs)
    for name, micros in steps.items():
        print(f"{name:<42}{micros:8.2f} us")
    print(f"{'sum':<42}{sum(steps.values()):8.2f} us")


def measure(inputs: RunInputs) -> dict[str, float]:
    """Return the microseconds of each step of a request, in order."""
    raws = [raw for chunk in chunks(inputs.files) for raw in chunk]
    samples = [inputs.reader.sample(raw) for raw in raws]
    requests = [inputs.panel.request(sample, 0) for sample in samples]
    replies = replies_to([request.body for request in requests])
    responses = [read_completion(reply) for reply in replies]
    verdicts = [inputs.panel.read(*pair) for pair in zip(requests, responses, strict=True)]
    results = [
        RequestResult(response, verdict, 1, response.usage, 0.25, "online")
        for response, verdict in zip(responses, verdicts, strict=True)
    ]
    rows = [make_row(request, SHARED, result, None) for request, result in zip(requests, results, strict=True)]
    batch = list(islice(cycle(rows), BATCH_ROWS))
    counts = RowCounts()
    to_parse, to_store = list(zip(requests, responses, strict=True)), list(zip(requests, results, strict=True))
    lines = [encode_row(row) for row in rows]
    with tempfile.TemporaryFile() as journal:
        return {
            "read the dataset's row": best(inputs.reader.sample, raws),
            "make the request": best(lambda sample: inputs.panel.request(sample, 0), samples),
            "parse the response": best(read_completion, replies),
            "parse the verdict": best(lambda pair: inputs.panel.read(*pair), to_parse),
            "make and count the row": best(lambda pair: counts.add(make_row(pair[0], SHARED, pair[1], None)), to_store),
            "encode it for the journal": best(encode_row, rows),
            "write it to the journal file": best(lambda line: os.write(journal.fileno(), line), lines),
            "convert it to Arrow": best(lambda several: to_batch(several, inputs.schema), [batch]) / BATCH_ROWS,
        }


def replies_to(bodies: list[bytes]) -> list[bytes]:
    """Return the emulator's responses to these bodies."""

    def send(url: str, body: bytes) -> bytes:
        with urllib.request.urlopen(f"{url}/v1/chat/completions", body, timeout=10) as reply:
            return bytes(reply.read())

    async def send_all() -> list[bytes]:
        async with await start(EmulatorOptions()) as emulator:
            return [await asyncio.to_thread(send, emulator.url, body) for body in bodies]

    return asyncio.run(send_all())


def best(step: Callable[[Item], object], items: Sequence[Item]) -> float:
    """Return the CPU microseconds of one call, the best of several rounds."""
    rounds = []
    for _ in range(ROUNDS):
        work = list(islice(cycle(items), CALLS))
        started = time.process_time()
        for item in work:
            step(item)
        rounds.append((time.process_time() - started) / CALLS * 1e6)
    return min(rounds)


if __name__ == "__main__":
    main()
