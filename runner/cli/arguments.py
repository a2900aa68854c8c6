"""Arguments that several commands share: the configuration and the options of `run`."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.config import RunConfig, load_config, parse_duration
from runner.errors import UsageError
from runner.results import RunDirectory


def load_target(target: Path, overrides: list[str]) -> RunConfig:
    """Load a YAML file, or the configuration that is stored in a run directory."""
    if not _is_folder(target):
        return load_config(target, overrides)
    directory = RunDirectory(target)
    directory.refuse_links()
    if not directory.config.exists():
        raise UsageError(f"{target}: a directory without a config.yaml; expected a YAML file or a run directory")
    manifest = directory.read_run()
    base, relative = manifest.get("base"), manifest.get("base_relative") or ""
    folders = [Path(folder) for folder in (base, target / relative) if folder]
    found = next((folder for folder in folders if _is_folder(folder)), target)
    return with_run_dir(load_config(directory.config, overrides, base=found, name=manifest.get("name")), target)


def _is_folder(path: Path) -> bool:
    """Return False also for a name that no folder can have."""
    try:
        return path.is_dir()
    except OSError:
        return False


def with_run_dir(config: RunConfig, run_dir: Path | None) -> RunConfig:
    """Return the configuration with `run_dir` as its output directory, if one is given."""
    if run_dir is None:
        return config
    output = config.output.model_copy(update={"directory": run_dir.absolute()})
    return config.model_copy(update={"output": output})


def parse_statuses(given: str) -> tuple[str, ...]:
    """Parse the value of `--retry`; raises UsageError."""
    statuses = tuple(status.strip() for status in given.split(",") if status.strip())
    for status in statuses:
        if status not in ("failed", "unparsed"):
            raise UsageError(f"--retry: {status!r} is not a status to retry; expected failed, unparsed or both")
    return statuses


def parse_seconds(option: str, given: str | None) -> float | None:
    """Parse the value of an option that is a duration, such as `--max-time`; raises UsageError."""
    if given is None:
        return None
    try:
        return parse_duration(given)
    except UsageError as error:
        raise UsageError(f"{option}: expected {error}") from None


def check_encoding(overrides: list[str]) -> list[str]:
    """Return the values of `--set`; raises UsageError for bytes that are no text in this locale."""
    for given in overrides:
        try:
            given.encode()
        except UnicodeEncodeError:
            encoding = sys.getfilesystemencoding()
            raise UsageError(f"--set: expected {encoding} text, as the locale says, found {given!a}") from None
    return overrides
