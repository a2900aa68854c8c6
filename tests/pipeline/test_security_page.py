"""SECURITY.md names a test for each promise."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_each_promise_of_the_security_page_has_its_test() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`(tests/[\w/.]+)::(\w+)`", row) for row in rows]
    assert len(rows) >= 15
    assert all(len(found) == 1 for found in named)
    for ((file, name),) in named:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), name
