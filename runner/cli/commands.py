"""The commands: each parses, calls one function, and turns errors into an exit code."""

from __future__ import annotations

import gc
import json
import logging
import resource
import signal
import sys
import time
import traceback
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer

from runner._api import RunOptions, RunSummary
from runner.cli.emulator_flags import put_flags
from runner.config import RunConfig, json_schema, load_config, masked, parse_duration, read_mapping
from runner.errors import UsageError
from runner.monitor import INACTIVE_STATES, describe, read_status
from runner.pipeline import rescore_run as rescore_run
from runner.pipeline import run as run_pipeline
from runner.pipeline import write_report
from runner.planning import check_inputs, first_requests, make_plan, show_rows
from runner.results import RunDirectory
from runner.results import export as export_rows
from runner.service import become_emulator
from runner.version import __version__

AS_TOLD = ("detached", "cancelled")
"""Reasons to stop early that are what the command line asked for."""

GC_THRESHOLD = 50_000
"""Rows come and go without cycles: looking for some at every 700 allocations is an eighth of a run's CPU."""

app = typer.Typer(
    name="judge-runner",
    help="Run an LLM judge over a dataset: one row per request in Parquet, none lost, none paid twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[Path, typer.Argument(help="The YAML file.", metavar="CONFIG")]
DirectoryArgument = Annotated[Path, typer.Argument(help="The run directory.", metavar="RUN_DIR")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", help="Override a value, read as YAML: --set judge.model=x.", metavar="KEY=VALUE"),
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="Judge only the first N samples.", min=1)]
RunDirOption = Annotated[Path | None, typer.Option("--run-dir", help="The run directory, instead of output.directory.")]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"judge-runner {__version__}")
        raise typer.Exit


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="Where to put them.")] = Path()) -> None:
    """Write a commented judge.yaml and a small sample dataset, ready to run."""
    names = ("judge.yaml", "answers.jsonl")
    for name in names:
        if (directory / name).exists():
            raise UsageError(f"{directory / name}: is there already; nothing was written")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in names:
            (directory / name).write_bytes(_packaged(name))
            typer.echo(directory / name)
    except OSError as error:
        raise UsageError(f"{directory}: cannot be written: {error.strerror}") from error
    _say(f"next: judge-runner validate {directory / 'judge.yaml'}")


@app.command()
def quickstart(
    run_dir: Annotated[Path, typer.Option("--run-dir", help="Where the run goes.")] = Path("quickstart"),
) -> None:
    """Judge a packaged pairwise dataset on the embedded emulator: no key, no network, under a minute."""
    with resources.as_file(resources.files("runner.packaged")) as folder:
        config = _placed(load_config(folder / "quickstart.yaml"), run_dir)
        summary = run_pipeline(config, RunOptions(fresh=True))
    _close(summary, quiet=False)
    for line in show_rows(summary.directory):
        typer.echo(line)
    typer.echo(f"rows:    {summary.directory / 'results'}/*.parquet")
    typer.echo(f"samples: {summary.directory / 'samples.parquet'}")
    typer.echo(f"report:  {summary.report}")
    typer.echo(f"status:  judge-runner status {summary.directory}")
    raise typer.Exit(summary.exit_code)


@app.command()
def validate(
    config: ConfigArgument,
    show: Annotated[int, typer.Option("--show", help="Print the exact bodies of the first N requests.", min=0)] = 0,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Check the YAML, the environment, the dataset's columns and first rows, and the templates; asks nothing."""
    loaded = load_config(config, overrides)
    preview = first_requests(check_inputs(loaded), show)
    for warning in preview.warnings:
        _say(f"warning: {warning}")
    if show:
        for body in preview.bodies:
            typer.echo(body)
    else:
        typer.echo(json.dumps(masked(loaded), ensure_ascii=False, indent=2))
    _say(f"{config}: fits; {preview.described}")


@app.command()
def plan(
    config: ConfigArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    run_dir: RunDirOption = None,
    limit: LimitOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Say what a run would come to: requests, tokens, cost and time on each route, and the route; asks nothing."""
    checked = check_inputs(_placed(load_config(config, overrides), run_dir))
    planned = make_plan(checked, RunOptions(limit=limit))
    typer.echo(planned.as_json() if as_json else planned.as_text())


def run(
    target: Annotated[Path, typer.Argument(help="A YAML file or a run directory.", metavar="CONFIG|RUN_DIR")],
    run_dir: RunDirOption = None,
    limit: LimitOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    retry: Annotated[str, typer.Option("--retry", help="Ask rows of these statuses again: failed,unparsed.")] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier run aside, start anew.")] = False,
    max_time: Annotated[str | None, typer.Option("--max-time", help="Drain after this time, as 30s, 5m or 6h.")] = None,
    grace: Annotated[str | None, typer.Option("--grace", help="Time for what is under way at a drain.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Submit or collect what is ready by batch; leave.")] = False,
    resubmit_unknown: Annotated[
        bool, typer.Option("--resubmit-unknown", help="Ask again what waits for a decision; it may be paid twice.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Errors only.")] = False,
) -> None:
    """Run a configuration; on a run directory that already has rows, go on with it."""
    options = RunOptions(
        limit=limit,
        retry=_statuses(retry),
        fresh=fresh,
        max_time=_seconds("--max-time", max_time),
        grace=_seconds("--grace", grace),
        quiet=quiet,
        detach=detach,
        resubmit_unknown=resubmit_unknown,
    )
    if quiet:
        logging.getLogger("runner").setLevel(logging.ERROR)
    config = _placed(_load(target, overrides), run_dir)
    summary = run_pipeline(config, options)
    _close(summary, quiet)
    raise typer.Exit(summary.exit_code)


app.command("run")(run)
app.command("resume", help="Another name for run.")(run)


@app.command()
def rescore(
    run_dir: DirectoryArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Read every stored answer again with a changed format, scale, map or aggregation; asks nothing."""
    summary = rescore_run(_load(run_dir, overrides))
    _close(summary, quiet=False)
    raise typer.Exit(summary.exit_code)


@app.command()
def report(
    run_dir: DirectoryArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
) -> None:
    """Write report/index.html and report/summary.json again, of all rows that are in closed parts."""
    if not RunDirectory(run_dir).is_run():
        raise UsageError(f"{run_dir}: no run is here")
    typer.echo(write_report(_load(run_dir, overrides)))


@app.command()
def cancel(run_dir: DirectoryArgument) -> None:
    """Drain a running run and cancel its open batches; what they answered is kept."""
    directory = RunDirectory(run_dir)
    if not directory.is_run():
        raise UsageError(f"{run_dir}: no run is here")
    if directory.is_held():
        directory.ask_to_drain()
        _say(f"{run_dir}: waiting for the running run to drain")
        while directory.is_held():
            time.sleep(0.2)
    limit = directory.read_run().get("limit")
    summary = run_pipeline(_load(run_dir, []), RunOptions(limit=limit, cancel=True))
    _close(summary, quiet=False)
    raise typer.Exit(summary.exit_code)


@app.command()
def status(
    run_dir: DirectoryArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print status.json, with the true state.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Every two seconds until the run ends.")] = False,
) -> None:
    """Say how far a running or finished run is."""
    directory = RunDirectory(run_dir)
    while True:
        data = read_status(directory.status, directory.is_held())
        typer.echo(json.dumps(data, ensure_ascii=False, indent=None if watch else 2) if as_json else describe(data))
        if not watch or data["state"] in INACTIVE_STATES:
            return
        time.sleep(2)


@app.command()
def export(
    run_dir: DirectoryArgument,
    out: Annotated[Path, typer.Argument(help="A .csv, .jsonl or .parquet file.", metavar="OUT")],
    samples: Annotated[bool, typer.Option("--samples", help="samples.parquet instead of the rows.")] = False,
) -> None:
    """Write all rows so far, parts and journal together, into one file."""
    rows = export_rows(RunDirectory(run_dir), out, samples)
    _say(f"{rows:,} rows")
    typer.echo(out)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def emulate(
    context: typer.Context,
    host: Annotated[str | None, typer.Option("--host", help="Where it listens (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 takes any free one.", min=0, max=65535)] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML file with the options.")] = None,
) -> None:
    """Serve the local PAI-Judge emulator. Every option of docs/emulator.md is a flag: --seed 7 --faults.500 0.03."""
    options: dict[str, Any] = {} if config is None else read_mapping(config)
    put_flags(context.args, options)
    options |= {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    options.setdefault("port", 8000)
    become_emulator(options)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the YAML, for editors."""
    typer.echo(json.dumps(json_schema(), ensure_ascii=False, indent=2))


def main() -> None:
    """The console command: run it and leave with its exit code."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        signal.signal(number, partial(_leave, code))
    _raise_file_limit()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 1000)
    try:
        app(prog_name="judge-runner")
    except UsageError as error:
        _complain(str(error))
        sys.exit(2)
    except Exception:  # noqa: BLE001 - the last resort
        traceback.print_exc()
        _complain("this is a bug of judge-runner; what was answered is kept, and the same command goes on with it")
        sys.exit(70)


def _leave(code: int, *_: object) -> None:
    """Leave at a signal that comes while there is nothing to drain."""
    sys.exit(code)


def _load(target: Path, overrides: list[str]) -> RunConfig:
    """The configuration of a YAML file, or the one that a run directory keeps."""
    if not target.is_dir():
        return load_config(target, overrides)
    directory = RunDirectory(target)
    if not directory.config.exists():
        raise UsageError(f"{target}: is a directory without a config.yaml; give the YAML file or a run directory")
    record = directory.read_run()
    places = [Path(place) for place in (record.get("base"), target / record.get("base_relative", "")) if place]
    base = next((place for place in places if place.is_dir()), target)
    return _placed(load_config(directory.config, overrides, base=base, name=record.get("name")), target)


def _placed(config: RunConfig, run_dir: Path | None) -> RunConfig:
    if run_dir is None:
        return config
    output = config.output.model_copy(update={"directory": run_dir.absolute()})
    return config.model_copy(update={"output": output})


def _statuses(given: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in given.split(",") if word.strip())
    for word in words:
        if word not in ("failed", "unparsed"):
            raise UsageError(f"--retry: {word!r} is not a status to ask again; expected failed, unparsed or both")
    return words


def _seconds(option: str, given: str | None) -> float | None:
    if given is None:
        return None
    try:
        return parse_duration(given)
    except UsageError as error:
        raise UsageError(f"{option}: expected {error}") from None


def _close(summary: RunSummary, quiet: bool) -> None:
    """The closing lines, and why the run stopped or its exit code is not 0."""
    if not quiet:
        for line in summary.lines():
            _say(line)
    if summary.stop_reason in AS_TOLD:
        _say(f"{summary.stop_reason}: {summary.message}")
    elif (problem := summary.problem()) is not None:
        _complain(problem)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _complain(text: str) -> None:
    _say(f"error: {text}")


def _packaged(name: str) -> bytes:
    return (resources.files("runner.packaged") / name).read_bytes()


def _raise_file_limit() -> None:
    """Thousands of requests under way need thousands of sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    except (ValueError, OSError):
        return
