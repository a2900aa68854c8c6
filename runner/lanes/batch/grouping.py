"""Group variants that can share a shard, and pick the endpoint of each group's next shard."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# Shards of these dialects may mix models, and their lines carry no method and url.
DIALECTS_WITHOUT_URL = frozenset({"pai"})


class BatchEndpoint(msgspec.Struct, frozen=True):
    """A service with a Batch API: its name, its base URL, and the dialect that it speaks."""

    service: str
    base_url: str
    dialect: str


class ShardGroup:
    """Requests that may share a shard. Its shards go to its endpoints in turn.

    Args:
        endpoints: the services that may answer, in order.
        model: the model of all its requests; empty if they may differ.
        shard_count: shards that the run has already; the turn continues after them.
    """

    def __init__(self, endpoints: Sequence[BatchEndpoint], model: str, shard_count: int = 0) -> None:
        self.endpoints = tuple(endpoints)
        self.model = model
        self._shard_count = shard_count

    def next_endpoint(self) -> BatchEndpoint:
        """Return the endpoint of the next shard."""
        endpoint = self.endpoints[self._shard_count % len(self.endpoints)]
        self._shard_count += 1
        return endpoint


def group_variants(
    endpoints: Sequence[Sequence[BatchEndpoint]], models: Sequence[str], shard_count: int = 0
) -> list[ShardGroup]:
    """Return the group of each judge; judges with the same endpoints share one, if models may be mixed there.

    Args:
        endpoints: for each judge, the services that may answer by batch; at least one.
        models: for each judge, its model.
        shard_count: shards that the run has already. The turn continues after them, so that requests which one
            service did not answer go to the next one.
    """
    groups: dict[tuple[tuple[BatchEndpoint, ...], str], ShardGroup] = {}
    by_judge = []
    for judge_endpoints, model in zip(map(tuple, endpoints), models, strict=True):
        mixes_models = all(endpoint.dialect in DIALECTS_WITHOUT_URL for endpoint in judge_endpoints)
        key = (judge_endpoints, "" if mixes_models else model)
        by_judge.append(groups.setdefault(key, ShardGroup(*key, shard_count)))
    return by_judge
