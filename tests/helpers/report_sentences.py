"""Finds the sentences that the report can write, in its code and its templates; values are `{}`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPORT = Path(__file__).parents[2] / "runner" / "report"
_MIN_SENTENCE_WORDS = 5
_MIN_REASON_WORDS = 3
_WORD = re.compile(r"[A-Za-z']{2,}")
_SQL = re.compile(r"[A-Z]{4,}|count\(|_|coalesce|judge =| AS |AND |question, | \* ")


def sentences_of_code(folder: str, min_words: int) -> set[str]:
    """Return the texts in the modules of a folder that have at least `min_words` words or end with a full stop."""
    found = {text for path in sorted((REPORT / folder).glob("*.py")) for text in _texts(path)}
    return {text for text in found if len(words := _WORD.findall(text)) >= min_words or (words[2:] and text[-1] == ".")}


def sentences_of_page() -> set[str]:
    """Returns the sentences of the page that are no key findings."""
    findings = {text for path in (REPORT / "page").glob("finding*.py") for text in _texts(path)}
    return sentences_of_code("page", _MIN_SENTENCE_WORDS) - findings | set(_template_sentences())


def reasons() -> set[str]:
    """Returns the reasons and notes that stand in `summary.json`."""
    found = sentences_of_code("sections", _MIN_REASON_WORDS) | sentences_of_code("stats", _MIN_REASON_WORDS)
    return {text for text in found if not _SQL.search(text)}


def finding_kinds() -> set[str]:
    """Returns the kinds of findings that the code makes."""
    return {
        node.args[0].value
        for path in (REPORT / "page").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding"
        and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip


def pattern_of(sentence: str) -> re.Pattern[str]:
    """Returns the pattern of a sentence with any values."""
    return re.compile(r".{1,90}?".join(re.escape(part.strip()) for part in sentence.split("{}") if part.strip()))


def visible_text(page: str) -> str:
    """Returns the texts of a page with single ordinary spaces."""
    text = re.sub(r"<(style|script)>.*?</\1>|<title>.*?</title>|</?(strong|small|code)>", "", page, flags=re.S)
    text = re.sub(r"<[^>]+>", " ", text)
    for name, sign in (("&#39;", "'"), ("&#34;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(name, sign)
    return re.sub(r"\s+", " ", text)


@cache
def _texts(path: Path) -> tuple[str, ...]:
    return tuple(_texts_of(path))


def _texts_of(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and isinstance(node.body[0], ast.Expr):
            hidden.add(id(node.body[0].value))
        elif isinstance(node, ast.JoinedStr):
            hidden.update(map(id, node.values))
        elif isinstance(node, ast.Dict):
            hidden.update(id(key) for key in node.keys)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(map(str, parts)).strip()
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in hidden:
            yield node.value.strip()


def _template_sentences() -> Iterator[str]:
    """Yields the sentences of the templates, without the section that explains how to read the report."""
    for path in sorted((REPORT / "page" / "templates").glob("*.j2")):
        if path.name == "method.html.j2":
            continue
        source = re.sub(r"{{.*?}}", "{}", path.read_text(encoding="utf-8"))
        source = re.sub(r"</?(strong|small|em|code)>", "", source)
        for part in re.split(r"<[^>]*>|{%.*?%}", re.sub(r"<[^<>]*>", "<>", source)):
            text = " ".join(part.split())
            if text.endswith((".", ":")) and len(_WORD.findall(text)) >= _MIN_SENTENCE_WORDS - 1:
                yield text
