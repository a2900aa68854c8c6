"""The answer to a chat request: the judge's text, and the JSON object around it in each dialect."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from runner.emulator.answers.pai_texts import pair_text, phrases_for, single_text
from runner.emulator.answers.scoring import VerdictBias, answer_quality, compare, rate, text_hash
from runner.emulator.answers.template_answers import Prompt, custom_text
from runner.emulator.chat_request import ChatRequest, Fields
from runner.emulator.draws import BodyDraws, Draws
from runner.emulator.options import Dialect, EmulatorOptions, UsageCounting
from runner.emulator.text_facts import estimate_tokens, is_chinese, truncate

THINKING_FACTOR = 20  # tokens of a thought per token of its answer


class Answer(msgspec.Struct, frozen=True):
    """A complete answer of the judge.

    Attributes:
        id: a bare UUID.
        completion_tokens: all output tokens, those of a thought included.
        usage: what the reply says about tokens.
    """

    id: str
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    usage: dict[str, int] | None

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


def answer(
    chat: ChatRequest, options: EmulatorOptions, draws: Draws, body_draws: BodyDraws, *, unparsable: bool = False
) -> Answer:
    """Judge a chat request. The answer depends only on the texts, the model's name, the options and the draws.

    Args:
        unparsable: True to write an answer without a verdict.
    """
    chinese = is_chinese((chat.fields.question if chat.fields else None) or chat.user or chat.system)
    if unparsable:
        text = phrases_for(chinese).no_verdict
    else:
        text = _text(chat, _bias(options, draws, body_draws), chinese)
    count, reason = estimate_tokens(text), "stop"
    if chat.max_tokens is not None and count > chat.max_tokens:
        text, count, reason = truncate(text, chat.max_tokens), chat.max_tokens, "length"
    thinking = THINKING_FACTOR * count if options.usage == "total_only" else 0
    if chat.max_tokens is not None:
        thinking = min(thinking, chat.max_tokens - count)
    return Answer(
        id=uuid_text(draws.id),
        model=chat.model,
        text=text,
        finish_reason=reason,
        prompt_tokens=chat.prompt_tokens,
        completion_tokens=count + thinking,
        usage=_usage(options.usage, chat.prompt_tokens, count, thinking),
    )


def completion(answer: Answer, dialect: Dialect) -> dict[str, Any]:
    """Build the chat.completion object of an online response."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    body: dict[str, Any] = {
        "id": answer.id if dialect == "pai" else f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        # The page's samples have values that are not Unix times (1633389). A client that sorts or times by `created`
        # should find that out here.
        "created": int(time.monotonic() if dialect == "pai" else time.time()),
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}],
        "usage": answer.usage,
    }
    if dialect == "pai":
        message.update(refusal="", function_call=None, tool_calls=None)
        body.update(system_fingerprint="", service_tier="")
    elif dialect == "openai":
        message.update(refusal=None)
        body.update(system_fingerprint="fp_emulator", service_tier="default")
    else:
        body.update(system_fingerprint=None)
    return body


def line_completion(answer: Answer, dialect: Dialect) -> dict[str, Any]:
    """Build the chat.completion object of a line in a batch's output file."""
    online = completion(answer, dialect)
    if dialect != "pai":
        return online
    choice = {"finish_reason": answer.finish_reason, "index": 0, "message": {"content": answer.text}}
    return {
        "created": int(time.time()),
        "usage": online["usage"],
        "model": answer.model,
        "id": f"chatcmpl-{answer.id}",
        "choices": [choice],
        "object": "chat.completion",
    }


def _usage(counting: UsageCounting, prompt: int, text: int, thinking: int) -> dict[str, int] | None:
    if counting == "none":
        return None
    counts = {"prompt_tokens": prompt, "completion_tokens": text, "total_tokens": prompt + text + thinking}
    return dict.fromkeys(counts, 0) if counting == "zeros" else counts


def _bias(options: EmulatorOptions, draws: Draws, body_draws: BodyDraws) -> VerdictBias:
    forced_winner = None
    if body_draws.bias < abs(options.bias):
        forced_winner = 1 if options.bias > 0 else 2
    # A draw below `options.noise` is uniform in [0, noise), so scaled up it also selects the other verdict.
    noise = draws.noise / options.noise if draws.noise < options.noise else None
    return VerdictBias(forced_winner, noise)


def _text(chat: ChatRequest, bias: VerdictBias, chinese: bool) -> str:
    if chat.fields is None:
        return custom_text(Prompt(chat.system, chat.user, chat.model, bias), phrases_for(chinese))
    fields = chat.fields
    if chat.mode == "single":
        answer = fields.answer or ""
        quality = _quality(fields, answer, chat.model)
        return single_text(rate(quality, chat.max_score, text_hash(answer), bias), chinese)
    quality1, quality2 = (_quality(fields, text or "", chat.model) for text in (fields.answer1, fields.answer2))
    variation = text_hash(fields.question or "")
    return pair_text(compare(quality1, quality2, chat.max_score, variation, bias), chinese)


def _quality(fields: Fields, answer: str, model: str) -> float:
    return answer_quality(fields.question or "", answer, fields.ref_answer, model)


def uuid_text(raw: bytes) -> str:
    """Format 16 bytes as a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
