"""The spine: what is done, what is left, which lanes, run them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio

from runner.config import RunConfig, ServiceConfig
from runner.errors import RunStopped
from runner.monitor import ProgressDisplay, watcher
from runner.pipeline.factory import LaneFactory
from runner.pipeline.finish import RunSummary, finish_run
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import OpenRun, open_run
from runner.pipeline.scheduler import LanePolicy, LaneScheduler
from runner.planning import Route, RunOptions, batch_lack, estimate_requests, route_of
from runner.results import ResultRecorder, ResultWriter
from runner.service import Client, embedded_emulator

STATUS_INTERVAL_SECONDS = 1.0
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
    record = RunManifest(opened)
    stop = None
    try:
        record.save("running")
        if opened.done.missing() or opened.ledger.open_shards:
            await _ask(opened, record)
    except RunStopped as error:
        stop = error
    return await _close(opened, record, stop)


async def _ask(opened: OpenRun, record: RunManifest) -> None:
    """The lanes over what is left; raises RunStopped where that ended early."""
    checked = opened.inputs
    services = checked.config.services
    async with (
        _kept(opened),
        _sink(opened, record) as sink,
        _addresses(services) as addresses,
        _clients(opened, addresses) as clients,
    ):
        route = await anyio.to_thread.run_sync(_route, opened)
        if opened.done.missing():
            record.route = route
        workshop = LaneFactory(
            opened, ResultRecorder(sink, opened.shared, opened.prices, opened.done), clients, addresses
        )
        screen = watcher(checked.config.monitor.progress, opened.options.quiet)
        lanes = LaneScheduler(opened, record, _way(opened, route), workshop.lane, screen.say)
        stop = None
        async with anyio.create_task_group() as helpers:
            if _hears_signals():
                helpers.start_soon(_heed_signals, lanes)
            helpers.start_soon(_tick, record, sink, lanes, screen)
            if opened.options.max_time is not None:
                helpers.start_soon(_heed_time, lanes, opened.options.max_time)
            try:
                await lanes.run()
            except RunStopped as error:
                stop = error  # raised below: what leaves a task group comes out as an exception group
            finally:
                helpers.cancel_scope.cancel()
        if stop is not None:
            raise stop


def _route(opened: OpenRun) -> Route:
    """The lane for what is in no batch yet; the dataset is looked at where its tokens matter for that."""
    config = opened.inputs.config
    estimate = None
    if config.router.mode == "auto" and any(service.limits.tpm is not None for service in config.services):
        estimate = estimate_requests(opened.inputs, opened.fingerprint, opened.done)
    return route_of(opened.inputs, opened.done.missing(), estimate)


def _way(opened: OpenRun, route: Route) -> LanePolicy:
    config = opened.inputs.config
    falls_back = config.router.on_exhausted_quota == "batch" and config.router.mode != "online"
    return LanePolicy(
        route,
        config.router.leftovers,
        config.batch.resubmits,
        falls_back and batch_lack(config.judges, config.services) is None,
    )


async def _close(opened: OpenRun, record: RunManifest, stop: RunStopped | None) -> RunSummary:
    async with anyio.create_task_group() as helpers:
        if _hears_signals():
            helpers.start_soon(_heed_while_closing)
        record.update()
        summary = await anyio.to_thread.run_sync(finish_run, opened, record, stop)
        helpers.cancel_scope.cancel()
    return summary


@asynccontextmanager
async def _kept(opened: OpenRun) -> AsyncIterator[None]:
    """What the budget was used for is written down exactly at the end."""
    try:
        yield
    finally:
        if opened.budget is not None:
            with anyio.CancelScope(shield=True):
                await opened.budget.close()


@asynccontextmanager
async def _sink(opened: OpenRun, record: RunManifest) -> AsyncIterator[ResultWriter]:
    """Where rows go; what is open becomes a part at the end, unless the run is stopped at once."""
    output = opened.inputs.config.output
    sink = ResultWriter(
        opened.directory.path,
        opened.inputs.schema,
        opened.next_part,
        output.rows_per_part,
        output.compression,
        opened.done.owners,
    )
    try:
        yield sink
    finally:
        with anyio.CancelScope(shield=True):
            if record.aborted:
                sink.abort()
            else:
                await sink.close()


@asynccontextmanager
async def _addresses(services: Sequence[ServiceConfig]) -> AsyncIterator[dict[str, str]]:
    """Where each service stands: as the YAML says, or its own emulator's address while inside."""
    async with AsyncExitStack() as stack:
        yield {
            service.name: await stack.enter_async_context(embedded_emulator(service.emulator))
            if service.kind == "emulator"
            else service.base_url
            for service in services
        }


@asynccontextmanager
async def _clients(opened: OpenRun, addresses: Mapping[str, str]) -> AsyncIterator[dict[tuple[str, str], Client]]:
    """The services at their present addresses, and at those where they stood when open batches were made."""
    services, tokens = opened.inputs.config.services, opened.inputs.tokens
    by_name = {service.name: service for service in services}
    wanted = {(name, url): (name, url) for name, url in addresses.items()}
    for shard in opened.ledger.open_shards:
        name = shard.service if shard.service in by_name else services[0].name
        embedded = by_name[name].kind == "emulator"
        wanted.setdefault((shard.service, shard.base_url), (name, addresses[name] if embedded else shard.base_url))
    async with AsyncExitStack() as stack:
        yield {
            key: await stack.enter_async_context(Client(by_name[name], url, tokens[name]))
            for key, (name, url) in wanted.items()
        }


async def _tick(record: RunManifest, sink: ResultWriter, lanes: LaneScheduler, screen: ProgressDisplay) -> None:
    """Once a second: rows to the disk, status.json, the terminal."""
    with screen:
        while True:
            try:
                await sink.sync()
            except RunStopped as stop:
                lanes.drain(stop, grace=0)
            if record.note_drain():
                lanes.drain(RunStopped("cancelled", "drained for `cancel`; run the same command again to go on", 4))
            screen.show(record.update())
            await anyio.sleep(STATUS_INTERVAL_SECONDS)


async def _heed_signals(lanes: LaneScheduler) -> None:
    """The first signal drains, the second stops at once."""
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async for number in signals:
            reason, code = SIGNALS[number]
            if lanes.draining:
                lanes.cancel()
                continue
            waits = "" if lanes.lane is None else f" {lanes.lane.in_progress};"
            sys.stderr.write(f"\n{reason}:{waits} once more stops at once\n")
            lanes.drain(RunStopped(reason, "drained; run the same command again to go on", code))


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


async def _heed_time(lanes: LaneScheduler, seconds: float) -> None:
    await anyio.sleep(seconds)
    lanes.drain(RunStopped("max_time", f"--max-time: {seconds:g} s are over; run the same command again to go on", 4))
