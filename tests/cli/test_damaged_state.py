"""State files of a run directory that are damaged, edited by hand, of another run, or links: exit code 2, no traceback.

Every command is called in this process, so that anything but a message fails the test.
"""

from __future__ import annotations

import copy
import errno
import fcntl
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.commands import app
from runner.errors import UsageError
from runner.report.__main__ import main as report

HUGE, DEEP, INFINITE = "9" * 400, "[" * 5000 + "]" * 5000, "1e400"
VALUES = ["null", "{}", "[]", '"x"', "5", "-1", INFINITE, HUGE, json.dumps("y" * 70_000), '{"a": 1}', None]
WHOLE = [b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"\0" * 99, DEEP.encode(), HUGE.encode(), INFINITE.encode()]
COMMANDS = [
    ("status", "out"),
    ("plan", "judge.yaml"),
    ("export", "out", "x.csv"),
    ("validate", "judge.yaml"),
    ("run", "out", "--detach"),
    ("rescore", "out"),
    ("cancel", "out"),
    ("run", "judge.yaml", "--fresh", "--detach"),
]
READERS = ("status", "export", "validate")
MARK = "a value to be replaced"


def command(*args: str) -> tuple[int, str]:
    """Call a command and return its exit code with its error."""
    try:
        return app(args=list(args), prog_name="judge-runner", standalone_mode=False) or 0, ""
    except UsageError as error:
        return 2, str(error)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, plain_emulator: Any, write_small_run: Any) -> dict[str, Path]:
    """A finished run, and one with two open batches."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("online", "batch")}
    write_small_run(folders["online"], plain_emulator.url)
    by_batch = {"router": {"mode": "batch"}, "batch": {"shard_lines": 3}}
    write_small_run(folders["batch"], plain_emulator.url, **by_batch)
    for name, folder in folders.items():
        options = ("--detach",) if name == "batch" else ()
        assert command("run", str(folder / "judge.yaml"), *options)[0] in (0, 4)
    return folders


@pytest.fixture(scope="module")
def write_small_run() -> Any:
    def write(folder: Path, url: str, **sections: Any) -> None:
        lines = [{"id": f"s{n}", "question": f"What is {n}?", "answer": f"It is {n}."} for n in range(6)]
        (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        document = {
            "dataset": {"path": "data.jsonl"},
            "judge": {},
            "service": {"base_url": url, "token_env": None},
            "budget": {"requests": 100},
            "monitor": {"progress": False},
            "output": {"directory": "out"},
            **sections,
        }
        (folder / "judge.yaml").write_text(json.dumps(document), encoding="utf-8")

    return write


@pytest.fixture
def copied(runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Copy one of the runs into this test's folder, in which commands then work; returns its run directory."""
    monkeypatch.chdir(tmp_path)

    def copy_run(name: str) -> Path:
        for path in tmp_path.iterdir():
            if path.is_symlink() or path.is_file():
                path.unlink()
            else:
                shutil.rmtree(path)
        shutil.copytree(runs[name], tmp_path, dirs_exist_ok=True)
        return tmp_path / "out"

    return copy_run


def places(data: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in JSON data."""
    items = data.items() if isinstance(data, dict) else enumerate(data[:2]) if isinstance(data, list) else ()
    for key, value in items:
        yield (*before, key)
        yield from places(value, (*before, key))


def damaged_files(text: str, count: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield damaged forms of a JSON file, each with its description."""
    data = json.loads(text)
    found = [(place, value) for place in places(data) for value in VALUES]
    for place, value in draw.sample(found, min(count, len(found))):
        changed = copy.deepcopy(data)
        *path, last = place
        section = changed
        for key in path:
            section = section[key]
        if value is None:
            del section[last]
            yield f"{place} is missing", json.dumps(changed).encode()
        else:
            section[last] = MARK
            yield f"{place} is {value[:20]}", json.dumps(changed).replace(json.dumps(MARK), value).encode()
    for content in WHOLE:
        yield f"it is {content[:20]!r}", content
    yield "it is cut", text.encode()[: len(text) // 2]


@pytest.mark.parametrize(
    ("run", "name", "count"),
    [
        ("online", "run.json", 45),
        ("online", "status.json", 25),
        ("online", "budget.json", 20),
        ("batch", "batches/shard-00001.json", 30),
    ],
)
def test_no_damage_of_a_state_file_is_a_bug(copied: Any, run: str, name: str, count: int) -> None:
    draw = random.Random(7)
    path = copied(run) / name
    for what, content in damaged_files(path.read_text("utf-8"), count, draw):
        for args in draw.sample(COMMANDS, 2):
            path = copied(run) / name
            path.write_bytes(content)
            code, message = command(*args)
            told = f"{args} with {name}: {what}: {code} {message[:200]}"
            assert code in (0, 1, 2, 3, 4), told
            named = path.name in message or "belongs to another run" in message or "no rows yet" in message
            assert code != 2 or named, told


def test_no_damage_of_run_json_is_a_bug_of_the_report(copied: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied("online") / "run.json"
    for what, content in damaged_files(path.read_text("utf-8"), 12, random.Random(3)):
        path.write_bytes(content)
        code = report([json.dumps({"run_dir": str(path.parent)})])
        assert (code, "run.json: cannot be read" in capsys.readouterr().err) in ((0, False), (2, True)), what


@pytest.mark.parametrize("name", ["run.json", "status.json", "budget.json", "config.yaml", "run.log", "lock"])
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_folder_in_the_place_of_a_file(copied: Any, name: str, args: tuple[str, ...]) -> None:
    path = copied("online") / name
    path.unlink(missing_ok=True)
    path.mkdir()
    code, message = command(*args)
    assert code in (0, 2) and (code == 0 or name in message)


def test_a_damaged_status_stops_no_run(copied: Any) -> None:
    directory = copied("online")
    for content in (b"", b"[]", b'{"retries": -1, "throttled": "x"}', DEEP.encode()):
        (directory / "status.json").write_bytes(content)
        code, message = command("status", "out")
        assert (code, "status.json: cannot be read" in message) == (2, True)
        assert command("run", "out") == (0, "")
        assert command("status", "out") == (0, "")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("number", 5, "it is about the shard of shard-00005.json"),
        ("run", "another", "belongs to the run 'another'"),
        ("batch_id", "..", "$.batch_id"),
        ("batch_id", None, "the step 'poll' needs `$.batch_id`"),
        ("base_url", "file:///etc", "$.base_url"),
    ],
)
def test_a_shard_that_does_not_fit_is_refused_and_nothing_is_changed(
    copied: Any, key: str, value: Any, told: str
) -> None:
    directory = copied("batch")
    path = directory / "batches" / "shard-00001.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}), encoding="utf-8")
    before = content_of(directory)
    for args in (("run", "out", "--detach"), ("cancel", "out"), ("rescore", "out")):
        code, message = command(*args)
        assert code == 2 and "shard-00001.json" in message and told in message
        assert content_of(directory) == before


def test_two_shards_with_one_batch_are_refused(copied: Any) -> None:
    directory = copied("batch")
    first, second = (directory / "batches" / f"shard-0000{number}.json" for number in (0, 1))
    data = json.loads(second.read_bytes())
    second.write_text(json.dumps({**data, "batch_id": json.loads(first.read_bytes())["batch_id"]}), encoding="utf-8")
    code, message = command("cancel", "out")
    assert (code, first.name in message, second.name in message) == (2, True, True)


def test_a_budget_of_another_run_is_refused(copied: Any) -> None:
    directory = copied("online")
    path = directory / "budget.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "run": "another"}), encoding="utf-8")
    before = content_of(directory)
    for args in (("run", "out"), ("plan", "judge.yaml")):
        code, message = command(*args)
        assert code == 2 and "budget.json" in message and "'another'" in message
    assert content_of(directory) == before


LINKS = ["results/part-00000.parquet", "results", "journal", "run.json", "run.log", "status.json", "lock", "report"]
LINKS += ["batches", ".status.json.tmp", "status.json.tmp", "batches/.shard-00000.json.tmp", "drain", "config.yaml"]


@pytest.mark.parametrize("name", LINKS)
def test_a_planted_link_is_refused_and_its_target_is_untouched(copied: Any, tmp_path: Path, name: str) -> None:
    directory = copied("online")
    target, place = tmp_path / "secret", directory / name
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        place.rename(target)
    elif "." in name:
        target.write_text("mine", encoding="utf-8")
    else:
        target.mkdir()
    place.symlink_to(target)
    before = content_of(target)
    for args in (("run", "out"), ("rescore", "out"), ("cancel", "out"), ("status", "out"), ("export", "out", "x.csv")):
        code, message = command(*args)
        assert (code, f"out/{name}: a symbolic link" in message) == (2, True), (args, message)
    assert place.is_symlink() and content_of(target) == before


def test_the_run_directory_itself_may_be_a_link(copied: Any, tmp_path: Path) -> None:
    directory = copied("online")
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    for args in (("run", "out"), ("status", "out"), ("export", "out", "x.csv"), ("rescore", "out")):
        assert command(*args) == (0, "")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks(copied: Any, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    copied("online")

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for args in (("run", "out"), ("rescore", "out"), ("cancel", "out"), ("run", "judge.yaml", "--fresh")):
        code, message = command(*args)
        assert code == 2 and "this file system has no file locks" in message and "output.lock: none" in message
    for args in (("status", "out"), ("export", "out", "x.csv"), ("plan", "judge.yaml")):
        assert command(*args) == (0, "")
    for args in (("run", "out"), ("rescore", "out")):
        assert command(*args, "--set", "output.lock=none") == (0, "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM])
@pytest.mark.parametrize("call", ["fsync", "replace", "rename", "mkdir"])
def test_a_disk_that_refuses(copied: Any, monkeypatch: pytest.MonkeyPatch, number: int, call: str) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    for args in COMMANDS:
        copied("online")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            code, message = command(*args)
        assert code in (0, 2, 3), args
        assert code != 2 or os.strerror(number) in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_another_user_is_told_that_nothing_can_be_read(copied: Any) -> None:
    directory = copied("online")
    directory.chmod(0o700)
    for args in (*COMMANDS, ("report", "out")):
        os.seteuid(65534)
        try:
            code, message = command(*args)
        finally:
            os.seteuid(0)
        assert (code, "Permission denied" in message) == (2, True), (args, message)


def content_of(path: Path) -> dict[str, bytes]:
    """Return what the files of a folder hold, without the log and the lock."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file): file.read_bytes() for file in files if file.name not in ("run.log", "lock")}
