"""Choose the fault of a request, if any. How a fault looks on the wire is decided by the HTTP and batch code."""

from __future__ import annotations

from typing import Literal

from runner.emulator.draws import BodyDraws, Draws
from runner.emulator.options import Faults

Fault = Literal["500", "503", "429", "reset", "truncate", "hang", "malformed", "refuse", "unparsable"]


class FaultPlan:
    """Maps a draw to a fault, according to the shares in the options."""

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
        self._upper_bounds: list[tuple[float, Fault]] = []
        total = 0.0
        for fault, share in shares:
            total += share
            if share:
                self._upper_bounds.append((total, fault))

    def choose(self, draws: Draws, body_draws: BodyDraws) -> Fault | None:
        """Return the fault of these draws.

        A refused body is refused at every attempt. Any other fault can differ from attempt to attempt.
        """
        if body_draws.refuse < self._refuse:
            return "refuse"
        for bound, fault in self._upper_bounds:
            if draws.fault < bound:
                return fault
        return None
