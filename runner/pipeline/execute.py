"""Run the whole pipeline: open the run, choose a lane, run the lanes, finish. Start reading the program here."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import anyio

from runner.config import RunConfig, ServiceConfig
from runner.errors import RunStopped, UsageError
from runner.monitor import ProgressDisplay, progress_display, write_line
from runner.pipeline.factory import LaneFactory
from runner.pipeline.finish import RunSummary, finish_run
from runner.pipeline.manifest import RunManifest
from runner.pipeline.open import OpenRun, open_run
from runner.pipeline.scheduler import LanePolicy, LaneScheduler
from runner.planning import Route, RunOptions, estimate_requests, route_requests, why_not_batch
from runner.results import ResultRecorder, ResultWriter, RunDirectory
from runner.service import Client, EmbeddedEmulator, embedded_emulator

STATUS_INTERVAL_SECONDS = 1.0

# For each signal the stop reason and the exit code.
SIGNALS = {
    signal.SIGINT: ("interrupted", 130),
    signal.SIGTERM: ("terminated", 143),
    signal.SIGHUP: ("terminated", 143),
}
DEFAULTS = RunOptions()


def run(config: RunConfig, options: RunOptions = DEFAULTS) -> RunSummary:
    """Run a configuration to its end.

    Raises:
        UsageError: the configuration, the dataset, the run directory or an option is not valid, or the caller already
            runs an event loop and must use `arun`.
    """
    if _is_in_event_loop():
        raise UsageError("run() cannot be called in a running event loop, such as a notebook's; use `await arun(...)`")
    with open_run(config, options) as opened_run:
        return anyio.run(partial(_run, opened_run), backend_options={"use_uvloop": True})


async def arun(config: RunConfig, options: RunOptions = DEFAULTS) -> RunSummary:
    """Run a configuration to its end, as `run` does, from async code; raises UsageError."""
    manager = open_run(config, options)
    opened_run = await anyio.to_thread.run_sync(manager.__enter__)
    try:
        return await _run(opened_run)
    finally:
        manager.__exit__(None, None, None)


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _run(run: OpenRun) -> RunSummary:
    """Send the missing requests, then finish the run, whatever stopped the lanes."""
    manifest = RunManifest(run)
    stop = None
    try:
        manifest.save("running")
        if run.done.missing() or run.ledger.open_shards:
            await _run_lanes(run, manifest)
    except RunStopped as error:
        stop = error
    except Exception as error:
        manifest.crash(error)
        raise
    return await _finish(run, manifest, stop)


async def _run_lanes(run: OpenRun, manifest: RunManifest) -> None:
    """Run the lanes on the missing requests; raises RunStopped if they ended before all requests had their rows."""
    config, options = run.inputs.config, run.options
    async with (
        _saved_budget(run),
        _result_writer(run, manifest) as writer,
        _emulators(config.services) as emulators,
        _clients(run, addresses := _addresses(config.services, emulators)) as clients,
    ):
        route = await anyio.to_thread.run_sync(_choose_route, run)
        if run.done.missing():
            manifest.route = route
        display = progress_display(config.monitor.progress, options.quiet)
        recorder = ResultRecorder(writer, run.shared, run.prices, run.done)
        factory = LaneFactory(run, recorder, clients, addresses, display.notify)
        lanes = LaneScheduler(run, manifest, _lane_policy(run, route), factory.lane, display.notify)
        stop = None
        async with anyio.create_task_group() as helpers:
            if _can_receive_signals():
                helpers.start_soon(_handle_signals, lanes)
            helpers.start_soon(_update_every_second, manifest, writer, lanes, display)
            for emulator in emulators.values():
                helpers.start_soon(_stop_without_emulator, emulator, lanes)
            if options.max_time is not None:
                helpers.start_soon(_enforce_max_time, lanes, options.max_time)
            try:
                await lanes.run()
            except RunStopped as error:
                stop = error  # raised below: a task group would wrap it in an exception group
            finally:
                helpers.cancel_scope.cancel()
        if stop is not None:
            raise stop


def _choose_route(run: OpenRun) -> Route:
    """Choose the lane of requests that are in no batch yet; reads the dataset only if its tokens affect the choice."""
    config = run.inputs.config
    estimate = None
    if config.router.mode == "auto" and any(service.limits.tpm is not None for service in config.services):
        estimate = estimate_requests(run.inputs, run.fingerprint, run.done)
    return route_requests(run.inputs, run.done.missing(), estimate)


def _lane_policy(run: OpenRun, route: Route) -> LanePolicy:
    config = run.inputs.config
    falls_back = config.router.on_exhausted_quota == "batch" and config.router.mode != "online"
    return LanePolicy(
        route,
        config.router.leftovers,
        config.batch.resubmits,
        falls_back and why_not_batch(config.judges, config.services) is None,
    )


async def _finish(run: OpenRun, manifest: RunManifest, stop: RunStopped | None) -> RunSummary:
    async with anyio.create_task_group() as helpers:
        if _can_receive_signals():
            helpers.start_soon(_handle_signals_while_finishing)
        manifest.update()
        summary = await anyio.to_thread.run_sync(finish_run, run, manifest, stop)
        helpers.cancel_scope.cancel()
    return summary


@asynccontextmanager
async def _saved_budget(run: OpenRun) -> AsyncIterator[None]:
    """Save the exact use of the budget at the end."""
    try:
        yield
    finally:
        if run.budget is not None:
            with anyio.CancelScope(shield=True):
                await run.budget.close()


@asynccontextmanager
async def _result_writer(run: OpenRun, manifest: RunManifest) -> AsyncIterator[ResultWriter]:
    """Open the result writer; at the end the open segment becomes a part, unless the run is aborted."""
    output = run.inputs.config.output
    writer = ResultWriter(
        run.directory.path,
        run.inputs.schema,
        run.next_part,
        output.rows_per_part,
        output.compression,
        run.done.owners,
        run.rejected,
    )
    try:
        writer.open()
        yield writer
    finally:
        with anyio.CancelScope(shield=True):
            if manifest.aborted or not _is_in_place(run.directory):
                writer.abort()
            else:
                await writer.close()
    if not manifest.aborted:
        await anyio.to_thread.run_sync(writer.check)


def _is_in_place(directory: RunDirectory) -> bool:
    try:
        directory.check_in_place()
    except OSError:
        return False
    return True


@asynccontextmanager
async def _emulators(services: Sequence[ServiceConfig]) -> AsyncIterator[dict[str, EmbeddedEmulator]]:
    """Run the embedded emulators, by service name, as long as the context is open."""
    async with AsyncExitStack() as stack:
        yield {
            service.name: await stack.enter_async_context(embedded_emulator(service.emulator))
            for service in services
            if service.kind == "emulator"
        }


def _addresses(services: Sequence[ServiceConfig], emulators: Mapping[str, EmbeddedEmulator]) -> dict[str, str]:
    """Return the base URL of each service."""
    return {
        service.name: emulators[service.name].url if service.name in emulators else service.base_url
        for service in services
    }


async def _stop_without_emulator(emulator: EmbeddedEmulator, lanes: LaneScheduler) -> None:
    """Stop the run at once if an embedded emulator ends: nobody else can listen on its port."""
    how = await emulator.wait_for_end()
    message = f"the embedded emulator has ended ({how}); run the same command again, which starts another one"
    lanes.drain(RunStopped("outage", message, exit_code=4), grace=0)


@asynccontextmanager
async def _clients(run: OpenRun, addresses: Mapping[str, str]) -> AsyncIterator[dict[tuple[str, str], Client]]:
    """Open clients by service name and base URL: for the current URLs and for those at which open batches were made."""
    services, tokens = run.inputs.config.services, run.inputs.tokens
    by_name = {service.name: service for service in services}
    wanted = {(name, url): (name, url) for name, url in addresses.items()}
    for shard in run.ledger.open_shards:
        name = shard.service if shard.service in by_name else services[0].name
        embedded = by_name[name].kind == "emulator"
        wanted.setdefault((shard.service, shard.base_url), (name, addresses[name] if embedded else shard.base_url))
    async with AsyncExitStack() as stack:
        yield {
            key: await stack.enter_async_context(Client(by_name[name], url, tokens[name]))
            for key, (name, url) in wanted.items()
        }


async def _update_every_second(
    manifest: RunManifest, writer: ResultWriter, lanes: LaneScheduler, display: ProgressDisplay
) -> None:
    """Sync the rows to the disk, and update status.json and the terminal."""
    with display:
        while True:
            try:
                manifest.check_in_place()
                await writer.sync()
            except RunStopped as stop:
                lanes.drain(stop, grace=0)
            if manifest.is_drain_requested():
                lanes.drain(RunStopped("cancelled", "drained for `cancel`; run the same command again to resume", 4))
            display.show(manifest.update())
            await anyio.sleep(STATUS_INTERVAL_SECONDS)


def _handled_signals() -> list[signal.Signals]:
    """Return the signals that drain the run: not those that are ignored, as SIGHUP is under `nohup`."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


async def _handle_signals(lanes: LaneScheduler) -> None:
    """Drain at the first signal, stop at once at the second."""
    with anyio.open_signal_receiver(*_handled_signals()) as signals:
        async for number in signals:
            reason, code = SIGNALS[number]
            if lanes.draining:
                lanes.cancel()
                continue
            waits = "" if lanes.lane is None else f" {lanes.lane.in_progress};"
            write_line(f"\n{reason}:{waits} Ctrl-C again stops now")
            lanes.drain(RunStopped(reason, "drained; run the same command again to resume", code))


async def _handle_signals_while_finishing() -> None:
    """Ignore the first signal, exit at once at the second: every row is on the disk by now."""
    received = False
    with anyio.open_signal_receiver(*_handled_signals()) as signals:
        async for number in signals:
            reason, code = SIGNALS[number]
            if received:
                os._exit(code)
            received = True
            write_line(f"\n{reason}: finishing the run; Ctrl-C again stops now")


def _can_receive_signals() -> bool:
    """Returns True in the main thread, the only one that can receive signals."""
    return threading.current_thread() is threading.main_thread()


async def _enforce_max_time(lanes: LaneScheduler, seconds: float) -> None:
    await anyio.sleep(seconds)
    message = f"--max-time: {seconds:g} s have passed; run the same command again to resume"
    lanes.drain(RunStopped("max_time", message, 4))
