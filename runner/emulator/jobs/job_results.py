"""What happens to the lines of a job at its end: each is judged as if it had come online, and written down."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec

from runner.emulator.answers.completions import Answer, line_completion
from runner.emulator.api_errors import ApiError, server_error
from runner.emulator.chat_request import ChatRequest, read_ask
from runner.emulator.draws import LineFaults, digest, draw, fate
from runner.emulator.jobs.dialects import result_ids
from runner.emulator.jobs.file_store import Blob, FileStore
from runner.emulator.jobs.input_lines import InputLine, line_at, reply_line, unrun_line
from runner.emulator.jobs.job import EmulatedJob, Outcome
from runner.emulator.state import Emulator

_SLICE = 32
"""Lines written before others get their turn on the event loop: a few milliseconds."""


async def write_results(job: EmulatedJob, emulator: Emulator, files: FileStore) -> Outcome:
    """Run the lines that this job came to, in an order of its own, and store its result files."""
    results = Results(emulator)
    if job.load is not None and job.source is not None and job.last_stage != "failed":
        starts = job.load.starts
        # Half of an expired job, and what a cancelled one came to, is the beginning of this order.
        Random(blake2b(job.load.digest + b"%d" % emulator.options.seed).digest()).shuffle(starts)
        finished, cancelled = job.finished, job.cancel_age is not None
        with job.source.mapped() as view:
            for number, start in enumerate(starts):
                if number % _SLICE == 0:
                    await asyncio.sleep(0)
                line = line_at(view, start)
                if number < finished:
                    results.run(line)
                else:
                    results.leave(line, cancelled)
    return results.close(job, files)


class Results:
    """The two result files of one job while they are written."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._options = emulator.options.batch
        self._dialect = emulator.options.dialect
        self._output, self._errors = Blob(), Blob()
        self._failed = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0

    def run(self, line: InputLine) -> None:
        """Judge one line, and write what came of it to the file where it belongs; or lose it."""
        try:
            ask = read_ask(line.body)
        except ApiError as misfit:
            name = draw(self._emulator.options.seed, digest(line.body), 0).id
            return self._fail(line, name, fate(name), misfit)
        turn = self._emulator.turn(ask)
        name, lot = turn.draws.id, fate(turn.draws.id)
        problem = self._emulator.problem(turn.fault)
        if problem is not None or lot.error < self._options.errors_in_output:
            return self._fail(line, name, lot, problem)
        return self._answer(line, name, lot, ask, turn.answer)

    def leave(self, line: InputLine, cancelled: bool) -> None:
        """Write down that one line was not run."""
        self._failed += 1
        self._errors.append(msgspec.json.encode(unrun_line(line.custom_id, cancelled, self._dialect)) + b"\n")

    def close(self, job: EmulatedJob, files: FileStore) -> Outcome:
        """Store what was written; a file without a line does not come to be."""
        output, errors = result_ids(job.id, self._dialect)
        for key, blob, kind in ((output, self._output, "output"), (errors, self._errors, "error")):
            if blob.size:
                files.add(key, f"{job.id}_{kind}.jsonl", "batch_output", blob)
        return Outcome(
            job.last_stage,
            job.ends,
            completed=0 if job.last_stage == "failed" else job.total - self._failed,
            failed=self._failed,
            output=output if self._output.size else None,
            errors=errors if self._errors.size else None,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
        )

    def _answer(self, line: InputLine, name: bytes, lot: LineFaults, ask: ChatRequest, answer: Answer) -> None:
        body: Any = line_completion(answer, self._dialect)
        if not self._write(self._output, line, name, lot, 200, body):
            return
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        self._emulator.stats.answered(ask.digest, answer.prompt_tokens, answer.completion_tokens, batch=True)

    def _fail(self, line: InputLine, name: bytes, lot: LineFaults, problem: ApiError | None) -> None:
        """Write a failed line; one without a problem of its own is a 500 that stands in the output file."""
        inside = problem is None or self._dialect == "dashscope"
        reason = problem or server_error(500)
        self._failed += 0 if inside else 1
        target = self._output if inside else self._errors
        self._write(target, line, name, lot, reason.status, {"error": reason.error})

    def _write(self, target: Blob, line: InputLine, name: bytes, lot: LineFaults, status: int, body: Any) -> bool:
        """Write a result line with all that the options do to it; say whether it stands there whole."""
        options = self._options
        if lot.lose < options.lose:
            self._emulator.stats.lines_lost += 1
            return False
        if options.body_as_text:
            body = msgspec.json.encode(body).decode()
        value = reply_line(name, line.custom_id, status, body, self._dialect)
        text = msgspec.json.encode(value)
        torn = lot.garble < options.garble
        written = (text[: len(text) // 2] if torn else text) + b"\n"
        target.append(written * 2 if lot.repeat < options.repeats else written)
        if lot.stranger < options.strangers:
            target.append(msgspec.json.encode(value | {"custom_id": f"nobody-asked-{name.hex()[:12]}"}) + b"\n")
        return not torn
