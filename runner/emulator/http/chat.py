"""`POST /v1/chat/completions`: the life of one request at the service's end."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from runner.emulator.answers.completions import completion
from runner.emulator.api_errors import ApiError
from runner.emulator.chat_request import ChatRequest, read_body
from runner.emulator.http.helpers import EMULATOR, JSON, authenticate, problem_response, reset
from runner.emulator.state import AttemptPlan, Emulator

HANG_SECONDS = 600.0
_HTML = b"<html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>\n"
_NO_CHOICES = b'{"request_id":"0","code":"InternalError","message":"No result."}'


async def complete(request: web.Request) -> web.StreamResponse:
    """Answer one chat request, or do to it what its fault says."""
    emulator = request.app[EMULATOR]
    with emulator.stats.flight():
        try:
            authenticate(request)
            ask = read_body(await request.read())
            turn = emulator.turn(ask, emulator.admit)
            refusal = emulator.problem(turn.fault)
            if turn.delay and turn.fault != "429":
                await asyncio.sleep(turn.delay)
            if refusal is not None:
                raise refusal
            return await _play(request, emulator, ask, turn)
        except ApiError as problem:
            response = problem_response(problem)
            await _send(request, emulator, response)
            return response


async def _play(request: web.Request, emulator: Emulator, ask: ChatRequest, turn: AttemptPlan) -> web.StreamResponse:
    """Send the answer, or what stands in its place."""
    fault, answer = turn.fault, turn.answer
    if fault == "hang":
        await asyncio.sleep(HANG_SECONDS)
    if fault == "hang" or fault == "reset":
        return reset(request)
    body = msgspec.json.encode(completion(answer, emulator.options.dialect))
    if fault == "truncate":
        return await _truncate(request, body)
    if fault == "malformed":
        response = _malformed(body, turn.draws.detail)
        await _send(request, emulator, response)
        return response
    response = web.Response(body=body, headers={"Content-Type": JSON})
    if await _send(request, emulator, response):
        emulator.stats.answered(ask.digest, answer.prompt_tokens, answer.completion_tokens)
    return response


async def _send(request: web.Request, emulator: Emulator, response: web.Response) -> bool:
    """Write a whole response and count it; say whether the client was still there to take it."""
    await response.prepare(request)
    await response.write_eof()
    transport = request.transport
    whole = transport is not None and not transport.is_closing()
    if whole:
        emulator.stats.status[response.status] += 1
    return whole


async def _truncate(request: web.Request, body: bytes) -> web.StreamResponse:
    """Promise the whole body, send half of it and close."""
    response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _malformed(body: bytes, detail: float) -> web.Response:
    """A 200 that is complete as HTTP and useless as an answer: half a JSON text, a page, or no choices."""
    if detail < 1 / 3:
        return web.Response(body=body[: len(body) // 2], headers={"Content-Type": JSON})
    if detail < 2 / 3:
        return web.Response(body=_HTML, headers={"Content-Type": "text/html"})
    return web.Response(body=_NO_CHOICES, headers={"Content-Type": JSON})
