"""The environment of a measurement: machine, versions and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("judge-runner", "aiohttp", "uvloop", "orjson", "pyarrow", "msgspec", "openai")


def describe_environment() -> dict[str, Any]:
    """Return date, machine, versions, and the commit if there is one."""
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
    """Return the processor's model name."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or "unknown"


def commit() -> str | None:
    """Return the checkout's commit, with a plus if files differ from it; None without git."""
    return output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*") or None


def installed(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def output(*command: str) -> str:
    """Return what a command prints, or an empty text if it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
