"""`plan` for a dataset and for a started run; it sends nothing and writes nothing."""

from __future__ import annotations

import json
import os
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from runner.config import load_config
from runner.core import COMPLETION_TOKENS, TEMPLATE_TOKENS, estimate_body
from runner.dataset import chunks, take_fingerprint
from runner.errors import RunDirectoryError
from runner.lanes.batch import Ledger, request_line
from runner.lanes.batch.ledger import Shard
from runner.limits import Spend
from runner.planning import RunInputs, RunOptions, check_inputs, make_plan, request_fingerprint
from runner.planning.estimate import MAX_SAMPLES_READ
from runner.planning.plan import CapPlan, Plan
from runner.results import RunDirectory
from runner.results.journal import Segment, segment_path
from runner.results.parts import PartWriter, part_path
from runner.types import JudgeRequest, Row

PRICES = {"currency": "EUR", "per": 1000, "models": {"pai-judge": {"input": 4, "output": 12, "batch": 0.5}}}
KEYS = [
    *("name", "samples", "requests", "answered", "in_batches", "open", "judges", "prompt_tokens", "completion_tokens"),
    *("currency", "online", "batch", "route", "reason", "samples_read", "exact", "bad_rows", "problems"),
    "budget",
]
TEMPLATE = {"kind": "template", "user": "Rate {answer}", "verdict": "mt_bench_single"}


class Bench:
    """A dataset with a judge.yaml, and a run directory that can be filled by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = RunDirectory(folder / "out")

    def write(self, samples: int, **sections: Any) -> RunInputs:
        """Write a dataset of `samples` samples and a judge.yaml (JSON is YAML) with these sections."""
        rows = [{"id": f"s{n}", "question": f"Why {n}?", "answer": "因为。" * (n % 7 + 1)} for n in range(samples)]
        self.write_lines([json.dumps(row, ensure_ascii=False) for row in rows])
        document = {"dataset": {"path": "data.jsonl"}, "judge": {}, "output": {"directory": "out"}, **sections}
        if "judges" in sections:
            del document["judge"]
        if "services" not in sections:
            here = {"token_env": None, "base_url": "http://127.0.0.1:9/v1"}
            document["service"] = {**here, **sections.get("service", {})}
        (self.folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")
        return self.inputs

    def write_lines(self, lines: list[str]) -> None:
        """Replace the dataset."""
        (self.folder / "data.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @property
    def inputs(self) -> RunInputs:
        """The inputs inputs."""
        return check_inputs(load_config(self.folder / "judge.yaml"))

    def plan(self, samples: int, **sections: Any) -> Plan:
        """Write the dataset and the configuration, and plan a run."""
        return make_plan(self.write(samples, **sections), RunOptions())

    def requests(self) -> list[JudgeRequest]:
        """Build all requests as the lanes do."""
        inputs = self.inputs
        samples = [inputs.reader.sample(raw) for raw in chain.from_iterable(chunks(inputs.files))]
        return [
            inputs.panel.request(sample, variant) for sample in samples for variant in range(len(inputs.panel.variants))
        ]

    def start(self) -> None:
        """Create a run directory without a row."""
        inputs = self.inputs
        self.directory.prepare()
        self.directory.write_run(
            {"asking": request_fingerprint(inputs.config), "dataset": take_fingerprint(inputs.files).to_data()}
        )

    def write_part(self, rows: list[Row]) -> None:
        """Write part 0."""
        writer = PartWriter(part_path(self.directory.results, 0), self.inputs.schema, "zstd")
        writer.add(rows)
        writer.finish()

    def write_segment(self, number: int, rows: list[Row]) -> None:
        """Write a segment."""
        segment = Segment(segment_path(self.directory.journal, number))
        for row in rows:
            segment.append(row)
        segment.close()

    def modification_times(self) -> dict[str, int]:
        """Returns the modification time of every file in the folder."""
        return {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*")}


def row(ordinal: int, status: str = "ok", error_type: str | None = None, completion: int | None = 100) -> Row:
    """Returns a row of the only judge."""
    return {
        "sample_id": f"s{ordinal}",
        "ordinal": ordinal,
        "judge": "judge",
        "swapped": False,
        "repeat": 0,
        "custom_id": f"{ordinal}-judge-o-0",
        "status": status,
        "error_type": error_type,
        "attempts": 1,
        "prompt_tokens": 800,
        "completion_tokens": completion,
        "total_tokens": None,
        "cost": None,
    }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_figures_of_a_small_dataset_are_exact(bench):
    plan = bench.plan(40, prices=PRICES, service={"limits": {"rpm": 20, "tpm": 10_000}})
    prompt = sum(TEMPLATE_TOKENS + estimate_body(request.body) for request in bench.requests())
    completion = 40 * COMPLETION_TOKENS
    assert (plan.samples, plan.requests, plan.answered, plan.open) == (40, 40, 0, 40)
    assert (plan.prompt_tokens, plan.completion_tokens) == (prompt, completion)
    assert plan.currency == "EUR"
    assert plan.online.cost == pytest.approx((4 * prompt + 12 * completion) / 1000)
    assert plan.batch.cost == pytest.approx(plan.online.cost / 2)
    assert plan.online.seconds == pytest.approx(60 * max(40 / 20, (prompt + completion) / 10_000))
    assert (plan.batch.available, plan.batch.shards, plan.batch.seconds_at_most) == (True, 1, 86400)
    assert (plan.route, plan.samples_read, plan.exact) == ("online", 40, True)
    assert plan.reason.startswith("40 open requests, fewer than 20,000 (router.batch_from); online takes about")


def test_without_prices_and_limits_cost_and_time_are_unknown(bench):
    plan = bench.plan(3)
    assert (plan.currency, plan.online.cost, plan.batch.cost, plan.online.seconds) == (None, None, None, None)
    assert bench.plan(3, prices={"models": {"other": {"input": 1, "output": 1}}}).online.cost is None


def test_each_judge_has_its_requests_model_and_answer_length(bench):
    judges = [
        {"name": "a", "parameters": {"max_tokens": 20}},
        {"name": "b", "model": "pai-judge-plus", "repeats": 3, "parameters": {"max_tokens": 9000}},
        {"name": "c", "model": "own", **TEMPLATE},
    ]
    plan = bench.plan(10, judges=judges)
    assert plan.requests == plan.open == 50
    facts = [(judge.name, judge.model, judge.requests, judge.completion_tokens) for judge in plan.judges]
    assert facts == [("a", "pai-judge", 10, 200), ("b", "pai-judge-plus", 30, 9000), ("c", "own", 10, 3000)]
    assert [judge.completion_from for judge in plan.judges] == ["parameters.max_tokens", "assumed", "assumed"]
    own = [estimate_body(request.body) for request in bench.requests() if b'"own"' in request.body]
    assert plan.judges[2].prompt_tokens == sum(own)


@pytest.mark.parametrize("batch", [{}, {"shard_lines": 7}, {"shard_mb": 0.002}, {"shard_mb": 0.002, "shard_lines": 4}])
@pytest.mark.parametrize("dialect", ["pai", "openai", "dashscope"])
def test_shards_and_bytes_equal_a_recount(bench, dialect, batch):
    judges = [{"name": "a"}, {"name": "b", "model": "pai-judge-plus"}, {"name": "c"}]
    plan = bench.plan(30, judges=judges, batch=batch, service={"dialect": dialect})
    extra = {} if dialect == "pai" else {"method": "POST", "url": "/v1/chat/completions"}
    files: dict[str, list[list[int]]] = {}
    for request in bench.requests():
        body = json.loads(request.body)
        line = {"custom_id": request.custom_id, **extra, "body": body}
        size = len(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode()) + 1
        shards = files.setdefault("" if dialect == "pai" else body["model"], [[]])
        full = len(shards[-1]) == batch.get("shard_lines", 50_000)
        if full or sum(shards[-1]) + size > 1e6 * batch.get("shard_mb", 10):
            shards.append([])
        shards[-1].append(size)
    found = [shard for shards in files.values() for shard in shards]
    assert (plan.batch.shards, plan.batch.bytes) == (len(found), sum(map(sum, found)))


def test_a_large_dataset_is_sampled_evenly(bench):
    batch = {"shard_mb": 0.5, "parallel": 3, "window": "48h"}
    sampled = bench.plan(30_000, batch=batch)
    assert not sampled.exact
    assert 0.9 * MAX_SAMPLES_READ < sampled.samples_read <= MAX_SAMPLES_READ
    requests = bench.requests()
    prompt = sum(TEMPLATE_TOKENS + estimate_body(request.body) for request in requests)
    size = sum(len(request.body) + len(request.custom_id) + len('{"custom_id":"","body":}\n') for request in requests)
    assert sampled.prompt_tokens == pytest.approx(prompt, rel=0.005)
    assert sampled.batch.bytes == pytest.approx(size, rel=0.005)
    assert sampled.completion_tokens == 30_000 * COMPLETION_TOKENS
    assert sampled.batch.shards == pytest.approx(size / 5e5, abs=1)
    assert sampled.batch.seconds_at_most == -(-sampled.batch.shards // 3) * 48 * 3600
    assert sampled.route == "batch"
    assert "30,000 open requests" in sampled.reason


def test_limit_plans_only_the_first_samples(bench):
    plan = make_plan(bench.write(30_000), RunOptions(limit=25))
    assert (plan.samples, plan.requests, plan.samples_read, plan.exact) == (25, 25, 25, True)


def test_rows_that_give_no_request_are_counted_and_shown(bench):
    bench.write(4)
    bench.write_lines(
        ['{"question": "Why?", "answer": "So."}', "{broken", '{"question": "Why?"}', '{"question": 1, "answer": 2}']
    )
    plan = make_plan(bench.inputs, RunOptions())
    assert (plan.requests, plan.open, plan.bad_rows) == (4, 4, 2)
    assert plan.completion_tokens == 2 * COMPLETION_TOKENS
    assert [problem.split()[0] for problem in plan.problems] == ["data.jsonl:2:", "data.jsonl:3:"]
    assert "2 of them give no request" in plan.as_text()


def test_answered_and_submitted_requests_are_not_open(bench):
    bench.write(12)
    bench.start()
    bench.write_part(
        [row(0), row(1, "unparsed"), row(2, "failed", "bad_request", None), row(3, "failed", "timeout", None)]
    )
    bench.write_segment(0, [row(0)])
    bench.write_segment(1, [row(4, completion=300), row(5, "failed", "connection", None)])
    _submit(bench, [6, 7])
    before = bench.modification_times()
    plan = make_plan(bench.inputs, RunOptions())
    assert bench.modification_times() == before
    assert (plan.requests, plan.answered, plan.in_batches, plan.open) == (12, 4, 2, 6)
    assert plan.samples_read == 6
    judge = plan.judges[0]
    assert (judge.requests, judge.completion_from) == (12, "the mean of 3 answers")
    assert judge.completion_tokens == round(6 * 500 / 3)
    assert "12 requests (judge 12), 4 already answered, 2 in batches, 6 open" in plan.as_text()
    assert make_plan(bench.inputs, RunOptions(retry=("failed",))).open == 7


def test_cached_tokens_of_the_rows_so_far_lower_the_cost(bench):
    prices = {"models": {"pai-judge": {"input": 4, "output": 12, "cached": 1, "batch": 0.5}}, "per": 1000}
    assert "cached" not in bench.plan(4, prices=prices).as_text()
    bench.start()
    bench.write_part([row(0) | {"cached_tokens": 600}, row(1)])
    plan = make_plan(bench.inputs, RunOptions())
    cached = round(plan.prompt_tokens * 600 / 1600)
    assert plan.judges[0].cached_tokens == cached
    cost = (4 * (plan.prompt_tokens - cached) + cached + 12 * plan.completion_tokens) / 1000
    assert plan.online.cost == pytest.approx(cost)
    assert plan.batch.cost == pytest.approx(cost / 2)
    assert f"prompt ({cached:,} of them cached, as in the rows so far)" in plan.as_text()


def _submit(bench: Bench, ordinals: list[int], reserved: Spend | None = None) -> None:
    """Put these requests into an open batch."""
    ledger = Ledger(bench.directory.path / "batches")
    ledger.create()
    members = [{"custom_id": f"{n}-judge-o-0", "request_hash": "", "sample_id": "", "columns": {}} for n in ordinals]
    text = "".join(json.dumps({**member, "ordinal": n}) + "\n" for n, member in zip(ordinals, members, strict=True))
    ledger.members(0).write_text(text, encoding="utf-8")
    url = "http://127.0.0.1:9/v1"
    ledger.save(Shard(0, "poll", "default", url, len(ordinals), size=1, reserved=reserved, batch_id="b"))


def test_a_finished_run_has_no_open_requests(bench):
    bench.write(2)
    bench.start()
    bench.write_part([row(0), row(1)])
    plan = make_plan(bench.inputs, RunOptions())
    assert (plan.answered, plan.open, plan.samples_read, plan.batch.shards) == (2, 0, 0, 0)
    assert (plan.prompt_tokens, plan.route, plan.reason) == (0, "online", "no open requests")


MAX = {"judge": {"parameters": {"max_tokens": 100}}, "prices": PRICES}


def test_without_a_budget_the_plan_has_none(bench):
    plan = bench.plan(3)
    assert plan.budget == ()
    assert "budget" not in plan.as_text()


def test_a_cap_that_is_too_low_shows_how_many_requests_fit(bench):
    plan = bench.plan(40, **MAX, budget={"requests": 40, "tokens": 16_000, "cost": 1000})
    needed = plan.prompt_tokens + plan.completion_tokens
    requests, tokens, cost = plan.budget
    assert requests == CapPlan("requests", 40, 0, 40, True, 40)
    assert tokens == CapPlan("tokens", 16_000, 0, needed, False, 16_000 * 40 // needed)
    assert (cost.name, cost.needed, cost.fits) == ("cost", pytest.approx(plan.online.cost), True)
    lines = [line for line in plan.as_text().splitlines() if line.startswith("  budget  ")]
    assert lines[0] == "  budget  requests: about 40 more, 0 of 40 used: fits"
    assert lines[1].endswith(f" of 16,000 used: does not fit, room for about {tokens.requests} of 40 requests")
    assert lines[2].endswith("0.00 EUR of 1,000.00 EUR used: fits")


def test_the_budgets_cost_is_that_of_the_chosen_lane(bench):
    plan = bench.plan(40, **MAX, budget={"cost": 1000}, router={"mode": "batch"})
    assert plan.budget[0].needed == pytest.approx(plan.batch.cost)


def test_used_and_reserved_amounts_count_against_the_budget(bench):
    bench.write(12, **MAX, budget={"requests": 20, "tokens": 100_000, "cost": 5})
    bench.start()
    bench.write_part([{**row(0), "attempts": 3, "cost": 0.5}, row(1)])
    bench.write_segment(1, [row(4, completion=300)])
    (used,) = [{cap.name: cap.used for cap in make_plan(bench.inputs, RunOptions()).budget}]
    assert used == {"requests": 5, "tokens": 3 * 800 + 500, "cost": 0.5}
    (bench.directory.path / "budget.json").write_text('{"requests": 9, "tokens": 2000, "cost": 0.75}')
    _submit(bench, [6, 7], reserved=Spend(2, 5000, 10**11))
    plan = make_plan(bench.inputs, RunOptions())
    assert {cap.name: cap.used for cap in plan.budget} == {"requests": 11, "tokens": 7900, "cost": 0.85}
    assert plan.budget[0].needed == plan.open == 7
    (bench.directory.path / "budget.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"budget\.json: cannot be read"):
        make_plan(bench.inputs, RunOptions())


def test_several_services_are_planned_together(bench):
    services = [
        {"name": "a", "token_env": None, "limits": {"rpm": 60}},
        {
            "name": "b",
            "token_env": None,
            "limits": {"rpm": 30},
            "dialect": "openai",
            "base_url": "http://127.0.0.1:9/v1",
        },
    ]
    judges = [{"name": "x", "service": ["a", "b"]}, {"name": "y", "service": "b"}]
    plan = bench.plan(45, judges=judges, services=services, batch={"shard_lines": 10})
    assert plan.online.seconds == 90.0  # the requests that only b can answer; both services together would need 60 s
    assert (plan.batch.available, plan.batch.shards) == (False, 10)
    assert plan.reason == "no service of the judge 'y' has a Batch API (service.batch)"
    services[1]["batch"] = True
    plan = bench.plan(45, judges=judges, services=services, batch={"shard_lines": 10})
    assert (plan.batch.available, plan.batch.shards) == (True, 10)
    sizes = {len(request_line(request, "openai")) - len(request_line(request, "pai")) for request in bench.requests()}
    only_b = sum(len(request_line(request, "openai")) for request in bench.requests() if "-y-" in request.custom_id)
    turns = [len(request_line(request, "pai")) for request in bench.requests() if "-x-" in request.custom_id]
    assert plan.batch.bytes == only_b + sum(turns) + 20 * sizes.pop()  # two of judge x's five files go to b


def test_plan_prints_json_with_every_key(cli, bench):
    bench.write(5, prices=PRICES)
    before = bench.modification_times()
    process = cli(
        "plan", "judge.yaml", "--json", "--limit", "3", "--set", "router.batch_from=3", "--set", "judge.repeats=2"
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert bench.modification_times() == before
    plan = json.loads(process.stdout)
    assert list(plan) == KEYS
    assert list(plan["online"]) == ["seconds", "cost"]
    assert list(plan["batch"]) == ["available", "shards", "bytes", "seconds_at_most", "cost"]
    assert (plan["samples"], plan["requests"]) == (3, 6)
    assert (plan["route"], plan["reason"]) == (
        "batch",
        "6 open requests, at least 3 (router.batch_from)",
    )


def test_plan_prints_text_and_reads_the_given_run_directory(cli, bench):
    bench.write(5)
    bench.start()
    bench.write_part([row(0), row(1)])
    bench.directory.path.rename(bench.folder / "elsewhere")
    process = cli("plan", "judge.yaml", "--run-dir", "elsewhere")
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert lines[0] == "judge: 5 samples, 5 requests (judge 5), 2 already answered, 3 open"
    assert [line.split()[0] for line in lines[1:]] == ["tokens", "online", "batch", "route", "read"]
    assert "cost unknown (no price), time unknown (no rpm or tpm)" in process.stdout


def test_a_run_directory_of_another_run_is_refused(cli, bench):
    bench.write(2)
    bench.start()
    corrected = ("plan", "judge.yaml", "--set", "judge.model=pai-judge-plus")
    assert cli(*corrected).returncode == 0  # nothing has a row: the model's name may have been wrong
    bench.write_part([row(0)])
    process = cli(*corrected)
    assert (process.returncode, process.stdout) == (2, "")
    assert "belongs to another run: judge 'judge': model was 'pai-judge', is 'pai-judge-plus'" in process.stderr


def test_an_unreadable_part_is_reported(cli, bench):
    bench.write(2)
    bench.start()
    part_path(bench.directory.results, 0).write_bytes(b"PAR1 not really")
    process = cli("plan", "judge.yaml")
    assert process.returncode == 2
    assert f"results{os.sep}part-00000.parquet: this part cannot be read" in process.stderr
