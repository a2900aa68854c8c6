"""Several workers share one prefetcher; each row goes to exactly one worker."""

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


async def take_all(prefetcher: Prefetcher) -> list[int]:
    ordinals = []
    while (taken := prefetcher.next_now() or await prefetcher.next()) is not None:
        ordinals.append(taken.ordinal)
        await asyncio.sleep(0)
    return ordinals


def test_each_row_goes_to_one_worker_in_order() -> None:
    chunks = [[0], [], [1, 2, 3], list(range(4, 300))]

    async def main() -> list[list[int]]:
        async with Prefetcher(source(chunks)) as prefetcher:
            return list(await asyncio.gather(*(take_all(prefetcher) for _ in range(WORKERS))))

    taken_by_worker = asyncio.run(main())
    assert sorted(chain.from_iterable(taken_by_worker)) == list(range(300))
    assert all(ordinals == sorted(ordinals) for ordinals in taken_by_worker)


def test_next_now_does_not_wait_and_fill_reports_the_end() -> None:
    async def main() -> None:
        async with Prefetcher(source([[0, 1]])) as prefetcher:
            assert prefetcher.next_now() is None
            assert await prefetcher.fill()
            assert [taken.ordinal for _ in range(2) if (taken := prefetcher.next_now())] == [0, 1]
            assert not await prefetcher.fill()
            assert await prefetcher.next() is None

    asyncio.run(main())


def test_a_read_error_reaches_every_worker() -> None:
    def failing_source() -> Iterator[list[RawRow]]:
        yield [row(0)]
        raise DatasetError("a.jsonl: cannot be read to its end")

    async def main() -> list[object]:
        async with Prefetcher(failing_source()) as prefetcher:
            first = await prefetcher.next()
            assert first is not None
            return list(await asyncio.gather(*(prefetcher.next() for _ in range(3)), return_exceptions=True))

    assert [type(result) for result in asyncio.run(main())] == [DatasetError] * 3


def test_leaving_the_context_closes_the_source() -> None:
    closed = threading.Event()

    async def main() -> None:
        async with Prefetcher(source([[0], [1], [2], [3]], closed)) as prefetcher:
            await prefetcher.next()

    asyncio.run(main())
    assert closed.wait(10)


def test_a_cancelled_worker_loses_no_row_of_another() -> None:
    may_read = threading.Event()

    def slow_source() -> Iterator[list[RawRow]]:
        may_read.wait(10)
        yield [row(0)]

    async def main() -> RawRow | None:
        async with Prefetcher(slow_source()) as prefetcher:
            cancelled = asyncio.create_task(prefetcher.next())
            waiting = asyncio.create_task(prefetcher.next())
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.sleep(0)
            may_read.set()
            return await waiting

    taken = asyncio.run(main())
    assert taken is not None
    with pytest.raises(AttributeError):
        taken.ordinal = 5  # type: ignore[misc]
