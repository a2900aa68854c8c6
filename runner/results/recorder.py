"""From request and outcome to a row that is kept: priced, counted, handed to the sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runner.results.resume import Counts
from runner.results.schema import Asked, make_row
from runner.results.sink import Sink
from runner.types import JudgeRequest, Row, Usage

Price = Callable[[Usage], float | None]
"""What the tokens of a request cost; None where the tokens or the price are not known."""


class Recorder:
    """Takes what each request came to.

    Args:
        sink: where the rows go.
        shared: for each variant, the columns that all its rows share.
        prices: for each variant, what its tokens cost.
        counts: of the rows there are; kept up to date.
        earlier: attempts, tokens and cost of rows that are replaced, by custom_id.
    """

    def __init__(
        self,
        sink: Sink,
        shared: Sequence[Mapping[str, Any]],
        prices: Sequence[Price],
        counts: Counts,
        earlier: Mapping[str, Row],
    ) -> None:
        self.counts = counts
        self._sink = sink
        self._shared = shared
        self._prices = prices
        self._earlier = earlier

    def record(self, request: JudgeRequest, asked: Asked) -> None:
        """Write one row; when this returns, SIGKILL does not lose it. Raises RunStopped where it cannot be written."""
        cost = self._prices[request.variant](asked.usage)
        earlier = self._earlier.get(request.custom_id) if self._earlier else None
        row = make_row(request, self._shared[request.variant], asked, cost, earlier)
        self._sink.append(row)
        self.counts.add(row)

    async def room(self) -> None:
        """Wait while the disk is behind."""
        await self._sink.room()


def price_of(input_price: float, output_price: float, per: float, factor: float = 1.0) -> Price:
    """Price by tokens: `input_price` and `output_price` per `per` tokens, times `factor`."""

    def price(usage: Usage) -> float | None:
        if usage.prompt is None and usage.completion is None:
            return None
        return factor * ((usage.prompt or 0) * input_price + (usage.completion or 0) * output_price) / per

    return price


def no_price(_: Usage) -> float | None:
    """Where the YAML names no price."""
    return None
