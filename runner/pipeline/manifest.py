"""The run as `run.json` and `status.json` tell it."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa

from runner.core import write_json
from runner.errors import output_failed
from runner.lanes import Lane, Traffic
from runner.monitor import Progress, RateMeter, eta
from runner.pipeline.open import OpenRun
from runner.planning import Route
from runner.results import schema_text
from runner.version import __version__

log = logging.getLogger(__name__)

NO_TRAFFIC = Traffic()


class RunManifest:
    """Writes down how a run goes.

    Attributes:
        counts: of the rows there are, kept up to date by who records them.
        route: the lane that was chosen, and why.
        lane: the lane that is running, once there is one.
    """

    def __init__(self, opened: OpenRun) -> None:
        self.counts = opened.done.counts
        self.route: Route | None = None
        self.lane: Lane | None = None
        self._opened = opened
        self._story: list[dict[str, Any]] = list(opened.earlier.get("story", ()))
        self._before = Traffic()
        self._began = time.monotonic()
        self._started_at = now()
        self._rows_before = self.counts.done
        self._rate = RateMeter()

    @property
    def traffic(self) -> Traffic:
        """What goes over the wire just now, and what went wrong on it, of all lanes of this call."""
        now, before = NO_TRAFFIC if self.lane is None else self.lane.traffic, self._before
        return Traffic(now.in_flight, before.retries + now.retries, before.throttled + now.throttled)

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that asked, in their order, of earlier calls too."""
        return tuple(name for name, _ in groupby(turn["lane"] for turn in self._story))

    @property
    def aborted(self) -> bool:
        """Whether the run was told to stop at once."""
        return self.lane is not None and self.lane.aborted

    @property
    def asked(self) -> int:
        """Rows written by this call."""
        return self.counts.done - self._rows_before

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run was opened."""
        return time.monotonic() - self._began

    def begin(self, lane: Lane, reason: str) -> None:
        """Write down that a lane begins, and why; raises RunStopped where the output can no longer be written."""
        self._before = self.traffic
        self.lane = lane
        self._story.append({"lane": lane.name, "reason": reason, "at": now(), "left": self._opened.done.missing()})
        self.save("running")

    def note_drain(self) -> bool:
        """Whether another process asks this one to drain (`cancel`)."""
        return self._opened.directory.is_asked_to_drain()

    def update(self) -> Progress:
        """Write status.json and return what stands in it; that it cannot be written does not end a run."""
        progress = self._progress(None, None)
        try:
            write_json(self._opened.directory.status, msgspec.to_builtins(progress), durable=False)
        except OSError as error:
            log.warning("status.json cannot be written: %s", error)
        return progress

    def end(self, exit_code: int, stop_reason: str | None) -> None:
        """Write how the run ended into run.json and status.json; raises RunStopped."""
        self.save("finished" if stop_reason is None else "stopped", exit_code, stop_reason)
        try:
            write_json(self._opened.directory.status, msgspec.to_builtins(self._progress(exit_code, stop_reason)))
        except OSError as error:
            raise output_failed(error) from error

    def save(self, state: str, exit_code: int | None = None, stop_reason: str | None = None) -> None:
        """Write run.json; raises RunStopped where the output can no longer be written."""
        opened = self._opened
        config, earlier = opened.inputs.config, opened.earlier
        data: dict[str, Any] = {
            "id": earlier.get("id") or f"{config.name}-{self._started_at}",
            "name": config.name,
            "tags": dict(config.tags),
            "versions": {"judge-runner": __version__, "python": sys.version.split()[0], "pyarrow": pa.__version__},
            "base": str(config.base),
            "base_relative": os.path.relpath(config.base, opened.directory.path),
            "emulated": any(service.kind == "emulator" for service in config.services),
            "state": state,
            "exit_code": exit_code,
            "stop_reason": stop_reason,
            "limit": opened.options.limit,
            "route": earlier.get("route") if self.route is None else self.route.lane,
            "route_reason": earlier.get("route_reason") if self.route is None else self.route.reason,
            "lanes": list(self.lanes),
            "story": self._story,
            "batches": self._opened.ledger.by_state(),
            "counts": {"total": opened.total, **msgspec.to_builtins(self.counts)},
            "created_at": earlier.get("created_at") or self._started_at,
            "started_at": self._started_at,
            "updated_at": now(),
            "schema": schema_text(opened.inputs.schema),
            "columns": {field.name: str(field.type) for field in opened.inputs.schema},
            **opened.fingerprints,
        }
        try:
            opened.directory.write_run(data)
        except OSError as error:
            raise output_failed(error) from error

    def _progress(self, exit_code: int | None, stop_reason: str | None) -> Progress:
        config, counts, total = self._opened.inputs.config, self.counts, self._opened.total
        ledger = self._opened.ledger
        in_batches = ledger.answered_lines()
        rate = self._rate.note(time.monotonic(), counts.done + in_batches)
        return Progress(
            state=self._state(exit_code, stop_reason),
            route=self._route(),
            total=total,
            done=counts.done,
            ok=counts.ok,
            unparsed=counts.unparsed,
            failed=counts.failed,
            in_flight=self.traffic.in_flight,
            rate=rate,
            eta_s=eta(total, counts.done, in_batches, rate),
            retries=self.traffic.retries,
            throttled=self.traffic.throttled,
            tokens=counts.prompt_tokens + counts.completion_tokens,
            cost=None if config.prices is None else counts.cost,
            batches=ledger.by_state(),
            jobs=ledger.jobs(),
            answered_in_batches=in_batches,
            started_at=self._started_at,
            updated_at=now(),
            name=config.name,
            tags=dict(config.tags),
            services={} if self.lane is None or exit_code is not None else self.lane.services,
            paused_because=None if self.lane is None else self.lane.paused,
            exit_code=exit_code,
            stop_reason=stop_reason,
        )

    def _state(self, exit_code: int | None, stop_reason: str | None) -> str:
        if exit_code is not None:
            return "finished" if stop_reason is None else "stopped"
        return "starting" if self.lane is None else self.lane.state

    def _route(self) -> str | None:
        if self.lane is not None:
            return self.lane.name
        return self.route.lane if self.route is not None else self._opened.earlier.get("route")


def now() -> str:
    """The time as the files tell it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
