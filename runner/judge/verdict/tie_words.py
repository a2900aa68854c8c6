"""The usual ways of saying that two answers are equally good."""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import normalize

_MAX_CHARS = 80
_AROUND = " \t\r\n*_`\"'“”‘’[]【】().。!！:："

_ANSWER = r"(?:(?:the )?(?:assistants?|models?|responses?|answers?|outputs?|repl(?:y|ies)|options?|candidates?) ?)"
_NAMED = rf"{_ANSWER}?[(]?[12ab][)]?"
_SUBJECT = (
    r"(?:that )?(?:(?:it(?:['’]s| is| was)?|this is|they(?:['’]re| are)?"
    r"|(?:the )?(?:result|verdict|outcome|winner)(?: is)?"
    rf"|(?:the )?(?:both|two) (?:of them )?{_ANSWER}?(?:are|were)?|both|{_ANSWER}are"
    rf"|{_NAMED} and {_NAMED}(?: are| were)?|[c3](?= ?[(:=-]))[ :=(-]{{0,3}})?"
)
_DEGREE = (
    r"(?:(?:roughly|about|nearly|almost|basically|essentially|overall|both|just|an?|the|exact|clear|complete|close)[ ])"
    r"{0,3}"
)
_ENGLISH = (
    r"(?:tie|tied|draw|drawn|toss-?up|dead heat|stalemate|even|equal(?:ly)?(?: (?:good|bad|strong|weak|well|poor"
    r"|matched|helpful|correct|valid|capable|competent))?(?: in quality)?"
    r"|(?:of )?(?:the )?(?:same|equal)(?: quality| level)?"
    r"|comparable|equivalent|even(?:ly matched| match)|as good as each other|on (?:a )?par|indistinguishable"
    r"|no (?:clear |real |significant )?(?:winner|difference|preference)"
    rf"|neither (?:of them )?{_ANSWER}?is better|[1a] ?(?:==?|≈) ?[2b])"
    rf"(?: between (?:them|the two(?: {_ANSWER})?|both(?: {_ANSWER})?|{_NAMED} and {_NAMED}))?"
    r"(?:[ :,;(–—-]{1,3}(?:[c3]|[1a] ?(?:==?|≈) ?[2b]|(?:both|neither)\b[^()]{0,40})\)?)?"
)
_CHINESE_NAME = r"(?:回[复複覆復答应應]|答案|助手|模型)"
_CHINESE_SUBJECT = (
    rf"(?:[两兩二][个個份条條者]?(?:的)?{_CHINESE_NAME}?|双方|雙方|它们|它們|结果|結果"
    rf"|{_CHINESE_NAME}?[1A一][和与與跟、]{_CHINESE_NAME}?[2B二])?"
    r"(?:的)?(?:整体|整體|总体|總體|综合|綜合)?(?:质量|質量|水平|表现|表現|品质|品質)?(?:上)?"
    r"(?:都|均|基本|大致|几乎|幾乎)?(?:是|为|為|:|：)?"
)
# Also a part of the words in PAI's brackets.
CHINESE_TIE = (
    r"平局|平手|打平|和局|平分秋色|持平|差不多|不相上下|伯仲之[间間]|旗鼓相[当當]|[势勢]均力[敌敵]|半斤八[两兩]"
    r"|不相伯仲|不分(?:上下|伯仲|[胜勝][负負]|高下|[优優]劣|[轩軒][轾輊])"
    r"|[难難]以?[区區]?分(?:伯仲|高下|上下|[胜勝][负負]|[优優]劣|[轩軒][轾輊])?"
    r"|各有(?:[优優]劣|千秋|所[长長]|[长長]短|[优優]缺?[点點]|[优優][势勢]|利弊)"
    r"|[一同][样樣](?:好|差|[优優]秀|出色)?|同等|相[当當同等]|[并並]列"
    r"|(?:[没沒]有|[无無])(?:明[显顯]|[显顯]著)?的?(?:差[别別异異]|[区區][别別])"
)
_TIE = re.compile(
    rf"{_SUBJECT}{_DEGREE}{_ENGLISH}|{_CHINESE_SUBJECT}(?:{CHINESE_TIE})的?"
    r"|무승부|동점|비김|비슷함|引き?分け|同点|互角",
    re.IGNORECASE,
)


@lru_cache(maxsize=256)
def names_tie(words: str) -> bool:
    """Return True if a short text says no more than that the answers are equally good."""
    return len(words) <= _MAX_CHARS and _TIE.fullmatch(normalize("NFKC", words).strip(_AROUND)) is not None
