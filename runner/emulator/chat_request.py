"""The body of a chat request: its shape, and what is wrong with one that does not fit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from runner.emulator.api_errors import ApiError, bad_request
from runner.emulator.draws import digest
from runner.emulator.text_facts import tokens

CONTEXT = 32_768
"""Tokens a prompt may have: the documented context of pai-judge and pai-judge-plus."""

TEMPLATE_TOKENS = 700
"""About what the built-in templates add to a prompt, after the usage in the documentation's samples."""

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


class ChatBody(msgspec.Struct, frozen=True):
    """What the emulator reads of a chat body; all other parameters are accepted and change nothing."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stream: bool | None = None
    n: Annotated[int, msgspec.Meta(ge=1)] | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat request that can be answered.

    Attributes:
        digest: what identifies the body.
        fields: the built-in evaluation's fields, or None for custom messages.
        mode: `single` or `pairwise` for a built-in evaluation.
        top: the best score of its scale, for a built-in evaluation.
        system, user: the texts of custom messages.
        prompt_tokens: estimated.
        limit: the most tokens its answer may have, or None.
    """

    digest: bytes
    model: str
    fields: Fields | None
    mode: Mode | None
    top: int
    system: str
    user: str
    prompt_tokens: int
    limit: int | None


def read_body(raw: bytes) -> ChatRequest:
    """Read the bytes of a chat request.

    Raises:
        ApiError: a 400 that says what is wrong.
    """
    try:
        return read_ask(msgspec.json.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The body is not valid JSON: {error}.") from None


def read_ask(value: Any) -> ChatRequest:
    """Read a decoded chat body, as it comes online or in a line of a batch file.

    Raises:
        ApiError: a 400 that says what is wrong.
    """
    try:
        body = msgspec.convert(value, ChatBody)
    except msgspec.ValidationError as error:
        raise misfit(str(error)) from None
    if body.stream:
        raise bad_request("This service does not stream: leave `stream` out.", param="stream")
    if body.n is not None and body.n > 1:
        raise bad_request("This service gives one answer a request: leave `n` out.", param="n")
    place, part = _built_in(body.messages)
    ask = _custom(body, value) if part is None else _evaluation(body, value, place, part)
    if ask.prompt_tokens > CONTEXT:
        raise _too_long(ask.prompt_tokens)
    return ask


def _built_in(messages: list[Message]) -> tuple[str, Part | None]:
    """Return the one `json` part and where it stands; all parts are checked."""
    found: tuple[str, Part | None] = ("", None)
    for number, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for index, part in enumerate(message.content):
            place = f"messages[{number}].content[{index}]"
            if part.json is None and part.text is None:
                raise bad_request(
                    "A part of a content is {mode, type: json, json: {...}} or {type: text, text}; "
                    "a whole message cannot stand there.",
                    param=place,
                )
            if part.json is not None:
                if found[1] is not None:
                    raise bad_request("A request holds one json part.", param=place)
                found = (place, part)
    return found


def _evaluation(body: ChatBody, value: Any, place: str, part: Part) -> ChatRequest:
    fields = part.json or Fields()
    mode: Mode = part.mode or ("pairwise" if fields.answer1 is not None else "single")
    needed = ("question", "answer") if mode == "single" else ("question", "answer1", "answer2")
    for name in needed:
        if getattr(fields, name) is None:
            raise bad_request(f"{name} field missing", param=f"{place}.json.{name}")
    texts = (text for text in msgspec.structs.astuple(fields) if isinstance(text, str))
    return ChatRequest(
        digest=digest(value),
        model=body.model,
        fields=fields,
        mode=mode,
        top=_top(fields.max_score, place),
        system="",
        user="",
        prompt_tokens=TEMPLATE_TOKENS + sum(map(tokens, texts)),
        limit=body.max_tokens or body.max_completion_tokens,
    )


def _custom(body: ChatBody, value: Any) -> ChatRequest:
    texts: dict[bool, list[str]] = {True: [], False: []}
    for message in body.messages:
        is_system = message.role in ("system", "developer")
        if isinstance(message.content, str):
            texts[is_system].append(message.content)
        else:
            texts[is_system].extend(part.text or "" for part in message.content)
    system, user = "\n".join(texts[True]), "\n".join(texts[False])
    return ChatRequest(
        digest=digest(value),
        model=body.model,
        fields=None,
        mode=None,
        top=0,
        system=system,
        user=user,
        prompt_tokens=tokens(system) + tokens(user) + 4 * len(body.messages),
        limit=body.max_tokens or body.max_completion_tokens,
    )


def _top(max_score: str | int | None, place: str) -> int:
    if max_score is None or max_score == "":
        return 5
    try:
        top = int(max_score)
    except ValueError:
        top = 0
    if not 1 <= top <= 1000:
        raise bad_request("max_score must be a whole number from 1 to 1000.", param=f"{place}.json.max_score")
    return top


def misfit(message: str) -> ApiError:
    """Turn ``... - at `$.messages[0].role` `` into an error that names the parameter."""
    what, _, place = message.partition(" - at `$")
    param = place.rstrip("`").lstrip(".") or None
    return bad_request(f"Invalid body: {what}.", param=param)


def _too_long(count: int) -> ApiError:
    return bad_request(
        f"The longest prompt this model reads is {CONTEXT} tokens; this one has about {count}.",
        code="context_length_exceeded",
        param="messages",
    )
