"""A dataset at the Hugging Face Hub is read like a local one, and its errors are explained."""

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
from fake_hub import SIGNATURE, FakeHub, serve_hub
from huggingface_hub import constants

from runner.config import DatasetConfig
from runner.dataset import NEVER, DataFile, DatasetFingerprint, chunks, discover, growth, readers, take_fingerprint
from runner.errors import DatasetError
from runner.types import Sample

ADDRESS = "hf://datasets/ours/pairs"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A fake Hub that huggingface_hub is pointed to."""
    with serve_hub(FakeHub()) as running_hub:
        monkeypatch.setattr(constants, "ENDPOINT", running_hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running_hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running_hub


def make_rows(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"s{n}", "question": f"question {n}", "answer": f"answer {n} é"} for n in range(first, count)]


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=100, **options)
    return file.getvalue()


def discover_files(path: str, format_: str = "auto") -> tuple[DataFile, ...]:
    return discover(DatasetConfig.model_validate({"path": path, "format": format_}))


def fingerprint_of(path: str, previous: DatasetFingerprint | None = None) -> DatasetFingerprint:
    return take_fingerprint(discover_files(path), previous)


SAMPLES = make_rows(350)
CSV_TEXT = "id,question,answer\n" + "".join(f"{row['id']},{row['question']},{row['answer']}\n" for row in SAMPLES)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.jsonl", as_jsonl(SAMPLES)),
        ("rows.jsonl.gz", gzip.compress(as_jsonl(SAMPLES))),
        ("rows.csv.zst", pa.compress(CSV_TEXT.encode(), codec="zstd", asbytes=True)),
        ("rows.json", json.dumps(SAMPLES).encode()),
        ("rows.parquet", as_parquet(SAMPLES)),
    ],
)
def test_rows_equal_those_of_the_same_local_file(
    hub: FakeHub, read: Callable[..., list[Sample]], tmp_path: Path, name: str, data: bytes
) -> None:
    hub.push({f"data/{name}": data})
    (tmp_path / name).write_bytes(data)
    from_hub = read(f"{ADDRESS}/data/{name}")
    assert [(sample.id, sample.fields, sample.place) for sample in from_hub] == [
        (sample.id, sample.fields, sample.place) for sample in read(tmp_path / name)
    ]
    assert len(from_hub) == len(SAMPLES)


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
def test_a_path_selects_the_same_files_as_on_disk(hub: FakeHub, path: str, names: list[str]) -> None:
    hub.push(dict.fromkeys(FILES, b"{}\n"))
    hub.push({"sub/0.parquet": b"PAR1"}, "refs/convert/parquet")
    files = discover_files(ADDRESS + path)
    assert [file.name for file in files] == names
    assert all(str(file.path).startswith(ADDRESS) for file in files)


def test_a_whole_dataset_is_listed_in_byte_order_without_hidden_files(hub: FakeHub) -> None:
    hub.push(dict.fromkeys(FILES, b"{}\n"))
    names = [file.name for file in discover_files(ADDRESS, "jsonl")]
    assert names == ["B.jsonl", "a.jsonl.gz", "b-c.jsonl", "b/a.jsonl", "é.jsonl"]


def test_a_push_after_the_start_changes_nothing(hub: FakeHub) -> None:
    hub.push({"a.jsonl": as_jsonl(make_rows(3))})
    files = discover_files(f"{ADDRESS}/a.jsonl")
    fingerprint = take_fingerprint(files)
    hub.push({"a.jsonl": as_jsonl(make_rows(9, 5))})
    (chunk,) = chunks(files, known=fingerprint)
    assert [json.loads(row.payload)["id"] for row in chunk] == ["s0", "s1", "s2"]


def test_a_file_with_a_known_fingerprint_is_not_read_again(hub: FakeHub) -> None:
    data = as_jsonl(make_rows(3))
    hub.push({"a.jsonl": data, "README.md": b"one"})
    first = fingerprint_of(f"{ADDRESS}/a.jsonl")
    assert first.files[0].digest == hashlib.sha256(data).hexdigest()
    hub.push({"a.jsonl": data, "README.md": b"two"})
    hub.request_paths.clear()
    second = fingerprint_of(f"{ADDRESS}/a.jsonl", DatasetFingerprint.from_data(json.loads(json.dumps(first.to_data()))))
    assert (growth(first, second), hub.downloads) == ("same", [])


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_only_appended_lines_are_growth(hub: FakeHub, name: str) -> None:
    old, appended = (as_jsonl(make_rows(3)), as_jsonl(make_rows(5, 3))) if name == "a.jsonl" else (b"id\n1\n", b"2\n")
    hub.push({name: old})
    first = fingerprint_of(f"{ADDRESS}/{name}")
    hub.push({name: old + appended})
    assert growth(first, fingerprint_of(f"{ADDRESS}/{name}", first)) == "grown"
    hub.push({name: old.replace(b"1", b"7") + appended})
    assert growth(first, fingerprint_of(f"{ADDRESS}/{name}", first)) == "changed"


def test_a_parquet_fingerprint_uses_the_version_and_reads_only_the_footer(hub: FakeHub) -> None:
    records = [{"id": n, "text": f"{n} " * 4000, "more": "z" * 4000} for n in range(700)]
    data = as_parquet(records, compression="none", use_dictionary=False)
    hub.push({"a.parquet": data})
    files = discover_files(f"{ADDRESS}/a.parquet")
    fingerprint = take_fingerprint(files)
    (first,) = fingerprint.files
    assert (first.rows, first.digest, first.size) == (700, hashlib.sha256(data).hexdigest(), len(data))
    assert sum(hub.range_sizes) < len(data) / 2
    rows = [row.payload for chunk in chunks(files, known=fingerprint, columns=["id"]) for row in chunk]
    assert rows == [{"id": n} for n in range(700)]


def test_a_large_file_is_fetched_in_blocks(hub: FakeHub) -> None:
    line = json.dumps({"answer": "x" * 1_000_000}).encode() + b"\n"
    hub.push({"a.jsonl": line * 20})
    assert fingerprint_of(f"{ADDRESS}/a.jsonl").rows == 20
    assert len(hub.range_sizes) > 1
    assert max(hub.range_sizes) < 10_000_000


def test_unwanted_rows_are_not_fetched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "SEEK_POINT_SPACING_BYTES", 1_000_000)
    hub.push({"a.jsonl": b"".join(json.dumps({"n": n, "text": "x" * 1_000_000}).encode() + b"\n" for n in range(40))})
    files = discover_files(f"{ADDRESS}/a.jsonl")
    fingerprint = take_fingerprint(files)
    hub.range_sizes.clear()
    (rows,) = chunks(files, lambda ordinal: 39 if ordinal <= 39 else NEVER, known=fingerprint)
    assert [json.loads(row.payload)["n"] for row in rows] == [39]
    assert sum(hub.range_sizes) < 20_000_000


def test_a_truncated_response_is_requested_again(hub: FakeHub) -> None:
    hub.push({"a.jsonl": as_jsonl(make_rows(3))})
    files = discover_files(f"{ADDRESS}/a.jsonl")
    hub.truncated_responses = 1
    assert take_fingerprint(files).rows == 3
    assert len(hub.range_sizes) == 2


def test_bytes_that_do_not_match_the_listed_hash_are_rejected(hub: FakeHub) -> None:
    listed, received = (pa.compress(text, codec="zstd", asbytes=True) for text in (b'{"a": 1}\n', b'{"a": 2}\n'))
    hub.push({"a.jsonl.zst": listed})
    hub.replaced_bytes["a.jsonl.zst"] = received
    with pytest.raises(DatasetError, match=rf"SHA-256 {hashlib.sha256(received).hexdigest()}; the Hub lists"):
        fingerprint_of(f"{ADDRESS}/a.jsonl.zst")


def test_the_token_authenticates_and_does_not_appear_in_errors(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push({"a.jsonl": b"{}\n"})
    hub.token = "hf_right_2468"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong_1357")
    with pytest.raises(DatasetError, match="not found") as caught:
        discover_files(f"{ADDRESS}/a.jsonl")
    assert "1357" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert fingerprint_of(f"{ADDRESS}/a.jsonl").rows == 1
    assert not [path for path in hub.request_paths if "agent" in path or "telemetry" in path]


@pytest.mark.parametrize(
    ("path", "expected_texts"),
    [
        ("hf://ours/pairs/a.jsonl", ["expected hf://datasets/OWNER/NAME"]),
        ("hf://datasets/pairs", ["expected hf://datasets/OWNER/NAME"]),
        ("hf://datasets/ours/pears", ["ours/pears", "repository not found"]),
        (ADDRESS + "@nowhere/a.jsonl", ["revision not found"]),
        (ADDRESS + "/data/b.jsonl", ["does not exist", f"{ADDRESS}/data has a.jsonl", "did you mean 'a.jsonl'?"]),
        (ADDRESS + "/nothing/b.jsonl", ["does not exist", f"{ADDRESS}/nothing has nothing"]),
        (ADDRESS + "/data/*.csv", ["no file matches", "has a.jsonl"]),
        (ADDRESS + "/notes.md", ["the ending of", "notes.md", ".parquet"]),
        (ADDRESS + "/docs", ["no data file", "it has x.md"]),
    ],
)
def test_a_path_that_cannot_be_used_is_explained(hub: FakeHub, path: str, expected_texts: list[str]) -> None:
    hub.push({"data/a.jsonl": b"{}\n", "notes.md": b"", "docs/x.md": b""})
    with pytest.raises(DatasetError) as caught:
        discover_files(path)
    assert all(text in str(caught.value) for text in expected_texts), str(caught.value)


def test_an_unreachable_hub_is_explained(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DatasetError, match=r"hf://datasets/ours/pairs cannot be read: \w+: .*refused"):
        discover_files(ADDRESS)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DatasetError, match=r"needs the extra hf: pip install 'judge-runner\[hf\]'"):
        discover_files(ADDRESS)


@pytest.fixture
def bench(tmp_path: Path, plain_emulator: Any) -> Bench:
    """A bench whose dataset is at the fake Hub."""
    hub_bench = Bench(tmp_path, plain_emulator.url.removesuffix("/v1"))
    hub_bench.config["dataset"] = {"path": ADDRESS}
    return hub_bench


@pytest.mark.parametrize(
    "allowed_downloads",
    [
        pytest.param({"b.jsonl": 1}, id="one file"),
        pytest.param({"a.jsonl": 3, "b.jsonl": 1}, id="all of it"),
    ],
)
def test_a_run_stops_if_the_hub_refuses_a_download_and_resumes_later(
    hub: FakeHub, bench: Bench, allowed_downloads: dict[str, int]
) -> None:
    hub.push({"a.jsonl": as_jsonl(make_rows(300)), "b.jsonl": as_jsonl(make_rows(320, 300))})
    # a.jsonl is downloaded for its columns, the fingerprint and the run; b.jsonl for the fingerprint.
    hub.remaining_downloads.update(allowed_downloads)
    before = bench.request_count
    stopped = bench.run()
    assert (stopped.exit_code, stopped.stop_reason) == (3, "dataset")
    assert stopped.counts.ok == 256  # the rows of one complete chunk; the next chunk was incomplete
    assert f"{ADDRESS}/b.jsonl" in str(stopped.message)
    assert SIGNATURE not in str(stopped.message)
    hub.remaining_downloads.clear()
    assert bench.run().exit_code == 0
    assert [row["sample_id"] for row in bench.rows] == [f"s{n}" for n in range(320)]
    assert [line["question"] for line in bench.samples] == [f"question {n}" for n in range(320)]
    assert bench.request_count - before == 320


def test_a_run_judges_only_the_rows_added_to_its_dataset(hub: FakeHub, bench: Bench) -> None:
    hub.push({"a.jsonl": as_jsonl(make_rows(20))})
    assert bench.run().exit_code == 0
    before = bench.request_count
    hub.push({"a.jsonl": as_jsonl(make_rows(20)), "b.jsonl": as_jsonl(make_rows(25, 20))})
    assert bench.run().counts.ok == 25
    assert bench.request_count - before == 5


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv.zst", "a.parquet"])
def test_the_texts_of_samples_are_read_from_the_hub(hub: FakeHub, bench: Bench, name: str) -> None:
    rows = [{"id": f"s{n}", "asked": f"question {n}", "answer": f"é {n}", "long": "z" * 50} for n in range(600)]
    csv = "\n".join(["id,asked,answer,long", *(",".join(row.values()) for row in rows)])
    contents = {
        "a.jsonl": lambda: as_jsonl(rows),
        "a.csv.zst": lambda: pa.compress(csv.encode(), codec="zstd", asbytes=True),
        "a.parquet": lambda: as_parquet(rows),
    }
    hub.push({name: contents[name]()})
    bench.config["dataset"]["fields"] = {"question": "asked"}
    assert bench.run({"judge.repeats": 2}, limit=300).exit_code == 0
    assert [(line["question"], line["answer"]) for line in bench.samples] == [
        (row["asked"], row["answer"]) for row in rows[:300]
    ]
