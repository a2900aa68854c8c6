"""What `plan` says of a dataset and of a run that was begun; saying it asks nothing and writes nothing."""

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
        """Write so many samples and a judge.yaml (JSON is YAML) with these sections."""
        rows = [{"id": f"s{n}", "question": f"Why {n}?", "answer": "因为。" * (n % 7 + 1)} for n in range(samples)]
        self.rows([json.dumps(row, ensure_ascii=False) for row in rows])
        document = {"dataset": {"path": "data.jsonl"}, "judge": {}, "output": {"directory": "out"}, **sections}
        if "judges" in sections:
            del document["judge"]
        if "services" not in sections:
            here = {"token_env": None, "base_url": "http://127.0.0.1:9/v1"}
            document["service"] = {**here, **sections.get("service", {})}
        (self.folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")
        return self.checked

    def rows(self, lines: list[str]) -> None:
        """Replace the dataset."""
        (self.folder / "data.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    @property
    def checked(self) -> RunInputs:
        """The configuration, checked."""
        return check_inputs(load_config(self.folder / "judge.yaml"))

    def plan(self, samples: int, **sections: Any) -> Plan:
        """Write and plan."""
        return make_plan(self.write(samples, **sections), RunOptions())

    def requests(self) -> list[JudgeRequest]:
        """All requests, made as the lanes make them."""
        checked = self.checked
        samples = [checked.reader.sample(raw) for raw in chain.from_iterable(chunks(checked.files))]
        return [
            checked.panel.request(sample, variant)
            for sample in samples
            for variant in range(len(checked.panel.variants))
        ]

    def begin(self) -> None:
        """Make a run directory without a row."""
        checked = self.checked
        self.directory.prepare()
        self.directory.write_run(
            {"asking": request_fingerprint(checked.config), "dataset": take_fingerprint(checked.files).to_data()}
        )

    def part(self, rows: list[Row]) -> None:
        """Write part 0."""
        writer = PartWriter(part_path(self.directory.results, 0), self.checked.schema, "zstd")
        writer.add(rows)
        writer.finish()

    def journal(self, number: int, rows: list[Row]) -> None:
        """Write a segment."""
        segment = Segment(segment_path(self.directory.journal, number))
        for row in rows:
            segment.append(row)
        segment.close()

    def seen(self) -> dict[str, int]:
        """Every file below, with the time it was last changed."""
        return {str(path): path.stat().st_mtime_ns for path in self.folder.rglob("*")}


def row(ordinal: int, status: str = "ok", error_type: str | None = None, completion: int | None = 100) -> Row:
    """The row of a request of the only judge."""
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


def test_the_figures_of_a_small_dataset_are_those_of_its_requests(bench):
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


def test_without_prices_and_limits_nothing_is_made_up(bench):
    plan = bench.plan(3)
    assert (plan.currency, plan.online.cost, plan.batch.cost, plan.online.seconds) == (None, None, None, None)
    assert bench.plan(3, prices={"models": {"other": {"input": 1, "output": 1}}}).online.cost is None


def test_each_judge_has_its_requests_model_and_length_of_answer(bench):
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
def test_shards_and_bytes_agree_with_a_plain_recount(bench, dialect, batch):
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


def test_limit_is_about_the_first_samples(bench):
    plan = make_plan(bench.write(30_000), RunOptions(limit=25))
    assert (plan.samples, plan.requests, plan.samples_read, plan.exact) == (25, 25, 25, True)


def test_rows_that_cannot_be_asked_are_counted_and_shown(bench):
    bench.write(4)
    bench.rows(
        ['{"question": "Why?", "answer": "So."}', "{broken", '{"question": "Why?"}', '{"question": 1, "answer": 2}']
    )
    plan = make_plan(bench.checked, RunOptions())
    assert (plan.requests, plan.open, plan.bad_rows) == (4, 4, 2)
    assert plan.completion_tokens == 2 * COMPLETION_TOKENS
    assert [problem.split()[0] for problem in plan.problems] == ["data.jsonl:2:", "data.jsonl:3:"]
    assert "2 of them give no request" in plan.as_text()


def test_what_is_answered_or_in_a_batch_is_not_asked_again(bench):
    bench.write(12)
    bench.begin()
    bench.part([row(0), row(1, "unparsed"), row(2, "failed", "bad_request", None), row(3, "failed", "timeout", None)])
    bench.journal(0, [row(0)])
    bench.journal(1, [row(4, completion=300), row(5, "failed", "connection", None)])
    _submit(bench, [6, 7])
    before = bench.seen()
    plan = make_plan(bench.checked, RunOptions())
    assert bench.seen() == before
    assert (plan.requests, plan.answered, plan.in_batches, plan.open) == (12, 4, 2, 6)
    assert plan.samples_read == 6
    judge = plan.judges[0]
    assert (judge.requests, judge.completion_from) == (12, "the mean of 3 answers")
    assert judge.completion_tokens == round(6 * 500 / 3)
    assert "12 requests (judge 12), 4 already answered, 2 in batches, 6 open" in plan.as_text()
    assert make_plan(bench.checked, RunOptions(retry=("failed",))).open == 7


def _submit(bench: Bench, ordinals: list[int], reserved: Spend | None = None) -> None:
    """Put these requests into a batch that is under way."""
    ledger = Ledger(bench.directory.path / "batches")
    ledger.create()
    members = [{"custom_id": f"{n}-judge-o-0", "request_hash": "", "sample_id": "", "columns": {}} for n in ordinals]
    text = "".join(json.dumps({**member, "ordinal": n}) + "\n" for n, member in zip(ordinals, members, strict=True))
    ledger.members(0).write_text(text, encoding="utf-8")
    ledger.save(Shard(0, "poll", "default", "http://127.0.0.1:9/v1", requests=len(ordinals), size=1, reserved=reserved))


def test_a_finished_run_has_nothing_left(bench):
    bench.write(2)
    bench.begin()
    bench.part([row(0), row(1)])
    plan = make_plan(bench.checked, RunOptions())
    assert (plan.answered, plan.open, plan.samples_read, plan.batch.shards) == (2, 0, 0, 0)
    assert (plan.prompt_tokens, plan.route, plan.reason) == (0, "online", "no open requests")


MAX = {"judge": {"parameters": {"max_tokens": 100}}, "prices": PRICES}


def test_without_a_budget_nothing_is_said_of_it(bench):
    plan = bench.plan(3)
    assert plan.budget == ()
    assert "budget" not in plan.as_text()


def test_the_budget_fits_or_says_how_many_requests_do(bench):
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


def test_the_cost_is_that_of_the_route_that_would_be_taken(bench):
    plan = bench.plan(40, **MAX, budget={"cost": 1000}, router={"mode": "batch"})
    assert plan.budget[0].needed == pytest.approx(plan.batch.cost)


def test_what_a_run_directory_used_counts_and_what_open_batches_hold(bench):
    bench.write(12, **MAX, budget={"requests": 20, "tokens": 100_000, "cost": 5})
    bench.begin()
    bench.part([{**row(0), "attempts": 3, "cost": 0.5}, row(1)])
    bench.journal(1, [row(4, completion=300)])
    (used,) = [{cap.name: cap.used for cap in make_plan(bench.checked, RunOptions()).budget}]
    assert used == {"requests": 5, "tokens": 3 * 800 + 500, "cost": 0.5}
    (bench.directory.path / "budget.json").write_text('{"requests": 9, "tokens": 2000, "cost": 0.75}')
    _submit(bench, [6, 7], reserved=Spend(2, 5000, 10**11))
    plan = make_plan(bench.checked, RunOptions())
    assert {cap.name: cap.used for cap in plan.budget} == {"requests": 11, "tokens": 7900, "cost": 0.85}
    assert plan.budget[0].needed == plan.open == 7
    (bench.directory.path / "budget.json").write_text("{")
    with pytest.raises(RunDirectoryError, match=r"budget\.json: cannot be read"):
        make_plan(bench.checked, RunOptions())


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
    assert plan.online.seconds == 90.0  # what only b may answer; together they would take 60
    assert (plan.batch.available, plan.batch.shards) == (False, 10)
    assert plan.reason == "no service of the judge 'y' has a Batch API (service.batch)"
    services[1]["batch"] = True
    plan = bench.plan(45, judges=judges, services=services, batch={"shard_lines": 10})
    assert (plan.batch.available, plan.batch.shards) == (True, 10)
    sizes = {len(request_line(request, "openai")) - len(request_line(request, "pai")) for request in bench.requests()}
    only_b = sum(len(request_line(request, "openai")) for request in bench.requests() if "-y-" in request.custom_id)
    turns = [len(request_line(request, "pai")) for request in bench.requests() if "-x-" in request.custom_id]
    assert plan.batch.bytes == only_b + sum(turns) + 20 * sizes.pop()  # two of five files go to b


def test_plan_prints_json_with_every_key(cli, bench):
    bench.write(5, prices=PRICES)
    before = bench.seen()
    done = cli(
        "plan", "judge.yaml", "--json", "--limit", "3", "--set", "router.batch_from=3", "--set", "judge.repeats=2"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bench.seen() == before
    plan = json.loads(done.stdout)
    assert list(plan) == KEYS
    assert list(plan["online"]) == ["seconds", "cost"]
    assert list(plan["batch"]) == ["available", "shards", "bytes", "seconds_at_most", "cost"]
    assert (plan["samples"], plan["requests"]) == (3, 6)
    assert (plan["route"], plan["reason"]) == (
        "batch",
        "6 open requests, at least 3 (router.batch_from)",
    )


def test_plan_prints_text_and_looks_into_the_run_directory_it_is_given(cli, bench):
    bench.write(5)
    bench.begin()
    bench.part([row(0), row(1)])
    bench.directory.path.rename(bench.folder / "elsewhere")
    done = cli("plan", "judge.yaml", "--run-dir", "elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "judge: 5 samples, 5 requests (judge 5), 2 already answered, 3 open"
    assert [line.split()[0] for line in lines[1:]] == ["tokens", "online", "batch", "route", "read"]
    assert "cost unknown (no price), time unknown (no rpm or tpm)" in done.stdout


def test_a_run_directory_of_another_run_is_refused(cli, bench):
    bench.write(2)
    bench.begin()
    done = cli("plan", "judge.yaml", "--set", "judge.model=pai-judge-plus")
    assert (done.returncode, done.stdout) == (2, "")
    assert "belongs to another run: judge 'judge': model was 'pai-judge', is 'pai-judge-plus'" in done.stderr


def test_a_part_that_cannot_be_read_is_named(cli, bench):
    bench.write(2)
    bench.begin()
    part_path(bench.directory.results, 0).write_bytes(b"PAR1 not really")
    done = cli("plan", "judge.yaml")
    assert done.returncode == 2
    assert f"results{os.sep}part-00000.parquet: this part cannot be read" in done.stderr
