"""The ledger: one small state file per shard, which names the next step.

The file is replaced atomically and is on the disk before each step that can cost money, so that a run after a crash
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
from urllib.parse import urlsplit

import msgspec

from runner.core import TEMPORARY_SUFFIX, damaged, put_in_place, read_json, sync_directory, write_json
from runner.errors import RunDirectoryError
from runner.limits import ZERO_SPEND, Spend
from runner.run_file import Count, Seconds

log = logging.getLogger(__name__)

# The next step of a shard. `confirm`: a create was sent and its outcome is unknown, so the service's list is searched.
Step = Literal["upload", "create", "confirm", "poll", "download", "reconcile", "delete", "closed"]

Line = TypeVar("Line")

_STATE_FILE = re.compile(r"shard-(\d{5,})\.json")
_ADVICE = (
    "It says which batch holds requests of this run: put it back, or move it away, "
    "and its requests are sent (and paid for) again"
)

_RESERVED_MAX = Spend(1 << 53, 1 << 53, 1 << 80)

_IDS = ("batch_id", "input_file_id", "output_file_id", "error_file_id")
_NEEDED = {"create": "input_file_id", "confirm": "input_file_id", "poll": "batch_id", "download": "batch_id"}

_ANY_FILE = re.compile(r"\.?shard-(\d{5,})\.")


class Shard(msgspec.Struct, frozen=True, omit_defaults=True):
    """One upload file and its batch.

    Attributes:
        number: counted from 0 within the run directory.
        step: the next step.
        service: name of the service that has it.
        base_url: that service's base URL when the shard was created; the batch stays there.
        requests: number of lines.
        size: bytes of the file.
        replaces: True if one of its requests has a row already, which the new one replaces.
        reserved: the most that it can use of the budget, until it is collected; None without a budget.
        input_file_id: the uploaded file.
        mark: what marks its file and its batch at the service as its own; None if an earlier version made it.
        sent_at: when the last create was sent, by this machine's clock (seconds since 1970).
        unreadable: the reply to the last create, if it was one that cannot be read.
        batch_id: the batch.
        created_at: when the batch became known, by this machine's clock (seconds since 1970).
        service_time: the same by the service's clock, if it shows it.
        cancelled_at: when its cancellation was requested, by this machine's clock (seconds since 1970).
        word: the service's own name for its status, as last seen.
        finished: lines that the service counts as finished, as last seen.
        failed: those of them that it counts as failed.
        ended: how the batch ended: `completed`, `failed`, `expired` or `cancelled`.
        reason: why it ended that way, if the service says.
        output_file_id, error_file_id: its result files.
        answered: requests that have their row.
        stuck: why a person must decide about it; each run tries it once more.
        former: ids of earlier batches of this shard.
        missing: lines that the service counts as finished and did not hand out; its files are then kept there.
        kept_files: ids of files at the service that are not deleted yet, though the shard is collected.
        emulated: True if an emulator ran the batch.
        run: the id of the run that it belongs to; None if an earlier version wrote the file.
    """

    number: Count
    step: Step
    service: str
    base_url: str
    requests: Count
    size: Count
    replaces: bool = False
    reserved: Spend | None = None
    input_file_id: str | None = None
    mark: str | None = None
    sent_at: Seconds | None = None
    unreadable: str | None = None
    batch_id: str | None = None
    created_at: Seconds | None = None
    service_time: Seconds | None = None
    cancelled_at: Seconds | None = None
    word: str | None = None
    finished: Count = 0
    failed: Count = 0
    ended: str | None = None
    reason: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    answered: Count = 0
    stuck: str | None = None
    former: tuple[str, ...] = ()
    missing: Count = 0
    kept_files: tuple[str, ...] = ()
    emulated: bool = False
    run: str | None = None

    @property
    def endpoint_key(self) -> tuple[str, str]:
        """The service that has it: its name, and its base URL when the shard was created."""
        return self.service, self.base_url

    @property
    def upload_name(self) -> str | None:
        """The name of its file at the service; None: the name of the file on the disk."""
        return self.mark and f"{self.mark}.jsonl"

    @property
    def is_open(self) -> bool:
        """True until it is closed."""
        return self.step != "closed"

    @property
    def is_collected(self) -> bool:
        """True if every answer has its row, and the unanswered requests are recorded."""
        return self.step in ("delete", "closed")

    @property
    def state(self) -> str:
        """Its state as one word for the user."""
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
    """One request of a shard: what its row will need besides the answer."""

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

    Args:
        folder: the folder.
        run: the id of the run; None if it does not matter.

    Raises RunDirectoryError if a state file cannot be read, or does not fit its name, the other files or the run.

    Attributes:
        shards: every shard by number, as last saved.
    """

    def __init__(self, folder: Path, run: str | None = None) -> None:
        self.folder = folder
        self.shards: dict[int, Shard] = {}
        self._run = run
        if folder.is_dir():
            self._load()

    @property
    def open_shards(self) -> list[Shard]:
        """The shards that are not closed, by number."""
        return [shard for shard in self.shards.values() if shard.is_open]

    @property
    def next_number(self) -> int:
        """The number of the next shard."""
        return max(self.shards, default=-1) + 1

    def by_state(self) -> dict[str, int]:
        """Return the number of shards in each state."""
        return dict(Counter(shard.state for shard in self.shards.values()))

    def answered_lines(self) -> int:
        """Return the number of lines that the service has finished and that have no row yet."""
        return sum(max(0, shard.finished - shard.answered) for shard in self.open_shards)

    def jobs(self) -> list[dict[str, Any]]:
        """Return the open shards as `status.json` shows them."""
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
        """Replace a shard's state file. Once this returns, a power cut does not undo it. Raises OSError."""
        if self._run is not None:
            shard = msgspec.structs.replace(shard, run=self._run)
        write_json(self._path(shard.number, "json"), msgspec.to_builtins(shard))
        self.shards[shard.number] = shard
        if not shard.is_open:
            self._clear(shard.number)
        return shard

    def record_job(self, shard: Shard) -> Shard:
        """Keep the last seen state of a batch for `status.json`, in memory only."""
        self.shards[shard.number] = shard
        return shard

    def advance(self, shard: Shard, **changes: Any) -> Shard:
        """Save a shard with changes, durably, and return it. Raises OSError."""
        return self.save(msgspec.structs.replace(shard, **changes))

    def drop(self, shard: Shard, reason: str) -> Shard:
        """Close a shard without collecting anything. Raises OSError."""
        log.warning("shard %d is given up: %s", shard.number, reason)
        changes = {"step": "closed", "ended": "given up", "reason": reason, "stuck": None, "reserved": None}
        return self.save(msgspec.structs.replace(shard, **changes))

    def requests(self, number: int) -> Path:
        """Return the path of the upload file."""
        return self._path(number, "requests.jsonl")

    def members(self, number: int) -> Path:
        """Return the path of the entries: one line per request, in the order of the upload file."""
        return self._path(number, "members.jsonl")

    def output(self, number: int) -> Path:
        """Return the path of the downloaded output file."""
        return self._path(number, "output.jsonl")

    def errors(self, number: int) -> Path:
        """Return the path of the downloaded error file."""
        return self._path(number, "errors.jsonl")

    def create(self) -> None:
        """Create the folder if it is missing."""
        if not self.folder.is_dir():
            self.folder.mkdir()
            sync_directory(self.folder.parent)

    def read_members(self, number: int) -> Iterator[ShardEntry]:
        """Yield the requests of a shard in order; raises RunDirectoryError if the file is damaged."""
        return _lines(self.members(number), ShardEntry, self.shards[number].requests)

    def read_requests(self, number: int) -> Iterator[tuple[str, bytes]]:
        """Yield the custom_id and body of each line of an upload file; raises RunDirectoryError if it is damaged."""
        for request in _lines(self.requests(number), _Request, self.shards[number].requests):
            yield request.custom_id, bytes(request.body)

    def write_leftovers(self, number: int, custom_ids: list[str]) -> None:
        """Write which requests of a shard got no answer, durably. Raises OSError."""
        if custom_ids:
            path = self._path(number, "left")
            temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
            temporary.write_text("".join(f"{name}\n" for name in custom_ids), encoding="utf-8")
            put_in_place(temporary, path)

    def leftovers(self) -> Iterator[str]:
        """Yield the requests that collected batches did not answer, once per batch; raises RunDirectoryError."""
        for number, shard in self.shards.items():
            path = self._path(number, "left")
            if shard.is_collected and path.exists():
                try:
                    yield from path.read_text(encoding="utf-8").split()
                except (OSError, UnicodeDecodeError) as error:
                    raise damaged(path, error) from error

    def _files(self) -> list[Path]:
        try:
            return sorted(self.folder.iterdir())
        except OSError as error:
            raise damaged(self.folder, error) from error

    def _path(self, number: int, ending: str) -> Path:
        return self.folder / f"shard-{number:05d}.{ending}"

    def _load(self) -> None:
        for path in self._files():
            if _STATE_FILE.fullmatch(path.name):
                try:
                    shard = read_json(path, Shard, _ADVICE)
                except FileNotFoundError:  # it has just been moved away
                    continue
                if (problem := self._problem(path, shard)) is not None:
                    raise damaged(path, problem, _ADVICE)
                self.shards[shard.number] = shard
        self.shards = dict(sorted(self.shards.items()))

    def _problem(self, path: Path, shard: Shard) -> str | None:
        """Return why a state file cannot be the one of its name in this run, beside the files before it."""
        expected = self._path(shard.number, "json").name
        if path.name != expected:
            return f"it is about the shard of {expected} (`$.number` is {shard.number})"
        if self._run is not None and shard.run not in (None, self._run):
            return f"it belongs to the run {shard.run!r} (`$.run`), and run.json to {self._run!r}"
        if not _is_address(shard.base_url):
            return "expected an address such as https://host/v1 - at `$.base_url`"
        if shard.reserved is not None and not (
            shard.reserved.fits_in(_RESERVED_MAX) and ZERO_SPEND.fits_in(shard.reserved)
        ):
            return "expected amounts that can be reserved - at `$.reserved`"
        for key in _IDS:
            if getattr(shard, key) in ("", ".", ".."):
                return f"expected the id that the service gave - at `$.{key}`"
        needed = _NEEDED.get(shard.step)
        if needed is not None and getattr(shard, needed) is None:
            return f"the step {shard.step!r} needs `$.{needed}`"
        if shard.is_open and shard.batch_id is not None:
            for other in self.open_shards:
                if (other.endpoint_key, other.batch_id) == (shard.endpoint_key, shard.batch_id):
                    return f"{self._path(other.number, 'json').name} has the same batch (`$.batch_id`)"
        return None

    def clean_up(self) -> None:
        """Remove what a crash left behind: incomplete shards, and files of closed ones. Raises OSError."""
        if not self.folder.is_dir():
            return
        for path in self._files():
            match = _ANY_FILE.match(path.name)
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


def _is_address(text: str) -> bool:
    """Return True for the base URL of a service."""
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _lines(path: Path, kind: type[Line], expected: int) -> Iterator[Line]:
    """Yield each line of a file; raises RunDirectoryError if one is damaged, or if there are not `expected` lines."""
    decode, count = msgspec.json.Decoder(kind).decode, 0
    try:
        with path.open("rb") as lines:
            for line in lines:
                count += 1
                yield decode(line)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(path, error) from error
    if count != expected:
        raise RunDirectoryError(f"{path}: cannot be read: {count} of its {expected} lines are there")
