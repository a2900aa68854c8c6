"""Delete the run's uploaded files, and free storage if the service is full."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import msgspec

from runner.errors import RunStopped, ServiceError
from runner.lanes.batch.api import BatchApi
from runner.lanes.batch.ledger import Ledger, Shard
from runner.lanes.batch.refusals import storage_full
from runner.lanes.batch.replies import UploadedFile

log = logging.getLogger(__name__)


class RemoteFiles:
    """The files of this run at the services.

    Args:
        ledger: says which files are no longer needed.
        api: returns the API of the service that has a shard.
    """

    def __init__(self, ledger: Ledger, api: Callable[[Shard], BatchApi]) -> None:
        self._ledger = ledger
        self._api = api

    async def delete(self, shard: Shard, ids: Iterable[str]) -> int:
        """Delete files of a shard and return how many are gone. A refused deletion is logged and does not stop the run.

        Raises RunStopped and Drained.
        """
        deleted = 0
        for file_id in ids:
            try:
                await self._api(shard).delete(file_id)
                deleted += 1
            except ServiceError as error:
                log.warning("file %s stays at the service: %s", file_id, error)
        return deleted

    async def free_and_upload(self, shard: Shard, full: ServiceError) -> UploadedFile:
        """Delete the files of closed shards, and upload the shard once more.

        Raises RunStopped if the account is still full, and ServiceError if the upload is refused for another reason.
        """
        deleted = 0
        for other in list(self._ledger.shards.values()):
            is_done = not other.is_open and not other.missing
            if is_done and other.kept_files and other.endpoint_key == shard.endpoint_key:
                kept = [file_id for file_id in other.kept_files if not await self.delete(other, (file_id,))]
                deleted += len(other.kept_files) - len(kept)
                self._ledger.save(msgspec.structs.replace(other, kept_files=tuple(kept)))
        if deleted:
            log.warning("the account is full (%s): deleted %d finished files of this run there", full, deleted)
            try:
                return await self._api(shard).upload(self._ledger.requests(shard.number), shard.upload_name)
            except ServiceError as error:
                if not storage_full(error):
                    raise
                full = error
        raise RunStopped(
            "storage",
            f"the service accepts no more files: {full}. Deleted {deleted} finished files of this run there, and "
            "it has no more; delete other files, then run the same command again",
            exit_code=3,
        )
