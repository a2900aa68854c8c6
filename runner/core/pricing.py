"""The price of tokens."""

from __future__ import annotations

from typing import Protocol

from runner.types import Usage


class Price(Protocol):
    """Returns the cost of a request's tokens on its route; None if the tokens or the price are unknown."""

    def __call__(self, usage: Usage, route: str | None) -> float | None: ...


def price_of(
    input_price: float, output_price: float, per: float, batch: float = 1.0, cached: float | None = None
) -> Price:
    """Return a price by token counts.

    Args:
        input_price: price of `per` prompt tokens.
        output_price: price of `per` completion tokens.
        per: the number of tokens that all prices are for.
        batch: factor on all prices if the route is `batch`.
        cached: price of `per` prompt tokens that the service had cached; None: the same as of the others.
    """
    cached_price = input_price if cached is None else cached

    def price(usage: Usage, route: str | None) -> float | None:
        if usage.prompt is None and usage.completion is None:
            return None
        prompt, completion = usage.prompt or 0, usage.completion or 0
        hits = min(usage.cached or 0, prompt)
        cost = ((prompt - hits) * input_price + hits * cached_price + completion * output_price) / per
        return cost * batch if route == "batch" else cost

    return price


def no_price(usage: Usage, route: str | None) -> float | None:  # noqa: ARG001 - the shape of a Price
    """The price if the YAML gives none: always unknown."""
    return None
