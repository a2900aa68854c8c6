"""The body of a chat request: its shape, and the errors for an invalid one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from runner.emulator.api_errors import ApiError, bad_request, invalid_body, invalid_json
from runner.emulator.draws import digest
from runner.emulator.text_facts import estimate_tokens

# The documented context of pai-judge and pai-judge-plus.
MAX_PROMPT_TOKENS = 32_768

# About what the built-in templates add to a prompt, according to the usage in the documentation's samples.
TEMPLATE_TOKENS = 700

DEFAULT_MAX_SCORE = 5

Mode = Literal["single", "pairwise"]


class Fields(msgspec.Struct, frozen=True):
    """The `json` of a built-in evaluation: the documented fields and the optional ones of the older SDK."""

    question: str | None = None
    answer: str | None = None
    answer1: str | None = None
    answer2: str | None = None
    ref_answer: str | None = None
    scene: str | None = None
    scene_desc: str | None = None
    metric: str | None = None
    max_score: str | int | None = None
    score_desc: str | None = None
    steps: str | None = None


class Part(msgspec.Struct, frozen=True):
    """One part of a list content: `{mode, type: json, json}` or `{type: text, text}`."""

    type: str = "json"
    mode: Mode | None = None
    json: Fields | None = None
    text: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], msgspec.Meta(min_length=1)]


class StreamOptions(msgspec.Struct, frozen=True):
    """What a streamed answer has besides its text."""

    include_usage: bool = False


class ChatBody(msgspec.Struct, frozen=True):
    """The parameters of a chat body that the emulator uses; all others are accepted and have no effect."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """A valid chat request.

    Attributes:
        digest: identifies the body.
        model: the requested model.
        fields: the fields of a built-in evaluation, or None for custom messages.
        mode: `single` or `pairwise` for a built-in evaluation, else None.
        max_score: the highest score of the scale, for a built-in evaluation; else 0.
        system, user: the texts of custom messages; empty for a built-in evaluation.
        prompt_tokens: estimated tokens of the prompt.
        max_tokens: the largest number of tokens that the answer can have, or None.
        stream: True if the answer is to be streamed; its digest is that of the body without the wish.
        counts_stream: True if the last chunk of the stream is to have the usage.
    """

    digest: bytes
    model: str
    fields: Fields | None
    mode: Mode | None
    max_score: int
    system: str
    user: str
    prompt_tokens: int
    max_tokens: int | None
    stream: bool = False
    counts_stream: bool = False


def decode_chat_request(raw: bytes) -> ChatRequest:
    """Decode and check the bytes of a chat request.

    Raises:
        ApiError: a 400 that says what is wrong.
    """
    try:
        return parse_chat_request(msgspec.json.decode(raw), may_stream=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_json(error) from None


def parse_chat_request(value: Any, *, may_stream: bool = False) -> ChatRequest:
    """Check a decoded chat body, either from an HTTP request or from a line of a batch file.

    Args:
        value: the body.
        may_stream: True if the answer can be streamed, which that of a batch cannot.

    Raises:
        ApiError: a 400 that says what is wrong.
    """
    try:
        body = msgspec.convert(value, ChatBody)
    except msgspec.ValidationError as error:
        raise invalid_body(error) from None
    if body.stream and not may_stream:
        raise bad_request("The answers of a batch are not streamed: omit `stream`.", param="stream")
    if body.stream_options is not None and not body.stream:
        raise bad_request("`stream_options` needs `stream: true`.", param="stream_options")
    if body.n is not None and body.n > 1:
        raise bad_request("Only one answer per request is supported: omit `n`.", param="n")
    if body.stream:
        value = {key: item for key, item in value.items() if key not in ("stream", "stream_options")}
    path, part = _json_part(body.messages)
    chat = _custom(body, value) if part is None else _evaluation(body, value, path, part)
    if chat.prompt_tokens > MAX_PROMPT_TOKENS:
        raise _too_long(chat.prompt_tokens)
    return chat


def _json_part(messages: list[Message]) -> tuple[str, Part | None]:
    """Return the only `json` part and its path in the body, or `("", None)` if there is none; check all parts."""
    found: tuple[str, Part | None] = ("", None)
    for number, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for index, part in enumerate(message.content):
            path = f"messages[{number}].content[{index}]"
            if part.json is None and part.text is None:
                raise bad_request(
                    "A part of a content is {mode, type: json, json: {...}} or {type: text, text}; "
                    "a content cannot contain a whole message.",
                    param=path,
                )
            if part.json is not None:
                if found[1] is not None:
                    raise bad_request("A request can have only one json part.", param=path)
                found = (path, part)
    return found


def _evaluation(body: ChatBody, value: Any, path: str, part: Part) -> ChatRequest:
    fields = part.json or Fields()
    mode: Mode = part.mode or ("pairwise" if fields.answer1 is not None else "single")
    required = ("question", "answer") if mode == "single" else ("question", "answer1", "answer2")
    for name in required:
        if getattr(fields, name) is None:
            raise bad_request(f"{name} field missing", param=f"{path}.json.{name}")
    texts = (text for text in msgspec.structs.astuple(fields) if isinstance(text, str))
    return ChatRequest(
        digest=digest(value),
        model=body.model,
        fields=fields,
        mode=mode,
        max_score=_max_score(fields.max_score, path),
        system="",
        user="",
        prompt_tokens=TEMPLATE_TOKENS + sum(map(estimate_tokens, texts)),
        max_tokens=body.max_tokens or body.max_completion_tokens,
        stream=bool(body.stream),
        counts_stream=body.stream_options is not None and body.stream_options.include_usage,
    )


def _custom(body: ChatBody, value: Any) -> ChatRequest:
    system_texts: list[str] = []
    user_texts: list[str] = []
    for message in body.messages:
        texts = system_texts if message.role in ("system", "developer") else user_texts
        if isinstance(message.content, str):
            texts.append(message.content)
        else:
            texts.extend(part.text or "" for part in message.content)
    system, user = "\n".join(system_texts), "\n".join(user_texts)
    return ChatRequest(
        digest=digest(value),
        model=body.model,
        fields=None,
        mode=None,
        max_score=0,
        system=system,
        user=user,
        prompt_tokens=estimate_tokens(system) + estimate_tokens(user) + 4 * len(body.messages),
        max_tokens=body.max_tokens or body.max_completion_tokens,
        stream=bool(body.stream),
        counts_stream=body.stream_options is not None and body.stream_options.include_usage,
    )


def _max_score(value: str | int | None, path: str) -> int:
    if value is None or value == "":
        return DEFAULT_MAX_SCORE
    try:
        max_score = int(value)
    except ValueError:
        max_score = 0
    if not 1 <= max_score <= 1000:
        raise bad_request("max_score must be a whole number from 1 to 1000.", param=f"{path}.json.max_score")
    return max_score


def _too_long(count: int) -> ApiError:
    return bad_request(
        f"The longest prompt that this model accepts is {MAX_PROMPT_TOKENS} tokens; this one has about {count}.",
        code="context_length_exceeded",
        param="messages",
    )
