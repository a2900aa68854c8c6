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


def missing_lines(shard: Shard, answered: int, failed: int, cut_files: int) -> MissingLines:
    """Return what is missing in the files of a shard.

    A count that is larger than the shard counts something else, and is not used.

    Args:
        shard: with the service's counts as it ended.
        answered: requests with an answer in the files, or with a row that an earlier download gave them.
        failed: requests with any other line in the files.
        cut_files: files that end within a line.
    """
    if answered + failed >= shard.requests:
        return MissingLines()
    counted = shard.finished if shard.finished <= shard.requests else 0
    lines = max(0, counted - answered - failed)
    failures = max(0, shard.failed - failed)
    return MissingLines(max(lines, cut_files), max(0, lines - failures))
