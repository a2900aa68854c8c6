"""The examples of a page as text: pairs of a Python program and a curl command, with what they take from the reader.

The form is that of the service's own page, saved as text: under a line `Python` and a line `curl` comes the program,
then the command, which begins with `$ curl`, then a numbered line. Sample lines of an input file begin with
`{"custom_id"`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from textwrap import dedent
from typing import NamedTuple

STEPS = ("single", "pairwise", "template", "upload", "create", "retrieve", "content")
"""What the examples do, in the order of the page."""

_pair = re.compile(r"^ *Python\n *curl\n(?P<python>.*?)^ *\$ (?P<curl>curl .*?)^ *\d+\. ", re.DOTALL | re.MULTILINE)
_sample = re.compile(r'^ *(\{"custom_id".*\})$', re.MULTILINE)
_data = re.compile(r"-d '(.*)'", re.DOTALL)
_takes = {
    "url": re.compile(r"https?://[\w.-]+/v1"),
    "path": re.compile(r"/home/[\w/]+\.jsonl"),
    "file": re.compile(r"file-batch-[0-9A-F]{32}"),
    "output": re.compile(r"file-batch_output-[0-9a-f-]{36}"),
    "batch": re.compile(r"batch_[0-9a-f-]{36}"),
}


class Example(NamedTuple):
    """One step, told twice."""

    python: str
    curl: str


class Page(NamedTuple):
    """All examples of a page, by what they do, and its input file."""

    examples: Mapping[str, Example]
    lines: str


def read_page(text: str) -> Page:
    """Find the examples of a page."""
    found = [Example(dedent(pair["python"]), _command(pair["curl"])) for pair in _pair.finditer(text)]
    lines = _sample.findall(text)
    return Page(dict(zip(STEPS, found, strict=True)), "".join(f"{line}\n" for line in lines))


def filled(code: str, values: Mapping[str, str]) -> str:
    """An example with our address, path and ids in the place of the page's."""
    for name, value in values.items():
        code = _takes[name].sub(value.replace("\\", r"\\"), code)
    return code


def is_sound(command: str) -> bool:
    """Whether the JSON of a curl example is JSON, and of the form that the page itself describes."""
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
    """A command as it must be typed: a space behind a backslash would end it there."""
    return re.sub(r"\\ +\n", r"\\\n", lines).rstrip()
