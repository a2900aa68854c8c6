"""Check at start-up that this Python's regular expressions mean what the readers of verdicts rely on."""

from __future__ import annotations

import platform
import re

from runner.errors import UsageError

# What the patterns of `judge/verdict` consist of besides the basics: a possessive repeat of one character or set, and
# atomic groups, nested and with an optional end. A possessive repeat of a group is none of it: Python 3.11.0 to 3.11.4
# matches wrongly there (cpython issues 100061 and 106052). A test compares this with all patterns in use.
PATTERN = r"[\s*]{0,8}+(?>\d++(?>\.\d++|))(?!\d)"
TEXT, MATCHED = "* 3. It could have been 9.", "* 3"


def check_regex_engine() -> None:
    """Match one small text; takes about 0.1 ms.

    Raises:
        UsageError: the result is wrong, so that scores would be read wrongly.
    """
    found = re.compile(PATTERN).match(TEXT)
    if found is None or found.group() != MATCHED:
        raise UsageError(
            f"Python {platform.python_version()} ({platform.python_implementation()}) matches regular expressions "
            "wrongly, and judge-runner would read wrong scores; use another release of Python 3.11 or newer"
        )
