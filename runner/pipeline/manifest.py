"""Keep `run.json` and `status.json` up to date."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from itertools import groupby
from typing import Any

import msgspec
import pyarrow as pa

from runner.config import shown_tags
from runner.core import now, read_json, write_json
from runner.errors import RunDirectoryError, RunStopped, output_failed
from runner.lanes import Lane, Traffic
from runner.model_names import is_emulated, model_notes
from runner.monitor import Progress, RateMeter, eta
from runner.pipeline.open import OpenRun
from runner.planning import Route
from runner.results import commonest, schema_text
from runner.run_file import Count
from runner.version import __version__

log = logging.getLogger(__name__)

NO_TRAFFIC = Traffic()
EXIT_INTERNAL = 70


class _StoredTraffic(msgspec.Struct):
    """What of status.json counts on in the next call."""

    retries: Count = 0
    throttled: Count = 0


class RunManifest:
    """Records the progress of a run.

    Attributes:
        counts: counts of the stored rows; the recorder keeps them up to date.
        route: the chosen lane and the reason; None until it is chosen.
        lane: the lane that is running or ran last; None before the first.
    """

    def __init__(self, run: OpenRun) -> None:
        self.counts = run.done.counts
        self.route: Route | None = None
        self.lane: Lane | None = None
        self._run = run
        self._story: list[dict[str, Any]] = list(run.earlier.get("story", ()))
        self._earlier_traffic = _earlier_traffic(run)
        self._start_time = time.monotonic()
        self._rows_before = self.counts.done
        self._rate = RateMeter()
        self._noted: dict[str, frozenset[str]] = {}

    @property
    def traffic(self) -> Traffic:
        """Requests in flight at the moment, and retries and 429s of all calls."""
        now, earlier = NO_TRAFFIC if self.lane is None else self.lane.traffic, self._earlier_traffic
        return Traffic(now.in_flight, earlier.retries + now.retries, earlier.throttled + now.throttled)

    @property
    def lanes(self) -> tuple[str, ...]:
        """The lanes that ran, in order, including earlier calls."""
        return tuple(name for name, _ in groupby(entry["lane"] for entry in self._story))

    @property
    def aborted(self) -> bool:
        """True if a second signal stopped the run at once."""
        return self.lane is not None and self.lane.aborted

    @property
    def new_rows(self) -> int:
        """Rows written by this call."""
        return self.counts.done - self._rows_before

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run was opened."""
        return time.monotonic() - self._start_time

    @property
    def emulated(self) -> bool:
        """True if an emulator answers, or has answered any row: its verdicts are made up."""
        served = (name for names in self.counts.served.values() for name in names)
        return any(service.kind == "emulator" for service in self._run.inputs.config.services) or is_emulated(served)

    def model_notes(self) -> list[str]:
        """Returns a sentence for each judge that another model than asked for, or more than one, answered.

        Each sentence is also a warning in run.log, once for each set of models.
        """
        served = {judge: frozenset(names) for judge, names in self.counts.served.items()}
        notes = model_notes({judge.name: judge.model for judge in self._run.inputs.config.judges}, self.counts.served)
        if served != self._noted:
            self._noted = served
            for note in notes:
                log.warning("%s", note)
        return notes

    def start_lane(self, lane: Lane, reason: str) -> None:
        """Record that a lane starts, and why; raises RunStopped if the output can no longer be written."""
        self._earlier_traffic = self.traffic
        self.lane = lane
        self._story.append({"lane": lane.name, "reason": reason, "at": now(), "left": self._run.done.missing()})
        self.save("running")

    def is_drain_requested(self) -> bool:
        """Returns True if another process requested a drain (`judge-runner cancel`)."""
        return self._run.directory.is_drain_requested()

    def check_in_place(self) -> None:
        """Raise RunStopped if the run directory was moved, deleted or replaced under the run."""
        try:
            self._run.directory.check_in_place()
        except OSError as error:
            raise output_failed(error) from error

    def update(self) -> Progress:
        """Write status.json and return its content; a failure to write it is logged and does not stop the run."""
        progress = self._progress(None, None)
        self.model_notes()
        try:
            self._run.directory.check_in_place()
            write_json(self._run.directory.status, msgspec.to_builtins(progress), durable=False)
        except OSError as error:
            log.warning("status.json cannot be written: %s", error)
        return progress

    def end(self, exit_code: int, stop: RunStopped | None) -> None:
        """Write the end of the run to run.json and status.json; raises RunStopped if they cannot be written.

        Args:
            exit_code: of the command.
            stop: why the run ends before every request has its row; None if every request has.
        """
        reason, message = (None, None) if stop is None else (stop.reason, str(stop))
        self.save("finished" if stop is None else "stopped", exit_code, reason, message)
        progress = self._progress(exit_code, reason)
        progress.stop_message = message
        try:
            write_json(self._run.directory.status, msgspec.to_builtins(progress))
        except IsADirectoryError as error:
            log.warning("status.json cannot be written: %s", error)
        except OSError as error:
            raise output_failed(error) from error

    def crash(self, error: Exception) -> None:
        """Write to run.json and status.json, if that is possible, that an internal error ended the run."""
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        with suppress(Exception):
            message = f"{type(cause).__name__}: {cause}"
            self.end(EXIT_INTERNAL, RunStopped("internal", message, EXIT_INTERNAL))

    def save(
        self, state: str, exit_code: int | None = None, stop_reason: str | None = None, stop_message: str | None = None
    ) -> None:
        """Write run.json; raises RunStopped if the output can no longer be written."""
        run = self._run
        config, earlier = run.inputs.config, run.earlier
        counts = {name: value for name, value in msgspec.to_builtins(self.counts).items() if name != "causes"}
        data: dict[str, Any] = {
            "id": run.id,
            "name": config.name,
            "tags": shown_tags(config),
            "versions": {"judge-runner": __version__, "python": sys.version.split()[0], "pyarrow": pa.__version__},
            "base": str(config.base),
            "base_relative": os.path.relpath(config.base, run.directory.path),
            "emulated": self.emulated,
            "state": state,
            "exit_code": exit_code,
            "stop_reason": stop_reason,
            "limit": run.options.limit,
            "route": earlier.get("route") if self.route is None else self.route.lane,
            "route_reason": earlier.get("route_reason") if self.route is None else self.route.reason,
            "lanes": list(self.lanes),
            "story": self._story,
            "batches": run.ledger.by_state(),
            "stop_message": stop_message,
            "counts": {"total": run.total, **counts, "beyond_limit": run.done.beyond},
            "causes": self._causes(),
            "traffic": {"retries": self.traffic.retries, "throttled": self.traffic.throttled},
            "created_at": earlier.get("created_at") or run.started_at,
            "started_at": run.started_at,
            "updated_at": now(),
            "schema": schema_text(run.inputs.schema),
            "columns": {field.name: str(field.type) for field in run.inputs.schema},
            **run.fingerprints,
        }
        try:
            run.directory.write_run(data)
        except OSError as error:
            raise output_failed(error) from error

    def _progress(self, exit_code: int | None, stop_reason: str | None) -> Progress:
        config, counts, total = self._run.inputs.config, self.counts, self._run.total
        ledger = self._run.ledger
        in_batches = ledger.answered_lines()
        rate = self._rate.update(time.monotonic(), counts.done + in_batches)
        return Progress(
            state=self._state(exit_code, stop_reason),
            route=self._route(),
            total=total,
            done=counts.done,
            ok=counts.ok,
            unparsed=counts.unparsed,
            beyond_limit=self._run.done.beyond,
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
            started_at=self._run.started_at,
            updated_at=now(),
            name=config.name,
            tags=shown_tags(config),
            emulated=self.emulated,
            services={} if self.lane is None or exit_code is not None else self.lane.services,
            paused_because=None if self.lane is None else self.lane.paused,
            causes=self._causes(),
            exit_code=exit_code,
            stop_reason=stop_reason,
        )

    def _causes(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(cause) for cause in commonest(self.counts.causes.values())]

    def _state(self, exit_code: int | None, stop_reason: str | None) -> str:
        if exit_code is not None:
            return "finished" if stop_reason is None else "stopped"
        return "starting" if self.lane is None else self.lane.state

    def _route(self) -> str | None:
        if self.lane is not None:
            return self.lane.name
        return self.route.lane if self.route is not None else self._run.earlier.get("route")


def _earlier_traffic(run: OpenRun) -> Traffic:
    """Returns the retries and 429s of earlier calls; status.json has them also after a call that was killed."""
    try:
        status = read_json(run.directory.status, _StoredTraffic)
    except (OSError, RunDirectoryError):  # it is a view: a damaged one is written anew
        return Traffic()
    return Traffic(0, status.retries, status.throttled)
