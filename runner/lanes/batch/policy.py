"""What the configuration and the command line say about batches, as one value."""

from __future__ import annotations

import msgspec

from runner.config import BatchConfig, RetryConfig


class BatchPolicy(msgspec.Struct, frozen=True):
    """How the batch lane treats shards in this run.

    Attributes:
        batch: the YAML's `batch` section.
        retry: the YAML's `online.retry`; calls to Files and Batch are retried by it too.
        grace: seconds that calls in flight get when the lane is drained.
        detach: poll each batch once and leave it running.
        cancel: cancel every batch and submit none.
        resubmit_unknown: close shards that wait for a decision, so that their requests are sent again.
    """

    batch: BatchConfig
    retry: RetryConfig
    grace: float
    detach: bool = False
    cancel: bool = False
    resubmit_unknown: bool = False
