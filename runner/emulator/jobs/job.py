"""One batch job: its parameters, its timeline, and its stage at a given age."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Literal, NamedTuple, get_args

import msgspec

from runner.emulator.jobs.file_store import Blob
from runner.emulator.jobs.input_lines import BatchInput, Problem

Stage = Literal["creating", "running", "finalizing", "done", "failed", "expired", "cancelling", "cancelled"]
STAGES: tuple[Stage, ...] = get_args(Stage)

# `run`: all lines are run. `hold` and `expire`: half of them are run; the job then stays open until it is cancelled, or
# expires. `fail`: the job fails as a whole.
JobTimeline = Literal["run", "hold", "expire", "fail"]

# When a job starts to run, starts to count lines and starts to finalize, as shares of its duration.
RUNNING_SHARE, COUNTING_SHARE, FINALIZING_SHARE = 0.25, 0.5, 0.9

CANCEL_SECONDS = 0.2


class CreateBatch(msgspec.Struct, frozen=True):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None


class Outcome(NamedTuple):
    """How a job ended: its last stage, its age in seconds, its counts, and the ids of its result files."""

    stage: Stage
    age: float
    completed: int = 0
    failed: int = 0
    output: str | None = None
    errors: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EmulatedJob:
    """One batch job. All ages are in seconds since its creation.

    Args:
        duration: seconds from the job's creation to its end.

    Attributes:
        params: the body of the call that created the job.
        source: the bytes of the input file; kept until the job ends, even if the input file is deleted.
        batch_input: the index of the input file; kept until the job ends.
        clock_start: when the job was created, on the emulator's clock; `created_at` is the same as a Unix time.
        cancel_age: the job's age when it was cancelled, or None.
        failing: number of its lines that will fail.
        outcome: how the job ended; None until its results are written.
        finish_task: the task that writes the results, once it has started.
    """

    def __init__(
        self,
        key: str,
        params: CreateBatch,
        source: Blob,
        batch_input: BatchInput,
        timeline: JobTimeline,
        duration: float,
    ) -> None:
        self.id = key
        self.params = params
        self.total = len(batch_input.starts)
        self.model = batch_input.model
        self.timeline = timeline
        self.problems: list[Problem] = batch_input.problems
        self.source: Blob | None = source
        self.batch_input: BatchInput | None = batch_input
        self.created_at = int(time.time())
        self.clock_start = 0.0
        self.cancel_age: float | None = None
        self.failing = 0
        self.outcome: Outcome | None = None
        self.finish_task: asyncio.Task[None] | None = None
        self._duration = duration

    @property
    def end_age(self) -> float:
        """The age at which the job ends, on its own or by cancellation; infinite for a held job."""
        if self.cancel_age is not None:
            return self.cancel_age + min(self._duration, CANCEL_SECONDS)
        return math.inf if self.timeline == "hold" else self._duration

    @property
    def final_stage(self) -> Stage:
        """The stage of the job after its end."""
        if self.cancel_age is not None:
            return "cancelled"
        stages: dict[JobTimeline, Stage] = {"expire": "expired", "fail": "failed"}
        return stages.get(self.timeline, "done")

    @property
    def final_lines_run(self) -> int:
        """The number of lines that have been run when the job ends."""
        if self.cancel_age is not None:
            return self.lines_run(self.cancel_age)
        return {"run": self.total, "fail": 0}.get(self.timeline, self.total // 2)

    def lines_run(self, age: float) -> int:
        """Return the number of lines that have been run at this age."""
        age = age if self.cancel_age is None else min(age, self.cancel_age)
        start, end = self._duration * COUNTING_SHARE, self._duration * FINALIZING_SHARE
        share = 1.0 if age >= end else 0.0 if age <= start else (age - start) / (end - start)
        return int(share * self.total) if self.timeline == "run" else int(share * (self.total // 2))

    def failed_of(self, run: int) -> int:
        """Return how many of the first lines that were run have failed, as if failures were spread evenly."""
        return self.failing * run // self.total if self.total else 0

    def stage(self, age: float) -> Stage:
        """Return the stage at this age; a job that is due but whose results are not written yet is finalizing."""
        if self.outcome is not None:
            return self.outcome.stage
        if self.cancel_age is not None:
            return "cancelling"
        if age < self._duration * RUNNING_SHARE:
            return "creating"
        return "running" if age < self._duration * FINALIZING_SHARE or self.timeline == "hold" else "finalizing"

    def stage_ages(self, age: float) -> dict[Stage, float]:
        """Return the stages that the job has reached at this age, each with the age at which it began."""
        stage, ages = self.stage(age), dict[Stage, float]()
        if self.outcome is not None:
            age = self.outcome.age
            ages[stage] = age
        active_until = age if self.cancel_age is None else self.cancel_age
        if active_until >= self._duration * RUNNING_SHARE:
            ages["running"] = self._duration * RUNNING_SHARE
        if stage in ("finalizing", "done"):
            ages["finalizing"] = self._duration * FINALIZING_SHARE
        if self.cancel_age is not None:
            ages["cancelling"] = self.cancel_age
        return ages

    def reject(self, problems: list[Problem]) -> None:
        """End the job at its creation; none of its lines is run."""
        self.problems, self.total = problems, 0
        self.end(Outcome("failed", 0.0))

    def end(self, outcome: Outcome) -> None:
        """Record how the job ended, and release the input that only a running job needs."""
        self.outcome, self.source, self.batch_input = outcome, None, None


def job_failure(code: str, message: str) -> list[Problem]:
    """Return the `errors` of a job that fails as a whole."""
    return [{"code": code, "message": message, "param": None, "line": None}]
