"""Judge a table of any Arrow types as a user would: validate, run, read again, export and report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runner import RunOptions, load_config, run
from runner.errors import UsageError
from runner.planning import check_inputs, preview_requests
from runner.planning.preview import Preview
from runner.report.data.tables import ReportError
from runner.report.write import write_report
from runner.results import RunDirectory, export_results

PATTERN = r"(\d+)"
ENDINGS = ("csv", "jsonl", "parquet")


class ArrowRun:
    """One dataset of one Parquet file with its configuration in a folder of its own.

    Args:
        folder: the folder.
        url: the address of an emulator.
        table: the dataset; it has the columns `id` and `question`.
        options: of the Parquet writer.
        keys: keys of the configuration, such as `dataset.keep` or `judge.repeats`.
    """

    def __init__(self, folder: Path, url: str, table: pa.Table, keys: Mapping[str, Any], **options: Any) -> None:
        self.folder = folder
        pq.write_table(table, folder / "data.parquet", **options)
        self._config: dict[str, Any] = {
            "dataset": {"path": "data.parquet"},
            "judge": {"kind": "template", "model": "m", "user": "Rate {question}: {answer}"},
            "service": {"base_url": f"{url}/v1", "token_env": None},
            "output": {"directory": "out", "rows_per_part": 2},
            "monitor": {"progress": False},
            "report": None,
        }
        for key, value in keys.items():
            section, _, name = key.partition(".")
            self._config[section] = {**self._config.get(section, {}), name: value} if name else value

    def preview(self) -> Preview:
        """Check the configuration and build the requests of the first rows, as `validate --show` does."""
        return preview_requests(check_inputs(load_config(self._written())), show=10)

    def validate(self) -> int:
        """Return the exit code of `validate`."""
        return _exit_code(self.preview)

    @property
    def prompts(self) -> list[str]:
        """The texts that the first rows send."""
        return [json.loads(body)["messages"][-1]["content"] for body in self.preview().bodies]

    def run(self, pattern: str = PATTERN, **options: Any) -> int:
        """Judge what is missing; returns the exit code. Another pattern makes all stored rows be written again."""

        def judged() -> None:
            codes.append(run(load_config(self._written(pattern)), RunOptions(quiet=True, **options)).exit_code)

        codes: list[int] = []
        return _exit_code(judged) or codes[0]

    def export(self) -> list[int]:
        """Export rows and samples in every format; returns the exit codes."""
        return [self._export(kind, ending) for kind in ("rows", "samples") for ending in ENDINGS]

    def _export(self, kind: str, ending: str) -> int:
        directory, target = RunDirectory(self.folder / "out"), self.folder / f"{kind}.{ending}"
        return _exit_code(lambda: export_results(directory, target, samples=kind == "samples"))

    def report(self, *group_by: str) -> int:
        """Write the report; returns the exit code of `report`."""
        return _exit_code(lambda: write_report(self.folder / "out", group_by))

    @property
    def tables(self) -> dict[str, pa.Table]:
        """The rows, the samples and the exports of both, in the order of the dataset."""
        paths = {"rows": self.folder / "out/results", "samples": self.folder / "out/samples.parquet"}
        paths |= {f"exported {kind}": self.folder / f"{kind}.parquet" for kind in ("rows", "samples")}
        return {name: pq.read_table(path).sort_by("ordinal") for name, path in paths.items() if path.exists()}

    def _written(self, pattern: str = PATTERN) -> Path:
        config = {**self._config}
        if config["judge"]["kind"] == "template":
            config["judge"] = {**config["judge"], "verdict": {"pattern": pattern, "kind": "score"}}
        path = self.folder / "judge.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        return path


@contextmanager
def arrow_run(url: str, table: pa.Table, keys: Mapping[str, Any], **options: Any) -> Iterator[ArrowRun]:
    """Give a run in a folder that vanishes at the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield ArrowRun(Path(folder), url, table, keys, **options)


def _exit_code(command: Callable[[], object]) -> int:
    """Returns the exit code of a command that does not run; any other error than the program's own is a bug."""
    try:
        command()
    except (UsageError, ReportError) as error:
        assert str(error).strip()
        return 2
    return 0
