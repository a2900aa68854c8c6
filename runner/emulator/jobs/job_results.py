"""Write the results of a job at its end: each line is judged as if it had been sent online."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from random import Random
from typing import Any, NamedTuple

import msgspec

from runner.emulator.answers.completions import Answer, line_completion
from runner.emulator.api_errors import ApiError, server_error
from runner.emulator.chat_request import ChatRequest, parse_chat_request
from runner.emulator.draws import LineFaults, digest, draw_attempt, draw_line
from runner.emulator.jobs.dialects import result_file_ids
from runner.emulator.jobs.file_store import RESULT_PURPOSE, Blob, FileStore
from runner.emulator.jobs.input_lines import InputLine, line_at, response_line, unrun_line
from runner.emulator.jobs.job import EmulatedJob, Outcome
from runner.emulator.state import Emulator

# Lines that are written before the event loop can run other tasks: a few milliseconds' worth.
_LINES_PER_SLICE = 32


async def write_results(job: EmulatedJob, emulator: Emulator, files: FileStore) -> Outcome:
    """Run the lines that the job reached, in a shuffled order, and store its result files."""
    results = ResultFiles(emulator)
    if job.batch_input is not None and job.source is not None and job.final_stage != "failed":
        starts = job.batch_input.starts
        # An expired or cancelled job has run the first lines of this order.
        Random(blake2b(job.batch_input.digest + b"%d" % emulator.options.seed).digest()).shuffle(starts)
        run_count, cancelled = job.final_lines_run, job.cancel_age is not None
        with job.source.mapped() as view:
            for number, start in enumerate(starts):
                if number % _LINES_PER_SLICE == 0:
                    await asyncio.sleep(0)
                line = line_at(view, start)
                if number < run_count:
                    results.run(line)
                else:
                    results.skip(line, cancelled)
    return results.store(job, files)


class _ResultLine(NamedTuple):
    """The ids of a result line and its faults; `id` is 16 bytes."""

    id: bytes
    custom_id: str
    faults: LineFaults


class ResultFiles:
    """Writes the output file and the error file of one job."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._options = emulator.options.batch
        self._dialect = emulator.options.dialect
        self._output, self._errors = Blob(), Blob()
        self._failed = 0
        self._lost = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0

    def run(self, line: InputLine) -> None:
        """Judge one line, and write its result to the output or error file, unless a fault loses it."""
        try:
            chat = parse_chat_request(line.body)
        except ApiError as error:
            line_id = draw_attempt(self._emulator.options.seed, digest(line.body), 0).id
            return self._write_failure(_ResultLine(line_id, line.custom_id, draw_line(line_id)), error)
        plan = self._emulator.plan_attempt(chat)
        result = _ResultLine(plan.draws.id, line.custom_id, draw_line(plan.draws.id))
        problem = self._emulator.error_for(plan.fault)
        if problem is not None or result.faults.error < self._options.errors_in_output:
            return self._write_failure(result, problem)
        return self._write_answer(result, chat, plan.answer)

    def skip(self, line: InputLine, cancelled: bool) -> None:
        """Write to the error file that one line was not run."""
        self._failed += 1
        self._errors.append(msgspec.json.encode(unrun_line(line.custom_id, cancelled, self._dialect)) + b"\n")

    def store(self, job: EmulatedJob, files: FileStore) -> Outcome:
        """Store the result files and return the outcome; an empty file is not stored."""
        output, errors = result_file_ids(job.id, self._dialect)
        for key, blob, kind in ((output, self._output, "output"), (errors, self._errors, "error")):
            if blob.size:
                files.add(key, f"{job.id}_{kind}.jsonl", RESULT_PURPOSE, blob)
        return Outcome(
            job.final_stage,
            job.end_age,
            completed=0 if job.final_stage == "failed" else job.total - self._failed - self._lost,
            failed=self._failed,
            output=output if self._output.size else None,
            errors=errors if self._errors.size else None,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
        )

    def _write_answer(self, result: _ResultLine, chat: ChatRequest, answer: Answer) -> None:
        if not self._write(self._output, result, 200, line_completion(answer, self._dialect)):
            return
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += answer.completion_tokens
        self._emulator.stats.count_answer(chat.digest, answer.prompt_tokens, answer.completion_tokens, batch=True)

    def _write_failure(self, result: _ResultLine, problem: ApiError | None) -> None:
        """Write a failed line; without a `problem`, it is a 500 in the output file (`errors_in_output`)."""
        to_output = problem is None or self._dialect == "dashscope"
        error = problem or server_error(500)
        lost_before = self._lost
        self._write(self._output if to_output else self._errors, result, error.status, {"error": error.error})
        self._failed += 0 if to_output or self._lost > lost_before else 1

    def _write(self, target: Blob, result: _ResultLine, status: int, body: Any) -> bool:
        """Write a result line with the faults of the options; return True if a complete line was written."""
        options, faults = self._options, result.faults
        if faults.lose < options.lose:
            self._emulator.stats.lines_lost += 1
            self._lost += 1
            return False
        if options.body_as_text:
            body = msgspec.json.encode(body).decode()
        value = response_line(result.id, result.custom_id, status, body, self._dialect)
        text = msgspec.json.encode(value)
        garbled = faults.garble < options.garble
        written = (text[: len(text) // 2] if garbled else text) + b"\n"
        target.append(written * 2 if faults.repeat < options.repeats else written)
        if faults.stranger < options.strangers:
            unknown = value | {"custom_id": f"nobody-asked-{result.id.hex()[:12]}"}
            target.append(msgspec.json.encode(unknown) + b"\n")
        return not garbled
