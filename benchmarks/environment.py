"""Where and with what something was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("judge-runner", "aiohttp", "uvloop", "orjson", "pyarrow", "msgspec", "openai")


def about() -> dict[str, Any]:
    """Date, machine, versions, and the commit where there is one."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "commit": commit(),
        "versions": {package: found for package in PACKAGES if (found := installed(package))},
    }


def processor() -> str:
    """What the processor calls itself."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or "unknown"


def commit() -> str | None:
    """The checkout's commit, with a plus where files differ from it."""
    return output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*") or None


def installed(package: str) -> str | None:
    """The version that is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def output(*command: str) -> str:
    """What a command prints; nothing where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
