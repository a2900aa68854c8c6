"""All batch jobs of one emulator, and the files they are made of."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from runner.emulator.api_errors import ApiError, not_found
from runner.emulator.draws import draw
from runner.emulator.jobs.dialects import job_object, new_job_id, status_word
from runner.emulator.jobs.file_store import MB, FileStore, StoredFile
from runner.emulator.jobs.input_lines import Problem, inspect
from runner.emulator.jobs.job import CreateBatch, EmulatedJob, JobTimeline, failure
from runner.emulator.jobs.job_results import write_results
from runner.emulator.state import Emulator

_T = TypeVar("_T")
_FIRST_MOMENT = -1.0
"""An age at which every job has only just been created, however short its life."""


class Jobs:
    """Makes jobs, ends them when their time has come, and keeps them for good.

    A job's results are written when somebody looks at it after its end, by a task of its own: what was received is
    carried out, whether or not the client stays to hear of it.

    Args:
        clock: seconds; what all jobs go by.
    """

    def __init__(self, emulator: Emulator, clock: Callable[[], float] = time.monotonic) -> None:
        self.files = FileStore(emulator.options.batch.storage_mb * MB)
        self._emulator = emulator
        self._options = emulator.options.batch
        self._dialect = emulator.options.dialect
        self._clock = clock
        self._jobs: dict[str, EmulatedJob] = {}
        self._accepted = 0
        self._created = 0
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def create(self, order: CreateBatch, source: StoredFile) -> dict[str, Any]:
        """Make a job of a file and describe it as it is in its first moment, before its lines count."""
        return await asyncio.shield(self._task(self._create(order, source)))

    def find(self, key: str) -> EmulatedJob:
        """Return a job; raises a 404 where there is none of this id."""
        if key not in self._jobs:
            raise not_found("batch", key)
        return self._jobs[key]

    def newest_first(self) -> list[EmulatedJob]:
        """Return all jobs."""
        return list(reversed(self._jobs.values()))

    def describe(self, job: EmulatedJob) -> dict[str, Any]:
        """Return a job as the service shows it now."""
        return job_object(job, self._age(job), self._dialect, self._options.status_word)

    def cancel(self, job: EmulatedJob) -> None:
        """Stop a job that has not ended; raises a 409 for one that has."""
        if job.outcome is not None:
            word = status_word(job.outcome.stage, self._dialect)
            message = f"A batch that is {word} cannot be cancelled."
            raise ApiError(409, message, kind="invalid_request_error", code="batch_ended")
        if job.cancel_age is None and not self._options.ignore_cancel:
            job.cancel_age = self._age(job)

    async def settle(self, job: EmulatedJob) -> None:
        """Write the results of a job whose time has come."""
        if job.outcome is not None or self._age(job) < job.ends:
            return
        if job.work is None:
            job.work = self._task(self._finish(job))
        await asyncio.shield(job.work)

    async def settle_all(self) -> None:
        """Write the results of all jobs whose time has come."""
        for job in list(self._jobs.values()):
            await self.settle(job)

    def lose_answer(self) -> bool:
        """Say whether the answer to the creation that has just taken effect is lost."""
        self._created += 1
        chance = draw(self._emulator.options.seed, b"create", self._created)
        return chance.detail < self._options.drop_create

    def snapshot(self) -> dict[str, Any]:
        """Return what the statistics say of the present: files held, and jobs by status."""
        words = Counter(self.describe(job)["status"] for job in self._jobs.values())
        return {"files_held": len(self.files), "batch_status": dict(sorted(words.items()))}

    async def aclose(self) -> None:
        """Stop writing results."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _create(self, order: CreateBatch, source: StoredFile) -> dict[str, Any]:
        load = await asyncio.to_thread(inspect, source.blob, self._dialect)
        problems = load.problems or self._over_limit(len(load.starts))
        course: JobTimeline = "run" if problems else self._course()
        job = EmulatedJob(new_job_id(self._dialect), order, source.blob, load, course, self._options.delay)
        job.born = self._clock()
        self._jobs[job.id] = job
        described = job_object(job, _FIRST_MOMENT, self._dialect, None)
        if problems:
            job.refuse(problems)
        else:
            self._accepted += 1
        self._emulator.stats.created([] if problems else load.keys)
        load.keys.clear()
        return described

    async def _finish(self, job: EmulatedJob) -> None:
        async with self._turn:
            if job.last_stage == "failed":
                job.problems = failure("internal_error", "The batch failed inside the service.")
            job.end(await write_results(job, self._emulator, self.files))

    def _course(self) -> JobTimeline:
        """Return what becomes of the next job: the first ones are held, the next expire, the next fail."""
        number, options = self._accepted, self._options
        plan: tuple[tuple[JobTimeline, int], ...] = (("hold", options.hold), ("expire", options.expire))
        for course, count in (*plan, ("fail", options.fail)):
            if number < count:
                return course
            number -= count
        return "run"

    def _over_limit(self, lines: int) -> list[Problem]:
        limit = self._options.enqueued
        open_jobs = (job for job in self._jobs.values() if job.outcome is None and self._age(job) < job.ends)
        if limit is None or sum(job.total for job in open_jobs) + lines <= limit:
            return []
        message = f"Enqueued token limit reached: {limit} lines at once. Try again once other batches have ended."
        return failure("token_limit_exceeded", message)

    def _age(self, job: EmulatedJob) -> float:
        return self._clock() - job.born

    def _task(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
