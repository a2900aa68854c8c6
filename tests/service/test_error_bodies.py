"""Errors in bodies: is the account empty, is the service busy, and what an error inside a 200 means.

The texts are worded like those of the services; docs/services.md says where theirs were found.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BadReply, Fatal, RateLimited, Refused, ServerFault, ServiceError
from runner.service import error_from_response, read_completion
from runner.service.billing import BILLING_CODES, BILLING_NUMBERS, BILLING_WORDS

DOCS = (Path(__file__).parents[2] / "docs" / "services.md").read_text(encoding="utf-8")


def body(**error: Any) -> bytes:
    return json.dumps({"error": error}, ensure_ascii=False).encode()


def flat(**error: Any) -> bytes:
    return json.dumps(error, ensure_ascii=False).encode()


def minimax(code: int, message: str) -> bytes:
    return flat(choices=None, usage={"total_tokens": 0}, base_resp={"status_code": code, "status_msg": message})


def meaning(status: int, raw: bytes, dialect: str = "openai", **headers: str) -> str:
    error = error_from_response(status, headers, raw, dialect)
    return error.reason if isinstance(error, Fatal) else type(error).__name__


EMPTY = [
    (429, body(message="You exceeded your quota.", type="insufficient_quota", code="insufficient_quota")),
    (429, body(message="You exceeded your quota.", type="insufficient_quota", code="credit_balance_exhausted")),
    (429, body(message="See platform.openai.com/docs", type="insufficient_quota", code="project_spend_limit_exceeded")),
    (429, body(message="Billing hard limit has been reached", type="x", code="billing_hard_limit_reached")),
    (429, body(message="Your account is not active, please check your billing details on our website.")),
    (401, body(message="This account is deactivated.", code="account_deactivated")),
    (429, body(message="Your account o-1 <ak-2> is suspended due to insufficient balance, please recharge", type="z")),
    (403, body(message="not active", type="exceeded_current_quota_error")),
    (402, body(message="Insufficient Balance", type="unknown_error", code="invalid_request_error")),
    (402, b""),
    (402, b"<html>Payment Required</html>"),
    (429, body(code="1113", message="您的账户已欠费,请充值后重试。")),
    (403, body(code="x", message="抱歉\uff0c您的账户余额不足")),  # with the comma of Chinese text
    (429, body(code="1113", message="余额不足或无可用资源包,请充值。")),
    (429, body(type="rate_limit_error", code="1113", message="[1113][Insufficient balance or no resource package.]")),
    (429, body(message="Insufficient balance or no resource package. Please recharge.", type="AI_APICallError")),
    (403, flat(code=30001, message="Sorry, your account balance is insufficient", data=None)),
    (403, flat(code=30011, message="The model requires paid balance. Please top up.", data=None)),
    (402, body(code=402, message="Insufficient credits. Add more.")),
    (402, body(code=402, message="This request requires more credits, or fewer max_tokens.")),
    (400, body(message="API access is blocked", type="invalid_request_error", code="blocked_api_access")),
    (400, flat(type="error", error={"type": "invalid_request_error", "message": "Your credit balance is too low to"})),
    (400, body(type="invalid_request_error", message="You have reached your specified API usage limits. You will")),
    (
        429,
        body(
            type="rate_limit_error",
            message="You have reached your API usage limits: your organization",
            details={"error_code": "enforced_spend_limit_reached"},
        ),
    ),
    (400, flat(code="Arrearage", message="Access denied, please make sure your account is in good standing.")),
    (403, body(message="Access denied due to overdue account", code=None)),
    (403, body(code="AllocationQuota.FreeTierOnly", message="The free tier of the model has been exhausted.")),
    (403, body(code="AccountOverdueError", message="your account has an overdue balance. Request id: 1")),
    (200, minimax(1008, "insufficient balance")),
    (429, flat(code="BILLING_INSUFFICIENT_BALANCE", message="Your account has insufficient balance")),
    (403, body(message="user quota is not enough (request id: 1)", type="x_api_error", code="insufficient_user_quota")),
    (400, body(message="Budget has been exceeded! Current cost: 1.1, Max budget: 1.0", type="auth_error", code=400)),
    (400, body(message="litellm.BadRequestError: OpenAIException - Budget has been exceeded! Current cost: 14")),
    (429, flat(code="x", error="Your team 16f2-4a has either used all available credits or reached its monthly limit")),
    (412, body(message="Account acme is suspended, possibly due to reaching the monthly spending limit or failure to")),
    (402, body(code=402, status="RESOURCE_EXHAUSTED", message="Your prepayment credits are depleted.")),
    (403, flat(code="INSUFFICIENT_BALANCE", message="Insufficient account balance")),
    (200, body(code=402, message="Insufficient credits")),
    (200, body(code="insufficient_quota", message="check your plan, see https://platform.openai.com/docs")),
]


@pytest.mark.parametrize(("status", "raw"), EMPTY, ids=[raw.decode()[:60] for _, raw in EMPTY])
def test_an_empty_account_ends_the_quota_for_good(status: int, raw: bytes) -> None:
    assert meaning(status, raw) == "quota"
    error = error_from_response(status, {}, raw, "openai")
    assert str(error).startswith("HTTP ")


AZURE = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded token "
    "rate limit of your current AIServices S0 pricing tier. Please retry after 20 seconds. Please contact support"
)
BUSY = [
    (
        429,
        body(message="Rate limit reached for m in organization o on tokens per min (TPM): Limit 30000", type="tokens"),
    ),
    (429, body(message=AZURE, code="429")),
    (429, body(message="Rate limit is exceeded. Try again in 60 seconds.", code="429")),
    (429, body(message="Number of request tokens has exceeded your per-minute rate limit", type="rate_limit_error")),
    (429, body(message="request reached max organization concurrency: 3", type="rate_limit_reached_error")),
    (429, body(message="The engine is currently overloaded, please try again later", type="engine_overloaded_error")),
    (429, body(code="1302", message="您的账户已达到速率限制,请您控制请求频率")),
    (429, body(code="1305", message="该模型当前访问量过大,请您稍后再试")),
    (429, body(code="1308", message="已达到 5 小时的使用上限。您的限额将在 2026-12-01 00:00 重置。")),
    (
        429,
        flat(code=50604, message="Request was rejected due to rate limiting. Details: TPM limit reached.", data=None),
    ),
    (429, body(code=429, message="Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 requests")),
    (402, body(code=402, message="in flight", metadata={"reason": "in_flight_budget_exhausted"})),
    (429, body(message="Rate limit reached: TPD. Need more tokens? Upgrade at console.example/settings/billing")),
    (
        429,
        body(
            message="You have been rate limited at 60 queries. Go to settings/billing to upgrade", type="credit_limit"
        ),
    ),
    (429, body(message="Requests rate limit exceeded", type="requests_limit_error", code="1300")),
    (
        429,
        flat(code="Throttling.AllocationQuota", message="Allocated quota exceeded, please increase your quota limit."),
    ),
    (
        429,
        body(
            message="You exceeded your current quota, please check your plan and billing details. For details, see: "
            "https://help.aliyun.com/zh/model-studio/error-code#token-limit",
            code="insufficient_quota",
        ),
    ),
    (
        429,
        flat(
            error={
                "code": 429,
                "message": "You exceeded your current quota, please check your plan and billing details. See "
                "https://ai.google.dev/gemini-api/docs/rate-limits. Please retry in 33.5s.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"reason": "RATE_LIMIT_EXCEEDED"}],
            }
        ),
    ),
    (429, b'[{"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}]'),
    (429, body(code="RateLimitExceeded.EndpointTPMExceeded", message="your account's TPM; see the billing page")),
    (429, body(code="rpm_rate_limit_exceeded", message="Rate limit reached for RPM")),
    (200, minimax(1002, "rate limit")),
    (200, minimax(1039, "token limit")),
    (429, flat(code=1113, message="too many requests")),  # a number of another service
    (429, b"error code: 1015"),
]


@pytest.mark.parametrize(("status", "raw"), BUSY, ids=[raw.decode()[:60] for _, raw in BUSY])
def test_throttling_is_never_taken_for_an_empty_account(status: int, raw: bytes) -> None:
    assert meaning(status, raw, "pai") == meaning(status, raw, "openai") == "RateLimited"


def test_a_402_that_asks_to_wait_is_waited_for() -> None:
    assert meaning(402, b"", **{"Retry-After": "5"}) == "RateLimited"
    assert meaning(402, b"", **{"x-ratelimit-reset-requests": "5s"}) == "quota"


@pytest.mark.parametrize("words", ["insufficient balance", "余额不足", "your credit balance is too low", "1113"])
def test_a_refusal_that_quotes_the_sample_is_about_the_sample(words: str) -> None:
    assert meaning(400, body(message=f"Invalid content: 'He said: {words}'", code="invalid_request_error")) == "Refused"
    assert meaning(422, flat(detail=[{"msg": "too long", "input": words}])) == "Refused"


def test_the_documentation_has_every_word() -> None:
    found = DOCS.partition("## When the account is empty")[2].partition("\n## ")[0]
    for code, service in {**BILLING_CODES, **BILLING_NUMBERS}.items():
        assert f"`{code.removeprefix('base_resp.')}`" in found.lower(), code
        assert service in found, service
    quoted = [" ".join(text.split()).lower() for text in re.findall(r"\"([^\"]+)\"", found)]
    for pattern in BILLING_WORDS:
        assert any(re.match(pattern, text, re.IGNORECASE) for text in quoted), pattern


INSIDE = [
    (body(code=429, message="Provider returned error"), RateLimited, 429),
    (body(code="429", message="slow"), RateLimited, 429),
    (body(status=429, message="slow"), RateLimited, 429),
    (body(code="rate_limit_exceeded", message="slow"), RateLimited, 429),
    (body(status="RESOURCE_EXHAUSTED", message="slow"), RateLimited, 429),
    (flat(code=429, msg="slow"), RateLimited, 429),
    (flat(error="Too Many Requests", status=429), RateLimited, 429),
    (flat(code="Throttling.BurstRate", message="slow"), RateLimited, 429),
    (flat(error_code=336501, error_msg="Rate limit reached for RPM"), RateLimited, 429),
    (flat(errors=[{"code": 429, "message": "slow"}], success=False), RateLimited, 429),
    (body(code=502, message="Upstream error"), ServerFault, 502),
    (body(type="overloaded_error", message="Overloaded"), ServerFault, 529),
    (body(code=408, message="timed out"), ServerFault, 408),
    (body(type="server_error", message="oops"), ServerFault, 500),
    (flat(code="InternalError", message="broken"), ServerFault, 500),
    (minimax(1033, "downstream"), ServerFault, 500),
    (minimax(1001, "timeout"), ServerFault, 504),
    (body(code=400, message="bad"), Refused, 400),
    (body(type="invalid_request_error", message="bad"), Refused, 400),
    (minimax(2013, "invalid params"), Refused, 400),
    (minimax(1027, "output new_sensitive"), Refused, 200),
    (body(code=401, message="bad key"), Fatal, 401),
    (body(code="invalid_api_key", message="bad key"), Fatal, 401),
    (minimax(1004, "login fail: carry the secret key"), Fatal, 401),
    (body(code=403, message="no"), Fatal, 403),
    (flat(timestamp=1, status=404, error="Not Found", path="/chat"), Fatal, 404),
    (body(message="Provider returned error"), BadReply, 200),
    (body(code=777, message="odd"), BadReply, 200),
    (body(code=True, message="odd"), BadReply, 200),
    (flat(code=200, message="fine", data=None), BadReply, 200),
]


@pytest.mark.parametrize(("raw", "kind", "status"), INSIDE, ids=[case[0].decode()[:60] for case in INSIDE])
def test_an_error_inside_a_200_is_read_by_its_code(raw: bytes, kind: type[ServiceError], status: int) -> None:
    with pytest.raises(ServiceError) as caught:
        read_completion(raw)
    error = caught.value
    assert (type(error), error.status) == (kind, status)
    said = re.findall(r'"(?:message|msg|error_msg|status_msg|error)": "([^"]+)"', raw.decode())
    assert said[0] in str(error)
    if status != 200:
        assert f"HTTP 200 with {status} inside" in str(error)


@pytest.mark.parametrize(
    ("choice", "kind"),
    [
        ({"message": {"content": ""}, "finish_reason": "error", "error": {"code": 429, "message": "x"}}, RateLimited),
        ({"message": {"content": None}, "finish_reason": "error", "error": {"code": 502, "message": "x"}}, ServerFault),
        ({"message": {"content": "Half"}, "finish_reason": "error", "error": {"code": 502, "message": "x"}}, BadReply),
        ({"message": {"content": "Half"}, "finish_reason": "error", "error": {"code": 402, "message": "x"}}, Fatal),
        ({"message": {"content": ""}, "finish_reason": "error"}, BadReply),
    ],
)
def test_an_error_in_place_of_a_text(choice: dict[str, Any], kind: type[ServiceError]) -> None:
    with pytest.raises(ServiceError) as caught:
        read_completion(json.dumps({"choices": [choice]}).encode())
    assert type(caught.value) is kind


def test_what_the_provider_behind_a_router_said_is_in_the_message() -> None:
    raw = body(message="Provider returned error", code=429, metadata={"raw": "m is busy upstream"})
    assert "Provider returned error: m is busy upstream (429)" in str(error_from_response(200, {}, raw))


texts = st.text(max_size=60)


@given(text=texts, code=st.sampled_from(["", "429", "rate_limit_exceeded", "x", "1302"]) | texts)
def test_words_after_the_beginning_never_empty_an_account(text: str, code: str) -> None:
    raw = body(message=f"Please slow down: {text} insufficient balance 余额不足", code=code)
    expected = "quota" if code.lower() in BILLING_CODES or code == "insufficient_quota" else "RateLimited"
    if code not in BILLING_NUMBERS and code != "data_inspection_failed":
        assert meaning(429, raw) == expected
