"""The reference server's behaviour: its answers, latency, quota, faults and counts."""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import random
import resource
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from statistics import NormalDist
from typing import Any, NamedTuple

# What happens later is also counted separately: by then a client must have found limits that it does not know.
SETTLED_AFTER_SECONDS = 10

COMPLETION_TOKENS = 220
FAULTS = ("500", "429", "reset", "truncate")

# Number of different answers. With few, Parquet would store each only once, and writing them would cost nothing.
TEXTS = 2000

SENTENCES = 9
REMARKS = {
    " ": (
        "Both replies address what was asked, with {} points in all.",
        "The first one states its conclusion early and backs it with {} reasons that can be checked.",
        "The second one spends about {} words on background before it comes to the matter.",
        "One of its claims, in sentence {}, stays without any support.",
        "Where one reply leaves out a step the other one usually names it, {} times in all.",
        "In tone they hardly differ, and I did not reward length beyond {} words.",
        "On accuracy I looked at {} figures one by one and found the units of one of them missing.",
    ),
    "": (
        "两个回答都围绕问题展开,一共提到了{}个要点。",
        "前一个先给出结论,再用{}条可以核对的理由支持它,读者很容易跟上思路。",
        "后一个用了大约{}个字介绍背景,然后才进入正题,重点因此不够突出。",
        "第{}句的说法没有给出依据,需要读者自己去查证。",
        "就完整性而言,一方遗漏的步骤另一方大多有所提及,共有{}处这样的情况。",
        "就条理而言,两者都分了{}个段落,能够很快找到所需的内容。",
        "篇幅的长短没有计入评价,语气上的差别也很小,只在{}处略显生硬。",
    ),
}


class Options(NamedTuple):
    """How the server behaves; 0 turns an option off.

    Args:
        latency: seconds until an answer; the median if `sigma` is given.
        sigma: shape of a lognormal latency.
        rpm, burst: requests per minute, and the largest burst; requests beyond them get a 429 with Retry-After.
        tpm: tokens per minute; the bucket holds one minute's tokens.
        throttle_until: seconds from the first request in which every reply is a 429.
        saturate: number of workers, each of which takes `latency` for a request; other requests wait, and the server
            never sends a 429.
        faults: share of the requests that gets each of `FAULTS`.
    """

    latency: float = 0.0
    sigma: float = 0.0
    rpm: int = 0
    burst: int = 1
    tpm: int = 0
    throttle_until: float = 0.0
    saturate: int = 0
    faults: Mapping[str, float] = {}


class Bucket:
    """A token bucket that refills continuously."""

    def __init__(self, per_minute: int, capacity: float) -> None:
        self._rate = per_minute / 60
        self._capacity = self._level = float(capacity)
        self._at = time.monotonic()

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until the amount fits; an amount above the capacity fits when the bucket is full."""
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now
        missing = min(amount, self._capacity) - self._level
        return missing / self._rate if missing > 1e-6 else 0.0

    def take(self, amount: float) -> None:
        """Take the amount out; the level may become negative."""
        self._level -= amount


class Counts:
    """Counts since the last reset; times are on the monotonic clock, in seconds."""

    def __init__(self, in_flight: int = 0) -> None:
        self.first = 0.0
        self.last_accepted = self.last_answer = 0.0
        self.requests = self.throttled = self.aborted = self.twice = self.bad = 0
        self.in_flight = in_flight
        self.connections = 0
        self.faults = dict.fromkeys(FAULTS, 0)
        self.seen: dict[bytes, int] = {}
        self.answered: set[bytes] = set()
        self.accepted_per_s: defaultdict[int, int] = defaultdict(int)
        self.throttled_per_s: defaultdict[int, int] = defaultdict(int)
        self.tokens_per_s: defaultdict[int, int] = defaultdict(int)
        self.in_flight_per_s: defaultdict[int, int] = defaultdict(int)
        self.cpu = cpu()

    def as_dict(self) -> dict[str, Any]:
        """Return the counts in the form of `/stats`."""
        accepted, throttled, tokens = self.accepted_per_s, self.throttled_per_s, self.tokens_per_s
        return {
            "requests": self.requests,
            "distinct": len(self.seen),
            "answered": len(self.answered),
            "answered_twice": self.twice,
            "accepted": sum(accepted.values()),
            "throttled": self.throttled,
            "tokens": sum(tokens.values()),
            "faults": self.faults,
            "aborted": self.aborted,
            "bad_requests": self.bad,
            "max_in_flight": max(self.in_flight_per_s.values(), default=0),
            "connections": self.connections,
            "first_request": self.first,
            "last_answer": self.last_answer,
            "active_s": round(max(0.0, self.last_answer - self.first), 4),
            "settled": {
                "after_s": SETTLED_AFTER_SECONDS,
                "seconds": round(max(0.0, self.last_accepted - self.first - SETTLED_AFTER_SECONDS), 4),
                "accepted": late(accepted),
                "throttled": late(throttled),
                "tokens": late(tokens),
            },
            "accepted_per_s": as_list(accepted),
            "throttled_per_s": as_list(throttled),
            "in_flight_per_s": as_list(self.in_flight_per_s),
            "cpu_s": round(cpu() - self.cpu, 4),
        }


def late(per_second: Mapping[int, int]) -> int:
    """Return the sum of the seconds from SETTLED_AFTER_SECONDS on."""
    return sum(count for second, count in per_second.items() if second >= SETTLED_AFTER_SECONDS)


def as_list(per_second: Mapping[int, int]) -> list[int]:
    """Return a list with a count for every second."""
    return [per_second.get(second, 0) for second in range(max(per_second, default=-1) + 1)]


def cpu() -> float:
    """Return the CPU time of this process in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def chance(digest: bytes, seen: int, purpose: int) -> float:
    """Return a number between 0 and 1 that is the same for every client."""
    return (zlib.crc32(digest, seen * 40_503 + purpose) + 0.5) / 2**32


def reply(status: str, body: bytes, headers: str = "") -> bytes:
    """Return a complete HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def judgements() -> Iterator[str]:
    """Generate a judge's texts, the same ones in each run, half of them Chinese."""
    chance = random.Random(TEXTS)
    for number in range(TEXTS):
        space, remarks = list(REMARKS.items())[number % len(REMARKS)]
        text = space.join(chance.choice(remarks).format(chance.randint(2, 99)) for _ in range(SENTENCES))
        yield f"{text}\n\n[[{chance.choice('ABC')}]]"


def answers() -> list[bytes]:
    """Return response templates with three fields of fixed width: id, prompt tokens and total tokens."""
    made = []
    for text in judgements():
        body = (
            b'{"id":"chatcmpl-%%16b","object":"chat.completion","created":1760000000,"model":"judge","choices":[{"index":0,'
            b'"message":{"role":"assistant","content":%b},"finish_reason":"stop"}],"usage":{"prompt_tokens":%%9d,'
            b'"completion_tokens":%d,"total_tokens":%%9d}}'
        ) % (json.dumps(text, ensure_ascii=False).encode(), COMPLETION_TOKENS)
        made.append(reply("200 OK", body % (b"", 0, 0)).partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body)
    return made


def refusal(wait: float) -> bytes:
    """Return a 429 with the seconds to wait."""
    seconds = max(1, math.ceil(wait))
    body = b'{"error":{"message":"Too many requests, slow down.","type":"requests","code":"rate_limit_exceeded"}}'
    return reply("429 Too Many Requests", body, f"Retry-After: {seconds}\r\n")


ANSWERS = answers()
BROKEN = reply("500 Internal Server Error", b'{"error":{"message":"Something broke.","type":"server_error"}}')
UNKNOWN = reply("404 Not Found", b'{"error":{"message":"There is no such path.","type":"invalid_request_error"}}')
UNSIZED = reply("411 Length Required", b'{"error":{"message":"Send a content-length.","type":"invalid_request_error"}}')


class Judge:
    """The state that all connections share: options, quota and counts."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.later = asyncio.get_running_loop().call_later
        self.counts = Counts()
        self.reset()

    def reset(self) -> None:
        """Clear the counts and fill the buckets."""
        options = self.options
        self.counts = Counts(self.counts.in_flight)
        self._requests = Bucket(options.rpm, options.burst) if options.rpm else None
        self._tokens = Bucket(options.tpm, options.tpm) if options.tpm else None
        self._workers = [0.0] * options.saturate

    def admit(self, tokens: int) -> float:
        """Count a request; return 0 if it is accepted, else the seconds to wait."""
        counts, options, now = self.counts, self.options, time.monotonic()
        counts.requests += 1
        if not counts.first:
            counts.first = now
        since = now - counts.first
        wait = 0.0
        if since < options.throttle_until:
            wait = 1.0
        elif self._requests or self._tokens:
            wait = max(
                self._requests.wait(1, now) if self._requests else 0.0,
                self._tokens.wait(tokens, now) if self._tokens else 0.0,
            )
        second = int(since)
        if wait:
            counts.throttled += 1
            counts.throttled_per_s[second] += 1
            return wait
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)
        counts.last_accepted = now
        counts.accepted_per_s[second] += 1
        counts.tokens_per_s[second] += tokens
        counts.in_flight += 1
        if counts.in_flight > counts.in_flight_per_s[second]:
            counts.in_flight_per_s[second] = counts.in_flight
        return 0.0

    def see(self, body: bytes) -> tuple[bytes, int]:
        """Return the body's digest, and how often the body came before."""
        digest = blake2b(body, digest_size=8).digest()
        seen = self.counts.seen.get(digest, 0)
        self.counts.seen[digest] = seen + 1
        return digest, seen

    def fault(self, digest: bytes, seen: int) -> str | None:
        """Return the fault of this request, or None."""
        drawn = chance(digest, seen, 1)
        for name, share in self.options.faults.items():
            if drawn < share:
                return name
            drawn -= share
        return None

    def delay(self, digest: bytes, seen: int) -> float:
        """Return the seconds until this request is answered."""
        seconds = self.options.latency
        if self.options.sigma:
            seconds *= math.exp(self.options.sigma * NormalDist().inv_cdf(chance(digest, seen, 2)))
        if not self._workers:
            return seconds
        now = time.monotonic()
        done = max(now, self._workers[0]) + seconds
        heapq.heapreplace(self._workers, done)
        return done - now
