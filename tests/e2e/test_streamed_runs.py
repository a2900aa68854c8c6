"""Models that only stream: a run with `stream: true` has the rows of one without, also if streams break."""

from __future__ import annotations

from runner import load_config, run

FAULTS = {"429": 0.03, "truncate": 0.1, "malformed": 0.03, "unparsable": 0.03}
COMPARED = (
    "status", "score", "response", "request_hash", "custom_id", "finish_reason", "prompt_tokens", "completion_tokens",
    "total_tokens", "served_model",
)  # fmt: skip


def test_a_streamed_run_has_the_same_rows(tmp_path, serve, write_run, rows):
    """With both transports: that of aiohttp's session is used behind a proxy, and here the service plays the proxy."""
    written = []
    for name, stream, proxied in (("whole", False, False), ("streamed", True, False), ("proxied", True, True)):
        service = serve(seed=5, faults=FAULTS, token="tok")
        folder = tmp_path / name
        folder.mkdir()
        section = {"base_url": service.url, "token_env": None, "headers": {"Authorization": "${TOKEN}"}}
        section |= {"stream": stream, "query": {"api-version": "2024-10-21"}}
        section |= {"proxy": service.url.removesuffix("/v1")} if proxied else {}
        write_run(folder, service.url, 60, service=section, online={"retry": {"attempts": 9, "base": 0.01}})
        summary = run(load_config(folder / "judge.yaml", environ={"TOKEN": "Bearer tok"}))
        assert summary.exit_code == 0
        found = sorted(rows(folder / "out"), key=lambda row: row["ordinal"])
        written.append([{name: row[name] for name in COMPARED} for row in found])
        assert service.stats()["distinct_ok"] == 60 and service.stats()["faults"]["truncate"] > 0
        log = (folder / "out" / "run.log").read_text(encoding="utf-8")
        assert ("is reached through the proxy http://127.0.0.1" in log) is proxied
    assert written[0] == written[1] == written[2]
    assert len(written[0]) == 60
