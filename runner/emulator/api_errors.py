"""The errors of the service, each as an HTTP status and an OpenAI-shaped body."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runner.emulator.options import Dialect
from runner.emulator.quota import Denial, retry_headers


class ApiError(Exception):
    """An error response of the service.

    Args:
        status: the HTTP status code.
        message, kind, code, param: the fields `message`, `type`, `code` and `param` of the body's `error`.
        headers: headers to add to the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": kind, "param": param, "code": code}
        self.headers = dict(headers or {})

    @property
    def body(self) -> bytes:
        """The JSON body, `{"error": {message, type, param, code}}`."""
        return msgspec.json.encode({"error": self.error})


def bad_request(message: str, *, code: str | None = "invalid_request", param: str | None = None) -> ApiError:
    """Return a 400 for an invalid request."""
    return ApiError(400, message, kind="invalid_request_error", code=code, param=param)


def invalid_json(error: Exception) -> ApiError:
    """Return a 400 for a body that cannot be decoded."""
    return bad_request(f"The body is not valid JSON: {error}.")


def invalid_body(error: msgspec.ValidationError) -> ApiError:
    """Return a 400 for a body of the wrong shape.

    The text of msgspec's error, ``... - at `$.messages[0].role` ``, becomes a message and the parameter's name.
    """
    what, _, path = str(error).partition(" - at `$")
    param = path.rstrip("`").lstrip(".") or None
    return bad_request(f"Invalid body: {what}.", param=param)


def unauthorized() -> ApiError:
    """Return a 401 for a missing or wrong token."""
    return ApiError(401, "The API key is missing or not valid.", kind="invalid_request_error", code="invalid_api_key")


def content_refused() -> ApiError:
    """Return a 400 for a body that the service's content inspection refuses at every attempt."""
    return ApiError(
        400,
        "The input may contain content that is not allowed.",
        kind="data_inspection_failed",
        code="data_inspection_failed",
    )


def unknown_url(path: str) -> ApiError:
    """Return a 404 for a path that is not served."""
    return ApiError(404, f"Unknown URL: {path}.", kind="invalid_request_error", code="unknown_url")


def not_found(kind: str, key: str, param: str = "id") -> ApiError:
    """Return a 404 for an id that does not exist.

    Args:
        kind: what the id names, `file` or `batch`.
        key: the id.
        param: the request's parameter that holds the id.
    """
    message = f"There is no {kind} with the id {key!r}."
    return ApiError(404, message, kind="invalid_request_error", code="not_found", param=param)


def server_error(status: int) -> ApiError:
    """Return a 500 or 503."""
    if status == 503:
        return ApiError(503, "The service is overloaded.", kind="server_error", code="service_unavailable")
    return ApiError(status, "An internal error occurred.", kind="server_error", code="internal_error")


def throttled(dialect: Dialect, denial: Denial, headers: Mapping[str, str]) -> ApiError:
    """Return a 429 in the wording of the dialect; each dialect has its own codes for requests and for tokens."""
    if dialect == "openai":
        message, kind, code = f"Rate limit reached for {denial.kind} per minute.", denial.kind, "rate_limit_exceeded"
    elif denial.kind == "requests":
        message, kind, code = "You exceeded your current requests list.", "limit_requests", "limit_requests"
    else:
        message, kind, code = "Allocated quota exceeded.", "insufficient_quota", "Throttling.AllocationQuota"
    return ApiError(429, message, kind=kind, code=code, headers={**retry_headers(denial.wait), **headers})


def out_of_credit(dialect: Dialect) -> ApiError:
    """Return a 429 for an account without credit. The status is that of throttling, but waiting does not help."""
    if dialect == "openai":
        message, code = "You exceeded your current quota, please check your plan and billing.", "insufficient_quota"
    else:
        message, code = "The bill of this account is overdue.", "PostpaidBillOverdue"
    return ApiError(429, message, kind=code, code=code)


def file_pending(key: str) -> ApiError:
    """Return the 400 for a creation whose input file is not processed yet, as Azure words it."""
    message = f"The input file {key!r} is in 'pending' state. Only files that are processed are accepted for batches."
    return bad_request(message, code="invalidPayload", param="input_file_id")


def queue_full(status: int, limit: int) -> ApiError:
    """Return the refusal of a creation because too many lines are in open jobs."""
    message = f"Enqueued request limit reached: {limit} requests. Try again once other batches have been completed."
    return ApiError(status, message, kind="enqueued_limit", code="enqueued_request_limit_reached")
