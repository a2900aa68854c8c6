"""One batch job: what was ordered, which course it takes, and where it stands at a given age."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from runner.emulator.jobs.file_store import Blob
from runner.emulator.jobs.input_lines import BatchInput, Problem

Stage = Literal["creating", "running", "finalizing", "done", "failed", "expired", "cancelling", "cancelled"]
STAGES: tuple[Stage, ...] = get_args(Stage)

JobTimeline = Literal["run", "hold", "expire", "fail"]
"""What becomes of a job: all its lines are run, or half of them without an end or until it expires, or it fails."""

STARTS, COUNTS_FROM, FINALIZES = 0.25, 0.5, 0.9
"""Shares of a job's time: it is created before the first, counts lines from the second, finalizes from the third."""

CANCEL_SECONDS = 0.2


class CreateBatch(msgspec.Struct, frozen=True):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None


class Outcome(NamedTuple):
    """How a job ended, at what age, and with which files."""

    stage: Stage
    age: float
    completed: int = 0
    failed: int = 0
    output: str | None = None
    errors: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class EmulatedJob:
    """One job, as its clock and its end make it.

    Attributes:
        source: the bytes of its input, kept until it ends, whatever becomes of the input file.
        load: where its lines stand in them.
        born: when it was created, on the emulator's clock; `created_at` is the same as a Unix time.
        cancel_age: how old it was when it was cancelled.
        outcome: how it ended; None while its results are not written.
        work: the task that writes them.
    """

    def __init__(
        self, key: str, order: CreateBatch, source: Blob, load: BatchInput, course: JobTimeline, delay: float
    ) -> None:
        self.id = key
        self.order = order
        self.total = len(load.starts)
        self.model = load.model
        self.course = course
        self.problems: list[Problem] = load.problems
        self.source: Blob | None = source
        self.load: BatchInput | None = load
        self.created_at = int(time.time())
        self.born = 0.0
        self.cancel_age: float | None = None
        self.outcome: Outcome | None = None
        self.work: asyncio.Task[None] | None = None
        self._delay = delay

    @property
    def ends(self) -> float:
        """The age at which it ends of itself or by being cancelled; infinite for one that is held."""
        if self.cancel_age is not None:
            return self.cancel_age + min(self._delay, CANCEL_SECONDS)
        return math.inf if self.course == "hold" else self._delay

    @property
    def last_stage(self) -> Stage:
        """What it is when it has ended."""
        if self.cancel_age is not None:
            return "cancelled"
        ends: dict[JobTimeline, Stage] = {"expire": "expired", "fail": "failed"}
        return ends.get(self.course, "done")

    @property
    def finished(self) -> int:
        """How many of its lines have been run when it ends."""
        if self.cancel_age is not None:
            return self.progress(self.cancel_age)
        return {"run": self.total, "fail": 0}.get(self.course, self.total // 2)

    def progress(self, age: float) -> int:
        """How many of its lines have been run at this age."""
        age = age if self.cancel_age is None else min(age, self.cancel_age)
        begin, end = self._delay * COUNTS_FROM, self._delay * FINALIZES
        share = 1.0 if age >= end else 0.0 if age <= begin else (age - begin) / (end - begin)
        return int(share * self.total) if self.course == "run" else int(share * (self.total // 2))

    def stage(self, age: float) -> Stage:
        """Where it stands; one whose results are due but not written yet is finalizing."""
        if self.outcome is not None:
            return self.outcome.stage
        if self.cancel_age is not None:
            return "cancelling"
        if age < self._delay * STARTS:
            return "creating"
        return "running" if age < self._delay * FINALIZES or self.course == "hold" else "finalizing"

    def reached(self, age: float) -> dict[Stage, float]:
        """The stages it has come to by this age, each with the age at which it did."""
        stage, found = self.stage(age), dict[Stage, float]()
        if self.outcome is not None:
            age = self.outcome.age
            found[stage] = age
        active = age if self.cancel_age is None else self.cancel_age
        if active >= self._delay * STARTS:
            found["running"] = self._delay * STARTS
        if stage in ("finalizing", "done"):
            found["finalizing"] = self._delay * FINALIZES
        if self.cancel_age is not None:
            found["cancelling"] = self.cancel_age
        return found

    def refuse(self, problems: list[Problem]) -> None:
        """End it before it begins: nothing of it is run."""
        self.problems, self.total = problems, 0
        self.end(Outcome("failed", 0.0))

    def end(self, outcome: Outcome) -> None:
        """Note how it ended, and let go of what only a running job needs."""
        self.outcome, self.source, self.load = outcome, None, None


def failure(code: str, message: str) -> list[dict[str, Any]]:
    """The problem of a job that fails as a whole, as its `errors` name it."""
    return [{"code": code, "message": message, "param": None, "line": None}]
