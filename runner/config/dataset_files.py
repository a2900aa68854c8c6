"""Where the files of a dataset are, and how CSV files are written."""

from __future__ import annotations

import codecs
import glob
import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from runner.config.fields import Frozen, expected, refused, text
from runner.core import nearest

# Encodings to name in messages, the usual ones first.
_ENCODINGS = ("utf-8", "gbk", "utf-16", "latin-1", "big5", "gb18030", "cp1252", "shift_jis", "euc-kr", "utf-16-le")
# Codecs of Python that turn text into something else than the text of a file.
_NO_ENCODINGS = ("undefined", "idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "mbcs", "oem")
_TAB_SPELLINGS = {"\\t": "\t", "tab": "\t"}


def _dataset_path(value: str, info: ValidationInfo) -> str:
    """Make a local path absolute. Only the given text can be a glob: the folder of the YAML is escaped."""
    if re.match(r"(hf|s3)://", value):
        return value
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise expected("a file, a directory, a glob, hf://... or s3://...")
    base = str((info.context or {}).get("base", Path.cwd()))
    return str(Path(glob.escape(base) if glob.has_magic(value) else base) / os.path.expanduser(value))  # noqa: PTH111


def dataset_paths(value: Any, info: ValidationInfo) -> str | tuple[str, ...]:
    """Read one path, or a list of them."""
    if not isinstance(value, (list, tuple)):
        return _dataset_path(_path_text(value, "a text"), info)
    if not value:
        raise expected("a path, or a list of at least one path")
    return tuple(_dataset_path(_path_text(item, "a path, or a list of paths"), info) for item in value)


def _path_text(value: Any, what: str) -> str:
    try:
        path = text(value)
    except PydanticCustomError:
        raise expected(what) from None
    if not path.strip():
        raise expected("a non-empty text")
    return path


def _delimiter(value: Any) -> str:
    given = text(value)
    found = _TAB_SPELLINGS.get(given.lower(), given)
    if found != "auto" and (len(found) != 1 or found.isalnum() or found in '"\r\n\0'):
        raise expected("auto, or one character such as ',', ';', '|' or '\\t'")
    return found


def _quote(value: Any) -> str | None:
    if value is None:
        return None
    found = text(value)
    if len(found) != 1 or found.isalnum() or found.isspace() or found == "\0":
        raise expected("one character such as '\"', or null for no quoting")
    return found


def _encoding(value: Any) -> str:
    """Return the name of a text encoding, as Python spells it."""
    given = text(value).strip()
    try:
        name = codecs.lookup(given).name
        "".encode(name)  # raises for the codecs that turn bytes into bytes, such as `hex`
    except (LookupError, ValueError, TypeError):
        name = "undefined"
    if name in _NO_ENCODINGS:
        close = nearest(given.lower(), _ENCODINGS)
        hint = "" if close is None else f" (did you mean '{close}'?)"
        raise expected(f"an encoding such as {', '.join(_ENCODINGS[:5])}{hint}")
    return name.removesuffix("-sig")


class CsvConfig(Frozen):
    """How CSV and TSV files are written."""

    delimiter: Annotated[str, BeforeValidator(_delimiter)] = Field(
        default="auto",
        description="The character between cells. auto: a tab for tsv; for csv a comma, or without a comma in the "
        "header, the semicolon, tab or | in it.",
    )
    quote: Annotated[str | None, BeforeValidator(_quote)] = Field(
        default='"', description="The character around a cell that contains delimiters or line ends; null: none."
    )
    encoding: Annotated[str, BeforeValidator(_encoding)] = Field(
        default="utf-8", description="The encoding of the text: utf-8, gbk, utf-16, latin-1, ..."
    )

    @model_validator(mode="after")
    def _two_characters(self) -> CsvConfig:
        if self.delimiter == self.quote:
            raise refused("delimiter and quote are the same character; expected two different ones")
        return self

    @property
    def trusts_quotes(self) -> bool:
        """True if the YAML names the quote, so that every cell over several lines is meant as one."""
        return "quote" in self.model_fields_set
