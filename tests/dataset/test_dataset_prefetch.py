"""Many workers pull from one feed; every row goes to one of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import chain

import pytest

from runner.dataset import Prefetcher, RawRow
from runner.errors import DatasetError

WORKERS = 7


def row(ordinal: int) -> RawRow:
    return RawRow(ordinal, "a.jsonl", ordinal + 1, b"{}", 2)


def source(chunks: list[list[int]], closed: threading.Event | None = None) -> Iterator[list[RawRow]]:
    try:
        for chunk in chunks:
            yield [row(ordinal) for ordinal in chunk]
    finally:
        if closed is not None:
            closed.set()


async def pull(feed: Prefetcher) -> list[int]:
    got = []
    while (taken := feed.next_now() or await feed.next()) is not None:
        got.append(taken.ordinal)
        await asyncio.sleep(0)
    return got


def test_each_row_goes_to_one_worker_in_order() -> None:
    chunks = [[0], [], [1, 2, 3], list(range(4, 300))]

    async def main() -> list[list[int]]:
        async with Prefetcher(source(chunks)) as feed:
            return list(await asyncio.gather(*(pull(feed) for _ in range(WORKERS))))

    shares = asyncio.run(main())
    assert sorted(chain.from_iterable(shares)) == list(range(300))
    assert all(share == sorted(share) for share in shares)


def test_take_awaits_nothing_and_refill_tells_the_end() -> None:
    async def main() -> None:
        async with Prefetcher(source([[0, 1]])) as feed:
            assert feed.next_now() is None
            assert await feed.fill()
            assert [taken.ordinal for _ in range(2) if (taken := feed.next_now())] == [0, 1]
            assert not await feed.fill()
            assert await feed.next() is None

    asyncio.run(main())


def test_a_read_error_reaches_every_worker() -> None:
    def broken() -> Iterator[list[RawRow]]:
        yield [row(0)]
        raise DatasetError("a.jsonl: cannot be read to its end")

    async def main() -> list[object]:
        async with Prefetcher(broken()) as feed:
            first = await feed.next()
            assert first is not None
            return list(await asyncio.gather(*(feed.next() for _ in range(3)), return_exceptions=True))

    assert [type(result) for result in asyncio.run(main())] == [DatasetError] * 3


def test_leaving_closes_the_generator_in_its_thread() -> None:
    closed = threading.Event()

    async def main() -> None:
        async with Prefetcher(source([[0], [1], [2], [3]], closed)) as feed:
            await feed.next()

    asyncio.run(main())
    assert closed.wait(10)


def test_a_cancelled_worker_takes_nothing_from_the_others() -> None:
    gate = threading.Event()

    def slow() -> Iterator[list[RawRow]]:
        gate.wait(10)
        yield [row(0)]

    async def main() -> RawRow | None:
        async with Prefetcher(slow()) as feed:
            leaving = asyncio.create_task(feed.next())
            staying = asyncio.create_task(feed.next())
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0)
            gate.set()
            return await staying

    taken = asyncio.run(main())
    assert taken is not None
    with pytest.raises(AttributeError):
        taken.ordinal = 5  # type: ignore[misc]
