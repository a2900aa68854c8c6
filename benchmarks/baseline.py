"""The baseline: a minimal Python client that sends judge requests and writes the answers to Parquet.

It has no retries, limits, journal, resume or progress. What another client costs more is the price of its features.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import uvloop
from common import PROMPT, VERDICT, raise_file_limit

FIELDS = {"id": pa.string(), "winner": pa.string(), "response": pa.string(), "prompt_tokens": pa.int32()}
FIELDS |= {"completion_tokens": pa.int32(), "latency_s": pa.float64(), "finished_at": pa.float64()}
SCHEMA = pa.schema(list(FIELDS.items()))
GROUP_ROWS = 10_000


async def judge(base_url: str, data: Path, out: Path, concurrency: int) -> None:
    """Send one request for each sample; a sample without an answer has no row."""
    rows: list[tuple[object, ...]] = []
    url, timeout = f"{base_url}/chat/completions", aiohttp.ClientTimeout(total=120)
    writer = pq.ParquetWriter(out / "rows.parquet", SCHEMA, compression="zstd")
    with data.open("rb") as lines, writer as file, ThreadPoolExecutor(1) as pool:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:

            def write(group: list[tuple[object, ...]]) -> None:
                columns = zip(*group, strict=True)
                file.write_table(
                    pa.table([pa.array(*pair) for pair in zip(columns, FIELDS.values(), strict=True)], SCHEMA)
                )

            async def work() -> None:
                nonlocal rows
                for line in lines:
                    sample = orjson.loads(line)
                    messages = [{"role": "user", "content": PROMPT.format_map(sample)}]
                    body, started = orjson.dumps({"model": "judge", "messages": messages}), time.time()
                    try:
                        async with http.post(url, data=body, headers={"Content-Type": "application/json"}) as reply:
                            status, raw = reply.status, await reply.read()
                    except (aiohttp.ClientError, TimeoutError):
                        continue
                    if status != 200:
                        continue
                    answer, now = orjson.loads(raw), time.time()
                    content, usage = answer["choices"][0]["message"]["content"], answer["usage"]
                    found, tokens = VERDICT.search(content), (usage["prompt_tokens"], usage["completion_tokens"])
                    rows.append((sample["id"], found and found[1], content, *tokens, now - started, now))
                    if len(rows) == GROUP_ROWS:
                        group, rows = rows, []
                        pool.submit(write, group)

            await asyncio.gather(*(work() for _ in range(concurrency)))
        if rows:
            pool.submit(write, rows).result()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("base-url", "data", "out", "concurrency"):
        parser.add_argument(f"--{name}", required=True)
    given = parser.parse_args()
    raise_file_limit()
    uvloop.run(judge(given.base_url, Path(given.data), Path(given.out), int(given.concurrency)))


if __name__ == "__main__":
    main()
