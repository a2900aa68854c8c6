"""The workloads: number of samples, server options and client settings."""

from __future__ import annotations

from typing import NamedTuple

BASELINE, OURS, PEERS = "baseline", "judge-runner", "peers"


class Workload(NamedTuple):
    """One thing to measure.

    Args:
        name: its name on the command line and in the table.
        about: what it shows, in one line.
        samples, quick: number of samples in a full and in a quick round; 0 leaves it out of quick rounds.
        server: options of `server.py`.
        concurrency: requests in flight; None is the client's own default.
        rpm, tpm: the service's limits per minute; None if the client does not know them.
        quota: requests or tokens per minute that the server accepts, even if the client does not know it.
        settled: True if the quota's figures leave out the first seconds, in which a client must find the limits.
        clients: the clients, unless the command line names others.
        rounds: number of rounds, unless the command line sets it; 1 if the workload waits for a quota.
        skewed: one sample in a hundred is fifty times as long as the median.
        kill: send SIGKILL when half of the samples are answered, then run the same command again.
        peer_samples, peer_concurrency: for clients that are ten times slower, and even slower with more concurrency.
        limit: seconds after which a client is killed.
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
    Workload("startup", "20 samples: the fixed cost of a run", 20, 20, clients=(BASELINE, OURS, PEERS)),
    Workload(
        "overhead",
        "0 ms, 64 in flight: CPU per request",
        20_000,
        20_000,
        clients=(BASELINE, OURS, PEERS),
        peer_concurrency=16,
    ),
    Workload(
        "in-flight",
        "1 s, 2,000 in flight: wall time",
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
        "12,000 requests a minute, burst 10, 300 ms, 200 in flight",
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
        "60,000 requests a minute, unknown to the client; counted after 10 s",
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
        "20 ms; 3 % 500, 2 % 429, 1 % resets, 0.5 % truncated, 200 in flight",
        10_000,
        5_000,
        "--latency-ms 20 --faults 500=0.03,429=0.02,reset=0.01,truncate=0.005",
        concurrency=200,
    ),
    Workload("memory-small", "0 ms, 64 in flight: peak memory", 5_000, 5_000, rounds=1),
    Workload("memory-large", "the same with 40 times the samples", 200_000, 50_000, rounds=1, limit=600),
    Workload(
        "kill",
        "200 ms, lognormal, 200 in flight; SIGKILL at half, then run again",
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
        "only 429s for 60 s, then 100 ms",
        10_000,
        0,
        "--latency-ms 100 --throttle-until 60",
        concurrency=None,
        clients=(OURS,),
        rounds=1,
    ),
    Workload(
        "saturated",
        "64 workers of 250 ms, never a 429: adaptive concurrency against fixed concurrencies",
        12_000,
        0,
        "--latency-ms 250 --saturate 64",
        concurrency=None,
        clients=(OURS, *(f"{OURS}@{count}" for count in (32, 64, 128, 256))),
        rounds=1,
    ),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
