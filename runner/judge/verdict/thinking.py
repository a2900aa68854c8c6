"""Removes a judge's thinking from its reply: the blocks between marks such as `<think>` and `</think>`.

The marks of the models that write their thinking into the reply are known; `verdict.thinking` adds others. Text after
a mark that no other mark closes, and text before a lone closing mark, count as thinking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Strip = Callable[[str], str]

_TAG = r"(?i:(?:\w{1,20}[:_])?(?:think|thinking|thoughts?|reasoning|scratchpad)(?:[ \t][^<>\n]{0,100})?\|?>)"
# The opening and the closing mark of each known pair, each as its first character and the rest. Only a closing mark of
# the same pair ends a block. The general tag is last: it would match some of the others.
_KNOWN = (
    (r"\[", r"THINK\]", r"\[", r"/THINK\]"),  # Magistral
    ("◁", r"think▷", "◁", r"/think▷"),  # Kimi
    ("<", r"\|begin_of_thought\|>", "<", r"\|end_of_thought\|>"),  # Sky-T1, OpenThinker
    ("<", r"\|START_THINKING\|>", "<", r"\|END_THINKING\|>"),  # Command
    ("<", r"\|channel>thought\b", "<", r"channel\|>"),  # Gemma
    ("<", rf"\|?{_TAG}", "<", rf"(?:/\|?|\|/){_TAG}"),  # <think>, <thinking>, <thought>, <seed:think>, <|think|>
)
# Harmony, the form of gpt-oss:
# `<|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...`
_CHANNEL = "<|channel|>"
_HARMONY = re.compile(r"<\|(start|channel|constrain|message|end|return|call)\|>")
# The same without its special tokens, as some servers deliver it.
_BARE_ANALYSIS, _BARE_FINAL = "analysis", "assistantfinal"


def stripper(marks: Sequence[tuple[str, str]] = ()) -> Strip:
    """Return a function that removes thinking from a text.

    Args:
        marks: opening and closing marks besides the known ones.
    """
    added = [(*_split(opening), *_split(closing)) for opening, closing in marks]
    pattern = _pattern([*added, *_KNOWN])
    angle = _pattern([pair for pair in _KNOWN if pair[0] == pair[2] == "<"])

    def strip(text: str) -> str:
        """Return the text without thinking."""
        if _CHANNEL in text:
            text = _final_channel(text)
        elif text.startswith(_BARE_ANALYSIS) and _BARE_FINAL in text:
            text = text.rpartition(_BARE_FINAL)[2]
        return _strip(text, pattern if marks or "THINK]" in text or "◁" in text else angle)

    return strip


def may_think(text: str) -> bool:
    """Return False only if a text has none of the known marks.

    Most texts have none of these characters, and searching for one character is twenty times as fast as for more.
    """
    return "<" in text or ("K" in text and "THINK]" in text) or "◁" in text or text[:1] == _BARE_ANALYSIS[0]


def _pattern(pairs: Sequence[tuple[str, str, str, str]]) -> re.Pattern[str]:
    """Return a pattern for all marks, with the groups `o{number}` and `c{number}` of each pair.

    The alternatives are grouped by their first character, so that the engine can skip all other text.
    """
    rests: dict[str, list[str]] = {}
    for number, (first, opens, other, closes) in enumerate(pairs):
        rests.setdefault(first, []).append(f"(?P<o{number}>{opens})")
        rests.setdefault(other, []).append(f"(?P<c{number}>{closes})")
    return re.compile("|".join(f"{first}(?:{'|'.join(found)})" for first, found in rests.items()))


def _split(mark: str) -> tuple[str, str]:
    return re.escape(mark[0]), re.escape(mark[1:])


def _strip(text: str, pattern: re.Pattern[str]) -> str:
    mark = pattern.search(text)
    if mark is None:
        return text
    kept: list[str] = []
    position, block = 0, ""
    while mark is not None:
        name = mark.lastgroup or ""
        if not block:
            if name[0] == "o":
                kept.append(text[position : mark.start()])
                block = name[1:]
            else:
                kept.clear()
            position = mark.end()
        elif name == f"c{block}":
            block, position = "", mark.end()
        mark = pattern.search(text, mark.end())
    if not block:
        kept.append(text[position:])
    return "".join(kept)


def _final_channel(text: str) -> str:
    """Return the messages of the channel `final`, and the text after the end of any message."""
    kept: list[str] = []
    channel, part, position = "analysis", "message", 0
    for token in [*_HARMONY.finditer(text), None]:
        piece = text[position : token.start() if token else len(text)]
        if part == "channel":
            channel = piece.strip().partition(" ")[0]
        elif part in ("end", "return", "call") or (part == "message" and channel == "final"):
            kept.append(piece)
        if token is not None:
            part, position = token[1], token.end()
            if part == "start":
                channel = "analysis"
    return "".join(kept)
