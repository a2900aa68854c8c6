"""All batch jobs of one emulator, and their files."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from runner.emulator.api_errors import ApiError, not_found, queue_full
from runner.emulator.draws import draw_attempt
from runner.emulator.jobs.dialects import file_object, job_object, new_job_id, status_word
from runner.emulator.jobs.file_store import MB, Blob, FileStore, StoredFile
from runner.emulator.jobs.input_lines import Problem, inspect
from runner.emulator.jobs.job import CreateBatch, EmulatedJob, JobTimeline, job_failure
from runner.emulator.jobs.job_results import write_results
from runner.emulator.state import Emulator

_T = TypeVar("_T")

# An age at which every job is still being created, even if its duration is 0.
_AGE_AT_CREATION = -1.0


class Jobs:
    """Creates jobs, ends them when they are due, and keeps them as long as the emulator runs.

    A job's results are written at the first call that looks at the job after its end, in a task of their own: a
    request that was received is carried out even if its client disconnects.

    Args:
        clock: returns seconds, monotonic; the ages of all jobs are measured on it.
    """

    def __init__(self, emulator: Emulator, clock: Callable[[], float] = time.monotonic) -> None:
        self.files = FileStore(emulator.options.batch.storage_mb * MB)
        self._emulator = emulator
        self._options = emulator.options.batch
        self._dialect = emulator.options.dialect
        self._clock = clock
        self._jobs: dict[str, EmulatedJob] = {}
        self._accepted = 0
        self._creations = 0
        self._write_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def create(self, params: CreateBatch, source: StoredFile) -> dict[str, Any]:
        """Create a job from a file; return its JSON object as of its creation, before any line counts."""
        return await asyncio.shield(self._start_task(self._create(params, source)))

    def add(self, job: EmulatedJob) -> None:
        """Keep a job, from now on."""
        self._jobs[job.id] = job

    def find(self, key: str) -> EmulatedJob:
        """Return the job with this id.

        Raises:
            ApiError: a 404, if there is none.
        """
        if key not in self._jobs:
            raise not_found("batch", key)
        return self._jobs[key]

    def add_file(self, key: str, name: str, blob: Blob) -> StoredFile:
        """Store an uploaded file."""
        return self.files.add(key, name, "batch", blob, self._clock() + self._options.file_pending)

    def describe_file(self, file: StoredFile) -> dict[str, Any]:
        """Return the current JSON object of a file."""
        return file_object(file, self._dialect, self.is_pending(file))

    def is_pending(self, file: StoredFile) -> bool:
        """Return True if a file cannot be used yet."""
        return self._clock() < file.ready_at

    def listed(self) -> list[EmulatedJob]:
        """Return the jobs that the list shows, the newest first."""
        lag = self._options.list_lag
        return [job for job in reversed(self._jobs.values()) if self._age(job) >= lag]

    def describe_listed(self, job: EmulatedJob) -> dict[str, Any]:
        """Return the JSON object of a job as the list shows it."""
        shown = self.describe(job)
        if self._options.list_other_files:
            shown["input_file_id"] = f"raw-{shown['input_file_id']}"
        return shown

    def describe(self, job: EmulatedJob) -> dict[str, Any]:
        """Return the current JSON object of a job."""
        return job_object(job, self._age(job), self._dialect, self._options.status_word)

    def cancel(self, job: EmulatedJob) -> None:
        """Cancel a job.

        Raises:
            ApiError: a 409, if the job has ended.
        """
        if job.outcome is not None:
            word = status_word(job.outcome.stage, self._dialect)
            message = f"A batch that is {word} cannot be cancelled."
            raise ApiError(409, message, kind="invalid_request_error", code="batch_ended")
        if job.cancel_age is None and not self._options.ignore_cancel:
            job.cancel_age = self._age(job)

    async def finish_if_due(self, job: EmulatedJob) -> None:
        """Write the results of a job if it is due, and wait until they are written."""
        if job.outcome is not None or self._age(job) < job.end_age:
            return
        if job.finish_task is None:
            job.finish_task = self._start_task(self._finish(job))
        await asyncio.shield(job.finish_task)

    async def finish_all_due(self) -> None:
        """Write the results of all jobs that are due."""
        for job in list(self._jobs.values()):
            await self.finish_if_due(job)

    def drops_response(self) -> bool:
        """Return True if the response to the latest creation is lost; call it once per creation."""
        self._creations += 1
        draws = draw_attempt(self._emulator.options.seed, b"create", self._creations)
        return draws.detail < self._options.drop_create

    def snapshot(self) -> dict[str, Any]:
        """Return the statistics of the present state: stored files, and jobs by status."""
        statuses = Counter(self.describe(job)["status"] for job in self._jobs.values())
        return {"files_held": len(self.files), "batch_status": dict(sorted(statuses.items()))}

    async def aclose(self) -> None:
        """Cancel all tasks that create jobs or write results."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _create(self, params: CreateBatch, source: StoredFile) -> dict[str, Any]:
        batch_input = await asyncio.to_thread(inspect, source.blob, self._dialect)
        self._check_queue(len(batch_input.starts))
        problems = batch_input.problems or self._over_limit(len(batch_input.starts))
        timeline: JobTimeline = "run" if problems else self._next_timeline()
        key = new_job_id(self._dialect)
        job = EmulatedJob(key, params, source.blob, batch_input, timeline, self._options.delay)
        job.clock_start = self._clock()
        self.add(job)
        description = job_object(job, _AGE_AT_CREATION, self._dialect, None)
        if problems:
            job.reject(problems)
        else:
            self._accepted += 1
            job.failing = sum(map(self._emulator.will_fail, batch_input.bodies))
        self._emulator.stats.count_batch([] if problems else batch_input.keys)
        batch_input.keys.clear()
        batch_input.bodies.clear()
        return description

    async def _finish(self, job: EmulatedJob) -> None:
        async with self._write_lock:
            if job.final_stage == "failed":
                job.problems = job_failure("internal_error", "The batch failed because of an internal error.")
            job.end(await write_results(job, self._emulator, self.files))

    def _next_timeline(self) -> JobTimeline:
        """Return the timeline of the next job: the first accepted jobs are held, the next expire, the next fail."""
        number, options = self._accepted, self._options
        counts: tuple[tuple[JobTimeline, int], ...] = (
            ("hold", options.hold),
            ("expire", options.expire),
            ("fail", options.fail),
        )
        for timeline, count in counts:
            if number < count:
                return timeline
            number -= count
        return "run"

    def _lines_in_open_jobs(self) -> int:
        return sum(job.total for job in self._jobs.values() if job.outcome is None and self._age(job) < job.end_age)

    def _check_queue(self, lines: int) -> None:
        limit = self._options.enqueued_requests
        if limit is not None and self._lines_in_open_jobs() + lines > limit:
            raise queue_full(self._options.enqueued_status, limit)

    def _over_limit(self, lines: int) -> list[Problem]:
        limit = self._options.enqueued
        if limit is None or self._lines_in_open_jobs() + lines <= limit:
            return []
        message = f"Enqueued token limit reached: {limit} lines at once. Try again when other batches have ended."
        return job_failure("token_limit_exceeded", message)

    def _age(self, job: EmulatedJob) -> float:
        return self._clock() - job.clock_start

    def _start_task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
