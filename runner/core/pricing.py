"""What tokens cost."""

from __future__ import annotations

from typing import Protocol

from runner.types import Usage


class Price(Protocol):
    """What the tokens of a request cost on its route; None where the tokens or the price are not known."""

    def __call__(self, usage: Usage, route: str | None) -> float | None: ...


def price_of(input_price: float, output_price: float, per: float, batch: float = 1.0) -> Price:
    """Price by tokens: `input_price` and `output_price` per `per` tokens, times `batch` on that route."""

    def price(usage: Usage, route: str | None) -> float | None:
        if usage.prompt is None and usage.completion is None:
            return None
        cost = ((usage.prompt or 0) * input_price + (usage.completion or 0) * output_price) / per
        return cost * batch if route == "batch" else cost

    return price


def no_price(usage: Usage, route: str | None) -> float | None:  # noqa: ARG001 - the shape of a Price
    """Where the YAML names no price."""
    return None
