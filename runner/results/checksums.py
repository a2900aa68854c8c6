"""The checksums of a run's Parquet files, in its folder `checksums`: `part-00003.parquet.crc32`.

Parquet's own checksums cover the pages, not the footer and not the page headers. A damaged column name, offset or
count there can give other values without an error. A file without a checksum, of an earlier version, is accepted. They
are not beside the parts, because some readers take every file of a folder for Parquet.
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from runner.core import put_in_place, write_text

_BUFFER_BYTES = 1 << 20

# Files that were found right, by path: size, time of the last change in nanoseconds, and inode.
_checked: dict[Path, tuple[int, int, int]] = {}


def checksum_path(file: Path) -> Path:
    """Return the path of the checksum of a part or of samples.parquet."""
    directory = file.parent.parent if file.parent.name == "results" else file.parent
    return directory / "checksums" / f"{file.name}.crc32"


def put_in_place_with_checksum(temporary: Path, final: Path) -> None:
    """Rename a finished file to its final name, durably, with its checksum.

    The checksum is written first. If the rename does not happen, the old file stays, so its checksum stays, too.
    """
    known = [_checksum(temporary)]
    if final.exists():
        known.append(_checksum(final))
    path = checksum_path(final)
    path.parent.mkdir(exist_ok=True)
    write_text(path, "".join(f"{each}\n" for each in known))
    put_in_place(temporary, final)


def damage(file: Path) -> str | None:
    """Return what is wrong with a file that does not have its checksum any more; None if it does, or has none.

    Raises OSError if it cannot be read.
    """
    status = file.stat()
    identity = (status.st_size, status.st_mtime_ns, status.st_ino)
    if _checked.get(file) == identity or not _recorded(file):
        return None
    # The checksum is written before the file, so it is read after it; twice, if the file was replaced in between.
    if _checksum(file) not in _recorded(file) and _checksum(file) not in _recorded(file):
        return (
            f"it does not have the checksum in checksums/{file.name}.crc32 any more: it is damaged, or another program "
            "has changed it; if that was right, delete its checksum"
        )
    _checked[file] = identity
    return None


def _recorded(file: Path) -> list[str]:
    try:
        return checksum_path(file).read_text(encoding="ascii", errors="replace").split()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _checksum(file: Path) -> str:
    total = 0
    with file.open("rb") as content:
        while block := content.read(_BUFFER_BYTES):
            total = crc32(block, total)
    return f"{total:08x}"
