"""Which requests may share an upload file, and which service the next file goes to."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

DIALECTS_WITHOUT_URL = frozenset({"pai"})
"""Dialects whose files may mix models, and whose lines carry no method and url."""


class BatchEndpoint(msgspec.Struct, frozen=True):
    """A service that takes files: its name, where it stands, whose words it speaks."""

    service: str
    base_url: str
    dialect: str


class ShardGroup:
    """Requests that may stand in one file; its files go to its services in turn.

    Attributes:
        endpoints: who may be asked, in this order.
        model: of all its requests; empty where they may differ.
    """

    def __init__(self, endpoints: Sequence[BatchEndpoint], model: str, begun: int = 0) -> None:
        self.endpoints = tuple(endpoints)
        self.model = model
        self._begun = begun

    def next_endpoint(self) -> BatchEndpoint:
        """Who gets the file that is begun now."""
        site = self.endpoints[self._begun % len(self.endpoints)]
        self._begun += 1
        return site


def group_variants(
    endpoints: Sequence[Sequence[BatchEndpoint]], models: Sequence[str], begun: int = 0
) -> list[ShardGroup]:
    """For each judge, the pile its requests go onto.

    Args:
        endpoints: for each judge, the services that may be asked by batch; at least one.
        models: for each judge, its model.
        begun: how many files there were before: what one service left unanswered goes on to the next.
    """
    made: dict[tuple[tuple[BatchEndpoint, ...], str], ShardGroup] = {}
    found = []
    for places, model in zip(map(tuple, endpoints), models, strict=True):
        mixes = all(site.dialect in DIALECTS_WITHOUT_URL for site in places)
        key = (places, "" if mixes else model)
        found.append(made.setdefault(key, ShardGroup(*key, begun)))
    return found
