"""`POST /v1/chat/completions`: answer one request, or give it its fault."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from runner.emulator.answers.chunks import stream_events
from runner.emulator.answers.completions import completion
from runner.emulator.api_errors import ApiError
from runner.emulator.chat_request import ChatRequest, decode_chat_request
from runner.emulator.http.helpers import EMULATOR, JSON_TYPE, authenticate, error_response, reset_connection
from runner.emulator.state import AttemptPlan, Emulator

HANG_SECONDS = 600.0
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n"
_NO_CHOICES = b'{"request_id":"0","code":"InternalError","message":"No result."}'


async def complete(request: web.Request) -> web.StreamResponse:
    """Answer one chat request, unless its fault prevents it."""
    emulator = request.app[EMULATOR]
    with emulator.stats.track_request():
        try:
            authenticate(request)
            chat = decode_chat_request(await request.read())
            plan = emulator.plan_attempt(chat, emulator.use_quota)
            planned_error = emulator.error_for(plan.fault)
            if plan.delay and plan.fault != "429":
                await asyncio.sleep(plan.delay)
            if planned_error is not None:
                raise planned_error
            return await _respond(request, emulator, chat, plan)
        except ApiError as error:
            response = error_response(error)
            await _send(request, emulator, response)
            return response


async def _respond(
    request: web.Request, emulator: Emulator, chat: ChatRequest, plan: AttemptPlan
) -> web.StreamResponse:
    """Send the answer with the fault of the plan."""
    fault, answer = plan.fault, plan.answer
    if fault == "hang":
        await asyncio.sleep(HANG_SECONDS)
    if fault in ("hang", "reset"):
        return reset_connection(request)
    reply = completion(answer, emulator.options.dialect)
    if chat.stream and fault != "malformed":
        return await _send_stream(request, emulator, chat, plan, stream_events(reply, chat.counts_stream))
    body = msgspec.json.encode(reply)
    if fault == "truncate":
        return await _send_truncated(request, body)
    if fault == "malformed":
        response = _malformed(body, plan.draws.detail)
        await _send(request, emulator, response)
        return response
    response = web.Response(body=body, headers={"Content-Type": JSON_TYPE})
    if await _send(request, emulator, response):
        emulator.stats.count_answer(chat.digest, answer.prompt_tokens, answer.completion_tokens)
    return response


async def _send(request: web.Request, emulator: Emulator, response: web.Response) -> bool:
    """Write a complete response and count it; return False if the client was no longer connected."""
    await response.prepare(request)
    await response.write_eof()
    transport = request.transport
    connected = transport is not None and not transport.is_closing()
    if connected:
        emulator.stats.status[response.status] += 1
    return connected


async def _send_stream(
    request: web.Request, emulator: Emulator, chat: ChatRequest, plan: AttemptPlan, events: list[bytes]
) -> web.StreamResponse:
    """Send the events of an answer; of one that is truncated, half of them, and then the end of the reply."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    is_whole = plan.fault != "truncate"
    for event in events if is_whole else events[: len(events) // 2]:
        await response.write(event)
    await response.write_eof()
    transport = request.transport
    if is_whole and transport is not None and not transport.is_closing():
        emulator.stats.status[response.status] += 1
        emulator.stats.count_answer(chat.digest, plan.answer.prompt_tokens, plan.answer.completion_tokens)
    return response


async def _send_truncated(request: web.Request, body: bytes) -> web.StreamResponse:
    """Announce the whole body, send half of it and close the connection."""
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _malformed(body: bytes, detail: float) -> web.Response:
    """Return a 200 that is valid HTTP but not an answer: half a JSON text, an HTML page, or JSON without `choices`."""
    if detail < 1 / 3:
        return web.Response(body=body[: len(body) // 2], headers={"Content-Type": JSON_TYPE})
    if detail < 2 / 3:
        return web.Response(body=_HTML, headers={"Content-Type": "text/html"})
    return web.Response(body=_NO_CHOICES, headers={"Content-Type": JSON_TYPE})
