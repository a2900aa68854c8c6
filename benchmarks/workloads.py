"""The workloads: how many samples, what the server does, what the client is told."""

from __future__ import annotations

from typing import NamedTuple

BASELINE, OURS, PEERS = "baseline", "judge-runner", "peers"


class Workload(NamedTuple):
    """One thing to measure.

    Args:
        name: on the command line and in the table.
        about: what it shows, in a line.
        samples, quick: how many; and in a quick round, 0 where it is left out of one.
        server: options of `server.py`.
        concurrency: requests at once; None: the client's own default.
        rpm, tpm: the service's limits, where the client is told of them.
        quota: what the server lets through a minute (of `rpm` or `tpm`), told or not.
        settled: figures of the quota are those after the first seconds, when limits must be learned.
        clients: who takes part unless the command line names others.
        rounds: how many, unless the command line says so; waiting for a quota needs no repetition.
        skewed: one sample in a hundred is fifty times as long as the median.
        kill: SIGKILL when half of the samples are answered, then the same command again.
        peer_samples, peer_concurrency: for clients that are ten times slower, and slower still with more at once.
        limit: seconds after which a client is ended.
    """

    name: str
    about: str
    samples: int
    quick: int
    server: str = ""
    concurrency: int | None = 64
    rpm: int | None = None
    tpm: int | None = None
    quota: int | None = None
    settled: bool = False
    clients: tuple[str, ...] = (BASELINE, OURS)
    rounds: int = 3
    skewed: bool = False
    kill: bool = False
    peer_samples: int = 2000
    peer_concurrency: int | None = None
    limit: float = 300


WORKLOADS = (
    Workload(
        "startup", "20 samples: what a run costs before it does anything", 20, 20, clients=(BASELINE, OURS, PEERS)
    ),
    Workload(
        "overhead",
        "0 ms, 64 at once: CPU per request",
        20_000,
        20_000,
        clients=(BASELINE, OURS, PEERS),
        peer_concurrency=16,
    ),
    Workload(
        "in-flight",
        "1 s, 2,000 at once: wall time",
        20_000,
        8_000,
        "--latency-ms 1000",
        concurrency=2000,
    ),
    Workload(
        "quota",
        "60,000 requests a minute, burst 50, 300 ms",
        30_000,
        15_000,
        "--latency-ms 300 --rpm 60000 --burst 50",
        concurrency=1000,
        rpm=60_000,
        quota=60_000,
        clients=(OURS,),
        rounds=1,
    ),
    Workload(
        "tight-quota",
        "12,000 requests a minute, burst 10, 300 ms, 200 at once",
        4_000,
        1_600,
        "--latency-ms 300 --rpm 12000 --burst 10",
        concurrency=200,
        rpm=12_000,
        quota=12_000,
        clients=(OURS, PEERS),
        rounds=1,
    ),
    Workload(
        "unknown-quota",
        "60,000 requests a minute, but the client is not told; counted after 10 s",
        60_000,
        30_000,
        "--latency-ms 300 --rpm 60000 --burst 50",
        concurrency=None,
        quota=60_000,
        settled=True,
        clients=(OURS,),
        rounds=1,
    ),
    Workload(
        "skewed-tokens",
        "6,000,000 tokens a minute, one sample in 100 fifty times as long",
        16_000,
        0,
        "--latency-ms 300 --tpm 6000000",
        concurrency=200,
        tpm=6_000_000,
        quota=6_000_000,
        clients=(OURS,),
        rounds=1,
        skewed=True,
        limit=600,
    ),
    Workload(
        "faults",
        "20 ms; 3 % 500, 2 % 429, 1 % resets, 0.5 % cut short, 200 at once",
        10_000,
        5_000,
        "--latency-ms 20 --faults 500=0.03,429=0.02,reset=0.01,truncate=0.005",
        concurrency=200,
    ),
    Workload("memory-small", "0 ms, 64 at once: peak memory", 5_000, 5_000, rounds=1),
    Workload("memory-large", "the same with 40 times the samples", 200_000, 50_000, rounds=1, limit=600),
    Workload(
        "kill",
        "200 ms, lognormal, 200 at once; SIGKILL at half, then again",
        20_000,
        6_000,
        "--latency-ms 200 --sigma 0.3",
        concurrency=200,
        clients=(OURS,),
        kill=True,
        rounds=1,
    ),
    Workload(
        "throttled",
        "nothing but 429s for 60 s, then 100 ms",
        10_000,
        0,
        "--latency-ms 100 --throttle-until 60",
        concurrency=None,
        clients=(OURS,),
        rounds=1,
    ),
    Workload(
        "saturated",
        "64 workers of 250 ms, never a 429: the adaptive concurrency against fixed ones",
        12_000,
        0,
        "--latency-ms 250 --saturate 64",
        concurrency=None,
        clients=(OURS, *(f"{OURS}@{count}" for count in (32, 64, 128, 256))),
        rounds=1,
    ),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
