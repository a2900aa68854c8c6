"""Everything that goes wrong, in one tree.

JudgeRunnerError
├── UsageError                exit 2: command line, YAML, dataset, output place or run directory do not fit
│   ├── ConfigError
│   ├── DatasetError
│   ├── RunDirectoryError
│   └── ReportFailed
├── BadRow                    one sample cannot be asked: becomes a `failed` row, `bad_row` or `too_long`
├── ServiceError              one call failed
│   ├── Transient             worth another attempt
│   │   ├── ConnectFailed       nobody was reached; the request was never sent
│   │   ├── ConnectionLost      it broke under way
│   │   ├── TimedOut
│   │   ├── RateLimited         429: never uses up an attempt
│   │   ├── ServerFault         5xx, 408, 409, 425, 450
│   │   └── BadReply            a 200 that holds no answer
│   ├── Refused               this request will never be answered: `bad_request` or `content_filter`
│   └── Fatal                 no request will: authentication, quota gone for good, wrong address
├── NoBatchApi                the service has no Files or no Batch API: the run goes online
└── RunStopped                the run ends early, with exit code 3 or 4
"""

from __future__ import annotations


class JudgeRunnerError(Exception):
    """The root of all errors that judge-runner raises on purpose."""


class UsageError(JudgeRunnerError):
    """Something the user gave does not fit; nothing was sent. Exit code 2."""


class ConfigError(UsageError):
    """The YAML, a `--set` value or the environment does not fit."""


class DatasetError(UsageError):
    """The dataset is missing, empty, unreadable as a whole, or lacks a column."""


class RunDirectoryError(UsageError):
    """The run directory is locked, damaged, not writable, or belongs to another run."""


class ReportFailed(UsageError):
    """The report could not be made; the run and its rows are as they were."""


class BadRow(JudgeRunnerError):
    """One sample cannot be asked; `error_type` is `bad_row` or `too_long`. Who catches it says which sample."""

    def __init__(self, message: str, error_type: str = "bad_row") -> None:
        super().__init__(message)
        self.error_type = error_type


class ServiceError(JudgeRunnerError):
    """One call to the service failed.

    Args:
        message: what was seen, in one line, without secrets.
        status: the HTTP status, where there was one.
        retry_after: seconds the service asked us to wait, where it did.
    """

    error_type = "server_error"

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Transient(ServiceError):
    """Worth another attempt."""


class ConnectFailed(Transient):
    """Nobody was reached: refused, no route, no name, TLS; the request was never sent."""

    error_type = "connection"


class ConnectionLost(Transient):
    """The connection broke before the whole answer was there."""

    error_type = "connection"


class TimedOut(Transient):
    """No whole answer within the time the configuration gives."""

    error_type = "timeout"


class RateLimited(Transient):
    """429: too many requests or tokens just now."""


class ServerFault(Transient):
    """The service failed at its side."""


class BadReply(Transient):
    """A 200 that holds no answer: cut off, not JSON, without choices."""

    error_type = "bad_reply"


class Refused(ServiceError):
    """The service will not answer this request: `bad_request` or `content_filter`."""

    def __init__(self, message: str, *, error_type: str = "bad_request", status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.error_type = error_type


class Fatal(ServiceError):
    """The service will answer no request of this run until a person acts.

    `reason` is one of `authentication`, `quota`, `address`.
    """

    def __init__(self, message: str, *, reason: str, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.reason = reason


class NoBatchApi(JudgeRunnerError):
    """The service has no Files or no Batch API (404, 405 or 501 on it)."""


class RunStopped(JudgeRunnerError):
    """The run ends before every request has its row.

    Args:
        reason: a short word for `stop_reason`: `authentication`, `quota`, `address`, `output`, `outage`, `max_time`,
            `interrupted`, `terminated`, `detached`, `cancelled`, `undecided`, `storage`, `budget`, `breaker`.
        message: what was seen and what to do, for a person.
        exit_code: 3 a person must act, 4 run again later, 130 / 143 drained after a signal.
    """

    def __init__(self, reason: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


def output_failed(error: Exception) -> RunStopped:
    """The run stops because its rows can no longer be written."""
    return RunStopped(
        "output",
        f"the output can no longer be written: {error}. What was answered is kept in the journal; "
        "make room (or mend the place) and run the same command again.",
        exit_code=3,
    )
