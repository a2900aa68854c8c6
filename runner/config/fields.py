"""The types of values in the YAML: counts, shares, durations, texts, paths, secrets.

Each type converts what the YAML contains. For anything else it raises the error `expected`, whose text completes the
sentence "expected ..., found ..."; `messages.py` adds the location and the value that was found.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from runner.core import read_small
from runner.types import Secret

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_DURATION_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhd]?$"}]
}


class Frozen(BaseModel):
    """A section of the configuration: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, data: Any) -> Any:
        """Use the default for an empty section (`limits:` with all its keys commented out)."""
        if not isinstance(data, Mapping):
            return data
        fields = cls.model_fields
        return {
            key: value
            for key, value in data.items()
            if value is not None or key not in fields or not isinstance(fields[key].default, (Frozen, dict, tuple))
        }


class WrittenInt(int):
    """An integer that keeps its spelling, so that a text field keeps `007`."""

    text: str


class WrittenFloat(float):
    """A float that keeps its spelling, so that a text field keeps `1.10`."""

    text: str


def expected(what: str) -> PydanticCustomError:
    """Return the error for a value of the wrong type. The message is "expected {what}, found ..."."""
    return PydanticCustomError("expected", "{what}", {"what": what})


def refused(why: str) -> PydanticCustomError:
    """Return the error for a value that is wrong for another reason than its type; `why` must not contain the value."""
    return PydanticCustomError("refused", "{why}", {"why": why})


def plain(value: Any) -> Any:
    """Convert a value to plain JSON data without spellings; raises the error `refused` for NaN and infinities."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise refused("it contains .nan or .inf, which JSON cannot represent")


def seconds(value: Any) -> float:
    """Convert a duration (`30`, `30s`, `5m`, `6h` or `2d`) to seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise expected("a duration such as 30, 30s, 5m or 6h")
    return float(found[1]) * _SECONDS[found[2]]


def _above_zero(value: float) -> float:
    if value <= 0:
        raise expected("a duration above 0")
    return value


def text(value: Any) -> str:
    """Convert a value to a text; a number becomes the text it was written as."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(getattr(value, "text", value))
    if not isinstance(value, str):
        raise expected("a text")
    return value


def _non_empty(value: str) -> str:
    if not value.strip():
        raise expected("a non-empty text")
    return value


def _variable_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise refused(
            "expected the name of an environment variable (letters, digits and _), found something else; "
            "the token itself does not belong in this file"
        )
    return value


def _flag(value: Any) -> bool:
    found = value if isinstance(value, bool) else _FLAGS.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise expected("true or false")
    return found


def _auto_or_flag(value: Any) -> bool | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        return _flag(value)
    except PydanticCustomError:
        raise expected("auto, true or false") from None


def is_whole(value: Any) -> bool:
    """Return True for a whole number, also if it is written as `600.0` or `1e6`."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(what: str, accept: Callable[[float], bool]) -> BeforeValidator:
    def check(value: Any) -> float:
        if not _is_number(value) or not accept(value):
            raise expected(what)
        return float(value)

    return BeforeValidator(check)


def _integer(minimum: int) -> BeforeValidator:
    def check(value: Any) -> int:
        if not is_whole(value) or value < minimum:
            raise expected(f"a whole number of at least {minimum}")
        return int(value)

    return BeforeValidator(check)


def _scale(value: Any) -> tuple[float, float]:
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]:
        return float(value[0]), float(value[1])
    raise expected("two numbers, the lower first, such as [1, 5]")


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def _path(value: str, info: ValidationInfo) -> Path:
    context = info.context or {}
    base: Path = context.get("base", Path.cwd())
    return base / Path(value.replace("<name>", context.get("name", "<name>"))).expanduser()


def _prompt(value: str, info: ValidationInfo) -> str:
    if not value.startswith("file://"):
        return value
    path = _path(value.removeprefix("file://"), info)
    try:
        return read_small(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refused(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise refused(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None


def _secret(value: Any) -> Secret:
    return value if isinstance(value, Secret) else Secret(text(value))


Text = Annotated[str, BeforeValidator(text), WithJsonSchema({"type": ["string", "number"]})]
NonEmptyText = Annotated[Text, AfterValidator(_non_empty)]
EnvVarName = Annotated[Text, AfterValidator(_variable_name)]
Flag = Annotated[bool, BeforeValidator(_flag)]
AutoOrFlag = Annotated[
    bool | Literal["auto"], PlainValidator(_auto_or_flag), WithJsonSchema({"enum": ["auto", True, False]})
]
NonNegativeInt = Annotated[int, Field(ge=0), _integer(0)]
PositiveInt = Annotated[int, Field(ge=1), _integer(1)]
Amount = Annotated[float, Field(ge=0), _number("a number of at least 0", lambda value: value >= 0)]
Positive = Annotated[float, Field(gt=0), _number("a number above 0", lambda value: value > 0)]
Share = Annotated[float, Field(ge=0, le=1), _number("a number from 0 to 1", lambda value: 0 <= value <= 1)]
PositiveShare = Annotated[
    float, Field(gt=0, le=1), _number("a number above 0 and at most 1", lambda value: 0 < value <= 1)
]
Duration = Annotated[float, BeforeValidator(seconds), WithJsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[
    float, AfterValidator(_above_zero), BeforeValidator(seconds), WithJsonSchema(_DURATION_SCHEMA)
]
Scale = Annotated[
    tuple[float, float],
    BeforeValidator(_scale),
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}),
]
Words = Annotated[tuple[NonEmptyText, ...], BeforeValidator(_one_or_more)]
LocalPath = Annotated[
    Path, PlainValidator(lambda value, info: _path(_non_empty(text(value)), info)), WithJsonSchema({"type": "string"})
]
Prompt = Annotated[Text, AfterValidator(_prompt)]
SecretText = Annotated[
    Secret,
    PlainValidator(_secret),
    PlainSerializer(lambda _: "***", return_type=str),
    WithJsonSchema({"type": "string"}),
]
JsonMapping = Annotated[Mapping[str, Any], AfterValidator(plain)]
