"""Run the tests of verdicts and configurations on other Pythons of this machine; `make test-pythons` calls it.

The readers of verdicts consist of regular expressions, and releases of Python differ in those. The tests run on the
oldest Python 3.11+ that is installed, and on the newest release of each minor version. They need only a few small
packages, which are installed into `.pythons/`. A version that is not installed is skipped with a line that says so.
With JUDGE_RUNNER_WHOLE=1 the whole suite runs on each of them, which takes about as long as `make test` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".pythons"
MINORS = ((3, 11), (3, 12), (3, 13))
TESTS = ("tests/judge", "tests/config")
NEEDS_ARROW = "tests/config/test_result_columns.py"
WHOLE = bool(os.environ.get("JUDGE_RUNNER_WHOLE"))
PACKAGES = ("anyio", "hypothesis", "msgspec", "pydantic", "pytest", "pytest-xdist", "pyyaml", "regex")

Version = tuple[int, int, int]


def main() -> int:
    """Run the tests on every chosen Python; returns 1 if they fail on one of them."""
    installed = dict(sorted({**found(), sys.version_info[:3]: Path(sys.executable)}.items()))
    for minor in MINORS:
        if not any(version[:2] == minor for version in installed):
            say(f"skipped: no Python {minor[0]}.{minor[1]} is installed here")
    failed = [version for version in chosen(list(installed)) if not passes(version, installed[version])]
    for version in failed:
        say(f"failed on Python {dotted(version)}")
    return 1 if failed else 0


def candidates() -> Iterator[Path]:
    """Yield programs that may be Pythons: those of the system, of PATH and of pyenv."""
    folders = [Path("/usr/bin"), *map(Path, os.environ.get("PATH", "").split(os.pathsep))]
    folders += Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin")
    for folder in dict.fromkeys(folders):
        if folder.name != "shims":
            yield from (folder / f"python3.{minor}" for minor in range(11, 20))


def found() -> dict[Version, Path]:
    """Return every Python 3.11 or newer by its version."""
    pythons: dict[Version, Path] = {}
    for path in candidates():
        if not path.exists():
            continue
        show = "import sys; print(*sys.version_info[:4])"
        shown = subprocess.run([path, "-I", "-c", show], capture_output=True, text=True, check=False).stdout.split()
        if len(shown) == 4 and shown[3] == "final":
            pythons.setdefault((int(shown[0]), int(shown[1]), int(shown[2])), path)
    return pythons


def chosen(versions: list[Version]) -> list[Version]:
    """Return the oldest of these sorted versions, and the newest of each minor version."""
    newest = {version[:2]: version for version in versions}
    return sorted({versions[0], *newest.values()})


def passes(version: Version, python: Path) -> bool:
    """Return True if the tests pass on this Python."""
    if version == sys.version_info[:3]:
        say(f"skipped: {dotted(version)} is the Python of `make test`")
        return True
    begin = time.monotonic()
    venv = FOLDER / (f"{dotted(version)}-whole" if WHOLE else dotted(version))
    stamp = venv / "installed"
    if not stamp.exists() or stamp.read_text() != " ".join(PACKAGES):
        install(python, venv)
    options = ("-n", "auto", "--dist", "worksteal") if WHOLE else ("-n", "2", f"--ignore={NEEDS_ARROW}", *TESTS)
    command = [venv / "bin" / "python", "-m", "pytest", "-p", "no:cacheprovider", *options]
    ended = subprocess.run(command, cwd=ROOT, check=False)
    say(f"{dotted(version)}: exit code {ended.returncode}, {time.monotonic() - begin:.0f} s")
    return ended.returncode == 0


def install(python: Path, venv: Path) -> None:
    """Create an environment with the packages that the tests need, at the pinned versions."""
    subprocess.run([python, "-m", "venv", "--clear", "--without-pip", venv], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install"]
    pip += ["--quiet", "--disable-pip-version-check", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    packages = ("-e", f"{ROOT}[dev]") if WHOLE else PACKAGES
    subprocess.run([*pip, *packages], check=True)
    (venv / "installed").write_text(" ".join(PACKAGES))


def dotted(version: Version) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"test-pythons: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
