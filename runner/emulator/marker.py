"""How the emulator names itself, so that nobody takes its verdicts for those of a model."""

from __future__ import annotations

# Every response has this header. Bodies stay as the service documents them.
EMULATED_HEADER = "X-Emulated-By"
EMULATED_BY = "judge-runner"
