"""The tree of errors that judge-runner raises.

JudgeRunnerError
├── UsageError                exit 2: wrong command line, YAML, dataset, output path or run directory
│   ├── ConfigError
│   ├── DatasetError
│   ├── RunDirectoryError
│   └── ReportFailed
├── BadRow                    one sample cannot be sent: it becomes a `failed` row, `bad_row` or `too_long`
├── ServiceError              one call failed
│   ├── Transient             another attempt may succeed
│   │   ├── ConnectFailed       no connection; the request was never sent
│   │   ├── ConnectionLost      the connection broke before the whole answer arrived
│   │   │   └── StaleConnection   it had served another request before, and ended without a byte of the answer
│   │   ├── TimedOut
│   │   ├── RateLimited         429; does not count as an attempt
│   │   │   └── Busy              503 or 529 while other requests are in flight
│   │   ├── ServerFault         5xx, 408, 409, 425, 450, 499
│   │   └── BadReply            a 2xx without an answer
│   │       └── ReplyTooLarge     one of more bytes than are read
│   ├── Refused               this request will never be answered: `bad_request`, `content_filter` or `too_long`
│   └── Fatal                 no request will be answered: authentication, exhausted quota, wrong address
├── NoBatchApi                the service has no Files or no Batch API; the online lane is used
└── RunStopped                the run ends early, with exit code 3, 4, 130 or 143
"""

from __future__ import annotations

import errno
from typing import Any


class JudgeRunnerError(Exception):
    """The base class of all errors that judge-runner raises deliberately."""


class UsageError(JudgeRunnerError):
    """Some input of the user is wrong; nothing was sent. Exit code 2."""


class ConfigError(UsageError):
    """The YAML, a `--set` value or an environment variable is wrong."""


class DatasetError(UsageError):
    """The dataset is missing, empty, entirely unreadable, or lacks a column."""


class RunDirectoryError(UsageError):
    """The run directory is locked, damaged, not writable, or belongs to another run."""


class ReportFailed(UsageError):
    """The report could not be written; the run and its rows are not affected."""


class BadRow(JudgeRunnerError):
    """One sample cannot be sent; `error_type` is `bad_row` or `too_long`. The catcher adds which sample it is."""

    def __init__(self, message: str, error_type: str = "bad_row") -> None:
        super().__init__(message)
        self.error_type = error_type


class ServiceError(JudgeRunnerError):
    """One call to the service failed.

    Args:
        message: what happened, in one line, without secrets.
        status: the HTTP status, if there was a response.
        retry_after: seconds that the service wants us to wait, if it said so.

    Attributes:
        usage: the tokens that the service counted for the call (a `types.Usage`); None if it counted none.
    """

    error_type = "server_error"
    usage: Any = None

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Transient(ServiceError):
    """Another attempt may succeed."""


class ConnectFailed(Transient):
    """No connection (refused, no route, unknown name, TLS); the request was never sent."""

    error_type = "connection"


class ConnectionLost(Transient):
    """The connection broke before the whole answer arrived."""

    error_type = "connection"


class StaleConnection(ConnectionLost):
    """A reused connection ended before the first byte of the answer: the service had most probably closed it before."""


class TimedOut(Transient):
    """The whole answer did not arrive within the configured time."""

    error_type = "timeout"


class RateLimited(Transient):
    """429: too many requests or tokens at the moment."""


class Busy(RateLimited):
    """503 or 529 while the service has other requests in flight: it may have no room for more at once.

    Also a connection for which this process has no descriptor left.
    """


class ServerFault(Transient):
    """The fault is on the service's side: 5xx, 408, 409, 425, 450 or 499."""


class BadReply(Transient):
    """A 2xx without an answer: truncated, not JSON, or without choices.

    Attributes:
        is_foreign: True if the body is no chat completion at all, broken or whole, and no error either: a web page, for
            example. If a service has sent nothing else yet, its address is wrong.
        is_answer: True if the service worked on this request, but its answer broke off or cannot be read. It is not
            down, then.
    """

    error_type = "bad_reply"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        is_foreign: bool = False,
        is_answer: bool = False,
    ) -> None:
        super().__init__(message, status=status, retry_after=retry_after)
        self.is_foreign = is_foreign
        self.is_answer = is_answer


class ReplyTooLarge(BadReply):
    """A 2xx with more bytes than are read (`service.max_reply_mb`): the service is up, and the rest is not read."""

    def __init__(self, message: str) -> None:
        super().__init__(message, is_answer=True)


class Refused(ServiceError):
    """The service will not answer this request: `bad_request`, `content_filter` or `too_long`.

    Attributes:
        is_own: True if the service says that the reason is in this request, such as its length. Otherwise every other
            request may get the same refusal: a parameter that the model does not know, for example.
    """

    def __init__(
        self, message: str, *, error_type: str = "bad_request", status: int | None = None, is_own: bool = False
    ) -> None:
        super().__init__(message, status=status)
        self.error_type = error_type
        self.is_own = is_own or error_type != "bad_request"


class Fatal(ServiceError):
    """The service will not answer any request of this run until a person acts.

    Attributes:
        reason: `authentication`, `quota` or `address`.
        is_certain: False if only the status says so. A firewall or a moderation layer may refuse one request with 403,
            404 or 405 while all others are answered.
        hint: what to do, if more is known than the reason; else None.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        status: int | None = None,
        hint: str | None = None,
        is_certain: bool = True,
    ) -> None:
        super().__init__(message, status=status)
        self.reason = reason
        self.hint = hint
        self.is_certain = is_certain


class NoBatchApi(JudgeRunnerError):
    """The service has no Files or no Batch API: it answered 404, 405 or 501."""


class RunStopped(JudgeRunnerError):
    """The run ends before every request has a row.

    Args:
        reason: the `stop_reason`, one of `authentication`, `quota`, `address`, `refused`, `output`, `dataset`,
            `outage`, `max_time`, `interrupted`, `terminated`, `detached`, `cancelled`, `undecided`, `storage`,
            `budget`, `breaker`, `incomplete`, `internal`.
        message: what happened and what to do, for a person.
        exit_code: 3 if a person must act, 4 to run again later, 130 or 143 if drained after a signal.
    """

    def __init__(self, reason: str, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


# What to do about an error of the system, before the same command is run again.
_OUTPUT_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free disk space"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n) or lower the concurrency"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make the run directory writable"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "put the run directory back in its place"),
    errno.EIO: "check the disk",
}


def output_failed(error: Exception) -> RunStopped:
    """Return the error for a run that stops because its rows cannot be written any more."""
    number = error.errno if isinstance(error, OSError) else None
    hint = _OUTPUT_HINTS.get(number, "mend what it names") if number is not None else "mend what it names"
    return RunStopped(
        "output",
        f"the output can no longer be written: {error}. All answers so far are kept in the journal; "
        f"{hint} and run the same command again.",
        exit_code=3,
    )
