"""Secrets that stand in the YAML where only the name of an environment variable should."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.problems import KeyPath, Problem, SourceLocation, place_of

_KEYS = re.compile(r"(api|access|auth|secret|private)?[-_ ]?(token|key|secret|password|passwd)", re.IGNORECASE)
SECRET_HEADER = re.compile(r"authorization|api[-_]?key|token|secret|cookie|passw", re.IGNORECASE)
"""What a header that carries a secret is called."""

_FROM_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\}")

_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")


def exposed(data: Mapping[str, Any], places: Mapping[KeyPath, SourceLocation]) -> Iterator[Problem]:
    """Find what would write a secret into the run directory; no problem's text repeats it."""
    for path, service in _services(data):
        yield from _named_like_tokens(service, path)
        headers = service.get("headers")
        for name in headers if isinstance(headers, Mapping) else ():
            at = (*path, "headers", name)
            if SECRET_HEADER.search(name) and not _comes_from_variable(at, places):
                yield Problem(
                    at, "a secret does not stand in this file; write ${VAR} and set that environment variable"
                )
        proxy = service.get("proxy")
        written = _written((*path, "proxy"), places) or proxy
        if isinstance(written, str) and _PASSWORD.search(_FROM_VARIABLE.sub("", written)):
            yield Problem((*path, "proxy"), "a proxy with a password comes from the environment: write ${VAR}")


def _services(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    one, many = data.get("service"), data.get("services")
    if isinstance(one, Mapping):
        yield ("service",), one
    for index, service in enumerate(many if isinstance(many, list) else ()):
        if isinstance(service, Mapping):
            yield ("services", index), service


def _named_like_tokens(service: Mapping[str, Any], path: KeyPath) -> Iterator[Problem]:
    for key, value in service.items():
        if _KEYS.fullmatch(key):
            yield Problem(
                (*path, key),
                "a token does not stand in this file; name an environment variable that holds it with 'token_env'",
            )
        elif isinstance(value, Mapping) and key not in ("headers", "emulator"):
            yield from _named_like_tokens(value, (*path, key))


def _comes_from_variable(path: KeyPath, places: Mapping[KeyPath, SourceLocation]) -> bool:
    return _FROM_VARIABLE.search(_written(path, places) or "") is not None


def _written(path: KeyPath, places: Mapping[KeyPath, SourceLocation]) -> str | None:
    """Return the text that stood at a path, or around it, before the environment was put in."""
    return place_of(path, places).raw
