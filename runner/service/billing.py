"""Is the account empty? The words of each service for it; docs/services.md has the same table with the sources.

Such a reply ends the use of a service until a person acts, so a quota that is only used up for the moment must never be
taken for it. Therefore codes count whole, and messages only by how they begin: a refusal may quote the sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

BILLING_CODES: Mapping[str, str] = {
    # OpenAI: a 429, or a 401 for the last one. Its type is `insufficient_quota`, see ACCOUNT_CODE.
    "credit_balance_exhausted": "OpenAI",
    "organization_spend_limit_exceeded": "OpenAI",
    "project_spend_limit_exceeded": "OpenAI",
    "organization_usage_limit_exceeded": "OpenAI",
    "billing_hard_limit_reached": "OpenAI",
    "billing_not_active": "OpenAI",
    "account_deactivated": "OpenAI",
    "billing_error": "Anthropic",
    "enforced_spend_limit_reached": "Anthropic",
    "exceeded_current_quota_error": "Moonshot",
    "arrearage": "Model Studio",
    "prepaidbilloverdue": "Model Studio",
    "postpaidbilloverdue": "Model Studio",
    "commoditynotpurchased": "Model Studio",
    "allocationquota.freetieronly": "Model Studio",
    "accountoverdueerror": "Volcengine",
    "serviceoverdue": "Volcengine",
    "billing_insufficient_balance": "Baidu",
    "blocked_api_access": "Groq",
    "insufficient_user_quota": "One API, New API",
    "pre_consume_token_quota_failed": "One API, New API",
    "budget_exceeded": "LiteLLM",
    "insufficient_balance": "several gateways",
    "insufficient_credits": "several gateways",
    "spend_limit_exceeded": "several gateways",
}

# Numbers mean something else at every service: they count only with a message that speaks of money.
BILLING_NUMBERS: Mapping[str, str] = {
    "1113": "Zhipu",
    "30001": "SiliconFlow",
    "30011": "SiliconFlow",
    "base_resp.1008": "MiniMax",
}
_MONEY = re.compile(r"balance|arrears|overdue|recharge|top up|credit|余额|欠费|充值", re.IGNORECASE)

# At OpenAI the account is empty; at Model Studio, the tokens per minute are used up. The messages differ only by the
# address of the documentation in them.
ACCOUNT_CODE = "insufficient_quota"

# A 402 that passes by itself, once requests in flight have been settled (OpenRouter).
TRANSIENT_CODES = frozenset({"in_flight_budget_exhausted"})

# Beginnings of messages of services that have no code for it, and of others when a gateway has dropped the code. Before
# them, a gateway may have written the name of its exception.
BILLING_WORDS = (
    r"your credit balance is too low",  # Anthropic, 400
    r"you have reached your (?:specified )?(?:\w+ )?API usage limits",  # Anthropic, 400 and 429
    r"your team \S{1,60} has either used all available credits",  # xAI, 403 and 429
    r"your account (?:[^\s.]{1,80} ){0,3}is suspended due to insufficient balance",  # Moonshot, 429
    r"account \S{1,80} is suspended, possibly due to reaching the monthly spending limit",  # Fireworks, 412
    r"your account is not active, please check your billing details",  # OpenAI, 429
    r"your prepayment credits are depleted",  # Gemini, 402; 429 until October 2026
    r"budget has been exceeded!",  # LiteLLM, 400
    r"access denied due to overdue account",  # Model Studio, 403
    r"you have run out of credits",  # xAI, 403
    r"(?:sorry, )?(?:your |the )?(?:account )?balance is insufficient",  # SiliconFlow, 403
    r"(?:your account has )?insufficient (?:account )?(?:balance|credits)",  # DeepSeek, Z.ai, OpenRouter, Baidu
    r"(?:抱歉[,，]?\s?)?(?:您的?)?(?:账户|账号|帐户)?(?:已欠费|余额不足)",  # Zhipu and others
)
_BILLING_WORDS = re.compile(
    r"(?:\[[^\]]{0,40}\]\s*)*(?:[\w.]*(?:Error|Exception)\b[\s:-]*){0,3}(?:" + "|".join(BILLING_WORDS) + ")",
    re.IGNORECASE,
)


def is_account_empty(status: int, code: str, message: str, dialect: str, *, asks_to_wait: bool) -> bool:
    """Return True if a service refuses because nothing is left to spend, and waiting does not help.

    Args:
        status: the HTTP status.
        code: the code of the error, in lower case.
        message: its message.
        dialect: what `insufficient_quota` means if the message does not tell.
        asks_to_wait: True if the reply says how long to wait.
    """
    if code in BILLING_CODES:
        return True
    if code in BILLING_NUMBERS and _MONEY.search(message):
        return True
    if status == 402:
        return not (asks_to_wait or code in TRANSIENT_CODES)
    if code == ACCOUNT_CODE:
        text = message.lower()
        is_openai = "platform.openai.com" in text or (dialect == "openai" and "model-studio" not in text)
        return is_openai and "aliyun" not in text
    return _BILLING_WORDS.match(message) is not None
