"""How all modules are imported at the start of a program: at once, with what costs them time and memory seen to."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

POOL = "ARROW_DEFAULT_MEMORY_POOL"


@contextmanager
def starting() -> Iterator[None]:
    """Import inside.

    What is imported stays: to look through it for garbage over and over is a tenth of the start, so nobody does.

    Arrow, which chooses where its memory comes from as it is imported, is told to take the C library's, unless the
    environment says otherwise. Its own choice (mimalloc) holds on to 70 MB more under many small batches, and gives
    pages back only to have them cleared and handed out again: a twentieth of a run's CPU.
    """
    collects, frozen, chosen = gc.isenabled(), gc.get_freeze_count(), os.environ.get(POOL)
    gc.disable()
    os.environ.setdefault(POOL, "system")
    try:
        yield
    finally:
        if chosen is None:
            os.environ.pop(POOL, None)
        if not frozen:
            gc.freeze()
            gc.unfreeze()  # what came counts as old now, and is not looked through as soon as gc is on again
        if collects:
            gc.enable()
