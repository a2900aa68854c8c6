"""The run as `run.json` and `status.json` tell it."""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa

from runner.monitor.progress import Progress, RateMeter, eta
from runner.online.ask import Traffic
from runner.online.lane import OnlineLane
from runner.opening import OpenRun
from runner.results.directory import schema_text
from runner.results.disk import write_json
from runner.results.sink import output_failed
from runner.version import __version__

log = logging.getLogger(__name__)

NO_TRAFFIC = Traffic()


class RunRecord:
    """Writes down how a run goes.

    Attributes:
        counts: of the rows there are, kept up to date by who records them.
        lane: the lane that is running, once there is one.
    """

    def __init__(self, opened: OpenRun) -> None:
        self.counts = opened.done.counts
        self.lane: OnlineLane | None = None
        self._opened = opened
        self._began = time.monotonic()
        self._started_at = now()
        self._rows_before = self.counts.done
        self._rate = RateMeter()

    @property
    def traffic(self) -> Traffic:
        """What goes over the wire just now."""
        return NO_TRAFFIC if self.lane is None else self.lane.traffic

    @property
    def hurried(self) -> bool:
        """Whether the run was told to stop at once."""
        return self.lane is not None and self.lane.hurried

    @property
    def asked(self) -> int:
        """Rows written by this call."""
        return self.counts.done - self._rows_before

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run was opened."""
        return time.monotonic() - self._began

    def tick(self) -> Progress:
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
        config, earlier = opened.checked.config, opened.earlier
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
            "route": "online",
            "route_reason": _route_reason(config.router.mode),
            "lanes": ["online"],
            "counts": {"total": opened.total, **msgspec.to_builtins(self.counts)},
            "created_at": earlier.get("created_at") or self._started_at,
            "started_at": self._started_at,
            "updated_at": now(),
            "schema": schema_text(opened.checked.schema),
            "columns": {field.name: str(field.type) for field in opened.checked.schema},
            **opened.fingerprints,
        }
        try:
            opened.directory.write_run(data)
        except OSError as error:
            raise output_failed(error) from error

    def _progress(self, exit_code: int | None, stop_reason: str | None) -> Progress:
        config, counts, total = self._opened.checked.config, self.counts, self._opened.total
        rate = self._rate.note(time.monotonic(), counts.done)
        return Progress(
            state=self._state(exit_code, stop_reason),
            route="online",
            total=total,
            done=counts.done,
            ok=counts.ok,
            unparsed=counts.unparsed,
            failed=counts.failed,
            in_flight=self.traffic.in_flight,
            rate=rate,
            eta_s=eta(total, counts.done, rate),
            retries=self.traffic.retries,
            throttled=self.traffic.throttled,
            tokens=counts.prompt_tokens + counts.completion_tokens,
            cost=None if config.prices is None else counts.cost,
            batches={},
            started_at=self._started_at,
            updated_at=now(),
            name=config.name,
            tags=dict(config.tags),
            paused_because=None if self.lane is None else self.lane.paused,
            exit_code=exit_code,
            stop_reason=stop_reason,
        )

    def _state(self, exit_code: int | None, stop_reason: str | None) -> str:
        if exit_code is not None:
            return "finished" if stop_reason is None else "stopped"
        return "starting" if self.lane is None else self.lane.state


def now() -> str:
    """The time as the files tell it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _route_reason(mode: str) -> str:
    if mode == "online":
        return "router.mode is online"
    return "router.mode is auto, and this version has only the online lane"
