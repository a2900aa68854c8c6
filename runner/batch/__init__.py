"""The batch lane: one shard at a time, answered by a job of the service."""
