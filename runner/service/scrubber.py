"""Mask the secrets of a service in what it sends: some services repeat the key that they received.

What a service sends enters at one place, the client. There it is masked, as bytes, before anything is made of it: so no
message, row, state file or log can have it. A mask has the length of what it covers, so that offsets stay right.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

from runner.types import Secret

# Shorter texts, and words without a digit, are no secrets but placeholders (`EMPTY`, `dummy`): a judge may say them.
MIN_SECRET_CHARS = 8
MIN_WORD_CHARS = 16

_BLOCK_BYTES = 1 << 20


class Scrubber:
    """Masks secrets in replies, in the spellings in which services repeat them.

    These are the secret itself in any case, and its JSON, URL and base64 forms (alone, or inside of a longer text).
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._forms: dict[bytes, re.Pattern[bytes]] = {}
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Mask another secret from now on."""
        for form in _forms(secret.reveal()):
            self._forms[form] = re.compile(re.escape(form), re.IGNORECASE)

    def scrub(self, raw: bytes) -> bytes:
        """Return a reply with every secret masked; the same object if it has none."""
        lower = raw.lower()
        for form, pattern in self._forms.items():
            if form in lower:
                raw = pattern.sub(lambda found: b"*" * len(found[0]), raw)
        return raw

    def scrub_file(self, path: Path) -> None:
        """Mask every secret in a file, in place; raises OSError."""
        if not self._forms:
            return
        overlap = max(map(len, self._forms)) - 1
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            at = 0
            while block := os.pread(handle, _BLOCK_BYTES + overlap, at):
                if (scrubbed := self.scrub(block)) is not block:
                    os.pwrite(handle, scrubbed, at)
                at += _BLOCK_BYTES
        finally:
            os.close(handle)


def _forms(secret: str) -> set[bytes]:
    """Return the spellings of a secret in lower case; none if it is no secret."""
    has_digit = any(character.isdigit() for character in secret)
    if len(secret) < (MIN_SECRET_CHARS if has_digit else MIN_WORD_CHARS):
        return set()
    spellings = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    return {spelling.encode().lower() for spelling in spellings} | {form.lower() for form in _base64_forms(secret)}


def _base64_forms(secret: str) -> set[bytes]:
    """Return what of a secret's base64 form is the same whatever stands before and after it, at each alignment."""
    raw, forms = secret.encode(), set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).rstrip(b"=")
        whole = encoded[(8 * before + 5) // 6 :]  # without characters that share bits with the text before
        forms.add(whole[:-1] if (before + len(raw)) % 3 else whole)  # nor with the text after
    return forms | {form.translate(bytes.maketrans(b"+/", b"-_")) for form in forms}
