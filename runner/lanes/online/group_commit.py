"""Reads the verdicts and writes the rows of all answers that came in the same turn of the event loop, together.

Were each worker to go from its answer to its row to its next request on its own, the processor would meet the code of
every step anew each time: measured with 64 requests under way, that doubles to trebles what each step costs.
"""

from __future__ import annotations

import asyncio

import msgspec

from runner.errors import RunStopped
from runner.judge import Panel
from runner.results import ResultRecorder
from runner.types import Failure, JudgeRequest, RequestResult

PendingResult = tuple[JudgeRequest, RequestResult, bool, asyncio.Future[RequestResult]]


class GroupCommitter:
    """Settles what requests came to.

    Args:
        panel: reads the verdicts.
        recorder: takes the rows.
    """

    def __init__(self, panel: Panel, recorder: ResultRecorder) -> None:
        self._panel = panel
        self._recorder = recorder
        self._pending: list[PendingResult] = []
        self._wake = asyncio.Event()

    async def submit(self, request: JudgeRequest, asked: RequestResult, *, last: bool) -> RequestResult:
        """Read the verdict of an answer and write its row; when this returns, SIGKILL does not lose it.

        An answer whose verdict cannot be read is not written unless it is the `last` one: it is to be asked again.
        Raises RunStopped where the row cannot be written. A worker that is cancelled in here still has its row.
        """
        turn: asyncio.Future[RequestResult] = asyncio.get_running_loop().create_future()
        self._pending.append((request, asked, last, turn))
        self._wake.set()
        return await turn

    async def run(self) -> None:
        """Settle what comes in, until cancelled; one task runs this, and what is left then is settled too."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._commit()
        finally:
            self._commit()

    def _commit(self) -> None:
        items, self._pending = self._pending, []
        read = [(request, self._read(request, asked), last, turn) for request, asked, last, turn in items]
        for request, asked, last, turn in read:
            try:
                if last or not is_unreadable(asked):
                    self._recorder.record(request, asked)
            except RunStopped as stop:
                if not turn.done():
                    turn.set_exception(stop)
            else:
                if not turn.done():
                    turn.set_result(asked)

    def _read(self, request: JudgeRequest, asked: RequestResult) -> RequestResult:
        if asked.verdict is not None or isinstance(asked.outcome, Failure):
            return asked
        return msgspec.structs.replace(asked, verdict=self._panel.read(request, asked.outcome))


def is_unreadable(asked: RequestResult) -> bool:
    """Whether there is an answer from which no verdict can be read."""
    return asked.verdict is not None and asked.verdict.problem is not None
