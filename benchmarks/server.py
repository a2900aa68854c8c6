"""A reference judge service for measuring clients: fast, with known faults.

    python benchmarks/server.py --port 8080 --latency-ms 300 --rpm 60000 --burst 50

It answers `POST /v1/chat/completions` with a pairwise judgement that ends in [[A]], [[B]] or [[C]]. `GET /stats`
returns its counts and `POST /reset` clears them. One process, one event loop, HTTP/1.1 with keep-alive and
content-length only. The body, and how often it came before, decide the answer and the fault, so all clients get the
same ones.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import struct
import sys
import time
from functools import partial
from typing import cast

import uvloop
from answering import ANSWERS, BROKEN, COMPLETION_TOKENS, FAULTS, UNKNOWN, UNSIZED, Judge, Options, refusal, reply
from common import raise_file_limit

RESET_LINGER = struct.pack("ii", 1, 0)  # linger for 0 s: the peer gets a reset instead of an end


class Connection(asyncio.Protocol):
    """One connection, which serves one request at a time."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._received = bytearray()
        self._needed = 0
        self._pending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport and count the connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._judge.counts.connections += 1

    def connection_lost(self, _: Exception | None) -> None:
        """Count a pending request as aborted."""
        if self._pending is not None:
            self._pending.cancel()
            self._judge.counts.aborted += 1
            self._judge.counts.in_flight -= 1

    def data_received(self, data: bytes) -> None:
        """Serve the received data; a request that arrives in one piece, as most do, is not copied."""
        if self._received or self._pending is not None:
            self._received += data
            if self._pending is None and len(self._received) >= self._needed:
                self._serve_buffered()
            return
        remaining = self._read(data)
        if remaining:
            self._received += remaining

    def _serve_buffered(self) -> None:
        data = bytes(self._received)
        self._received.clear()
        self._received += self._read(data)

    def _read(self, data: bytes) -> bytes:
        """Serve the request at the beginning of the data; returns the data after it."""
        head = data.find(b"\r\n\r\n") + 4
        if head < 4:
            self._needed = 0
            return data
        end = head + content_length(data, head)
        if end < head:
            self._transport.write(UNSIZED)
            self._transport.close()
            return b""
        if len(data) < end:
            self._needed = end
            return data
        self._needed = 0
        if data.startswith(b"POST /v1/chat/completions "):
            self._chat(data[head:end])
        else:
            self._control(data.partition(b" HTTP/")[0])
        return data[end:]

    def _control(self, line: bytes) -> None:
        judge = self._judge
        if line == b"GET /stats":
            self._transport.write(reply("200 OK", json.dumps(judge.counts.as_dict()).encode()))
        elif line == b"POST /reset":
            judge.reset()
            self._transport.write(reply("200 OK", b"{}"))
        else:
            judge.counts.bad += 1
            self._transport.write(UNKNOWN)

    def _chat(self, body: bytes) -> None:
        judge, prompt = self._judge, len(body) // 4
        digest, seen = judge.see(body)
        if wait := judge.admit(prompt + COMPLETION_TOKENS):
            self._transport.write(refusal(wait))
            return
        fault = judge.fault(digest, seen) if judge.options.faults else None
        if judge.options.latency:
            self._pending = judge.later(judge.delay(digest, seen), self._answer, digest, prompt, fault)
        else:
            self._answer(digest, prompt, fault)

    def _answer(self, digest: bytes, prompt: int, fault: str | None) -> None:
        counts, self._pending = self._judge.counts, None
        counts.in_flight -= 1
        text = ANSWERS[int.from_bytes(digest[:4], "big") % len(ANSWERS)] % (
            digest.hex().encode(),
            prompt,
            prompt + COMPLETION_TOKENS,
        )
        if fault is not None:
            counts.faults[fault] += 1
            self._fail(fault, text)
        elif not self._transport.is_closing():
            self._transport.write(text)
            counts.last_answer = time.monotonic()
            if digest in counts.answered:
                counts.twice += 1
            else:
                counts.answered.add(digest)
        if self._received:
            self._serve_buffered()

    def _fail(self, fault: str, text: bytes) -> None:
        if fault == "500":
            self._transport.write(BROKEN)
        elif fault == "429":
            self._transport.write(refusal(1))
        elif fault == "truncate":
            self._transport.write(text[: len(text) // 2])
            self._transport.close()
        else:
            with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
            self._transport.abort()


def content_length(data: bytes, head: int) -> int:
    """Return the Content-Length of a head; 0 if there is none, -1 if the body is chunked."""
    at = data.find(b"Content-Length: ", 0, head)
    if at < 0:
        lower = data[:head].lower()
        at = lower.find(b"content-length: ")
        if at < 0:
            return -1 if b"transfer-encoding:" in lower else 0
    return int(data[at + 16 : data.index(b"\r\n", at)])


async def serve(options: Options, port: int, child: bool) -> None:
    """Listen, print the address, and serve; a child exits when its standard input ends, as it does with the parent."""
    judge, loop = Judge(options), asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, judge), "127.0.0.1", port, backlog=8192)
    gc.freeze()
    gc.set_threshold(100_000)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    if child:
        loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: a free port; the address is printed")
    parser.add_argument("--latency-ms", type=float, default=0, help="latency of an answer")
    parser.add_argument("--sigma", type=float, default=0, help="lognormal latency about the median --latency-ms")
    parser.add_argument("--rpm", type=int, default=0)
    parser.add_argument("--burst", type=int, default=1, help="largest burst under --rpm")
    parser.add_argument("--tpm", type=int, default=0)
    parser.add_argument("--throttle-until", type=float, default=0, help="seconds in which every reply is a 429")
    parser.add_argument("--saturate", type=int, default=0, help="number of workers; other requests wait")
    parser.add_argument("--faults", default="", help=f"shares, such as 500=0.03,reset=0.01: {', '.join(FAULTS)}")
    parser.add_argument("--child", action="store_true", help="exit when the standard input ends")
    given = parser.parse_args()
    pairs = (pair.partition("=") for pair in given.faults.split(",") if pair)
    faults = {name: float(share) for name, _, share in pairs}
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"--faults: unknown {', '.join(sorted(unknown))}; known are {', '.join(FAULTS)}")
    names = ("sigma", "rpm", "burst", "tpm", "throttle_until", "saturate")
    options = Options(given.latency_ms / 1000, faults=faults, **{name: getattr(given, name) for name in names})
    raise_file_limit()
    try:
        uvloop.run(serve(options, given.port, given.child))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
