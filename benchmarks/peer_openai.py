"""A typical judge loop on the openai package: a fixed number of workers, and the package's own retries."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import openai
import uvloop
from common import PROMPT, VERDICT, raise_file_limit


async def judge(base_url: str, data: Path, out: Path, concurrency: int) -> None:
    """Send a request for each sample; a sample that the package gives up has no line."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=10, timeout=120) as client:
        with data.open("rb") as lines, (out / "answers.jsonl").open("w", encoding="utf-8") as file:

            async def work() -> None:
                for line in lines:
                    sample = json.loads(line)
                    try:
                        answer = await client.chat.completions.create(
                            model="judge", messages=[{"role": "user", "content": PROMPT.format_map(sample)}]
                        )
                    except openai.OpenAIError:
                        continue
                    content = answer.choices[0].message.content or ""
                    found = VERDICT.search(content)
                    row = {"id": sample["id"], "winner": found and found[1], "response": content}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")

            await asyncio.gather(*(work() for _ in range(concurrency)))


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
