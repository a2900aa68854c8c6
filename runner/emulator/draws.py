"""All random draws of the emulator, derived from the seed, the request body and how often that body was seen."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import msgspec

DIGEST_BYTES = 16

_canonical = msgspec.json.Encoder(order="sorted").encode
_four_numbers_and_id = Struct("<4Q16s")
_five_numbers = Struct("<5Q")
_two_numbers = Struct("<2Q")
_SCALE = 1.0 / (1 << 64)


class Draws(NamedTuple):
    """The draws of one attempt: four numbers in [0, 1), and the 16 bytes of the reply's id."""

    fault: float
    detail: float
    delay: float
    noise: float
    id: bytes


class LineFaults(NamedTuple):
    """The draws of one batch result line, in [0, 1): one for each fault that a line can have."""

    lose: float
    error: float
    garble: float
    repeat: float
    stranger: float


class BodyDraws(NamedTuple):
    """The draws of one body, in [0, 1); they are the same for every attempt."""

    refuse: float
    bias: float


def digest(body: Any) -> bytes:
    """Return the digest of a decoded JSON body; spacing and the order of keys do not change it."""
    return blake2b(_canonical(body), digest_size=DIGEST_BYTES).digest()


def draw_attempt(seed: int, body: bytes, seen: int) -> Draws:
    """Draw for one attempt.

    Args:
        body: the digest of the request body.
        seen: how often that body was seen before.
    """
    raw = blake2b(body + b"%d/%d" % (seed, seen), digest_size=_four_numbers_and_id.size).digest()
    fault, detail, delay, noise, reply_id = _four_numbers_and_id.unpack(raw)
    return Draws(fault * _SCALE, detail * _SCALE, delay * _SCALE, noise * _SCALE, reply_id)


def draw_body(seed: int, body: bytes) -> BodyDraws:
    """Draw for the body of this digest, independent of the attempt."""
    raw = blake2b(body + b"%d" % seed, digest_size=_two_numbers.size).digest()
    return BodyDraws(*(number * _SCALE for number in _two_numbers.unpack(raw)))


def draw_line(reply_id: bytes) -> LineFaults:
    """Draw for the result line of this id. The id was drawn with the seed, so the seed is not needed here."""
    raw = blake2b(reply_id, digest_size=_five_numbers.size).digest()
    return LineFaults(*(number * _SCALE for number in _five_numbers.unpack(raw)))
