"""The price of tokens."""

from __future__ import annotations

from typing import Protocol

from runner.types import Usage


class Price(Protocol):
    """Returns the cost of a request's tokens on its route; None if the tokens or the price are unknown."""

    def __call__(self, usage: Usage, route: str | None) -> float | None: ...


def price_of(input_price: float, output_price: float, per: float, batch: float = 1.0) -> Price:
    """Return a price by token counts.

    Args:
        input_price: price of `per` prompt tokens.
        output_price: price of `per` completion tokens.
        per: the number of tokens that both prices are for.
        batch: factor on both prices if the route is `batch`.
    """

    def price(usage: Usage, route: str | None) -> float | None:
        if usage.prompt is None and usage.completion is None:
            return None
        cost = ((usage.prompt or 0) * input_price + (usage.completion or 0) * output_price) / per
        return cost * batch if route == "batch" else cost

    return price


def no_price(usage: Usage, route: str | None) -> float | None:  # noqa: ARG001 - the shape of a Price
    """The price if the YAML gives none: always unknown."""
    return None
