"""The answer to a chat request: the judge's text and the JSON around it, in each dialect's shape."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from runner.emulator.answers.pai_texts import language, pair_text, single_text
from runner.emulator.answers.scoring import VerdictBias, compare, quality, rate, shade_of
from runner.emulator.answers.template_answers import Prompt, custom_text
from runner.emulator.chat_request import ChatRequest, Fields
from runner.emulator.draws import BodyDraws, Draws
from runner.emulator.options import Dialect, EmulatorOptions
from runner.emulator.text_facts import cut, is_chinese, tokens


class Answer(msgspec.Struct, frozen=True):
    """A judge's whole answer; `id` is a bare UUID."""

    id: str
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens of prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


def answer(
    ask: ChatRequest, options: EmulatorOptions, draws: Draws, lot: BodyDraws, *, unparsable: bool = False
) -> Answer:
    """Judge what a request asks; the texts and the draws alone decide."""
    chinese = is_chinese((ask.fields.question if ask.fields else None) or ask.user or ask.system)
    if unparsable:
        text = language(chinese).no_verdict
    else:
        text = _text(ask, _sway(options, draws, lot), chinese)
    count, reason = tokens(text), "stop"
    if ask.limit is not None and count > ask.limit:
        text, count, reason = cut(text, ask.limit), ask.limit, "length"
    return Answer(
        id=uuid_text(draws.id),
        model=ask.model,
        text=text,
        finish_reason=reason,
        prompt_tokens=ask.prompt_tokens,
        completion_tokens=count,
    )


def completion(answer: Answer, dialect: Dialect) -> dict[str, Any]:
    """Put an answer into the chat.completion object of a dialect, as it comes online."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    body: dict[str, Any] = {
        "id": answer.id if dialect == "pai" else f"chatcmpl-{answer.id}",
        "object": "chat.completion",
        # The page's own samples are no Unix times (1633389): whoever orders or times by them should notice here.
        "created": int(time.monotonic() if dialect == "pai" else time.time()),
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason, "logprobs": None}],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.tokens,
        },
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
    """Put an answer into the chat.completion object of a dialect, as it stands in a batch's output."""
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


def _sway(options: EmulatorOptions, draws: Draws, lot: BodyDraws) -> VerdictBias:
    favour = None
    if lot.bias < abs(options.bias):
        favour = 1 if options.bias > 0 else 2
    # Below its share the draw is uniform up to that share, so it also says which other verdict is given.
    change = draws.noise / options.noise if draws.noise < options.noise else None
    return VerdictBias(favour, change)


def _text(ask: ChatRequest, sway: VerdictBias, chinese: bool) -> str:
    if ask.fields is None:
        return custom_text(Prompt(ask.system, ask.user, ask.model, sway), language(chinese))
    fields = ask.fields
    if ask.mode == "single":
        answer = fields.answer or ""
        return single_text(rate(_worth(fields, answer, ask.model), ask.top, shade_of(answer), sway), chinese)
    worth1, worth2 = (_worth(fields, text or "", ask.model) for text in (fields.answer1, fields.answer2))
    return pair_text(compare(worth1, worth2, ask.top, shade_of(fields.question or ""), sway), chinese)


def _worth(fields: Fields, answer: str, model: str) -> float:
    return quality(fields.question or "", answer, fields.ref_answer, model)


def uuid_text(raw: bytes) -> str:
    """Write 16 bytes as a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
