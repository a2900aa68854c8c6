"""The options of an emulator: its address, quota, latency, dialect and faults."""

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
UsageCounting = Literal["whole", "total_only", "zeros", "none"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all groups of options."""


class Latency(Section, frozen=True):
    """The latency of an answer: lognormal, with `median` in seconds. A median of 0 answers at once."""

    median: Seconds = 0.0
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5


class Faults(Section, frozen=True, rename={"server_error": "500", "unavailable": "503", "throttled": "429"}):
    """The share of requests that get each fault. `refuse` is a share of bodies, which are refused at every attempt."""

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
    """The behaviour of batch jobs.

    Of the accepted jobs, the first `hold` run until they are cancelled, the next `expire` expire, and the next `fail`
    fail as a whole.

    Attributes:
        delay: seconds from a job's creation to its end.
        expire, fail: number of jobs that expire and that fail.
        lose: share of processed lines that are missing from both result files, and from the counts.
        errors_in_output: share of lines that fail and are written to the output file.
        drop_create: share of batch creations that succeed but whose response is lost.
        unsupported: calls that return 404. `list`, `cancel` and `delete` are the calls of that name; `files` is the
            upload, `batches` the creation.
        storage_mb: capacity for all stored files together, in MB.
        hold: number of jobs that run until they are cancelled.
        ignore_cancel: True if cancelling a job has no effect.
        enqueued: the largest number of lines in all open jobs together; a job that would exceed it fails.
        enqueued_requests: the largest number of lines in all open jobs together; a creation that would exceed it is
            refused with the status `enqueued_status`.
        list_lag: seconds from a job's creation until the list shows it.
        list_other_files: True if the list names other input files than the jobs were created from.
        file_pending: seconds from an upload until the file can be used; a creation before that is refused.
        wrap: True if a job is returned as `{"job": {...}}`, and the list as a bare array.
        status_word: the status of a running job, instead of the dialect's.
        garble: share of result lines that are cut in half.
        strangers: share of result lines that are followed by a line with an unknown custom_id.
        repeats: share of result lines that are written twice.
        body_as_text: True if the body in a result line is a string that contains JSON.
        content_404: downloads of each result file that are a 404, before the file is there.
        short_results: downloads of each result file, after those, that end after half of its lines.
        break_after: bytes after which each download of a result file breaks off; a range can ask for the rest.
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
    enqueued_requests: Positive | None = None
    enqueued_status: Literal[400, 403, 429] = 429
    list_lag: Seconds = 0.0
    list_other_files: bool = False
    file_pending: Seconds = 0.0
    wrap: bool = False
    status_word: str | None = None
    garble: Share = 0.0
    strangers: Share = 0.0
    repeats: Share = 0.0
    body_as_text: bool = False
    content_404: Count = 0
    short_results: Count = 0
    break_after: Positive | None = None


class EmulatorOptions(Section, frozen=True):
    """All options of an emulator; the names are those of the YAML.

    Attributes:
        host, port: where the emulator listens; port 0 is any free port.
        token: the only accepted token; with None, every request is accepted.
        seed: seed of the faults, latency, bias and noise.
        dialect: the service whose field names and error codes are used.
        latency: how long an answer takes.
        rpm, tpm: requests and tokens per minute; None is unlimited. The bucket holds one minute's worth.
        burst: requests that can pass at once, if fewer than one minute's worth.
        credit: number of online requests that the account pays for; all later ones are refused. None is unlimited.
        noise: share of verdicts that are changed at random.
        bias: share of pairwise verdicts that go to the first answer regardless of the texts; negative: to the second.
        usage: what replies count; with `total_only`, the judge thinks before it answers, and only the total has that.
        faults: shares of requests that fail.
        batch: how batch jobs behave.
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
    usage: UsageCounting = "whole"
    faults: Faults = Faults()
    batch: Batch = Batch()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Convert the mapping of the YAML or JSON to options.

        Raises:
            ValueError: a key is unknown, or a value has the wrong type or is out of range; the message names the key.
        """
        plain = _string_keys(mapping)
        problem = next(_unknown_keys(cls, plain, ""), None)
        if problem:
            raise ValueError(problem)
        try:
            options = msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            raise ValueError(_rephrased(str(error))) from None
        _check_total(options.faults)
        return options


def _string_keys(value: Any) -> Any:
    """Convert keys to strings and whole floats to integers: YAML reads an unquoted 500 and `1e3` as numbers."""
    if isinstance(value, Mapping):
        return {str(key): _string_keys(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unknown_keys(section: type[Section], mapping: Any, prefix: str) -> Iterator[str]:
    """Yield an error message for each unknown key."""
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


def _rephrased(message: str) -> str:
    """Turn ``Expected `float` <= 1.0 - at `$.noise` `` into ``emulator option noise: expected ...``."""
    what, _, path = message.partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    what = what[:1].lower() + what[1:].replace("`object`", "a mapping")
    return f"emulator option {key}: {what}" if key else f"emulator options: {what}"


def _check_total(faults: Faults) -> None:
    total = sum(msgspec.structs.astuple(faults)) - faults.refuse
    if total > 1 + 1e-9:
        raise ValueError(f"emulator option faults: the shares add up to {total:g}; the sum must not exceed 1")
