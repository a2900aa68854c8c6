"""Compare the lines that a service counts with those that it handed out. Pure functions only."""

from __future__ import annotations

import msgspec

from runner.lanes.batch.ledger import Shard


class MissingLines(msgspec.Struct, frozen=True):
    """Lines of a batch's results that are not in its files.

    Attributes:
        lines: how many.
        answers: how many of them are answers, which are paid for, as far as the service's counts tell.
    """

    lines: int = 0
    answers: int = 0


def missing_lines(shard: Shard, answered: int, failed: int, cut_files: int, strange: int = 0) -> MissingLines:
    """Return what is missing in the files of a shard.

    A count that is larger than the shard counts something else, and is not used. Files without one line about a request
    of the shard lack all of them, unless the service says that none was answered: they may be compressed, an array, or
    another batch's.

    Args:
        shard: with the service's counts as it ended.
        answered: requests with an answer in the files, or with a row that an earlier download gave them.
        failed: requests with any other line in the files.
        cut_files: files that end within a line.
        strange: lines about no request of the shard.
    """
    if answered + failed >= shard.requests:
        return MissingLines()
    if answered + failed == 0 and may_hide_answers(shard, strange):
        return MissingLines(shard.requests, shard.requests)
    counted = shard.finished if shard.finished <= shard.requests else 0
    lines = max(0, counted - answered - failed)
    failures = max(0, shard.failed - failed)
    return MissingLines(max(lines, cut_files), max(0, lines - failures))


def may_hide_answers(shard: Shard, strange: int) -> bool:
    """Return True if a batch may have answers although its files have no line about any of its requests."""
    if 0 < shard.finished <= shard.failed:
        return False
    return shard.ended == "completed" or (strange > 0 and shard.output_file_id is not None)
