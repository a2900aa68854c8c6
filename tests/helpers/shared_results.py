"""Results that take long, computed once and used by all test processes of a run."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

folder: Path | None = None  # of this run's results; None: each process keeps its own


def shared(compute: Callable[[str], Result]) -> Callable[[str], Result]:
    """Cache a function of a name, also for other processes. Two of them may compute the same at the same time."""

    @cache
    def result(name: str) -> Result:
        if folder is None:
            return compute(name)
        key = hashlib.sha256(f"{compute.__module__}.{compute.__qualname__}:{name}".encode()).hexdigest()
        file = folder / f"{key}.pickle"
        if file.exists():
            found: Result = pickle.loads(file.read_bytes())
            return found
        made = compute(name)
        folder.mkdir(exist_ok=True)
        written = file.with_suffix(f".{os.getpid()}")
        written.write_bytes(pickle.dumps(made))
        written.replace(file)
        return made

    return result
