"""A dataset at the Hugging Face Hub is read as one on the disk is, and what goes wrong there is said."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bench_run import Bench
from fake_hub import SIGNATURE, Hub, serving
from huggingface_hub import constants

from runner.config import DatasetConfig
from runner.dataset import NEVER, DataFile, DatasetFingerprint, chunks, discover, growth, readers, take_fingerprint
from runner.errors import DatasetError
from runner.types import Sample

PLACE = "hf://datasets/ours/pairs"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub of our own, to which huggingface_hub goes."""
    with serving(Hub()) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


def answers(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"s{n}", "question": f"question {n}", "answer": f"answer {n} é"} for n in range(first, count)]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(rows: list[dict[str, Any]], **how: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100, **how)
    return file.getvalue()


def found(path: str, format_: str = "auto") -> tuple[DataFile, ...]:
    return discover(DatasetConfig.model_validate({"path": path, "format": format_}))


def look(path: str, previous: DatasetFingerprint | None = None) -> DatasetFingerprint:
    return take_fingerprint(found(path), previous)


SAMPLES = answers(350)
COMMA = "id,question,answer\n" + "".join(f"{row['id']},{row['question']},{row['answer']}\n" for row in SAMPLES)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", lines(SAMPLES)),
        ("rows.jsonl.gz", gzip.compress(lines(SAMPLES))),
        ("rows.csv.zst", pa.compress(COMMA.encode(), codec="zstd", asbytes=True)),
        ("rows.json", json.dumps(SAMPLES).encode()),
        ("rows.parquet", table(SAMPLES)),
    ],
)
def test_rows_are_those_of_the_same_file_on_the_disk(
    hub: Hub, read: Callable[..., list[Sample]], tmp_path: Path, name: str, data: bytes
) -> None:
    hub.push({f"data/{name}": data})
    (tmp_path / name).write_bytes(data)
    away = read(f"{PLACE}/data/{name}")
    assert [(sample.id, sample.fields, sample.place) for sample in away] == [
        (sample.id, sample.fields, sample.place) for sample in read(tmp_path / name)
    ]
    assert len(away) == len(SAMPLES)


FILES = ("b/a.jsonl", "B.jsonl", "a.jsonl.gz", "b-c.jsonl", "é.jsonl", ".hidden.jsonl", ".git/x.jsonl", "R.md", "x.csv")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/x.csv", ["x.csv"]),
        ("@main/b", ["a.jsonl"]),
        ("/*.jsonl", ["B.jsonl", "b-c.jsonl", "é.jsonl"]),
        ("/**/*.jsonl*", ["B.jsonl", "a.jsonl.gz", "b-c.jsonl", "b/a.jsonl", "é.jsonl"]),
        ("/.*/*.jsonl", [".git/x.jsonl"]),
        ("/b*/[a-c].jsonl", ["b/a.jsonl"]),
        ("@refs/convert/parquet/sub", ["0.parquet"]),
    ],
)
def test_a_path_names_what_it_would_on_the_disk(hub: Hub, path: str, names: list[str]) -> None:
    hub.push(dict.fromkeys(FILES, b"{}\n"))
    hub.push({"sub/0.parquet": b"PAR1"}, "refs/convert/parquet")
    files = found(PLACE + path)
    assert [file.name for file in files] == names
    assert all(str(file.path).startswith(PLACE) for file in files)


def test_a_whole_dataset_is_read_in_byte_order_without_what_is_hidden(hub: Hub) -> None:
    hub.push(dict.fromkeys(FILES, b"{}\n"))
    names = [file.name for file in found(PLACE, "jsonl")]
    assert names == ["B.jsonl", "a.jsonl.gz", "b-c.jsonl", "b/a.jsonl", "é.jsonl"]


def test_a_push_under_way_changes_nothing(hub: Hub) -> None:
    hub.push({"a.jsonl": lines(answers(3))})
    files = found(f"{PLACE}/a.jsonl")
    counted = take_fingerprint(files)
    hub.push({"a.jsonl": lines(answers(9, 5))})
    (chunk,) = chunks(files, known=counted)
    assert [json.loads(row.payload)["id"] for row in chunk] == ["s0", "s1", "s2"]


def test_what_was_surveyed_is_not_read_again(hub: Hub) -> None:
    data = lines(answers(3))
    hub.push({"a.jsonl": data, "README.md": b"one"})
    seen = look(f"{PLACE}/a.jsonl")
    assert seen.files[0].digest == hashlib.sha256(data).hexdigest()
    hub.push({"a.jsonl": data, "README.md": b"two"})
    hub.asked.clear()
    again = look(f"{PLACE}/a.jsonl", DatasetFingerprint.from_data(json.loads(json.dumps(seen.to_data()))))
    assert (growth(seen, again), hub.opened) == ("same", [])


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_appended_lines_are_growth_and_all_else_is_change(hub: Hub, name: str) -> None:
    old, more = (lines(answers(3)), lines(answers(5, 3))) if name == "a.jsonl" else (b"id\n1\n", b"2\n")
    hub.push({name: old})
    seen = look(f"{PLACE}/{name}")
    hub.push({name: old + more})
    assert growth(seen, look(f"{PLACE}/{name}", seen)) == "grown"
    hub.push({name: old.replace(b"1", b"7") + more})
    assert growth(seen, look(f"{PLACE}/{name}", seen)) == "changed"


def test_parquet_is_known_by_its_version_and_only_its_end_is_read(hub: Hub) -> None:
    long = [{"id": n, "text": f"{n} " * 4000, "more": "z" * 4000} for n in range(700)]
    data = table(long, compression="none", use_dictionary=False)
    hub.push({"a.parquet": data})
    files = found(f"{PLACE}/a.parquet")
    counted = take_fingerprint(files)
    (seen,) = counted.files
    assert (seen.rows, seen.digest, seen.size) == (700, hashlib.sha256(data).hexdigest(), len(data))
    assert sum(hub.ranges) < len(data) / 2
    rows = [row.payload for chunk in chunks(files, known=counted, columns=["id"]) for row in chunk]
    assert rows == [{"id": n} for n in range(700)]


def test_few_bytes_are_held_at_once(hub: Hub) -> None:
    line = json.dumps({"answer": "x" * 1_000_000}).encode() + b"\n"
    hub.push({"a.jsonl": line * 20})
    assert look(f"{PLACE}/a.jsonl").rows == 20
    assert len(hub.ranges) > 1
    assert max(hub.ranges) < 10_000_000


def test_what_nobody_wants_is_not_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1_000_000)
    hub.push({"a.jsonl": b"".join(json.dumps({"n": n, "text": "x" * 1_000_000}).encode() + b"\n" for n in range(40))})
    files = found(f"{PLACE}/a.jsonl")
    counted = take_fingerprint(files)
    hub.ranges.clear()
    (rows,) = chunks(files, lambda ordinal: 39 if ordinal <= 39 else NEVER, known=counted)
    assert [json.loads(row.payload)["n"] for row in rows] == [39]
    assert sum(hub.ranges) < 20_000_000


def test_an_answer_that_breaks_off_is_asked_again(hub: Hub) -> None:
    hub.push({"a.jsonl": lines(answers(3))})
    files = found(f"{PLACE}/a.jsonl")
    hub.cut = 1
    assert take_fingerprint(files).rows == 3
    assert len(hub.ranges) == 2


def test_bytes_that_are_not_those_that_are_listed_are_refused(hub: Hub) -> None:
    listed, other = (pa.compress(text, codec="zstd", asbytes=True) for text in (b'{"a": 1}\n', b'{"a": 2}\n'))
    hub.push({"a.jsonl.zst": listed})
    hub.others["a.jsonl.zst"] = other
    with pytest.raises(DatasetError, match=rf"SHA-256 {hashlib.sha256(other).hexdigest()}; the Hub lists"):
        look(f"{PLACE}/a.jsonl.zst")


def test_the_token_is_shown_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push({"a.jsonl": b"{}\n"})
    hub.token = "hf_right_2468"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_1357")
    with pytest.raises(DatasetError, match="not found") as caught:
        found(f"{PLACE}/a.jsonl")
    assert "1357" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert look(f"{PLACE}/a.jsonl").rows == 1
    assert not [path for path in hub.asked if "agent" in path or "telemetry" in path]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("hf://ours/pairs/a.jsonl", ["expected hf://datasets/OWNER/NAME"]),
        ("hf://datasets/pairs", ["expected hf://datasets/OWNER/NAME"]),
        ("hf://datasets/ours/pears", ["ours/pears", "repository not found"]),
        (PLACE + "@nowhere/a.jsonl", ["revision not found"]),
        (PLACE + "/data/b.jsonl", ["does not exist", f"{PLACE}/data has a.jsonl", "did you mean 'a.jsonl'?"]),
        (PLACE + "/nothing/b.jsonl", ["does not exist", f"{PLACE}/nothing has nothing"]),
        (PLACE + "/data/*.csv", ["no file matches", "has a.jsonl"]),
        (PLACE + "/notes.md", ["the ending of", "notes.md", ".parquet"]),
        (PLACE + "/docs", ["no data file", "it has x.md"]),
    ],
)
def test_what_does_not_fit_is_said(hub: Hub, path: str, says: list[str]) -> None:
    hub.push({"data/a.jsonl": b"{}\n", "notes.md": b"", "docs/x.md": b""})
    with pytest.raises(DatasetError) as caught:
        found(path)
    assert all(text in str(caught.value) for text in says), str(caught.value)


def test_a_hub_that_is_away_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DatasetError, match=r"hf://datasets/ours/pairs cannot be read: \w+: .*refused"):
        found(PLACE)


def test_without_the_extra_its_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DatasetError, match=r"needs the extra hf: pip install 'judge-runner\[hf\]'"):
        found(PLACE)


@pytest.fixture
def bench(tmp_path: Path, plain_emulator: Any) -> Bench:
    """A configuration for a dataset at the Hub."""
    made = Bench(tmp_path, plain_emulator.url.removesuffix("/v1"))
    made.config["dataset"] = {"path": PLACE}
    return made


@pytest.mark.parametrize(
    "answered",
    [
        pytest.param({"b.jsonl": 1}, id="one file"),
        pytest.param({"a.jsonl": 3, "b.jsonl": 1}, id="all of it"),
    ],
)
def test_a_run_stops_where_the_hub_refuses_and_goes_on_later(hub: Hub, bench: Bench, answered: dict[str, int]) -> None:
    hub.push({"a.jsonl": lines(answers(300)), "b.jsonl": lines(answers(320, 300))})
    hub.answers.update(answered)  # a is opened for its columns, the survey and the run, b for the survey
    before = bench.request_count
    stopped = bench.run()
    assert (stopped.exit_code, stopped.stop_reason) == (3, "dataset")
    assert stopped.counts.ok == 256  # the rows of one chunk; the next one was not whole
    assert f"{PLACE}/b.jsonl" in str(stopped.message)
    assert SIGNATURE not in str(stopped.message)
    hub.answers.clear()
    assert bench.run().exit_code == 0
    assert [row["sample_id"] for row in bench.rows] == [f"s{n}" for n in range(320)]
    assert [line["question"] for line in bench.samples] == [f"question {n}" for n in range(320)]
    assert bench.request_count - before == 320


def test_a_run_grows_with_its_dataset(hub: Hub, bench: Bench) -> None:
    hub.push({"a.jsonl": lines(answers(20))})
    assert bench.run().exit_code == 0
    before = bench.request_count
    hub.push({"a.jsonl": lines(answers(20)), "b.jsonl": lines(answers(25, 20))})
    assert bench.run().counts.ok == 25
    assert bench.request_count - before == 5


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.zst", "a.parquet"])
def test_texts_of_samples_come_from_the_hub(hub: Hub, bench: Bench, name: str) -> None:
    rows = [{"id": f"s{n}", "asked": f"question {n}", "answer": f"é {n}", "long": "z" * 50} for n in range(600)]
    csv = "\n".join(["id,asked,answer,long", *(",".join(row.values()) for row in rows)])
    contents = {
        "a.jsonl": lambda: lines(rows),
        "a.csv.zst": lambda: pa.compress(csv.encode(), codec="zstd", asbytes=True),
        "a.parquet": lambda: table(rows),
    }
    hub.push({name: contents[name]()})
    bench.config["dataset"]["fields"] = {"question": "asked"}
    assert bench.run({"judge.repeats": 2}, limit=300).exit_code == 0
    assert [(line["question"], line["answer"]) for line in bench.samples] == [
        (row["asked"], row["answer"]) for row in rows[:300]
    ]
