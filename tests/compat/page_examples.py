"""The examples of a page saved as text: pairs of a Python program and a curl command, and their placeholders.

The form is that of the service's own page: a line `Python` and a line `curl` are followed by the program, then by the
command, which begins with `$ curl`, then by a numbered line. Sample lines of an input file begin with `{"custom_id"`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from textwrap import dedent
from typing import NamedTuple

# What each example does, in the order of the page.
STEPS = ("single", "pairwise", "template", "upload", "create", "retrieve", "content")

_pair = re.compile(r"^ *Python\n *curl\n(?P<python>.*?)^ *\$ (?P<curl>curl .*?)^ *\d+\. ", re.DOTALL | re.MULTILINE)
_sample = re.compile(r'^ *(\{"custom_id".*\})$', re.MULTILINE)
_data = re.compile(r"-d '(.*)'", re.DOTALL)
# The texts of an example that a reader replaces.
_placeholders = {
    "url": re.compile(r"https?://[\w.-]+/v1"),
    "path": re.compile(r"/home/[\w/]+\.jsonl"),
    "file": re.compile(r"file-batch-[0-9A-F]{32}"),
    "output": re.compile(r"file-batch_output-[0-9a-f-]{36}"),
    "batch": re.compile(r"batch_[0-9a-f-]{36}"),
}


class Example(NamedTuple):
    """One step, in Python and as a curl command."""

    python: str
    curl: str


class Page(NamedTuple):
    """All examples of a page by step, and the lines of its input file."""

    examples: Mapping[str, Example]
    lines: str


def read_page(text: str) -> Page:
    """Extract the examples of a page."""
    found = [Example(dedent(pair["python"]), _command(pair["curl"])) for pair in _pair.finditer(text)]
    lines = _sample.findall(text)
    return Page(dict(zip(STEPS, found, strict=True)), "".join(f"{line}\n" for line in lines))


def filled(code: str, values: Mapping[str, str]) -> str:
    """Return an example with our address, path and ids instead of the page's."""
    for name, value in values.items():
        code = _placeholders[name].sub(value.replace("\\", r"\\"), code)
    return code


def is_valid(command: str) -> bool:
    """Return True if the body of a curl example is valid JSON in the form that the page itself describes."""
    data = _data.search(command)
    if data is None:
        return True
    try:
        body = json.loads(data[1])
    except ValueError:
        return False
    contents = [message["content"] for message in body.get("messages", ())]
    return not any(isinstance(part, dict) and "role" in part for parts in contents for part in parts)


def _command(lines: str) -> str:
    """Remove spaces after a line's final backslash, because they would end the command there."""
    return re.sub(r"\\ +\n", r"\\\n", lines).rstrip()
