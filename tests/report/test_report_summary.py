"""The whole summary: its counts, any content that a run may have, and no NaN anywhere."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_runs import Row, make_run, row

from runner.report import ReportError, Scales, summarize
from runner.report.data import query, tables
from runner.report.sections.disputed import MAX_RESPONSE_CHARS, MAX_TEXT_CHARS

FIGURE = {"value", "low", "high", "n", "left_out", "count", "reason"}
EXTRA = ("human_winner", "human_score", "human_label", "model", "model1", "model2", "category")
SECTIONS = {
    *("schema_version", "settings", "run", "judges", "labels", "counts", "usage", "throughput"),
    *("distributions", "agreement", "consistency", "ranking", "disputed", "served", "tests", "label_words"),
}

winners = st.sampled_from([None, "1", "2", "tie"])
numbers = st.none() | st.sampled_from([0.0, 1.0, 4.5]) | st.floats(-1e3, 1e3)
names = st.none() | st.sampled_from(["a", "b", "c"])


@st.composite
def runs(draw: st.DrawFn) -> list[Row]:
    """Draws rows with any content, all kinds of verdicts and labels mixed."""
    variants = st.tuples(st.integers(0, 7), st.sampled_from(["j", "k"]), st.booleans(), st.sampled_from([0, 0, 1]))
    columns = st.fixed_dictionaries(
        {
            "human_winner": winners,
            "human_score": numbers,
            "human_label": names,
            "model": names,
            "model1": names,
            "model2": names,
            "category": names,
        }
    )
    samples = [draw(columns) for _ in range(8)]
    verdicts = st.fixed_dictionaries(
        {
            "status": st.sampled_from(["ok", "ok", "unparsed", "failed"]),
            "winner": winners,
            "score": numbers,
            "label": names,
            "cost": st.none() | st.floats(0, 1),
            "latency_s": st.none() | st.floats(0, 9),
            "contradiction": st.none() | st.booleans(),
        }
    )
    keys = draw(st.lists(variants, unique=True, min_size=1, max_size=24))
    return [row(*key, **samples[key[0]], **draw(verdicts)) for key in keys]


def figures(data: Any) -> Iterator[dict[str, Any]]:
    """Yields every figure of a summary."""
    if isinstance(data, dict):
        if data.keys() == FIGURE:
            yield data
        for value in data.values():
            yield from figures(value)
    elif isinstance(data, list):
        for value in data:
            yield from figures(value)


def check(data: dict[str, Any]) -> None:
    """What holds of any summary."""
    json.dumps(data, allow_nan=False)
    assert data.keys() == SECTIONS
    for figure in figures(data):
        assert figure["value"] is not None or figure["reason"], figure
        assert figure["low"] is None or figure["high"] is None or figure["low"] <= figure["high"]
        assert figure["n"] >= 0 <= figure["left_out"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(runs(), st.booleans(), st.booleans())
def test_any_run_can_be_summarized(rows: list[Row], samples: bool, questions: bool) -> None:
    texts = {n: f"q{n % 3}" for n in range(8)} if questions else None
    with tempfile.TemporaryDirectory() as directory:
        run = make_run(Path(directory) / "run", rows, EXTRA, texts, samples)
        data = summarize(run, ["category"], Scales((0, 5), {"j": (0, 10)}))
    check(data)
    assert data["counts"]["all"]["rows"] == len(rows)
    for status in ("ok", "unparsed", "failed"):
        assert data["counts"]["all"][status] == sum(one["status"] == status for one in rows)
    for entry in data["agreement"]:
        compared = entry["overall"]["scores"]
        if compared and entry["judge"] is not None:
            labelled = [one for one in rows if one["judge"] == entry["judge"] and one["human_score"] is not None]
            read = [one for one in labelled if one["status"] == "ok" and one["score"] is not None]
            assert (compared["pearson"]["n"], compared["pearson"]["left_out"]) == (len(read), len(labelled) - len(read))


def test_a_run_without_rows(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1, "name": "x", "emulated": false}')
    data = summarize(tmp_path)
    check(data)
    assert data["counts"]["all"] == {"judge": None, "rows": 0, "ok": 0, "unparsed": 0, "failed": 0}
    assert data["agreement"] == data["disputed"] == []
    assert data["run"]["name"] == "x"


def test_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"run\.json: cannot be read"):
        summarize(tmp_path)


def test_a_part_that_is_not_parquet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [row(0, winner="1")])
    (run / "results" / "part-00000.parquet").write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(ReportError, match=r"part-00000\.parquet"):
        summarize(run)


def test_an_unknown_grouping_column(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [row(0, winner="1", category="x")])
    with pytest.raises(ReportError, match=r"'categroy' is not a column .* did you mean 'category'\?"):
        summarize(run, ["categroy"])


@pytest.mark.parametrize("name", ["it's a [run] *?", 'quo"te', "%s {x} 中文"])
def test_names_need_no_escaping(tmp_path: Path, name: str) -> None:
    """Names of the directory, of a grouping column, of its values and of a judge."""
    rows = [row(n, name, winner="1", human_winner="1", **{name: name}, status="ok") for n in range(3)]
    rows.append(row(3, name, status="failed", error_type="timeout", error_message="m", **{name: None}))
    data = summarize(make_run(tmp_path / name, rows, ("human_winner", name)), [name])
    check(data)
    assert data["agreement"][0]["judge"] == name
    assert [one["value"] for one in data["agreement"][0]["groups"][name]] == [name]
    assert data["counts"]["causes"][0]["examples"][0]["custom_id"] == f"3-{name}-o-0"


def test_counts_usage_and_causes(tmp_path: Path) -> None:
    rows = [
        row(0, winner="1", prompt_tokens=10, completion_tokens=5, total_tokens=15, cost=0.5, rule="r"),
        row(1, attempts=3, status="failed", error_type="timeout", error_message="slow"),
        row(2, attempts=0, status="failed", error_type="bad_row", error_message="x" * 999, route=None),
        row(3, status="unparsed", error_type="no_verdict", error_message="none", response="hm" * 999, rule=None),
        row(4, status="failed", error_type="timeout", error_message="slow"),
    ]
    data = summarize(make_run(tmp_path / "run", rows))
    causes = {(one["status"], one["error_type"]): one for one in data["counts"]["causes"]}
    assert {key: one["n"] for key, one in causes.items()} == {
        ("failed", "timeout"): 2,
        ("failed", "bad_row"): 1,
        ("unparsed", "no_verdict"): 1,
    }
    assert [one["custom_id"] for one in causes["failed", "timeout"]["examples"]] == ["1-j-o-0", "4-j-o-0"]
    assert len(causes["unparsed", "no_verdict"]["examples"][0]["response"]) == 600
    assert len(causes["failed", "bad_row"]["examples"][0]["message"]) == 300
    assert data["counts"]["routes"] == {"not sent": 1, "online": 4}
    assert data["counts"]["rules"] == [{"judge": "j", "rule": "r", "n": 1, "ok": 1}]
    usage = data["usage"][0]
    assert (usage["attempts"], usage["retries"], usage["uncounted"], usage["total_tokens"]) == (6, 2, 3, 15)
    assert (usage["cost"], usage["unpriced"], usage["cost_per_sample"]) == (0.5, 4, 0.1)
    assert data["throughput"]["seconds"] == 4
    assert sum(data["throughput"]["timeline"]) == 5


def test_examples_are_the_first_by_name(tmp_path: Path) -> None:
    """The report of a run does not depend on the order in which rows are read."""
    rows = [
        row(n, judge, s, status="failed", error_type="timeout")
        for n in range(8)
        for s in (True, False)
        for judge in "kj"
    ]
    run = make_run(tmp_path / "run", rows)
    for _ in range(8):
        (cause,) = summarize(run)["counts"]["causes"]
        assert [one["custom_id"] for one in cause["examples"]] == ["0-j-o-0", "0-j-s-0", "0-k-o-0"]


@pytest.mark.parametrize(
    ("created_at", "seconds"),
    [("2026-01-02T03:03:00+00:00", 64), ("2027-01-01T00:00:00+00:00", 4), ("some day", 4), (None, 4)],
)
def test_the_time_of_a_run_starts_with_the_run(tmp_path: Path, created_at: str | None, seconds: int) -> None:
    """All rows of one batch are finished at the same moment, when it is collected."""
    run = make_run(tmp_path / "run", [row(n, score=1.0) for n in range(5)])
    (run / "run.json").write_text(json.dumps({"schema_version": 1, "created_at": created_at}))
    time = summarize(run)["throughput"]
    assert (time["seconds"], time["rows_per_s"]) == (seconds, 5 / seconds)
    assert sum(time["timeline"]) == 5


def test_distributions(tmp_path: Path) -> None:
    rows = [
        row(n, swapped=swapped, winner="12"[n % 2] if n < 4 else "tie", human_winner="1", contradiction=n == 0)
        for n in range(5)
        for swapped in (False, True)
    ]
    depth = {"name": "depth", "answer": 2}
    rows[0]["dimensions"] = [{**depth, "score": 2.0}]
    rows[1]["dimensions"] = [{**depth, "score": 4.0}]
    found = summarize(make_run(tmp_path / "run", rows))["distributions"]
    judge, verdict, people = found["winners"]
    assert judge["original"] == judge["swapped"] == {"1": 2, "2": 2, "tie": 1, "unread": 0}
    assert (verdict["of"], verdict["original"], verdict["swapped"]) == ("verdict", judge["original"], None)
    assert (people["of"], people["original"]) == ("people", {"1": 5, "2": 0, "tie": 0, "unread": 0})
    (criterion,) = found["criteria"]
    assert (criterion["name"], criterion["answer"], criterion["n"], criterion["mean"]) == ("depth", 2, 2, 3)
    assert (found["contradictions"]["count"], found["contradictions"]["n"]) == (2, 10)
    assert (found["votes"]["unanimous"], found["votes"]["consistent"]) == (5, 5)


def test_a_histogram_of_many_values_has_bins(tmp_path: Path) -> None:
    rows = [row(n, score=n / 10) for n in range(101)]
    found = summarize(make_run(tmp_path / "run", rows))["distributions"]["scores"][0]
    assert found["histogram"]["values"] is None
    assert (found["histogram"]["edges"][0], found["histogram"]["edges"][-1]) == (0, 10)
    assert sum(found["histogram"]["counts"]) == 101
    assert found["quartiles"] == pytest.approx([0, 2.5, 5, 7.5, 10])


def test_most_disputed_first(tmp_path: Path) -> None:
    """Even splits of votes come first, then uneven ones, then contradicted labels; undisputed samples are absent."""
    votes = {0: "1111", 1: "1122", 2: "1112", 3: "2222", 4: "1111"}
    people = {0: "1", 1: "1", 2: "1", 3: "1", 4: None}
    rows = [
        row(n, "ab"[position // 2], bool(position % 2), winner=winner, human_winner=people[n], response=f"{n}" * 999)
        for n, winners in votes.items()
        for position, winner in enumerate(winners)
    ]
    run = make_run(tmp_path / "run", rows, questions=dict.fromkeys(votes, "why? " * 999))
    found = summarize(run)["disputed"]
    assert [one["ordinal"] for one in found] == [1, 2, 3]
    assert [one["why"] for one in found] == [["votes", "people"], ["votes", "orders"], ["people"]]
    assert [one["dispute"] for one in found] == [1, 0.25, 0]
    assert found[0]["fields"]["human_winner"] == "1"
    assert len(found[0]["texts"]["question"]) == MAX_TEXT_CHARS
    assert [(vote["judge"], vote["swapped"], vote["winner"]) for vote in found[1]["votes"]] == [
        ("a", False, "1"),
        ("a", True, "1"),
        ("b", False, "1"),
        ("b", True, "2"),
    ]
    assert all(len(vote["response"]) == MAX_RESPONSE_CHARS for vote in found[0]["votes"])


def test_different_scores_are_disputed(tmp_path: Path) -> None:
    scores = {0: (1, 2), 1: (1, 9), 2: (5, 5)}
    people = {0: 1.0, 1: 5.0, 2: 9.0}
    rows = [
        row(n, j, score=float(s), human_score=people[n])
        for n, both in scores.items()
        for j, s in zip("ab", both, strict=True)
    ]
    found = summarize(make_run(tmp_path / "run", rows))["disputed"]
    assert [(one["ordinal"], one["why"], one["spread"]) for one in found] == [
        (1, ["scores"], 8),
        (0, ["scores"], 1),
        (2, ["people"], 0),
    ]


def test_labels_against_human_labels(tmp_path: Path) -> None:
    verdicts = [("good", "good"), ("good", "bad"), ("bad", "bad"), ("bad", None), (None, "bad")]
    rows = [
        row(n, label=label, status="ok" if label else "unparsed", human_label=human)
        for n, (human, label) in enumerate(verdicts)
    ]
    judge, verdict = summarize(make_run(tmp_path / "run", rows))["agreement"]
    for entry in (judge, verdict):
        found = entry["overall"]["labels"]
        assert (found["accuracy"]["count"], found["accuracy"]["n"], found["accuracy"]["left_out"]) == (2, 3, 1)
        assert found["confusion"] == {"classes": ["bad", "good"], "counts": [[1, 0], [1, 1]], "unread": [1, 0]}
        assert found["kappa"]["value"] == pytest.approx(0.4)


def test_clusters_are_questions_if_texts_are_kept(tmp_path: Path) -> None:
    rows = [row(n, winner="1", human_winner="12"[n % 2]) for n in range(6)]
    by_text = summarize(make_run(tmp_path / "a", rows, questions={n: "q" if n < 3 else None for n in range(6)}))
    by_sample = summarize(make_run(tmp_path / "b", rows))
    assert by_text["settings"]["clusters"] == {"by": "question", "n": 4, "blocks": 4, "shared": True}
    assert by_sample["settings"]["clusters"] == {"by": "sample", "n": 6, "blocks": 6, "shared": False}
    assert by_text["agreement"][0]["overall"]["winners"]["resampled"] == 4


@pytest.mark.parametrize("many", [1000, 5])
@pytest.mark.parametrize("shared", [True, False])
def test_blocks_change_nothing_but_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int, shared: bool
) -> None:
    """Many questions are merged into blocks, of equal size or at random."""
    rows = [
        row(n, score=float(n * 7 % 5), human_score=float(n * 7 % 5 if n % 3 else n % 5), category="ab"[n % 2])
        for n in range(300)
    ]
    run = make_run(tmp_path / "run", rows, questions={n: f"q{n % 60}" for n in range(300)} if shared else None)
    plain = summarize(run, ["category"])
    monkeypatch.setattr(tables, "MAX_BLOCKS", 20)
    monkeypatch.setattr(tables, "_MAX_EQUAL_BLOCK_CLUSTERS", many)
    blocked = summarize(run, ["category"])
    assert plain["settings"]["clusters"]["blocks"] == plain["settings"]["clusters"]["n"] == (60 if shared else 300)
    assert blocked["settings"]["clusters"] == {**plain["settings"]["clusters"], "blocks": 20}
    assert 10 <= blocked["agreement"][0]["overall"]["scores"]["resampled"] <= 20
    for one, other in zip(figures(plain), figures(blocked), strict=True):
        assert one["value"] == pytest.approx(other["value"])
        assert (one["n"], one["count"]) == (other["n"], other["count"])
    widths = [
        figure["high"] - figure["low"]
        for figure in (data["agreement"][0]["overall"]["scores"]["pearson"] for data in (plain, blocked))
    ]
    assert 0.5 < widths[1] / widths[0] < 2


def test_quantiles_of_many_values_are_approximate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", [row(n, score=float(n), latency_s=n / 10) for n in range(200)])
    monkeypatch.setattr(query, "MAX_EXACT_QUANTILE_VALUES", 100)
    data = summarize(run)
    assert data["throughput"]["latency"][0]["p50"] == pytest.approx(9.95, abs=0.3)
    assert data["distributions"]["scores"][0]["quartiles"] == pytest.approx([0, 49.75, 99.5, 149.25, 199], abs=3)


def test_data_beyond_the_memory_limit_is_spilled_to_disk(tmp_path: Path) -> None:
    """DuckDB creates the directory for it and removes it afterwards."""
    run = make_run(tmp_path / "run", [row(0, winner="1")])
    with query.open_tables(run, memory="30MB") as opened:
        opened.run(
            "CREATE TABLE wide AS SELECT i, hash(i) AS a, hash(i, 1) AS b, hash(i, 2) AS c FROM range(3000000) t(i)"
        )
        assert opened.row("SELECT count(*) FROM (SELECT DISTINCT a FROM wide)") == (3000000,)
        assert (run / ".report.tmp").is_dir()
    assert not (run / ".report.tmp").exists()


@pytest.mark.parametrize(
    ("type_", "values", "names"),
    [
        (pa.string(), ["1", "1.0", "2.0", "2.0"], ["1", "2.0"]),
        (pa.string(), ["1.0", "1.5", "1.10", "1.0"], ["1.0", "1.10", "1.5"]),
        (pa.string(), ["1_2", "12", "", None], ["", "12", "1_2", None]),
        (pa.float64(), [1.0, 1.0, 2.5, float("nan")], ["1", "2.5", None]),
        (pa.float32(), [1.0, 3.0, 3.0, None], ["3", "1", None]),
        (pa.decimal128(5, 2), ["1.00", "1.00", "2.50", None], ["1", "2.50", None]),
        (pa.int64(), [1, 1, 2, None], ["1", "2", None]),
        (pa.bool_(), [True, True, False, None], ["true", "false", None]),
    ],
)
def test_a_group_is_one_number_in_every_spelling(
    tmp_path: Path, type_: pa.DataType, values: list[Any], names: list[str | None]
) -> None:
    if pa.types.is_decimal(type_):
        values = [None if value is None else Decimal(value) for value in values]
    rows = [row(n, winner="1", human_winner="1", grade=value) for n, value in enumerate(values)]
    run = make_run(tmp_path / "run", rows, [*EXTRA, pa.field("grade", type_)])
    data = summarize(run, ["grade"])
    assert data["settings"]["groups"][0]["values"] == names
    groups = data["agreement"][0]["groups"]["grade"]
    assert sum(one["comparison"]["winners"]["with_ties"]["accuracy"]["n"] for one in groups) == len(values)


def test_the_docs_name_every_key(tmp_path: Path) -> None:
    rows = [
        row(
            n,
            judge,
            swapped,
            repeat,
            winner="1",
            score=1.0,
            label="a",
            **dict.fromkeys(EXTRA, "1") | {"human_score": 1.0},
        )
        for n in range(3)
        for judge in "ab"
        for swapped in (False, True)
        for repeat in range(2)
    ]
    data = summarize(make_run(tmp_path / "run", rows, EXTRA, dict.fromkeys(range(3), "q")), ["category"])
    docs = (Path(__file__).parents[2] / "docs" / "agreement.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]*`|\"\w+\"", docs))))
    for free in (data["run"], data["labels"], data["counts"]["routes"], data["settings"]["scales"]["judges"]):
        free.clear()
    for sample in data["disputed"]:
        sample["fields"].clear()
    assert set(keys(data)) - named == {"category"}


def keys(data: Any) -> Iterator[str]:
    """Yields every key of a summary."""
    if isinstance(data, dict):
        yield from data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from keys(value)


def test_nothing_is_left_in_the_run_directory(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [row(0, winner="1")])
    before = sorted(run.rglob("*"))
    summarize(run)
    assert sorted(run.rglob("*")) == before
