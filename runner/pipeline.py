"""The spine: what is done, what is left, which lanes, run them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from runner.client import Client
from runner.closing import RunSummary, close_run
from runner.config import Adaptive, RunConfig, ServiceConfig
from runner.dataset import Feed, chunks
from runner.embedded import embedded_emulator
from runner.errors import RunStopped
from runner.monitor.console import Watcher, watcher
from runner.online.lane import OnlineLane
from runner.opening import OpenRun, RunOptions, open_run
from runner.record import RunRecord
from runner.remaining import Remaining
from runner.results.recorder import Recorder
from runner.results.sink import Sink

TICK_S = 1.0
SIGNALS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
DEFAULTS = RunOptions()


def run(config: RunConfig, options: RunOptions = DEFAULTS) -> RunSummary:
    """Run a configuration to its end; raises UsageError where something given does not fit."""
    with open_run(config, options) as opened:
        return anyio.run(partial(_run, opened), backend_options={"use_uvloop": True})


async def arun(config: RunConfig, options: RunOptions = DEFAULTS) -> RunSummary:
    """Run a configuration to its end from async code; raises UsageError where something given does not fit."""
    manager = open_run(config, options)
    opened = await anyio.to_thread.run_sync(manager.__enter__)
    try:
        return await _run(opened)
    finally:
        manager.__exit__(None, None, None)


async def _run(opened: OpenRun) -> RunSummary:
    """Ask what is left, then close the run, however the asking ended."""
    record = RunRecord(opened)
    stop = None
    try:
        record.save("running")
        if opened.done.missing():
            await _ask(opened, record)
    except RunStopped as error:
        stop = error
    return await _close(opened, record, stop)


async def _ask(opened: OpenRun, record: RunRecord) -> None:
    """The online lane over what is left; raises RunStopped where it ended early."""
    checked = opened.checked
    service = checked.config.services[0]
    async with (
        _sink(opened, record) as sink,
        _address(service) as base_url,
        Client(service, base_url, checked.tokens[service.name]) as client,
        _feed(opened) as feed,
    ):
        recorder = Recorder(sink, opened.shared, opened.prices, record.counts, opened.done.earlier)
        remaining = Remaining(feed, checked.reader, opened.done)
        lane = _lane(opened, service, client, remaining, recorder)
        record.lane = lane
        screen = watcher(checked.config.monitor.progress, opened.options.quiet)
        stop = None
        async with anyio.create_task_group() as helpers:
            if _hears_signals():
                helpers.start_soon(_heed_signals, lane)
            helpers.start_soon(_tick, record, sink, lane, screen)
            if opened.options.max_time is not None:
                helpers.start_soon(_heed_time, lane, opened.options.max_time)
            try:
                await lane.run()
            except RunStopped as error:
                stop = error  # raised below: what leaves a task group comes out as an exception group
            finally:
                helpers.cancel_scope.cancel()
        if stop is not None:
            raise stop


async def _close(opened: OpenRun, record: RunRecord, stop: RunStopped | None) -> RunSummary:
    async with anyio.create_task_group() as helpers:
        if _hears_signals():
            helpers.start_soon(_heed_while_closing)
        summary = await anyio.to_thread.run_sync(close_run, opened, record, stop)
        helpers.cancel_scope.cancel()
    return summary


def _lane(
    opened: OpenRun, service: ServiceConfig, client: Client, remaining: Remaining, recorder: Recorder
) -> OnlineLane:
    config, panel, limits = opened.checked.config, opened.checked.panel, service.limits
    concurrency, grace = limits.concurrency, opened.options.grace
    return OnlineLane(
        client,
        panel,
        remaining,
        recorder,
        policy=config.online.retry,
        reasks=tuple(config.judges[variant.judge_index].reask for variant in panel.variants),
        concurrency=concurrency.start if isinstance(concurrency, Adaptive) else concurrency,
        rpm=limits.rpm,
        tpm=limits.tpm if isinstance(limits.tpm, int) else None,
        grace=service.timeout.total if grace is None else grace,
    )


@asynccontextmanager
async def _sink(opened: OpenRun, record: RunRecord) -> AsyncIterator[Sink]:
    """Where rows go; what is open becomes a part at the end, unless the run is stopped at once."""
    output = opened.checked.config.output
    sink = Sink(
        opened.directory.path,
        opened.checked.schema,
        opened.next_part,
        output.rows_per_part,
        output.compression,
        opened.done.owners,
    )
    try:
        yield sink
    finally:
        with anyio.CancelScope(shield=True):
            if record.hurried:
                sink.leave()
            else:
                await sink.close()


def _feed(opened: OpenRun) -> Feed:
    checked, wanted = opened.checked, opened.done.next_wanted
    return Feed(chunks(checked.files, wanted, rows=opened.survey.counts, columns=checked.reader.columns))


@asynccontextmanager
async def _address(service: ServiceConfig) -> AsyncIterator[str]:
    if service.kind == "emulator":
        async with embedded_emulator(service.emulator) as url:
            yield url
    else:
        yield service.base_url


async def _tick(record: RunRecord, sink: Sink, lane: OnlineLane, screen: Watcher) -> None:
    """Once a second: rows to the disk, status.json, the terminal."""
    with screen:
        while True:
            try:
                await sink.sync()
            except RunStopped as stop:
                lane.drain(stop, grace=0)
            screen.show(record.tick())
            await anyio.sleep(TICK_S)


async def _heed_signals(lane: OnlineLane) -> None:
    """The first signal drains, the second stops at once."""
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async for number in signals:
            reason, code = SIGNALS[number]
            if lane.draining:
                lane.cancel()
                continue
            flying = lane.traffic.in_flight
            sys.stderr.write(f"\n{reason}: waiting for {flying} requests under way; once more stops at once\n")
            lane.drain(RunStopped(reason, "drained; run the same command again to go on", code))


async def _heed_while_closing() -> None:
    """The first signal lets the run be closed, the second leaves at once: every row is on the disk by now."""
    heard = False
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async for number in signals:
            reason, code = SIGNALS[number]
            if heard:
                os._exit(code)
            heard = True
            sys.stderr.write(f"\n{reason}: closing the run; once more stops at once\n")


def _hears_signals() -> bool:
    """Whether this is the main thread, which alone may receive signals."""
    return threading.current_thread() is threading.main_thread()


async def _heed_time(lane: OnlineLane, seconds: float) -> None:
    await anyio.sleep(seconds)
    lane.drain(RunStopped("max_time", f"--max-time: {seconds:g} s are over; run the same command again to go on", 4))
