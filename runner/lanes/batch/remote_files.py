"""Our files at the service: deleting them, and making room for new ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from runner.errors import RunStopped, ServiceError
from runner.lanes.batch.api import BatchApi, storage_full
from runner.lanes.batch.ledger import Ledger, Shard

log = logging.getLogger(__name__)


class RemoteFiles:
    """The files of this run at the service.

    Args:
        ledger: knows which of them are finished with.
        api: of the service at a shard's address.
    """

    def __init__(self, ledger: Ledger, api: Callable[[Shard], BatchApi]) -> None:
        self._ledger = ledger
        self._api = api

    async def delete(self, shard: Shard, ids: Iterable[str]) -> int:
        """Delete files of a shard; how many are gone. That the service does not let us is no reason to stop."""
        gone = 0
        for file_id in ids:
            try:
                await self._api(shard).delete(file_id)
                gone += 1
            except ServiceError as error:
                log.warning("file %s stays at the service: %s", file_id, error)
        return gone

    async def upload_into_room(self, shard: Shard, full: ServiceError) -> str:
        """Delete what is finished with and upload once more; raises RunStopped where that does not help."""
        deleted = 0
        for other in list(self._ledger.shards.values()):
            if not other.is_open and other.kept_files and other.endpoint_key == shard.endpoint_key:
                kept = [file_id for file_id in other.kept_files if not await self.delete(other, (file_id,))]
                deleted += len(other.kept_files) - len(kept)
                self._ledger.save(msgspec.structs.replace(other, kept_files=tuple(kept)))
        if deleted:
            log.warning("the account is full (%s): deleted %d finished files of this run there", full, deleted)
            try:
                return await self._api(shard).upload(self._ledger.requests(shard.number))
            except ServiceError as error:
                if not storage_full(error):
                    raise
                full = error
        raise RunStopped(
            "storage",
            f"the service takes no more files: {full}. Deleted {deleted} finished files of this run there, all it "
            "had; delete others, then run the same command again",
            exit_code=3,
        )
