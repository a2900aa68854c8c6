"""Finds ids of samples that are the ordinal of another sample, where a missing id was replaced by the ordinal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_BATCH_ROWS = 65_536
_ORDINAL = r"\A(?:0|[1-9][0-9]{0,17})\z"


class SharedIds(NamedTuple):
    """Ids that belong to a sample whose ordinal they are, and to another sample.

    Attributes:
        number: how many there are.
        example: the lowest of them.
    """

    number: int
    example: str

    def described(self) -> str:
        """A sentence for the end of a run."""
        which = f"the sample_id {self.example} belongs" if self.number == 1 else f"{self.number:,} ids belong"
        such = "" if self.number == 1 else f", such as {self.example}"
        return (
            f"{which} to several samples{such}: one has it as its ordinal, which is the id of a row without one; "
            "a join by sample_id mixes them; `ordinal` tells them apart"
        )


def find_shared_ids(samples: Path) -> SharedIds | None:
    """Find the ids that are the ordinal of a sample that has it as its id, and the id of another sample.

    Memory: eight bytes for each sample whose id is its ordinal, if there are others.

    Args:
        samples: the path of samples.parquet.
    """
    with pq.ParquetFile(samples) as table:
        count, own = 0, []
        for ids, ordinals in _numbered(table):
            count += len(ids)
            own.append(ids.filter(pc.equal(ids, ordinals)))
        stand_ins = pa.chunked_array(own, pa.int64()).combine_chunks()
        if len(stand_ins) in (0, count):
            return None
        shared = set[int]()
        for ids, ordinals in _numbered(table):
            others = ids.filter(pc.not_equal(ids, ordinals))
            shared.update(others.filter(pc.is_in(others, value_set=stand_ins)).to_pylist())
    return SharedIds(len(shared), str(min(shared))) if shared else None


def _numbered(table: pq.ParquetFile) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Yield the ids that can be ordinals, as numbers, and the ordinals of their samples."""
    for batch in table.iter_batches(_BATCH_ROWS, columns=["sample_id", "ordinal"], use_threads=False):
        rows = batch.filter(pc.match_substring_regex(batch["sample_id"], _ORDINAL))
        yield rows["sample_id"].cast(pa.int64()), rows["ordinal"]
