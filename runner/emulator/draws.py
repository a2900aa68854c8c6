"""Every draw of the emulator, as a function of the seed, a body and how often it was seen."""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

import msgspec

DIGEST_BYTES = 16

_canonical = msgspec.json.Encoder(order="sorted").encode
_eight = Struct("<4Q16s")
_five = Struct("<5Q")
_two = Struct("<2Q")
_SCALE = 1.0 / (1 << 64)


class Draws(NamedTuple):
    """The draws of one request: numbers from 0 up to 1, and 16 bytes for its id."""

    fault: float
    detail: float
    delay: float
    noise: float
    id: bytes


class LineFaults(NamedTuple):
    """The draws of one result line of a batch, each for what may happen to it."""

    lose: float
    error: float
    garble: float
    repeat: float
    stranger: float


class BodyDraws(NamedTuple):
    """The draws of one body, the same however often it is seen."""

    refuse: float
    bias: float


def digest(body: Any) -> bytes:
    """Return what identifies a decoded JSON body, whatever its spacing and the order of its keys."""
    return blake2b(_canonical(body), digest_size=DIGEST_BYTES).digest()


def draw(seed: int, body: bytes, seen: int) -> Draws:
    """Draw for the `seen`-th meeting (from 0) with the body of this digest."""
    raw = blake2b(body + b"%d/%d" % (seed, seen), digest_size=_eight.size).digest()
    fault, detail, delay, noise, name = _eight.unpack(raw)
    return Draws(fault * _SCALE, detail * _SCALE, delay * _SCALE, noise * _SCALE, name)


def lot(seed: int, body: bytes) -> BodyDraws:
    """Draw for the body of this digest, once and for all."""
    refuse, bias = _two.unpack(blake2b(body + b"%d" % seed, digest_size=_two.size).digest())
    return BodyDraws(refuse * _SCALE, bias * _SCALE)


def fate(name: bytes) -> LineFaults:
    """Draw for the result line with this id, which is itself a draw."""
    return LineFaults(*(number * _SCALE for number in _five.unpack(blake2b(name, digest_size=_five.size).digest())))
