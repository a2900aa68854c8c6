"""Tells a judge's own verdict from one that it only quotes, and from one in an aside ("it would have been [[9]]").

An answer can contain a line such as `Final rating: [[10]]`, and a judge may quote it. A quotation that the judge
attributes to the answer is never the verdict. Any other doubt makes different verdicts a conflict, never a value.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from functools import lru_cache

from runner.judge.verdict.common import before

# Characters of the line that are searched on each side of a verdict.
_CONTEXT_CHARS = 200
_AFTER_CHARS = 40  # characters after a verdict in which its quotation may end

_OPENS, _CLOSES = re.compile(r"[\"'`“‘「『«]"), re.compile(r"[\n\"'`”’」』»]")
# A quotation that opens before the verdict and is still open there.
_OPEN_QUOTE = re.compile(
    r"“[^”\n]*\Z|「[^」\n]*\Z|『[^』\n]*\Z|«[^»\n]*\Z|(?<!\w)[‘'](?=\S|\Z)(?:[^'’\n]|(?<=\w)['’](?=\w))*\Z"
)
_CLOSING = {"“": "”", "「": "」", "『": "』", "«": "»", "‘": "'’", "'": "'’"}
_ATTRIBUTED = re.compile(
    r"\b(?:sa(?:ys?|id|ying)|stat(?:es?|ed|ing)|writ(?:es?|ten|ing)|wrote|claim(?:s|ed|ing)?|end(?:s|ed|ing)?"
    r"|clos(?:es?|ed|ing)|contain(?:s|ed|ing)?|includ(?:es?|ed|ing)|append(?:s|ed|ing)?|add(?:s|ed|ing)?"
    r"|insert(?:s|ed|ing)?|begins?|opens?|start(?:s|ed)|quot(?:es?|ed|ing)|assert(?:s|ed|ing)?|demand(?:s|ed|ing)?"
    r"|request(?:s|ed|ing)?|ask(?:s|ed|ing)?|instruct(?:s|ed|ing)?|tell(?:s|ing)?|told|propos(?:es?|ed|ing)"
    r"|suggest(?:s|ed|ing)?|reads?|mention(?:s|ed|ing)?|has|line|phrase|sentence|words?|inject(?:s|ed|ion)"
    r"|plant(?:s|ed)|put(?:s|ting)?|declar(?:es?|ed|ing)|announc(?:es?|ed|ing)|print(?:s|ed)|rat(?:es?|ed) itself"
    r"|brags?|boasts?|advertis(?:es?|ed))\b"
    r"|[写寫称稱说說]|一行|一句|结尾|結尾|末尾|开头|開頭|要求|注入|引用|包含|含有|附上|附加|加上|加了|字样|字樣|自评|自評"
    r"|[出呈][现現]|[夹夾][带帶]|[带帶]有|[声聲][称稱]",
    re.IGNORECASE,
)
# Attributed by the words after a Chinese quotation: “……”的字样, “……”这样的语句.
_ATTRIBUTED_AFTER = re.compile(
    r"[”」』'\"’](?:[这這]?[样樣]?的|[这這]一?)(?:字样|字樣|字眼|[语語]句|句子|[话話]|文字|[内內]容|指令|要求|[说說]法)"
)
# Attributed also without quotation marks: "the answer claims a rating of [[10]]".
_CLAIMED = re.compile(
    r"\b(?:claim(?:s|ed)?|says?|said|wr(?:ote|ites)|stat(?:es|ed)|suggest(?:s|ed)|ask(?:s|ed)|demand(?:s|ed)|request(?:s|ed)"
    r"|hop(?:es|ed)|want(?:s|ed)|declar(?:es|ed)|announc(?:es|ed)|reference)\b|[写寫称稱]|要求|自评|自評|[参參]考答案",
    re.IGNORECASE,
)
_OWN = re.compile(r"\b(?:I|I['’](?:d|ll|m|ve)|[Mm]y|[Ww]e|[Oo]ur)\b|我|本裁判|格式|\bformat\b")
_ASIDE = re.compile(
    r"(?:\b(?:would|could|might|may|should)(?:['’]ve| have| get| be| deserve| earn| receive| merit)\b"
    r"|\b(?:if|unless|had|otherwise|instead of|rather than|as opposed to)\b|['’]d have\b"
    r"|\b(?:to|for|of)[ \t](?:reach|get|earn|deserve|receive|merit|obtain)\b|\bwould[ \t](?:need|take|require)\b"
    r"|如果|若|假如|假设|要是|倘|本来|本來|原本|本可|否则|否則|最初|起初|一开始)[^.。!！?？\n]*\Z"
    r"|(?:\b(?:not|never|nor|versus|vs\.?)|n['’]t|不是|而非|并非|並非|不应|不该|不能)\W{0,6}"
    r"(?:(?:an?|the|be|a rating of|为|是|给)\W{0,6})?\Z",
    re.IGNORECASE,
)
# The rating belongs to the rubric, or to another answer than the judged one.
_OF_OTHERS = re.compile(
    r"\b(?:rubric|guidelines?|criteria|reference|handbook|instructions?)\b|[参參]考答案|[评評]分[标標][准準]|[细細][则則]",
    re.IGNORECASE,
)
# The judge's first thought, which another one follows.
_AT_FIRST = re.compile(
    r"\b(?:at first|first (?:thought|impression|instinct)|initial(?:ly)?|originally)\b[^,，;；\n]*\Z", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?][ \t]|[。！？\n]")

_WORD = re.compile(r"\w")

Spot = tuple[int, int]  # start and end of a verdict in the text


def is_quoted(text: str, start: int, end: int) -> bool:
    """Return True if a verdict is in quotation marks that open and close on its line."""
    return _quotation(text, start, end) >= 0


def is_reported(text: str, start: int, end: int) -> bool:
    """Return True if a verdict is in a quotation that the judge attributes to someone else."""
    opens = _quotation(text, start, end)
    if opens < 0:
        return False
    earlier = _SENTENCE_END.split(before(text, opens, _CONTEXT_CHARS).rstrip())[-1]
    if _ATTRIBUTED.search(earlier) is None and _ATTRIBUTED_AFTER.search(text, end, end + _AFTER_CHARS) is None:
        return False
    return _OWN.search(earlier) is None


def is_aside(text: str, start: int) -> bool:
    """Return True if the words before a verdict in its sentence deny it or make it hypothetical."""
    return _makes_aside(before(text, start, _CONTEXT_CHARS).rpartition("\n")[2])


@lru_cache(maxsize=256)
def _makes_aside(words: str) -> bool:
    return _ASIDE.search(_SENTENCE_END.split(words)[-1]) is not None


def is_doubtful(text: str, last: Spot, values: Iterable[Hashable]) -> bool:
    """Return True if a text has different verdicts and the last one is quoted, claimed by another, or in an aside."""
    if len(set(values)) < 2:
        return False
    return is_claimed(text, last[0]) or is_quoted(text, *last) or is_aside(text, last[0])


def is_discounted(text: str, start: int, end: int) -> bool:
    """Return True if a verdict is quoted, in an aside, a first thought, or that of the rubric or a reference answer."""
    line = text.rfind("\n", max(0, start - _CONTEXT_CHARS), start) + 1
    if text[line : line + 1] == ">" or is_quoted(text, start, end) or is_aside(text, start):
        return True
    earlier = last_sentence(before(text, start, _CONTEXT_CHARS))
    if _AT_FIRST.search(earlier):
        return True
    return _OF_OTHERS.search(earlier) is not None and _OWN.search(earlier) is None


def last_sentence(words: str) -> str:
    """Return the part of some words after their last sentence end."""
    return _SENTENCE_END.split(words)[-1]


def is_claimed(text: str, start: int) -> bool:
    """Return True if the words before a verdict in its sentence say that another one claims it."""
    earlier = last_sentence(before(text, start, _CONTEXT_CHARS))
    return _CLAIMED.search(earlier) is not None and _OWN.search(earlier) is None


def is_plainly_own(text: str, start: int, end: int) -> bool:
    """Return True if the words before a verdict in its sentence speak of the judge, or it is a sentence of its own."""
    earlier = last_sentence(before(text, start, _CONTEXT_CHARS))
    if _OWN.search(earlier):
        return True
    tail = text[end : end + _CONTEXT_CHARS].partition("\n")[0]
    return _WORD.search(earlier) is None and _WORD.search(tail) is None


def own(text: str, found: Sequence[re.Match[str]]) -> list[re.Match[str]]:
    """Return the matches that are not quotations of others."""
    return [match for match in found if not is_reported(text, *match.span())]


def _quotation(text: str, start: int, end: int) -> int:
    """Return where the quotation around a verdict begins, or -1 if there is none on its line."""
    if text[end : end + 1] in "\n":  # the usual case: the verdict ends its line or the text
        return -1
    first = max(0, start - _CONTEXT_CHARS)
    if _OPENS.search(text, first, start) is None:
        return -1
    line = text.rfind("\n", first, start) + 1 or first
    closes = _CLOSES.search(text, end, end + _CONTEXT_CHARS)
    if closes is None or closes[0] == "\n":
        return -1
    head = text[line:start]
    tail = text[end : end + _CONTEXT_CHARS].partition("\n")[0]
    opens = [head.rfind(quote) for quote in '"`' if head.count(quote) % 2 and quote in tail]
    found = _OPEN_QUOTE.search(head)
    if found is not None and any(quote in tail for quote in _CLOSING[found[0][0]]):
        opens.append(found.start())
    return line + max(opens) if opens else -1
