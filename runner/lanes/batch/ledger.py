"""The ledger: one small state file per shard, which says what has to be done with it next.

It is replaced atomically and is on the disk before each step that costs money, so that whoever comes after a crash
knows what may have happened.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from runner.core import TEMPORARY_SUFFIX, put_in_place, sync_directory, write_json
from runner.errors import RunDirectoryError
from runner.limits import Spend

log = logging.getLogger(__name__)

Step = Literal["upload", "create", "confirm", "poll", "download", "reconcile", "delete", "closed"]
"""What comes next. `confirm`: a create was sent, and what came of it is not known yet: the service is asked."""

Line = TypeVar("Line")

_NAME = re.compile(r"shard-(\d{5,})\.json")
_ANY = re.compile(r"\.?shard-(\d{5,})\.")


class Shard(msgspec.Struct, frozen=True, omit_defaults=True):
    """One upload file and the batch that is made of it.

    Attributes:
        number: counted from 0 within the run directory.
        step: what comes next.
        service: name of the service that answers it.
        base_url: where that service stood when the shard was begun; the batch stays there.
        requests: lines.
        size: bytes of the file.
        replaces: whether some of its requests have a row already, which the new one replaces.
        reserved: what it may take of the budget, until it is collected; None without a budget.
        input_file_id: the uploaded file.
        sent_at: when the last create was sent, by our clock (seconds since 1970).
        batch_id: the batch.
        created_at: when we first knew of the batch, by our clock.
        cancelled_at: when we asked for its cancellation, by our clock.
        word: the service's own word for its state, as last seen.
        finished: lines the service says it has finished, as last seen.
        ended: how the batch ended: `completed`, `failed`, `expired` or `cancelled`.
        reason: why it did, where the service says.
        output_file_id, error_file_id: its result files.
        answered: requests that got their row of it.
        stuck: why a person must decide what becomes of it; it is tried once more by every run.
        former: batches of this shard before this one.
        kept_files: ids at the service that are not deleted yet, though all is collected.
    """

    number: int
    step: Step
    service: str
    base_url: str
    requests: int
    size: int
    replaces: bool = False
    reserved: Spend | None = None
    input_file_id: str | None = None
    sent_at: float | None = None
    batch_id: str | None = None
    created_at: float | None = None
    cancelled_at: float | None = None
    word: str | None = None
    finished: int = 0
    ended: str | None = None
    reason: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    answered: int = 0
    stuck: str | None = None
    former: tuple[str, ...] = ()
    kept_files: tuple[str, ...] = ()

    @property
    def endpoint_key(self) -> tuple[str, str]:
        """Who has it: the service's name, and where it stood."""
        return self.service, self.base_url

    @property
    def is_open(self) -> bool:
        """Whether something is left to do with it."""
        return self.step != "closed"

    @property
    def is_collected(self) -> bool:
        """Whether every request that it answered has its row, and who got no answer is known."""
        return self.step in ("delete", "closed")

    @property
    def state(self) -> str:
        """Its state in one word for a person."""
        if self.stuck is not None:
            return "undecided"
        if self.step == "poll":
            return "cancelling" if self.cancelled_at is not None else "running"
        return {
            "upload": "uploading",
            "create": "creating",
            "confirm": "creating",
            "download": "collecting",
            "reconcile": "collecting",
            "delete": "collecting",
            "closed": self.ended or "closed",
        }[self.step]


class ShardEntry(msgspec.Struct, frozen=True, gc=False):
    """One request of a shard, as far as its row needs to know it once the answer is there."""

    custom_id: str
    request_hash: str
    sample_id: str
    ordinal: int
    columns: msgspec.Raw


class _Request(msgspec.Struct, gc=False):
    custom_id: str
    body: msgspec.Raw


class Ledger:
    """The folder `batches/` of a run directory.

    Attributes:
        shards: every shard by number, as it was last saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: dict[int, Shard] = {}
        if folder.is_dir():
            self._load()

    @property
    def open_shards(self) -> list[Shard]:
        """The shards with which something is left to do, in their order."""
        return [shard for shard in self.shards.values() if shard.is_open]

    @property
    def next_number(self) -> int:
        """The number of the next shard."""
        return max(self.shards, default=-1) + 1

    def by_state(self) -> dict[str, int]:
        """How many shards are in each state."""
        return dict(Counter(shard.state for shard in self.shards.values()))

    def answered_lines(self) -> int:
        """Lines that the service has finished and that are no rows yet."""
        return sum(max(0, shard.finished - shard.answered) for shard in self.open_shards)

    def jobs(self) -> list[dict[str, Any]]:
        """The open shards for who watches."""
        return [
            {
                "shard": shard.number,
                "batch_id": shard.batch_id,
                "state": shard.state,
                "word": shard.word,
                "requests": shard.requests,
                "finished": shard.finished,
                "created_at": shard.created_at,
                "age_s": None if shard.created_at is None else round(time.time() - shard.created_at, 1),
                "stuck": shard.stuck,
            }
            for shard in self.open_shards
        ]

    def save(self, shard: Shard) -> Shard:
        """Replace a shard's state file; when this returns, a power cut does not undo it. Raises OSError."""
        write_json(self._path(shard.number, "json"), msgspec.to_builtins(shard))
        self.shards[shard.number] = shard
        if not shard.is_open:
            self._clear(shard.number)
        return shard

    def record_job(self, shard: Shard) -> Shard:
        """Keep what was last seen of a batch, for those who watch; it need not survive."""
        self.shards[shard.number] = shard
        return shard

    def drop(self, shard: Shard, reason: str) -> Shard:
        """Close a shard of which nothing is collected. Raises OSError."""
        log.warning("shard %d is given up: %s", shard.number, reason)
        changes = {"step": "closed", "ended": "given up", "reason": reason, "stuck": None, "reserved": None}
        return self.save(msgspec.structs.replace(shard, **changes))

    def requests(self, number: int) -> Path:
        """The file that is uploaded."""
        return self._path(number, "requests.jsonl")

    def members(self, number: int) -> Path:
        """What the rows of its requests need, one line each, in the same order."""
        return self._path(number, "members.jsonl")

    def output(self, number: int) -> Path:
        """The output file as downloaded."""
        return self._path(number, "output.jsonl")

    def errors(self, number: int) -> Path:
        """The error file as downloaded."""
        return self._path(number, "errors.jsonl")

    def create(self) -> None:
        """Make the folder."""
        if not self.folder.is_dir():
            self.folder.mkdir()
            sync_directory(self.folder.parent)

    def read_members(self, number: int) -> Iterator[ShardEntry]:
        """The requests of a shard, in its order; raises RunDirectoryError where the file is damaged."""
        return _lines(self.members(number), ShardEntry, self.shards[number].requests)

    def read_requests(self, number: int) -> Iterator[tuple[str, bytes]]:
        """The custom_id and the body of each line of an upload file; raises RunDirectoryError where it is damaged."""
        for found in _lines(self.requests(number), _Request, self.shards[number].requests):
            yield found.custom_id, bytes(found.body)

    def write_leftovers(self, number: int, custom_ids: list[str]) -> None:
        """Keep which requests of a shard got no answer, durably."""
        if custom_ids:
            path = self._path(number, "left")
            temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
            temporary.write_text("".join(f"{name}\n" for name in custom_ids), encoding="utf-8")
            put_in_place(temporary, path)

    def leftovers(self) -> Iterator[str]:
        """The requests that got no answer in a batch that is collected; once for each such batch."""
        for number, shard in self.shards.items():
            path = self._path(number, "left")
            if shard.is_collected and path.exists():
                try:
                    yield from path.read_text(encoding="utf-8").split()
                except UnicodeDecodeError as error:
                    raise RunDirectoryError(f"{path}: cannot be read: {error}") from error

    def _path(self, number: int, ending: str) -> Path:
        return self.folder / f"shard-{number:05d}.{ending}"

    def _load(self) -> None:
        decode = msgspec.json.Decoder(Shard).decode
        for path in sorted(self.folder.iterdir()):
            if _NAME.fullmatch(path.name):
                try:
                    shard = decode(path.read_bytes())
                except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise RunDirectoryError(
                        f"{path}: cannot be read: {error}. It says which batch holds requests of this run: put it "
                        "back, or move it away, and its requests are asked (and paid for) again"
                    ) from error
                self.shards[shard.number] = shard
        self.shards = dict(sorted(self.shards.items()))

    def clean_up(self) -> None:
        """Remove what a crash left behind: shards that were not written to their end, files of closed ones."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            match = _ANY.match(path.name)
            if match is None:
                continue
            shard = self.shards.get(int(match[1]))
            if path.name.endswith(TEMPORARY_SUFFIX) or shard is None:
                path.unlink()
        for number, shard in self.shards.items():
            if not shard.is_open:
                self._clear(number)

    def _clear(self, number: int) -> None:
        for path in (self.requests(number), self.members(number), self.output(number), self.errors(number)):
            path.unlink(missing_ok=True)


def _lines(path: Path, kind: type[Line], whole: int) -> Iterator[Line]:
    """Each of so many lines of a file; raises RunDirectoryError where one is damaged, or where they are not so many."""
    decode, count = msgspec.json.Decoder(kind).decode, 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                count += 1
                yield decode(line)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunDirectoryError(f"{path}: cannot be read: {error}") from error
    if count != whole:
        raise RunDirectoryError(f"{path}: cannot be read: {count} of its {whole} lines are there")
