"""What the bytes of a file say it is, where that differs from what its name or the configuration says."""

from __future__ import annotations

import codecs
import re

SNIFFED_BYTES = 65_536

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_SIGNATURES = (
    (b"PAR1", "is Parquet; let its name end in .parquet, or set dataset.format: parquet"),
    (b"ARROW1", "is an Arrow file, which is not read; write it as Parquet or JSON lines"),
    (b"\x1f\x8b\x08", "is compressed with gzip; let its name end in .gz"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd; let its name end in .zst"),
    (b"PK\x03\x04", "is a ZIP archive, as Excel workbooks are; unpack it, or save it as CSV in UTF-8"),
)
_WIDE_MARKS = (  # the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_TABLES = ("csv", "tsv")
_GBK_PAIR = re.compile(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]")
# Of GB 2312: punctuation, full-width letters, and the first level of hanzi, of which Chinese texts mostly consist.
_COMMON_GBK_PAIR = re.compile(rb"[\xa1-\xa3\xb0-\xd7][\xa1-\xfe]")
_COMMON_GBK_SHARE = 0.8
_PRINTABLE = re.compile(rb"[\t\r\n -~]*")
_EAST_ASIAN = re.compile(r"gb|big5|hz|shift|euc|cp9|iso2022|johab")
_MIN_UTF8_CHARACTERS = 4  # fewer can be UTF-8 by chance


def find_wrong_content(head: bytes, format_: str, encoding: str = "utf-8") -> str | None:
    """Return what a file is, and what to do, if it is not what it should be; None if it may well be.

    Args:
        head: its first bytes, uncompressed.
        format_: the format in which it is to be read.
        encoding: the encoding in which its text is to be read.
    """
    if head.startswith(_LFS_POINTER):
        return "is a Git LFS pointer, not the data; run `git lfs pull`"
    for signature, problem in _SIGNATURES:
        if head.startswith(signature) and (format_ != "parquet" or signature != b"PAR1"):
            return problem
    if format_ == "parquet":
        return None
    wide = _wide_encoding(head, format_)
    if wide is not None and not encoding.replace("_", "-").startswith(wide.lower()):
        return f"looks like {wide}; {how_to_fix(format_, wide.lower())}"
    if encoding != "utf-8" and wide is None and _is_surely_utf8(head, encoding):
        return f"is UTF-8, but dataset.csv.encoding is {encoding}; remove the key"
    return None


def guess_encoding(data: bytes) -> str | None:
    """Return `GBK` for bytes that are not UTF-8 but read as Chinese in GBK; None if nothing is known."""
    pairs = _GBK_PAIR.findall(data)
    if not pairs or not _GBK_PAIR.sub(b"", data).isascii():
        return None
    common = sum(_COMMON_GBK_PAIR.fullmatch(pair) is not None for pair in pairs)
    return "GBK" if common >= _COMMON_GBK_SHARE * len(pairs) else None


def how_to_fix(format_: str, encoding: str) -> str:
    """Return what to do with a file in another encoding than UTF-8."""
    key = f", or set dataset.csv: {{encoding: {encoding}}}" if format_ in _TABLES else ""
    return f"save it as UTF-8{key}"


def describe_undecodable(data: bytes, format_: str, encoding: str = "utf-8") -> str:
    """Return why a text is not in the expected encoding, with the likely one and what to do.

    Args:
        data: the text's bytes.
        format_: the format of its file.
        encoding: the expected encoding.
    """
    if encoding != "utf-8":
        return f"not {encoding}"
    guess = guess_encoding(data)
    if guess is not None:
        return f"not UTF-8; it looks like {guess}: {how_to_fix(format_, guess.lower())}"
    return f"not UTF-8; {how_to_fix(format_, 'NAME')}" if format_ in _TABLES else "not UTF-8"


def _wide_encoding(head: bytes, format_: str) -> str | None:
    """Return `UTF-16` or `UTF-32` if the bytes are that: a mark, or ASCII characters with zero bytes between them."""
    for mark, name in _WIDE_MARKS:
        after = head[len(mark) :]
        if head.startswith(mark) and (format_ in _TABLES or 0 in after[:4]):
            return name
    for zeros, letters in ((head[1:8:2], head[0:8:2]), (head[0:8:2], head[1:8:2])):
        if len(zeros) == 4 and not any(zeros) and _PRINTABLE.fullmatch(letters):
            return "UTF-16"
    return None


def _is_surely_utf8(head: bytes, encoding: str) -> bool:
    """Return True if bytes that are to be read in another encoding are UTF-8 that cannot be a coincidence."""
    if head.startswith(codecs.BOM_UTF8):
        return True
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    if encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32")):
        return len(text) >= _MIN_UTF8_CHARACTERS and "\0" not in text
    lowest = "\u0800" if _EAST_ASIAN.match(encoding) else "\x80"  # two bytes of UTF-8 are often a character of GBK
    return sum(character >= lowest for character in text) >= _MIN_UTF8_CHARACTERS
