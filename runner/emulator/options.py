"""What an emulator can be told: its address, its quota, its manners and its faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Dialect = Literal["pai", "openai", "dashscope"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all groups of options."""


class Latency(Section, frozen=True):
    """How long an answer takes: lognormal, `median` in seconds; a median of 0 answers at once."""

    median: Seconds = 0.0
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5


class Faults(Section, frozen=True, rename={"server_error": "500", "unavailable": "503", "throttled": "429"}):
    """The share of requests that meets each fault; `refuse` is a share of bodies, which are refused every time."""

    server_error: Share = 0.0
    unavailable: Share = 0.0
    throttled: Share = 0.0
    reset: Share = 0.0
    truncate: Share = 0.0
    hang: Share = 0.0
    malformed: Share = 0.0
    refuse: Share = 0.0
    unparsable: Share = 0.0


class Batch(Section, frozen=True):
    """How batch jobs behave.

    Attributes:
        delay: seconds from a job's creation to its end.
        expire, fail: this many jobs, the first ones, expire or fail.
        lose: share of lines that stand in no result file.
        errors_in_output: share of failed lines that are written to the output file.
        drop_create: share of creations that take effect but whose answer is lost.
        unsupported: calls that answer 404; `files` is uploading, `batches` creating.
        storage_mb: what all stored files together may have.
        hold: this many jobs, the first ones, before those that expire or fail, run on until they are cancelled.
        ignore_cancel: a job that is cancelled goes on.
        enqueued: lines that open jobs may have together; a job beyond that fails.
        status_word: what a running job calls its status.
        garble: share of result lines that are torn.
        strangers: share of result lines that are followed by one with a custom_id nobody asked.
        repeats: share of result lines that are written twice.
        body_as_text: the body in a result line is a text that holds JSON.
    """

    delay: Seconds = 1.0
    expire: Count = 0
    fail: Count = 0
    lose: Share = 0.0
    errors_in_output: Share = 0.0
    drop_create: Share = 0.0
    unsupported: tuple[Literal["list", "cancel", "delete", "files", "batches"], ...] = ()
    storage_mb: Annotated[float, msgspec.Meta(ge=0)] = 102_400.0
    hold: Count = 0
    ignore_cancel: bool = False
    enqueued: Positive | None = None
    status_word: str | None = None
    garble: Share = 0.0
    strangers: Share = 0.0
    repeats: Share = 0.0
    body_as_text: bool = False


class EmulatorOptions(Section, frozen=True):
    """Everything an emulator can be told; the names are those of the YAML.

    Attributes:
        host, port: where it listens; port 0 takes any free one.
        token: the only token it accepts; None accepts everything.
        seed: what faults, latency, bias and noise are drawn from.
        dialect: whose field names and error codes it uses.
        rpm, tpm: requests and tokens per minute; None is unlimited. The bucket holds a minute.
        credit: online requests that the account pays for; after them each is refused for good. None is unlimited.
        burst: requests that may pass at once, where that is less than a minute's worth.
        noise: share of verdicts that are changed at random.
        bias: share of pairwise verdicts that go to the first answer whatever the texts say; negative: to the second.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    token: str | None = None
    seed: int = 0
    dialect: Dialect = "pai"
    latency: Latency = Latency()
    rpm: Positive | None = None
    tpm: Positive | None = None
    burst: Positive | None = None
    credit: Count | None = None
    noise: Share = 0.0
    bias: Annotated[float, msgspec.Meta(ge=-1, le=1)] = 0.0
    faults: Faults = Faults()
    batch: Batch = Batch()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read options as the YAML or JSON gives them.

        Raises:
            ValueError: for an unknown key, a wrong type or a value out of range; the message names the key.
        """
        plain = _text_keys(mapping)
        problem = next(_unknown_keys(cls, plain, ""), None)
        if problem:
            raise ValueError(problem)
        try:
            options = msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            raise ValueError(_reworded(str(error))) from None
        _check_total(options.faults)
        return options


def _text_keys(value: Any) -> Any:
    """Make every key a text, since YAML reads an unquoted 500 as a number."""
    if isinstance(value, Mapping):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return value


def _unknown_keys(section: type[Section], mapping: Any, prefix: str) -> Iterator[str]:
    if not isinstance(mapping, dict):
        return
    known = {field.encode_name: field.type for field in msgspec.structs.fields(section)}
    for key, value in mapping.items():
        if key not in known:
            near = get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
            yield f"unknown emulator option {prefix}{key}; {hint}"
        elif isinstance(known[key], type) and issubclass(known[key], Section):
            yield from _unknown_keys(known[key], value, f"{prefix}{key}.")


def _reworded(message: str) -> str:
    """Turn ``Expected `float` <= 1.0 - at `$.noise` `` into ``emulator option noise: expected ...``."""
    what, _, place = message.partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    what = what[:1].lower() + what[1:].replace("`object`", "a mapping")
    return f"emulator option {key}: {what}" if key else f"emulator options: {what}"


def _check_total(faults: Faults) -> None:
    total = sum(msgspec.structs.astuple(faults)) - faults.refuse
    if total > 1 + 1e-9:
        raise ValueError(f"emulator option faults: the shares add up to {total:g}; together they may be at most 1")
