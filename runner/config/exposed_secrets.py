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
    for path, judge in _sections(data, "judge", "judges"):
        for key in ("parameters", "pai"):
            yield from _secrets_in_body(judge.get(key), (*path, key), locations)
    for path, service in _sections(data, "service", "services"):
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


def _sections(data: Mapping[str, Any], singular: str, plural: str) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    one, many = data.get(singular), data.get(plural)
    if isinstance(one, Mapping):
        yield (singular,), one
    for index, section in enumerate(many if isinstance(many, list) else ()):
        if isinstance(section, Mapping):
            yield (plural, index), section


def _secrets_in_body(value: Any, path: KeyPath, locations: Mapping[KeyPath, SourceLocation]) -> Iterator[Problem]:
    """Yield a problem for each text in the request body whose key is named like a secret."""
    for key, item in value.items() if isinstance(value, Mapping) else ():
        at = (*path, key)
        if isinstance(item, str) and item and _KEYS.fullmatch(str(key)) and not _comes_from_variable(at, locations):
            yield Problem(at, "secrets do not belong in this file; write ${VAR} and set that environment variable")
        yield from _secrets_in_body(item, at, locations)


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
