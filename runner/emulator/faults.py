"""Which fault a request meets, if any; how a fault looks on the wire is the caller's business."""

from __future__ import annotations

from typing import Literal

from runner.emulator.draws import BodyDraws, Draws
from runner.emulator.options import Faults

Fault = Literal["500", "503", "429", "reset", "truncate", "hang", "malformed", "refuse", "unparsable"]


class FaultPlan:
    """The shares of the options, ready to be asked once a request."""

    def __init__(self, faults: Faults) -> None:
        shares: tuple[tuple[Fault, float], ...] = (
            ("500", faults.server_error),
            ("503", faults.unavailable),
            ("429", faults.throttled),
            ("reset", faults.reset),
            ("truncate", faults.truncate),
            ("hang", faults.hang),
            ("malformed", faults.malformed),
            ("unparsable", faults.unparsable),
        )
        self._refuse = faults.refuse
        self._edges: list[tuple[float, Fault]] = []
        edge = 0.0
        for fault, share in shares:
            edge += share
            if share:
                self._edges.append((edge, fault))

    def choose(self, draws: Draws, lot: BodyDraws) -> Fault | None:
        """Return the fault of these draws: a refused body is refused every time, all else may differ by attempt."""
        if lot.refuse < self._refuse:
            return "refuse"
        for edge, fault in self._edges:
            if draws.fault < edge:
                return fault
        return None
