"""A service that fails in every way it can: one row per sample all the same, nothing asked twice, causes kept."""

from __future__ import annotations

import time

import pytest

FAULTS = {"500": 0.03, "503": 0.01, "429": 0.02, "reset": 0.01, "truncate": 0.005, "malformed": 0.002, "hang": 0.001}
CAUSES = {"timeout", "connection", "server_error", "bad_reply"}

SHORT_OUTAGE = {
    "runner.lanes.online.outage.PROBE_DELAY_MIN_SECONDS": 0.3,
    "runner.lanes.online.outage.PROBE_DELAY_MAX_SECONDS": 3.0,
}


@pytest.fixture
def samples(long):
    return 10_000 if long else 1_500


def sections(url: str, attempts: int, concurrency: int) -> dict[str, object]:
    timeout = {"connect": 2, "total": 2}
    service = {"base_url": url, "token_env": None, "limits": {"concurrency": concurrency}, "timeout": timeout}
    retry = {"attempts": attempts, "base": 0.05}
    return {"judge": {"reask": 0}, "service": service, "online": {"retry": retry}}


def test_every_sample_has_its_row_and_every_failure_its_cause(cli, tmp_path, emulator, samples, write_run, rows):
    service = emulator(seed=11, faults=FAULTS)
    write_run(tmp_path, service.url, samples, **sections(service.url, attempts=2, concurrency=40))
    first = cli("run", "judge.yaml", timeout=300)
    written = rows(tmp_path / "out")
    bad = [row for row in written if row["status"] != "ok"]
    assert sorted(row["ordinal"] for row in written) == list(range(samples))
    assert first.returncode == 1 and bad
    assert {row["status"] for row in bad} == {"failed"} and {row["error_type"] for row in bad} <= CAUSES
    assert all(row["error_message"] and row["attempts"] >= 2 and row["score"] is None for row in bad)
    assert all(row["error_type"] is None and row["score"] is not None for row in written if row not in bad)
    met = service.stats()
    assert met["faults"].keys() == FAULTS.keys()
    assert (met["dup_ok"], met["distinct_ok"]) == (0, samples - len(bad))

    assert cli("run", "judge.yaml", "--set", "online.retry.attempts=6", timeout=300).returncode == 0
    again = rows(tmp_path / "out")
    assert sorted(row["ordinal"] for row in again) == list(range(samples))
    assert {row["status"] for row in again} == {"ok"}
    assert (service.stats()["dup_ok"], service.stats()["distinct_ok"]) == (0, samples)


@pytest.mark.slow
def test_an_outage_costs_no_row(spawn, until, tmp_path, emulator, samples, long, write_run, rows, state):
    service = emulator(seed=12, faults=FAULTS, latency={"median": 0.1, "sigma": 0.3})
    concurrency = 100 if long else 50
    write_run(tmp_path, service.url, samples, **sections(service.url, attempts=6, concurrency=concurrency))
    process = spawn("run", "judge.yaml", constants={} if long else SHORT_OUTAGE)
    until(lambda: state().get("done", 0) > samples // 10)
    service.kill()
    until(lambda: state()["state"] == "paused", timeout=10)
    paused = state()
    assert paused["done"] < samples and paused["paused_because"]
    time.sleep(20 if long else 1)
    assert process.poll() is None
    service.restart()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    written = rows(tmp_path / "out")
    assert sorted(row["ordinal"] for row in written) == list(range(samples))
    assert {row["status"] for row in written} == {"ok"}
    after = service.stats()
    assert after["dup_ok"] == 0 and after["distinct_ok"] <= samples - paused["done"]
