"""Ids, status words and JSON objects of files and batches, in each dialect.

The page on PAI-Judge shows only `Creating` and `Succeeded`. `Running`, `Finalizing`, `Failed`, `Expired`, `Cancelling`
and `Cancelled` are this emulator's guesses, based on the status words of PAI's other jobs and the page's time fields.
"""

from __future__ import annotations

import secrets
import string
from typing import Any
from uuid import uuid4

from runner.emulator.jobs.file_store import MB, StoredFile
from runner.emulator.jobs.job import STAGES, EmulatedJob, Stage
from runner.emulator.options import Dialect

# The largest upload that each service accepts.
MAX_UPLOAD_MB: dict[Dialect, int] = {"pai": 10, "openai": 200, "dashscope": 500}

# Status words in the order of STAGES.
_OPENAI_WORDS = ("validating", "in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_PAI_WORDS = ("Creating", "Running", "Finalizing", "Succeeded", "Failed", "Expired", "Cancelling", "Cancelled")

_WINDOW_SECONDS = 86_400
_LETTERS = string.ascii_letters + string.digits


def max_upload_bytes(dialect: Dialect) -> int:
    """Return the largest upload in bytes."""
    return MAX_UPLOAD_MB[dialect] * MB


def status_word(stage: Stage, dialect: Dialect) -> str:
    """Return the status of a job in this stage."""
    return (_PAI_WORDS if dialect == "pai" else _OPENAI_WORDS)[STAGES.index(stage)]


def new_file_id(dialect: Dialect) -> str:
    """Return a new id for an uploaded file."""
    if dialect == "openai":
        return "file-" + "".join(secrets.choice(_LETTERS) for _ in range(24))
    name = uuid4().hex
    return f"file-batch-{name.upper() if dialect == 'pai' else name}"


def new_job_id(dialect: Dialect) -> str:
    """Return a new id for a job."""
    return f"batch_{uuid4().hex if dialect == 'openai' else uuid4()}"


def result_file_ids(job_id: str, dialect: Dialect) -> tuple[str, str]:
    """Return the ids of a job's output file and error file."""
    if dialect == "openai":
        return new_file_id(dialect), new_file_id(dialect)
    name = job_id.removeprefix("batch_")
    # Recorded Model Studio jobs have error files whose id says "output", regardless of what the documentation shows.
    errors = f"file-batch_output-{uuid4()}" if dialect == "dashscope" else f"file-batch_error-{name}"
    return f"file-batch_output-{name}", errors


def file_object(file: StoredFile, dialect: Dialect, is_pending: bool = False) -> dict[str, Any]:
    """Build the JSON object of a file."""
    value: dict[str, Any] = {
        "id": file.id,
        "object": "file",
        "bytes": file.blob.size,
        "created_at": file.created_at,
        "filename": file.name,
        "purpose": file.purpose,
    }
    if dialect != "pai" or is_pending:
        value["status"] = "pending" if is_pending else "processed"
    return value


def job_object(job: EmulatedJob, age: float, dialect: Dialect, running_word: str | None) -> dict[str, Any]:
    """Build the JSON object of a job.

    Args:
        age: seconds since the job's creation.
        running_word: the status of a running job; None is the dialect's word.
    """
    stage, outcome = job.stage(age), job.outcome
    word = running_word if running_word and stage == "running" else status_word(stage, dialect)
    total = 0 if stage == "creating" and dialect != "pai" else job.total
    run = job.lines_run(age)
    failed = 0 if dialect == "dashscope" else job.failed_of(run)
    value = {
        "id": job.id,
        "object": "batch",
        "endpoint": job.params.endpoint,
        "errors": {"object": "list", "data": job.problems} if job.problems and stage == "failed" else None,
        "input_file_id": job.params.input_file_id,
        "completion_window": job.params.completion_window,
        "status": word,
        "output_file_id": outcome.output if outcome else None,
        "error_file_id": outcome.errors if outcome else None,
        **_times(job, age, dialect),
        "request_counts": {
            "total": total,
            "completed": outcome.completed if outcome else run - failed,
            "failed": outcome.failed if outcome else failed,
        },
        "metadata": job.params.metadata,
    }
    if dialect == "openai":
        value |= {"model": job.model, "usage": _usage(job)}
    return value


def _times(job: EmulatedJob, age: float, dialect: Dialect) -> dict[str, int | None]:
    """Return the Unix times of a job's stages, with the field names and the field order of the dialect."""
    at = {stage: job.created_at + int(seconds) for stage, seconds in job.stage_ages(age).items()}
    started, finalizing = at.get("running"), at.get("finalizing")
    if dialect == "pai":
        # The page shows an expiry time equal to the start time, and two field names that no other service has.
        first = {"in_process_at": started, "expires_at": started, "FinalizingAt": finalizing}
    elif dialect == "openai":
        expires = job.created_at + _WINDOW_SECONDS
        first = {"in_progress_at": started, "expires_at": expires, "finalizing_at": finalizing}
    else:
        started = job.created_at if started else None
        first = {"in_progress_at": started, "expires_at": None, "finalizing_at": finalizing}
    last = {f"{word}_at": at.get(stage) for stage, word in zip(STAGES[3:], _OPENAI_WORDS[3:], strict=True)}
    return {"created_at": job.created_at, **first, **last}


def _usage(job: EmulatedJob) -> dict[str, Any]:
    prompt, completion = (job.outcome.prompt_tokens, job.outcome.completion_tokens) if job.outcome else (0, 0)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
