"""What the words of a refusal mean: a full queue, a file that is not ready yet, a full account. Pure functions.

Services refuse the same thing with different statuses and codes, and some accept a batch and let it fail. Only the
words are alike; docs/batch.md has a table of those that are known, with where they come from.
"""

from __future__ import annotations

import re
from typing import Literal

from runner.errors import Fatal, ServiceError

# If an uploaded file can be used for a batch.
FileState = Literal["ready", "waiting", "failed"]

_WAITING_FILES = frozenset(
    {"pending", "validating", "processing", "running", "queued", "uploading", "inprogress", "notstarted"}
)
_FAILED_FILES = frozenset({"error", "failed", "invalid", "rejected", "deleted", "deleting", "expired"})

# A refusal with another status (a 5xx above all) does not prove that nothing was created.
_CERTAIN_STATUSES = frozenset({400, 403, 404, 409, 413, 422, 423, 425, 429})

# A limit, what it limits, and a word for requests that are queued or running.
_LIMIT = re.compile(
    r"too many|limit|quota|maximum|\bmax\b|exceed|surpass|reached|at most|no more than|allowance|capacity|\bfull\b"
)
_NOUN = r"(?:batch(?:es)?|jobs?|tasks?|requests?|files?|tokens?)"
_UNDER_WAY = (
    r"(?:active|concurrent(?:ly)?|in[ _-]?progress|open|running|pending|queued|processing|outstanding|simultaneous"
    r"|in[ _-]?flight|unfinished)"
)
_ENQUEUED = re.compile(r"\benqueued?\b|enqueued_\w*limit")
_NOUN_UNDER_WAY = re.compile(rf"\b{_UNDER_WAY}\W+(?:\w+\W+){{0,3}}{_NOUN}|\b{_NOUN}\W+(?:\w+\W+){{0,4}}{_UNDER_WAY}\b")
_QUEUE_FULL = (
    re.compile(r"\b(?:too many|max(?:imum)? number of) (?:\w+ )?(?:batches|batch jobs|jobs)\b"),
    re.compile(r"\bbatch(?:es|[ _-]jobs?|[ _-]tasks?)? (?:quota|limit|count) (?:\w+ ){0,3}(?:exceeded|reached)"),
    re.compile(r"\b(?:too_many_batches|batch_(?:limit|quota)_(?:exceeded|reached)|token_?limit_?exceeded)\b"),
    re.compile(r"\bqueue\b.{0,30}\b(?:full|limit|capacity)\b|\b(?:full|limit|capacity)\b.{0,30}\bqueue\b"),
    re.compile(
        r"\b(?:once|until|when|wait for|after) (?:\w+ ){0,4}(?:batches|jobs|some)\b.{0,20}\b(?:complete|finish|end)"
    ),
    re.compile("(?:排队|并发|进行中|运行中|任务数|批量任务).{0,20}(?:上限|超限|超过|限制|已满|过多|超出)"),
)
# Limits on one file or batch, and on the pace: waiting for other batches makes no room.
_ONE_FILE = re.compile(
    r"\b(?:per|in (?:a|an|the|one|this|your|each)) (?:single |input |batch )*(?:batch|file|request|line|job)\b"
    r"|too_many_tasks|(?:too|file) (?:large|size)|context length|per (?:minute|second|hour|day)|rate limit"
)
_FILE_NOT_READY = (
    re.compile(
        r"\bfile\b(?:[^.;]|\.(?=\S)){0,80}"
        r"\b(?:pending|not (?:\w+ ){0,2}(?:processed|ready|available)|being (?:processed|validated|uploaded)"
        r"|still (?:being )?(?:process|upload|validat)\w+|not found|not exist|doesn't exist)\b"
    ),
    re.compile(
        r"\bno (?:such )?file\b|\bno file with\b|\b(?:pending|unprocessed|not processed|not ready) (?:input )?file"
    ),
    re.compile("文件.{0,20}(?:处理中|未处理|未就绪|不存在)"),
)

# A full account and a rate or file-size limit are refused with the same statuses; only the message tells them apart.
_STORAGE = re.compile(r"(storage|file).{0,60}(quota|limit|exceed|full)|(quota|limit|exceed).{0,60}(storage|files)")
_RATE_OR_SIZE = re.compile(r"rate limit|per minute|per hour|enqueued|too.large|(?<!total )file size|per file")
_FULL_STATUSES = frozenset({400, 403, 409, 413, 429, 507})


def file_state(word: object) -> FileState:
    """Return what the status of an uploaded file means; a file without a status, or with an unknown one, is ready."""
    name = re.sub(r"[\s_-]", "", word).lower() if isinstance(word, str) else ""
    return "waiting" if name in _WAITING_FILES else "failed" if name in _FAILED_FILES else "ready"


def says_queue_full(text: str) -> bool:
    """Return True if a text says that too much is enqueued at present: requests, tokens, batches or files."""
    lower = text.lower().replace("-", "_")
    limits = _LIMIT.search(lower) is not None
    if limits and _ENQUEUED.search(lower):
        return True
    if _ONE_FILE.search(lower):
        return False
    return (limits and _NOUN_UNDER_WAY.search(lower) is not None) or any(said.search(lower) for said in _QUEUE_FULL)


def says_file_not_ready(text: str) -> bool:
    """Return True if a text says that the input file is not processed yet, or not known yet."""
    lower = " ".join(text.lower().split())
    return any(said.search(lower) for said in _FILE_NOT_READY)


def queue_full(error: ServiceError) -> bool:
    """Return True if a creation was refused, for certain, because too much is enqueued at present."""
    return _is_certain(error) and says_queue_full(str(error))


def file_not_ready(error: ServiceError) -> bool:
    """Return True if a creation was refused, for certain, because of the state of its input file."""
    return _is_certain(error) and says_file_not_ready(str(error))


def storage_full(error: ServiceError) -> bool:
    """Return True if an upload was refused because the account holds too many bytes or files (PAI: 100 GB in all)."""
    message = str(error).lower()
    return error.status in _FULL_STATUSES and not _RATE_OR_SIZE.search(message) and _STORAGE.search(message) is not None


def _is_certain(error: ServiceError) -> bool:
    return error.status in _CERTAIN_STATUSES and not (isinstance(error, Fatal) and error.reason == "quota")
