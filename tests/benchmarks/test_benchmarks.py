"""The benchmark programs work: tiny rounds with their real commands. The tests check no figures."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHAT_PATH = "/v1/chat/completions"


def tool(*args: object, env: dict[str, str]) -> str:
    """Run one of the programs to its end; returns its output."""
    command = [sys.executable, str(BENCHMARKS / str(args[0])), *map(str, args[1:])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class ReferenceServer:
    """The reference server as a process."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, str(BENCHMARKS / "server.py"), "--child", *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._address = self.process.stdout.readline().strip().removeprefix("http://")

    def call(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and the decoded body."""
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            return reply.status, dict(reply.headers), json.loads(reply.read())
        finally:
            connection.close()

    def chat(self, text: str) -> tuple[int, dict[str, str], Any]:
        """Send one chat request."""
        return self.call("POST", CHAT_PATH, json.dumps({"messages": [{"role": "user", "content": text}]}))

    def stats(self) -> dict[str, Any]:
        """Return its counts."""
        return dict(self.call("GET", "/stats")[2])


@pytest.fixture
def serve() -> Iterator[Callable[..., ReferenceServer]]:
    """Start servers: `serve("--rpm", "60")`; they exit when their standard input ends."""
    started: list[ReferenceServer] = []

    def start(*options: str) -> ReferenceServer:
        started.append(ReferenceServer(*options))
        return started[-1]

    yield start
    for server in started:
        server.process.communicate(timeout=10)
        assert server.process.returncode == 0


def test_a_round_prints_a_table_and_records_each_run(
    tmp_path: Path, cli_environment: Callable[[], dict[str, str]]
) -> None:
    results, env = tmp_path / "results.jsonl", cli_environment()
    given = ("--workloads", "faults", "--clients", "baseline,judge-runner", "--samples", 60, "--rounds", 1)
    printed = tool("run.py", *given, "--results", results, env=env)
    runs = {run["client"]: run for run in map(json.loads, results.read_text(encoding="utf-8").splitlines())}
    ours = runs["judge-runner"]
    assert ours["exit_code"] == 0
    assert {key: ours["output"][key] for key in ("rows", "lost", "doubled")} == {"rows": 60, "lost": 0, "doubled": 0}
    assert ours["server"]["answered"] == 60
    assert ours["server"]["requests"] > 60, "no fault occurred"
    assert ours["cpu_s"] > 0 and ours["peak_mb"] > 0 and ours["versions"]["aiohttp"]
    if find_spec("orjson") is None:
        assert "faults: baseline skipped: orjson not installed" in printed
    else:
        assert runs["baseline"]["output"]["rows"] == runs["baseline"]["server"]["answered"] < 60
    table = tool("run.py", "--table", results, env=env)
    assert "| judge-runner | 60 x 1" in table
    assert table.strip() in printed


def test_the_server_keeps_its_quota_and_counts(serve: Callable[..., ReferenceServer]) -> None:
    server = serve("--rpm", "60", "--burst", "2")
    (first, _, answer), (second, _, _), (third, headers, _) = (server.chat(text) for text in ("a", "a", "b"))
    assert (first, second, third) == (200, 200, 429)
    assert headers["Retry-After"] == "1"
    assert answer["choices"][0]["message"]["content"].rstrip().endswith(("[[A]]", "[[B]]", "[[C]]"))
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    counts = server.stats()
    found = {
        key: counts[key] for key in ("requests", "distinct", "answered", "answered_twice", "accepted", "throttled")
    }
    expected = {"requests": 3, "distinct": 2, "answered": 1, "answered_twice": 1, "accepted": 2, "throttled": 1}
    assert found == expected
    server.call("POST", "/reset")
    assert server.stats()["requests"] == 0
    assert server.chat("b")[0] == 200


def test_the_server_sends_the_configured_faults(serve: Callable[..., ReferenceServer]) -> None:
    assert serve("--throttle-until", "60").chat("a")[0] == 429
    broken = serve("--faults", "500=0.5,reset=0.25,truncate=0.25")
    seen = set()
    for number in range(40):
        try:
            seen.add(str(broken.chat(str(number))[0]))
        except (http.client.IncompleteRead, ConnectionResetError) as error:
            seen.add(type(error).__name__)
    assert seen == {"500", "IncompleteRead", "ConnectionResetError"}
    assert sum(broken.stats()["faults"].values()) == 40


def test_a_saturated_server_queues_requests(serve: Callable[..., ReferenceServer]) -> None:
    server = serve("--saturate", "1", "--latency-ms", "40")
    with ThreadPoolExecutor(4) as pool:
        assert {status for status, _, _ in pool.map(server.chat, "abcd")} == {200}
    counts = server.stats()
    assert counts["throttled"] == 0
    assert counts["active_s"] >= 4 * 0.04 - 0.005


@pytest.mark.parametrize("skewed", [False, True])
def test_the_generated_samples_are_the_same_each_time(
    tmp_path: Path, cli_environment: Callable[[], dict[str, str]], skewed: bool
) -> None:
    paths = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for path in paths:
        tool("generate.py", path, "--samples", 400, *(["--skewed"] if skewed else []), env=cli_environment())
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    texts = ["".join((row["question"], row["answer1"], row["answer2"])) for row in map(json.loads, first.splitlines())]
    normal = sorted(map(len, texts))[: 396 if skewed else 400]
    assert normal[0] >= 300 and normal[-1] <= 1500
    assert 100 < sum("。" in text for text in texts) < 400
    long = [len(text) for text in texts if len(text) > 1500]
    assert len(long) == (4 if skewed else 0)
    assert all(45 < length / median(normal) < 55 for length in long)


def test_lost_and_doubled_samples_are_counted(tmp_path: Path, cli_environment: Callable[[], dict[str, str]]) -> None:
    tool("generate.py", tmp_path / "pairs.jsonl", "--samples", 4, env=cli_environment())
    rows = [{"id": f"s{number:07d}"} for number in (0, 1, 1)]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    printed = tool("result_counts.py", tmp_path / "out", tmp_path / "pairs.jsonl", 4, env=cli_environment())
    assert json.loads(printed) == {"rows": 3, "lost": 2, "doubled": 1, "overtaken_s": None}


def test_the_time_is_found_by_which_a_long_sample_is_overtaken(
    tmp_path: Path, cli_environment: Callable[[], dict[str, str]]
) -> None:
    tool("generate.py", tmp_path / "pairs.jsonl", "--samples", 100, "--skewed", env=cli_environment())
    sent = [100.0 + number / 10 for number in range(100)]
    sent[50] += 3.05  # the long one
    sent[20] += 8.0
    rows = {
        "sample_id": [f"s{number:07d}" for number in range(100)],
        "status": ["ok"] * 100,
        "finished_at": pa.array([round(1e6 * (when + 0.5)) for when in sent], pa.timestamp("us", "UTC")),
        "latency_s": [0.5] * 100,
    }
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "out" / "part.parquet")
    printed = tool("result_counts.py", tmp_path / "out", tmp_path / "pairs.jsonl", 100, env=cli_environment())
    assert json.loads(printed) == {"rows": 100, "lost": 0, "doubled": 0, "overtaken_s": 2.95}
