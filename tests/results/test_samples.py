"""samples.parquet: one line per sample, compared with a plain recount of random rows, for both implementations."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from result_rows import stored_row

from runner.results import Aggregation, VariantKey, results_schema, samples, write_samples
from runner.results.common_scale import POSITIONS_KEY, SCORE_COLUMNS, CommonScale
from runner.results.parts import PartWriter, part_path
from runner.results.samples import aggregate
from runner.types import Row

SCALES = {"j": (0.0, 10.0), "k": (1.0, 5.0)}
ONE: list[VariantKey] = [("j", False, 0)]
FOUR: list[VariantKey] = [(judge, swapped, 0) for judge in ("j", "k") for swapped in (False, True)]
EXTRA = (pa.field("human_winner", pa.string()), pa.field("category", pa.int64()))


def aggregation_of(variants: list[VariantKey], score: str = "mean", min_valid: int = 1) -> Aggregation:
    return Aggregation(score, min_valid, frozenset(variants), any(swapped for _, swapped, _ in variants))


scores = st.none() | st.integers(0, 20).map(lambda n: n / 2)
dimensions = st.none() | st.lists(
    st.builds(
        lambda name, answer, score: {"name": name, "answer": answer, "score": score},
        st.sampled_from(["depth", "tone"]),
        st.none() | st.integers(1, 2),
        st.integers(0, 10).map(float),
    ),
    unique_by=lambda item: (item["name"], item["answer"]),
    max_size=3,
)


@st.composite
def row_of(draw: Any, ordinal: int, variant: VariantKey) -> Row:
    """A random row of a request; only an `ok` row has a verdict."""
    judge, swapped, repeat = variant
    status = draw(st.sampled_from(["ok", "ok", "unparsed", "failed"]))
    row = stored_row(
        ordinal,
        judge=judge,
        swapped=swapped,
        repeat=repeat,
        custom_id=f"{ordinal}-{judge}-{'s' if swapped else 'o'}-{repeat}",
        status=status,
        score=None,
        dimensions=None,
        cost=draw(scores),
        human_winner="tie",
        category=ordinal * 7,
    )
    if status == "ok":
        row["winner"] = draw(st.sampled_from([None, "1", "2", "tie"]))
        row["label"] = draw(st.sampled_from([None, None, "good", "bad"]))
        row.update(score=draw(scores), score1=draw(scores), score2=draw(scores), dimensions=draw(dimensions))
    return row


@st.composite
def runs(draw: Any, variants: list[VariantKey]) -> list[Row]:
    """Rows of some samples in random order, some of them of a variant that the run does not have."""
    every: list[VariantKey] = [*variants, ("other", False, 0)]
    keys = st.tuples(st.integers(0, 11), st.sampled_from(every))
    return [draw(row_of(*key)) for key in draw(st.lists(keys, unique=True, max_size=30))]


def recount(rows: list[Row], aggregation: Aggregation) -> dict[str, Any]:
    """The verdict of one sample, computed in the plainest way."""
    ok = [row for row in rows if row["status"] == "ok"]
    enough = len(ok) >= aggregation.min_valid
    line: dict[str, Any] = dict.fromkeys(("winner", "label", "score", "score1", "score2", "agreement", "undecided"))
    costs = [row["cost"] for row in rows if row["cost"] is not None]
    line["cost"] = math.fsum(costs) if costs else None
    line["status"] = "ok" if ok and enough else "unparsed"
    orders = {(row["judge"], row["repeat"], row["swapped"]): row.get("winner") for row in ok if row.get("winner")}
    pairs = [(name, orders.get((j, r, True))) for (j, r, s), name in orders.items() if not s]
    pairs = [pair for pair in pairs if pair[1] is not None]
    line["consistent"] = all(a == b for a, b in pairs) if aggregation.swap and pairs else None
    line["votes"] = Counter((r["judge"], r["swapped"], r["repeat"], r.get("winner"), r["score"]) for r in ok)
    if line["status"] == "unparsed":
        return line
    for name in ("label", "winner"):
        counts = Counter(row[name] for row in ok if row.get(name) is not None)
        if counts:
            ranked = counts.most_common()
            equal = len(ranked) > 1 and ranked[0][1] == ranked[1][1]
            line[name] = ({"winner": "tie", "label": None}[name]) if equal else ranked[0][0]
            line["agreement"] = counts[line[name]] / counts.total()
            line["undecided"] = equal
    common = aggregation.common_scale
    average = statistics.mean if aggregation.score == "mean" else statistics.median
    for name in ("score", "score1", "score2"):
        known = [(row[name], row["judge"]) for row in ok if row.get(name) is not None]
        ends = {} if common is None or name not in common.columns else common.scales
        known = [(n - ends[j][0]) / (ends[j][1] - ends[j][0]) if ends else n for n, j in known]
        line[name] = average(known) if known else None
    return line


def check(line: Row, rows: list[Row], aggregation: Aggregation) -> None:
    expected = recount(rows, aggregation)
    votes = Counter(tuple(vote.values()) for vote in line["votes"])
    assert votes == expected.pop("votes")
    assert {name: line.get(name) for name in expected} == pytest.approx(expected)


def with_all_columns(row: Row) -> Row:
    return {**dict.fromkeys(results_schema(()).names), **row}


@settings(deadline=None)
@given(
    rows=st.lists(st.sampled_from(FOUR), unique=True, min_size=1).flatmap(
        lambda keys: st.tuples(*(row_of(0, key) for key in keys))
    ),
    score=st.sampled_from(["mean", "median"]),
    min_valid=st.integers(1, 4),
    positions=st.none() | st.sets(st.sampled_from(SCORE_COLUMNS), min_size=1),
)
def test_the_aggregate_equals_a_recount(
    rows: tuple[Row, ...], score: str, min_valid: int, positions: set[str] | None
) -> None:
    aggregation = aggregation_of(FOUR, score, min_valid)
    if positions is not None:
        common = CommonScale(SCALES, frozenset(positions))
        aggregation = msgspec.structs.replace(aggregation, common_scale=common)
    check(aggregate([with_all_columns(row) for row in rows], aggregation), list(rows), aggregation)


def write(folder: Path, rows: list[Row], aggregation: Aggregation, **more: Any) -> list[Row]:
    """Write rows as parts of three rows each, then samples.parquet; returns its lines."""
    (folder / "results").mkdir(exist_ok=True)
    for number in range(0, len(rows), 3):
        writer = PartWriter(part_path(folder / "results", number), results_schema(EXTRA), "zstd")
        writer.add(rows[number : number + 3])
        writer.finish()
    count = write_samples(folder, EXTRA, aggregation, "zstd", more.get("names", ()), more.get("texts", lambda _: []))
    lines: list[Row] = pq.read_table(folder / "samples.parquet").to_pylist()
    assert len(lines) == count
    return lines


@pytest.mark.parametrize("variants", [ONE, FOUR], ids=["one", "four"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_sample_with_a_row_has_a_line(
    tmp_path_factory: Any, monkeypatch: pytest.MonkeyPatch, variants: list[VariantKey], data: Any
) -> None:
    """One variant is aggregated in whole columns, four variants row by row."""
    monkeypatch.setattr(samples, "WINDOW_SAMPLES", data.draw(st.integers(1, 13), label="window"))
    rows = data.draw(runs(variants), label="rows")
    aggregation = aggregation_of(
        variants, data.draw(st.sampled_from(["mean", "median"])), data.draw(st.integers(1, 2), label="min_valid")
    )
    lines = write(tmp_path_factory.mktemp("samples"), rows, aggregation)
    counted = [row for row in rows if (row["judge"], row["swapped"], row["repeat"]) in aggregation.variants]
    assert [line["ordinal"] for line in lines] == sorted({row["ordinal"] for row in counted})
    for line in lines:
        own_rows = [row for row in counted if row["ordinal"] == line["ordinal"]]
        check(line, own_rows, aggregation)
        assert (line["sample_id"], line["human_winner"], line["category"]) == (
            *(f"s{line['ordinal']}", "tie"),
            line["ordinal"] * 7,
        )
        reference = aggregate([with_all_columns(row) for row in own_rows], aggregation)
        if len(variants) == 1:
            assert line["dimensions"] == reference["dimensions"]


def test_dimensions_of_several_votes_are_averaged_by_name_and_answer() -> None:
    first = [{"name": "depth", "answer": 1, "score": 2.0}, {"name": "tone", "answer": None, "score": 1.0}]
    second = [{"name": "depth", "answer": 1, "score": 4.0}, {"name": "depth", "answer": 2, "score": 5.0}]
    rows = [with_all_columns(stored_row(repeat=n, dimensions=each)) for n, each in enumerate((first, second, None))]
    line = aggregate(rows, aggregation_of([("j", False, n) for n in range(3)]))
    assert line["dimensions"] == [
        {"name": "depth", "answer": 1, "score": 3.0},
        {"name": "tone", "answer": None, "score": 1.0},
        {"name": "depth", "answer": 2, "score": 5.0},
    ]


def toned(judge: str, score: float | None, status: str = "ok", **more: Any) -> Row:
    """A row of a judge with the dimension `tone` whose reply also scores another one."""
    names = {} if score is None else {"tone": score, "depth": 9.0}
    dimensions = [{"name": name, "answer": None, "score": value} for name, value in names.items()]
    return with_all_columns(
        {**stored_row(judge=judge, status=status, score=None, dimensions=dimensions), "category": 0, **more}
    )


@pytest.mark.parametrize(("score", "tone"), [("mean", 2.0), ("median", 1.0)])
@pytest.mark.parametrize(("min_valid", "status"), [(2, "ok"), (3, "unparsed")])
def test_a_criterion_is_averaged_and_is_not_a_vote(score: str, tone: float, min_valid: int, status: str) -> None:
    variants = [(judge, False, n) for judge in ("whole", "kind", "polite") for n in range(2)]
    aggregation = msgspec.structs.replace(
        aggregation_of(variants, score, min_valid), criteria={"kind": "tone", "polite": "tone"}
    )
    depth = [{"name": "depth", "answer": None, "score": 4.0}]
    rows = [
        *(
            with_all_columns(stored_row(judge="whole", repeat=n, score=3.0 + n, dimensions=depth, cost=1.0))
            for n in range(2)
        ),
        *(toned("kind", score, repeat=n, cost=1.0) for n, score in enumerate((0.0, 1.0))),
        toned("polite", 5.0, cost=1.0),
        toned("polite", None, "unparsed", repeat=1, cost=1.0),
    ]
    line = aggregate(rows, aggregation)
    found = [{"name": "tone", "answer": None, "score": tone}]
    assert line["dimensions"] == (depth + found if status == "ok" else found)
    assert (line.get("score"), line["status"], line["cost"]) == (3.5 if status == "ok" else None, status, 6.0)
    assert [(vote["judge"], vote["repeat"], vote["score"]) for vote in line["votes"]] == [
        ("whole", 0, 3),
        ("whole", 1, 4),
    ]


@pytest.mark.parametrize(("min_valid", "status"), [(1, "ok"), (2, "ok"), (3, "unparsed")])
def test_criteria_without_other_judges_give_no_verdict(tmp_path: Path, min_valid: int, status: str) -> None:
    variants: list[VariantKey] = [("kind", False, 0), ("kind", False, 1), ("polite", False, 0)]
    aggregation = msgspec.structs.replace(
        aggregation_of(variants, min_valid=min_valid), criteria={"kind": "tone", "polite": "tone"}
    )
    rows = [toned("kind", 0.0), toned("kind", 4.0, repeat=1), toned("polite", None, "failed")]
    (line,) = write(tmp_path, rows, aggregation)
    assert line["dimensions"] == [{"name": "tone", "answer": None, "score": 2.0}]
    assert (line["winner"], line["score"], line["label"], line["agreement"], line["votes"]) == (None,) * 4 + ([],)
    assert line["status"] == status


def test_a_single_judge_of_a_criterion_gives_no_vote(tmp_path: Path) -> None:
    aggregation = msgspec.structs.replace(aggregation_of(ONE), criteria={"j": "tone"})
    lines = write(tmp_path, [toned("j", 2.0), toned("j", None, "failed", ordinal=1)], aggregation)
    assert [(line["status"], line["votes"], len(line["dimensions"])) for line in lines] == [
        ("ok", [], 1),
        ("unparsed", [], 0),
    ]


def test_scores_of_different_scales_are_averaged_as_positions(tmp_path: Path) -> None:
    """Half of 1 to 5 and a third of 1 to 10; the votes keep the judges' own numbers, and the file says so."""
    depth = [{"name": "depth", "answer": None, "score": 3.0}]
    rows = [
        with_all_columns(stored_row(judge="five", score=3.0, dimensions=depth, human_winner=None, category=1)),
        with_all_columns(stored_row(judge="ten", score=4.0, dimensions=depth, human_winner=None, category=1)),
    ]
    scales = {"five": (1.0, 5.0), "ten": (1.0, 10.0)}
    common = CommonScale(scales, frozenset({"score"}), dimensions=frozenset({"depth"}))
    variants: list[VariantKey] = [("five", False, 0), ("ten", False, 0)]
    aggregation = msgspec.structs.replace(aggregation_of(variants), common_scale=common)
    (line,) = write(tmp_path, rows, aggregation)
    assert line["score"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert line["dimensions"] == [{"name": "depth", "answer": None, "score": pytest.approx((1 / 2 + 2 / 9) / 2)}]
    assert [vote["score"] for vote in line["votes"]] == [3.0, 4.0]
    metadata = pq.read_schema(tmp_path / "samples.parquet").metadata
    assert metadata[POSITIONS_KEY.encode()] == b'["score", "dimensions"]'
    alone = msgspec.structs.replace(aggregation, variants=frozenset(variants))
    (line,) = write(tmp_path, rows[:1], alone)
    assert (line["score"], line["dimensions"][0]["score"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("winners", "winner", "undecided"),
    [("11", "1", False), ("12", "tie", True), ("1t", "tie", True), ("tt", "tie", False), ("1", "1", False)],
)
def test_a_tie_by_equal_counts_is_undecided(winners: str, winner: str, undecided: bool) -> None:
    names = {"1": "1", "2": "2", "t": "tie"}
    rows = [with_all_columns(stored_row(repeat=n, winner=names[one], score=None)) for n, one in enumerate(winners)]
    line = aggregate(rows, aggregation_of([("j", False, n) for n in range(2)]))
    assert (line["winner"], line["undecided"]) == (winner, undecided)


@pytest.mark.parametrize("window", [1, 3, 4, 5, 100])
@pytest.mark.parametrize("texts_at_once", [1, 2, 256])
def test_windows_neither_skip_nor_repeat_a_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, texts_at_once: int
) -> None:
    monkeypatch.setattr(samples, "WINDOW_SAMPLES", window)
    monkeypatch.setattr(samples, "TEXT_SAMPLES_PER_READ", texts_at_once)
    requested: list[Sequence[int]] = []

    def texts(ordinals: Sequence[int]) -> list[pa.Array]:
        requested.append(ordinals)
        questions = [None if n == 5 else f"q{n}" for n in ordinals]
        return [pa.array(questions, pa.string()), pa.nulls(len(ordinals), pa.string())]

    rows = [stored_row(n, human_winner=None, category=n) for n in (8, 3, 0, 4, 5, 12, 11, 7)]
    lines = write(tmp_path, rows, aggregation_of(ONE), names=("question", "answer"), texts=texts)
    assert [line["ordinal"] for line in lines] == [0, 3, 4, 5, 7, 8, 11, 12]
    assert [line["question"] for line in lines] == ["q0", "q3", "q4", None, "q7", "q8", "q11", "q12"]
    assert {line["answer"] for line in lines} == {None}
    assert [n for each in requested for n in each] == [0, 3, 4, 5, 7, 8, 11, 12]
    assert all(len(each) <= min(window, texts_at_once) for each in requested)


def test_a_row_group_is_read_once_for_all_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "WINDOW_SAMPLES", 2)
    real, read = samples._read_row_group, list[Path]()

    def counting(path: Path, index: int, columns: Any) -> pa.Table:
        read.append(path)
        return real(path, index, columns)

    monkeypatch.setattr(samples, "_read_row_group", counting)
    ordinals = (2, 0, 1, 3, 8, 4, 5, 6, 7)  # three parts whose ranges overlap
    rows = [stored_row(n, human_winner=None, category=n) for n in ordinals]
    assert [line["ordinal"] for line in write(tmp_path, rows, aggregation_of(ONE))] == list(range(9))
    assert len(read) == len(set(read)) == 3


def test_without_rows_the_table_is_empty(tmp_path: Path) -> None:
    assert write(tmp_path, [], aggregation_of(ONE)) == []
    assert write(tmp_path, [stored_row(0, judge="other", human_winner=None, category=1)], aggregation_of(ONE)) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    rows = [stored_row(0, human_winner=None, category=1)]
    write(tmp_path, rows, aggregation_of(ONE))

    def broken(_: Sequence[int]) -> list[pa.Array]:
        raise OSError("the dataset is gone")

    with pytest.raises(OSError, match="gone"):
        write(tmp_path, [], aggregation_of(ONE), names=("question",), texts=broken)
    assert pq.read_table(tmp_path / "samples.parquet").num_rows == 1
    assert not list(tmp_path.glob(".*"))
