"""The official client for Node, against the emulator."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

TOKEN = "sesame"
CALLS = Path(__file__).with_name("npm_calls.cjs")


def test_files_and_batches_work_from_node(packages, emulator, tmp_path, cli_environment):
    service = emulator(token=TOKEN, batch={"delay": 0})
    messages = [{"role": "user", "content": "Is it good? End with Rating: [[n]]"}]
    lines = [{"custom_id": f"r-{n}", "body": {"model": "pai-judge", "messages": messages}} for n in range(3)]
    (tmp_path / "input.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    done = subprocess.run(
        ["node", CALLS, service.url, TOKEN, tmp_path / "input.jsonl"],
        env=cli_environment({"NODE_PATH": str(packages)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["listed"] == found["jobs"][::-1]
    assert found["status"] == "Succeeded"
    assert sorted(line["custom_id"] for line in found["lines"]) == ["r-0", "r-1", "r-2"]
    assert found["token"] == {"class": "AuthenticationError", "status": 401, "code": "invalid_api_key"}
    assert found["unknown"] == {"class": "NotFoundError", "status": 404, "code": "not_found"}
    assert found["window"] == {"class": "BadRequestError", "status": 400, "code": "invalid_request"}
    assert (found["ended"]["class"], found["ended"]["status"]) == ("ConflictError", 409)
