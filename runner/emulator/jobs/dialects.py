"""Ids, words and objects of files and batches, as each dialect writes them.

The page on PAI-Judge shows `Creating` and `Succeeded` alone; `Running`, `Finalizing`, `Failed`, `Expired`, `Cancelling`
and `Cancelled` are this emulator's guesses, after the vocabulary of PAI's other jobs and the time fields of the page.
"""

from __future__ import annotations

import secrets
import string
from typing import Any
from uuid import uuid4

from runner.emulator.jobs.file_store import MB, StoredFile
from runner.emulator.jobs.job import STAGES, EmulatedJob, Stage
from runner.emulator.options import Dialect

UPLOAD_MB: dict[Dialect, int] = {"pai": 10, "openai": 200, "dashscope": 500}
"""The largest file each service takes."""

_OPENAI_WORDS = ("validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_PAI_WORDS = ("Creating", "Running", "Finalizing", "Succeeded", "Failed", "Expired", "Cancelling", "Cancelled")
_WINDOW_SECONDS = 86_400
_LETTERS = string.ascii_letters + string.digits


def upload_limit(dialect: Dialect) -> int:
    """Return the bytes that one file may have."""
    return UPLOAD_MB[dialect] * MB


def status_word(stage: Stage, dialect: Dialect) -> str:
    """Return what a job in this stage calls its status."""
    return (_PAI_WORDS if dialect == "pai" else _OPENAI_WORDS)[STAGES.index(stage)]


def new_file_id(dialect: Dialect) -> str:
    """Make the id of an uploaded file."""
    if dialect == "openai":
        return "file-" + "".join(secrets.choice(_LETTERS) for _ in range(24))
    name = uuid4().hex
    return f"file-batch-{name.upper() if dialect == 'pai' else name}"


def new_job_id(dialect: Dialect) -> str:
    """Make the id of a job."""
    return f"batch_{uuid4().hex if dialect == 'openai' else uuid4()}"


def result_ids(job_id: str, dialect: Dialect) -> tuple[str, str]:
    """Make the ids of a job's output and error file."""
    if dialect == "openai":
        return new_file_id(dialect), new_file_id(dialect)
    name = job_id.removeprefix("batch_")
    # Recorded Model Studio jobs have error files whose id says "output", whatever the documentation shows.
    errors = f"file-batch_output-{uuid4()}" if dialect == "dashscope" else f"file-batch_error-{name}"
    return f"file-batch_output-{name}", errors


def file_object(file: StoredFile, dialect: Dialect) -> dict[str, Any]:
    """Describe a file."""
    described: dict[str, Any] = {
        "id": file.id,
        "object": "file",
        "bytes": file.blob.size,
        "created_at": file.created_at,
        "filename": file.name,
        "purpose": file.purpose,
    }
    if dialect != "pai":
        described["status"] = "processed"
    return described


def job_object(job: EmulatedJob, age: float, dialect: Dialect, running_word: str | None) -> dict[str, Any]:
    """Describe a job.

    Args:
        age: its seconds since it was created.
        running_word: what it calls itself while it runs, where that is not the dialect's word.
    """
    stage, ended = job.stage(age), job.outcome
    word = running_word if running_word and stage == "running" else status_word(stage, dialect)
    total = 0 if stage == "creating" and dialect != "pai" else job.total
    described = {
        "id": job.id,
        "object": "batch",
        "endpoint": job.order.endpoint,
        "errors": {"object": "list", "data": job.problems} if job.problems and stage == "failed" else None,
        "input_file_id": job.order.input_file_id,
        "completion_window": job.order.completion_window,
        "status": word,
        "output_file_id": ended.output if ended else None,
        "error_file_id": ended.errors if ended else None,
        **_times(job, age, dialect),
        "request_counts": {
            "total": total,
            "completed": ended.completed if ended else job.progress(age),
            "failed": ended.failed if ended else 0,
        },
        "metadata": job.order.metadata,
    }
    if dialect == "openai":
        described |= {"model": job.model, "usage": _usage(job)}
    return described


def _times(job: EmulatedJob, age: float, dialect: Dialect) -> dict[str, int | None]:
    """The Unix times of a job's stages, under the dialect's names and in its order."""
    at = {stage: job.created_at + int(seconds) for stage, seconds in job.reached(age).items()}
    begun = at.get("running")
    if dialect == "pai":
        # The page shows the time of expiry equal to that of the start, and names two fields unlike anyone else.
        head = {"in_process_at": begun, "expires_at": begun, "FinalizingAt": at.get("finalizing")}
    elif dialect == "openai":
        expires = job.created_at + _WINDOW_SECONDS
        head = {"in_progress_at": begun, "expires_at": expires, "finalizing_at": at.get("finalizing")}
    else:
        begun = job.created_at if begun else None
        head = {"in_progress_at": begun, "expires_at": None, "finalizing_at": at.get("finalizing")}
    tail = {f"{word}_at": at.get(stage) for stage, word in zip(STAGES[3:], _OPENAI_WORDS[3:], strict=True)}
    return {"created_at": job.created_at, **head, **tail}


def _usage(job: EmulatedJob) -> dict[str, Any]:
    prompt, completion = (job.outcome.prompt_tokens, job.outcome.completion_tokens) if job.outcome else (0, 0)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
