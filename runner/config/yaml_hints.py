"""What to do about a text that YAML cannot read, where its reader names only the rule that was broken."""

from __future__ import annotations

_ALIAS = "YAML reads * as the name of an earlier value, so a value that begins with * needs quotes, such as '*.jsonl'"
_ANCHOR = "YAML reads & as the name of a value, so a value that begins with & needs quotes"


def hint(line: str, column: int, problem: str) -> str | None:
    """Return what to do, or None if there is nothing to add. The answer quotes nothing of the text.

    Args:
        line: the line at which YAML's reader stopped.
        column: the place in the line at which it stopped, from 0.
        problem: what it says.
    """
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "the line begins with a tab; YAML is indented with spaces only"
    for at in (column, column - 1):
        found = line[at : at + 1] if at >= 0 else ""
        if found in ("*", "&") and ("alphabetic" in problem or "alias" in problem):
            return _ALIAS if found == "*" else _ANCHOR
    if "cannot start any token" in problem and line[column : column + 1] in ("@", "`", "%"):
        return f"a value that begins with {line[column]} needs quotes"
    if "mapping values are not allowed" in problem:
        return "a text that contains ': ' or begins with { needs quotes"
    return None
