"""What judge-runner itself spends on one request, step by step, without the network.

    python benchmarks/request_path.py

Prints microseconds of CPU time a step (the best of several rounds) on packaged samples and emulator texts, and their
sum: what a run adds to the HTTP call. Absolute figures are this machine's; compare steps and versions, not machines.
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
ROUNDS, CALLS, BATCH = 7, 400, 64
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
        checked = check_inputs(load_config(folder / "quickstart.yaml"))
        steps = measure(checked)
    for name, micros in steps.items():
        print(f"{name:<42}{micros:8.2f} us")
    print(f"{'sum':<42}{sum(steps.values()):8.2f} us")


def measure(checked: RunInputs) -> dict[str, float]:
    """Microseconds of each step of a request's life, in its order."""
    raws = [raw for chunk in chunks(checked.files) for raw in chunk]
    samples = [checked.reader.sample(raw) for raw in raws]
    requests = [checked.panel.request(sample, 0) for sample in samples]
    replies = replies_to([request.body for request in requests])
    responses = [read_completion(reply) for reply in replies]
    verdicts = [checked.panel.read(*pair) for pair in zip(requests, responses, strict=True)]
    asked = [
        RequestResult(response, verdict, 1, response.usage, 0.25, "online")
        for response, verdict in zip(responses, verdicts, strict=True)
    ]
    rows = [make_row(request, SHARED, came, None) for request, came in zip(requests, asked, strict=True)]
    batch = list(islice(cycle(rows), BATCH))
    counts = RowCounts()
    read, judged = list(zip(requests, responses, strict=True)), list(zip(requests, asked, strict=True))
    lines = [encode_row(row) for row in rows]
    with tempfile.TemporaryFile() as journal:
        return {
            "read the dataset's row": best(checked.reader.sample, raws),
            "make the request": best(lambda sample: checked.panel.request(sample, 0), samples),
            "read the reply": best(read_completion, replies),
            "read the verdict": best(lambda pair: checked.panel.read(*pair), read),
            "make and count the row": best(lambda pair: counts.add(make_row(pair[0], SHARED, pair[1], None)), judged),
            "encode it for the journal": best(encode_row, rows),
            "hand it to the operating system": best(lambda line: os.write(journal.fileno(), line), lines),
            "turn it into Arrow": best(lambda these: to_batch(these, checked.schema), [batch]) / BATCH,
        }


def replies_to(bodies: list[bytes]) -> list[bytes]:
    """What the emulator answers to these bodies."""

    def ask(url: str, body: bytes) -> bytes:
        with urllib.request.urlopen(f"{url}/v1/chat/completions", body, timeout=10) as reply:
            return bytes(reply.read())

    async def ask_all() -> list[bytes]:
        async with await start(EmulatorOptions()) as emulator:
            return [await asyncio.to_thread(ask, emulator.url, body) for body in bodies]

    return asyncio.run(ask_all())


def best(step: Callable[[Item], object], items: Sequence[Item]) -> float:
    """Microseconds of CPU time a call, the best of several rounds."""
    rounds = []
    for _ in range(ROUNDS):
        work = list(islice(cycle(items), CALLS))
        began = time.process_time()
        for item in work:
            step(item)
        rounds.append((time.process_time() - began) / CALLS * 1e6)
    return min(rounds)


if __name__ == "__main__":
    main()
