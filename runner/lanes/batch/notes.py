"""What a person should hear about the batches of a run at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runner.core import counted
from runner.lanes.batch.ledger import Ledger

MAX_REASONS = 3


def failed_batches(ledger: Ledger) -> Iterator[str]:
    """Yield why batches failed as a whole or were refused, the commonest reasons first, a sentence each."""
    failed = [shard for shard in ledger.shards.values() if shard.ended == "failed"]
    reasons = Counter(shard.reason for shard in failed).most_common()
    for reason, count in reasons[:MAX_REASONS]:
        requests = sum(shard.requests for shard in failed if shard.reason == reason)
        batches = counted(count, "batch", "batches")
        yield f"{batches} with {counted(requests, 'request', 'requests')} failed: {reason or 'no reason was given'}"
    if len(reasons) > MAX_REASONS:
        yield f"batches failed for {len(reasons) - MAX_REASONS} more reasons: see run.log"
