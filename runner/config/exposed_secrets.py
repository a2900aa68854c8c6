"""Find secrets written in the YAML, where only the name of an environment variable is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.problems import KeyPath, Problem, SourceLocation, location_of
from runner.config.services import SECRET_HEADER, SECRET_QUERY

_KEYS = re.compile(r"(api|access|auth|secret|private)?[-_ ]?(token|key|secret|password|passwd)", re.IGNORECASE)
_FROM_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-)?\}")

_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")


def find_exposed_secrets(data: Mapping[str, Any], locations: Mapping[KeyPath, SourceLocation]) -> Iterator[Problem]:
    """Yield a problem for every secret that would be copied into the run directory; no message repeats the secret."""
    for path, service in _services(data):
        yield from _named_like_tokens(service, path)
        for key, named_like_secrets in (("headers", SECRET_HEADER), ("query", SECRET_QUERY)):
            given = service.get(key)
            for name in given if isinstance(given, Mapping) else ():
                at = (*path, key, name)
                if named_like_secrets.search(name) and not _comes_from_variable(at, locations):
                    yield Problem(
                        at, "secrets do not belong in this file; write ${VAR} and set that environment variable"
                    )
        proxy = service.get("proxy")
        raw_proxy = _written((*path, "proxy"), locations) or proxy
        if isinstance(raw_proxy, str) and _PASSWORD.search(_FROM_VARIABLE.sub("", raw_proxy)):
            yield Problem((*path, "proxy"), "take a proxy with a password from the environment: write ${VAR}")


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
                "tokens do not belong in this file; set 'token_env' to the name of an environment variable",
            )
        elif isinstance(value, Mapping) and key not in ("headers", "query", "emulator"):
            yield from _named_like_tokens(value, (*path, key))


def _comes_from_variable(path: KeyPath, locations: Mapping[KeyPath, SourceLocation]) -> bool:
    return _FROM_VARIABLE.search(_written(path, locations) or "") is not None


def _written(path: KeyPath, locations: Mapping[KeyPath, SourceLocation]) -> str | None:
    """Return the text at a path, or around it, before variables were expanded; None if it has no variable."""
    return location_of(path, locations).raw
