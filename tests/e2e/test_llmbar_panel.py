"""A paper's table, made again by one run of its four judges as a panel, in both orders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
WITHOUT_WINNER = {
    ("ChatGPT CoT Natural", False),  # "both ... are equally good"
    ("ChatGPT CoT Neighbor", True),  # cut off in its last sentence
    ("ChatGPT CoT GPTInst", True),  # "neither Output (a) nor Output (b) ..."
    ("ChatGPT CoT GPTOut", True),  # "both outputs are equally good"
    ("ChatGPT CoT Manual", True),  # "equally good and either one can be considered ..."
}
"""Where one text of a group names no better output; `True`: shown exchanged. The paper counts it as wrong."""


@pytest.mark.slow
def test_the_llmbar_papers_table(shared: Path, tmp_path: Path) -> None:
    if not (shared / "replay").is_dir():
        pytest.skip("no recorded judges among the shared data")
    run = tmp_path / "panel"
    command = [sys.executable, str(ROOT / "benchmarks" / "llmbar_panel.py"), "--shared", str(shared), "--run", str(run)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

    published = json.loads((shared / "replay" / "llmbar_published.json").read_text(encoding="utf-8"))
    seen = set()
    summary = json.loads((run / "report" / "summary.json").read_bytes())
    for judge in summary["agreement"][:-1]:
        who, _, method = judge["judge"].partition("-CoT" if "CoT" in judge["judge"] else "-Vanilla_NoRules")
        assert method == ""
        for group in judge["groups"]["subset"]:
            name = f"{who} {judge['judge'].removeprefix(who + '-')} {group['value']}"
            seen.add(name)
            theirs, winners = published[name], group["comparison"]["winners"]
            ours = winners["with_ties"]
            missing = {swapped: (name, swapped) in WITHOUT_WINNER for swapped in (False, True)}
            for figure, key, unread in (
                (ours["accuracy_original"], "accuracy_original", missing[False]),
                (ours["accuracy_swapped"], "accuracy_swapped", missing[True]),
                (ours["accuracy_both_orders"], "both_right", any(missing.values())),
                (winners["orders_agree"], "orders_agree", any(missing.values())),
            ):
                count, n = map(int, theirs[key].partition("=")[0].split("/"))
                assert (figure["count"], figure["n"] + figure["left_out"]) == (count, n), (name, key)
                assert figure["left_out"] == unread, (name, key)
            if not any(missing.values()):
                mean = float(theirs["accuracy_average"].rstrip("%")) / 100
                assert ours["accuracy_mean_of_orders"]["value"] == pytest.approx(mean)
    assert seen == published.keys()

    votes = [len(line["votes"]) for line in pq.read_table(run / "samples.parquet", columns=["votes"]).to_pylist()]
    assert (len(votes), sum(votes)) == (419, 419 * 8 - len(WITHOUT_WINNER))
