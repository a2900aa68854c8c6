"""Everything the service refuses, as a status and an OpenAI-shaped body."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from runner.emulator.options import Dialect
from runner.emulator.quota import Denial, retry_headers


class ApiError(Exception):
    """A request that is not answered; `body` is what the service says instead."""

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
    """A 400 for a body that does not fit."""
    return ApiError(400, message, kind="invalid_request_error", code=code, param=param)


def unauthorized() -> ApiError:
    """A 401 for a missing or wrong token."""
    return ApiError(401, "The API key is missing or not valid.", kind="invalid_request_error", code="invalid_api_key")


def content_refused() -> ApiError:
    """A 400 for a body that the service's content inspection will never let pass."""
    return ApiError(
        400,
        "The input may contain content that is not allowed.",
        kind="data_inspection_failed",
        code="data_inspection_failed",
    )


def nothing_at(path: str) -> ApiError:
    """A 404 for a path that is not served."""
    return ApiError(404, f"There is nothing at {path}.", kind="invalid_request_error", code="unknown_url")


def not_found(kind: str, key: str, param: str = "id") -> ApiError:
    """A 404 for an id that names nothing."""
    message = f"There is no {kind} with the id {key!r}."
    return ApiError(404, message, kind="invalid_request_error", code="not_found", param=param)


def server_error(status: int) -> ApiError:
    """A 500 or 503 at the service's side."""
    if status == 503:
        return ApiError(503, "The service is overloaded just now.", kind="server_error", code="service_unavailable")
    return ApiError(status, "Something failed inside the service.", kind="server_error", code="internal_error")


def throttled(dialect: Dialect, denial: Denial, headers: Mapping[str, str]) -> ApiError:
    """A 429 in the words of the dialect: each names a spent minute of requests or of tokens differently."""
    if dialect == "openai":
        message, kind, code = f"Rate limit reached for {denial.kind} per minute.", denial.kind, "rate_limit_exceeded"
    elif denial.kind == "requests":
        message, kind, code = "You exceeded your current requests list.", "limit_requests", "limit_requests"
    else:
        message, kind, code = "Allocated quota exceeded.", "insufficient_quota", "Throttling.AllocationQuota"
    return ApiError(429, message, kind=kind, code=code, headers={**retry_headers(denial.wait), **headers})


def out_of_credit(dialect: Dialect) -> ApiError:
    """A 429 for an account without money, which no waiting mends; the same status as that of a spent minute."""
    if dialect == "openai":
        message, code = "You exceeded your current quota, please check your plan and billing.", "insufficient_quota"
    else:
        message, code = "The bill of this account is overdue.", "PostpaidBillOverdue"
    return ApiError(429, message, kind=code, code=code)
