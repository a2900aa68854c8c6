"""The commands. Each parses its arguments, calls one function and returns an exit code."""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from runner._api import RunOptions, RunSummary
from runner.cli.arguments import check_encoding, load_target, parse_seconds, parse_statuses, with_run_dir
from runner.cli.emulator_flags import apply_flags
from runner.cli.streams import is_reader_gone, print_data, print_error, print_line, print_message
from runner.config import json_schema, load_config, masked, read_mapping
from runner.core import escape_controls, escape_controls_in_json
from runner.errors import UsageError
from runner.monitor import INACTIVE_STATES, describe, read_status
from runner.pipeline import rescore_run as rescore_run
from runner.pipeline import run as run_pipeline
from runner.pipeline import write_report
from runner.planning import check_inputs, check_requests_differ, make_plan, preview_requests, preview_rows
from runner.results import RunDirectory, export_results
from runner.service import become_emulator
from runner.version import __version__

# Reasons to stop early that the command line requested, so that they are not errors.
REQUESTED_STOPS = ("detached", "cancelled")

app = typer.Typer(
    name="judge-runner",
    help="Run an LLM judge over a dataset: exactly one row per request in Parquet, none lost, none paid twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[Path, typer.Argument(help="The YAML file.", metavar="CONFIG")]
DirectoryArgument = Annotated[Path, typer.Argument(help="The run directory.", metavar="RUN_DIR")]
SetOption = Annotated[
    list[str],
    typer.Option(
        "--set",
        help="Override a value of the YAML: --set judge.model=x.",
        metavar="KEY=VALUE",
        callback=check_encoding,
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Judge only the first N samples.", min=1)]
RunDirOption = Annotated[Path | None, typer.Option("--run-dir", help="The run directory, instead of output.directory.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print_data(f"judge-runner {__version__}")
        raise typer.Exit


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="The folder to write to.")] = Path()) -> None:
    """Write a commented judge.yaml and a small sample dataset."""
    names = ("judge.yaml", "answers.jsonl")
    for name in names:
        if (directory / name).exists():
            raise UsageError(f"{directory / name}: already exists; nothing was written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            (directory / name).write_bytes(_packaged(name))
            print_line(str(directory / name))
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror}") from error
    print_message(f"next: judge-runner validate {directory / 'judge.yaml'}")


@app.command()
def quickstart(
    run_dir: Annotated[Path, typer.Option("--run-dir", help="The run directory.")] = Path("quickstart"),
) -> None:
    """Judge a packaged dataset on the embedded emulator. It needs no key and no network, and less than a minute."""
    with resources.as_file(resources.files("runner.packaged")) as folder:
        config = with_run_dir(load_config(folder / "quickstart.yaml"), run_dir)
        summary = run_pipeline(config, RunOptions(fresh=True))
    _print_summary(summary, quiet=False)
    for line in preview_rows(summary.directory):
        print_line(escape_controls(line))
    print_line(f"rows:    {summary.directory / 'results'}/*.parquet")
    print_line(f"samples: {summary.directory / 'samples.parquet'}")
    print_line(f"report:  {summary.report or 'not written'}")
    print_line(f"status:  judge-runner status {summary.directory}")
    raise typer.Exit(summary.exit_code)


@app.command()
def validate(
    config: ConfigArgument,
    show: Annotated[int, typer.Option("--show", help="Print the exact bodies of the first N requests.", min=0)] = 0,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Check a configuration; sends no requests.

    The check covers the YAML, the environment, the templates, and the columns and first rows of the dataset.
    """
    loaded = load_config(config, overrides)
    preview = preview_requests(check_inputs(loaded), show)
    for warning in preview.warnings:
        print_message(f"warning: {warning}")
    if show:
        for body in preview.bodies:
            print_data(escape_controls_in_json(body) if sys.stdout.isatty() else body)
    else:
        _print_json(masked(loaded), indent=2)
    print_message(f"{config}: valid; {preview.described}")


@app.command()
def plan(
    config: ConfigArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    run_dir: RunDirOption = None,
    limit: LimitOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Print requests, tokens, cost and time; sends no requests.

    The plan has these figures for each route, and the route that a run would take.
    """
    inputs = check_inputs(with_run_dir(load_config(config, overrides), run_dir))
    if not RunDirectory(inputs.config.output.directory).is_run():
        check_requests_differ(inputs)
    planned = make_plan(inputs, RunOptions(limit=limit))
    for warning in inputs.warnings:
        print_message(f"warning: {warning}")
    print_data(escape_controls_in_json(planned.as_json()) if as_json else escape_controls(planned.as_text()))


def run(
    target: Annotated[Path, typer.Argument(help="A YAML file or a run directory.", metavar="CONFIG|RUN_DIR")],
    run_dir: RunDirOption = None,
    limit: LimitOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    retry: Annotated[
        str, typer.Option("--retry", help="Send requests again whose rows have these statuses: failed,unparsed.")
    ] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier run aside and start over.")] = False,
    max_time: Annotated[str | None, typer.Option("--max-time", help="Drain after this time: 30s, 5m or 6h.")] = None,
    grace: Annotated[str | None, typer.Option("--grace", help="Time that a drain gives in-flight requests.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Submit batches or collect finished ones, then exit.")
    ] = False,
    resubmit_unknown: Annotated[
        bool,
        typer.Option(
            "--resubmit-unknown", help="Send requests again that wait for a decision; they may be paid twice."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Run a configuration, or resume a run. A run directory that already has rows is always resumed."""
    options = RunOptions(
        limit=limit,
        retry=parse_statuses(retry),
        fresh=fresh,
        max_time=parse_seconds("--max-time", max_time),
        grace=parse_seconds("--grace", grace),
        quiet=quiet,
        detach=detach,
        resubmit_unknown=resubmit_unknown,
    )
    if quiet:
        logging.getLogger("runner").setLevel(logging.ERROR)
    config = with_run_dir(load_target(target, overrides), run_dir)
    summary = run_pipeline(config, options)
    _print_summary(summary, quiet)
    raise typer.Exit(summary.exit_code)


app.command("run")(run)
app.command("resume", help="Another name for run.")(run)


@app.command()
def rescore(
    run_dir: DirectoryArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Parse all stored answers again; sends no requests.

    Use it after a change of format, scale, map or aggregation.
    """
    summary = rescore_run(load_target(run_dir, overrides))
    _print_summary(summary, quiet=False)
    raise typer.Exit(summary.exit_code)


@app.command()
def report(
    run_dir: DirectoryArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Write report/index.html and report/summary.json again, from all rows so far."""
    if not RunDirectory(run_dir).is_run():
        raise UsageError(f"{run_dir}: not a run directory")
    print_data(str(write_report(load_target(run_dir, overrides))))


@app.command()
def cancel(run_dir: DirectoryArgument) -> None:
    """Drain a running run and cancel its open batches. Answers that they already have are kept."""
    directory = RunDirectory(run_dir)
    if not directory.is_run():
        raise UsageError(f"{run_dir}: not a run directory")
    if directory.is_held():
        directory.request_drain()
        print_message(f"{run_dir}: waiting for the run to drain")
        while directory.is_held():
            time.sleep(0.2)
    limit = directory.read_run().get("limit")
    summary = run_pipeline(load_target(run_dir, []), RunOptions(limit=limit, cancel=True))
    _print_summary(summary, quiet=False)
    raise typer.Exit(summary.exit_code)


@app.command()
def status(
    run_dir: DirectoryArgument,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print status.json, with the state corrected if the process is gone.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every two seconds until the run ends.")] = False,
) -> None:
    """Print the progress of a running or finished run."""
    directory = RunDirectory(run_dir)
    directory.refuse_links()
    while True:
        data = read_status(directory.status, directory.is_held())
        if as_json:
            _print_json(data, indent=None if watch else 2)
        else:
            print_data(escape_controls(describe(data)))
        if not watch or data["state"] in INACTIVE_STATES or is_reader_gone():
            return
        time.sleep(2)


@app.command()
def export(
    run_dir: DirectoryArgument,
    out: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file.", metavar="OUT")],
    samples: Annotated[bool, typer.Option("--samples", help="Export samples.parquet instead of the rows.")] = False,
    excel: Annotated[
        bool, typer.Option("--excel", help="Write CSV for Excel: a byte order mark, and no cell is too long.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Write CSV for programs: no apostrophe before what looks like a formula.")
    ] = False,
) -> None:
    """Write all rows so far to one file. Rows that are still in the journal are included."""
    rows = export_results(RunDirectory(run_dir), out, samples, excel, exact)
    print_message(f"{rows:,} rows")
    print_data(str(out))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def emulate(
    context: typer.Context,
    host: Annotated[str | None, typer.Option("--host", help="The address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="The port (8000); 0 uses any free port.", min=0, max=65535)
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file with options.")] = None,
) -> None:
    """Run the local PAI-Judge emulator. Every option of docs/emulator.md is a flag: --seed 7 --faults.500 0.03."""
    options: dict[str, Any] = {} if config is None else read_mapping(config)
    apply_flags(context.args, options)
    options |= {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    options.setdefault("port", 8000)
    become_emulator(options)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the YAML, for editors."""
    _print_json(json_schema(), indent=2)


def _print_summary(summary: RunSummary, quiet: bool) -> None:
    """Print the summary and, if the run stopped early or rows are not ok, why."""
    if not quiet:
        for line in summary.lines():
            print_message(line)
        for note in summary.notes:
            print_message(f"warning: {note}")
    if summary.stop_reason in REQUESTED_STOPS:
        print_message(f"{summary.stop_reason}: {summary.message}")
    elif (problem := summary.problem()) is not None:
        print_error(problem)
    if summary.report_problem is not None:
        print_error(summary.report_problem)


def _print_json(data: object, indent: int | None) -> None:
    print_data(escape_controls_in_json(json.dumps(data, ensure_ascii=False, indent=indent)))


def _packaged(name: str) -> bytes:
    return (resources.files("runner.packaged") / name).read_bytes()
