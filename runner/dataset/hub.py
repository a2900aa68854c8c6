"""Files of a dataset at the Hugging Face Hub. The only module that uses huggingface_hub."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import msgspec

from runner.errors import DatasetError

HUB = "hf://"
_FORM = re.compile(r"hf://datasets/[^/@]+/[^/@]+(@[^/]+)?(/|$)")
_AHEAD = {"block_size": 1 << 23, "cache_type": "readahead"}
_ANYWHERE = {"block_size": 1 << 22, "cache_type": "blockcache", "cache_options": {"maxblocks": 16}}


class HubFile(msgspec.Struct, frozen=True):
    """A file at one commit: its bytes do not change when the branch moves.

    Attributes:
        address: its `hf://` address, for messages.
        place: repository, commit and path, for the file system.
        size: its bytes.
        version: the Hub's own fingerprint of them: SHA-256 of a large file, else git's blob id.
        system: the file system object that opens it.
    """

    address: str
    place: str
    size: int
    version: str
    system: Any

    def __str__(self) -> str:
        return self.address

    def open(self, anywhere: bool = False) -> BinaryIO:
        """Open its bytes; every error while reading is an OSError without secrets.

        Args:
            anywhere: optimise for random access instead of sequential reads; caches up to 64 MB.
        """
        with _as_os_error():
            file = self.system.open(self.place, "rb", **(_ANYWHERE if anywhere else _AHEAD))
        return cast("BinaryIO", _Stream(file))


class HubFolder:
    """A dataset at the Hub, at the commit that its revision names now.

    Args:
        address: `hf://datasets/OWNER/NAME[@REVISION][/PATH]`; PATH may be a glob.

    Raises:
        DatasetError: the address has another form, the extra is not installed, or there is no such dataset.

    Attributes:
        path: the path within the dataset.
    """

    def __init__(self, address: str) -> None:
        if not _FORM.match(address):
            raise DatasetError(f"dataset.path: {address}: expected hf://datasets/OWNER/NAME[@REVISION]/PATH")
        self._given = address
        self._system, api = _hub(address)
        with self._explained():
            found = self._system.resolve_path(address)
            commit = api.repo_info(found.repo_id, repo_type="dataset", revision=found.revision).sha or found.revision
        self.path: str = found.path_in_repo
        self._named = HUB + found.unresolve().removesuffix(self.path).rstrip("/")
        self._place = f"datasets/{found.repo_id}@{commit}"

    def address(self, path: str) -> str:
        """Return the address of a path within the dataset."""
        return f"{self._named}/{path}".rstrip("/")

    def kind(self, path: str) -> str | None:
        """Return `file` or `directory`, or None if nothing is at the path."""
        with self._explained():
            try:
                return str(self._system.info(self._at(path))["type"])
            except FileNotFoundError:
                return None

    def names(self, path: str) -> list[str]:
        """Return the names in a directory; empty if there is no such directory."""
        with self._explained():
            try:
                return [place.rpartition("/")[2] for place in self._system.ls(self._at(path), detail=False)]
            except FileNotFoundError:
                return []

    def file(self, path: str) -> HubFile:
        """Return the file at a path."""
        with self._explained():
            (facts,) = self._system.ls(self._at(path))
        return self._file(facts)

    def files(self, folder: str, depth: int | None = None) -> Iterator[tuple[str, HubFile]]:
        """Yield the files below a folder, at most `depth` levels deep, each with its relative path."""
        root = self._at(folder)
        with self._explained():
            found = self._system.find(root, maxdepth=depth, detail=True)
        return ((place.removeprefix(root + "/"), self._file(facts)) for place, facts in found.items())

    def _file(self, facts: Mapping[str, Any]) -> HubFile:
        place, large = facts["name"], facts["lfs"]
        address = self.address(place.removeprefix(self._place + "/"))
        version = large.sha256 if large else facts["blob_id"]
        return HubFile(address, place, facts["size"], version, self._system)

    def _at(self, path: str) -> str:
        return f"{self._place}/{path}".rstrip("/")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with _as_os_error():
                yield
        except (OSError, ValueError, NotImplementedError) as error:
            raise DatasetError(f"dataset.path: {self._given} cannot be read: {error}") from None


class _Stream(io.RawIOBase):
    """The bytes of a file at the Hub, fetched a block at a time; closing it closes the file."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        with _as_os_error():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _hub(address: str) -> tuple[Any, Any]:
    """Return the Hub as a file system and as an API; the library reads the token itself (HF_TOKEN).

    Unless the user has set these variables, the library's telemetry is off, and so are its warnings about retries,
    which would disturb our progress display.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    try:
        from huggingface_hub import HfApi, HfFileSystem
    except ImportError:
        raise DatasetError(
            f"dataset.path: {address} needs the extra hf: pip install 'judge-runner[hf]' (huggingface_hub)"
        ) from None
    return HfFileSystem(skip_instance_cache=True), HfApi()


@contextmanager
def _as_os_error() -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError

    errors = cast("tuple[type[Exception], ...]", HfHubHTTPError.__bases__)  # OSError and its HTTP library's root
    try:
        yield
    except FileNotFoundError:
        raise
    except errors as error:
        raise OSError(_gist(error)) from None


def _gist(error: Exception) -> str:
    """Return the error in one line; the query of a URL may be a signature and is removed."""
    message = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", " ".join(str(error).split()))
    return f"{type(error).__name__}: {message[:400]}" if message else type(error).__name__
