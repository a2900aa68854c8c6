"""`python -m runner.emulator`: the emulator alone, or as the child of a run."""

from __future__ import annotations

import argparse
import sys

import msgspec

from runner.emulator.http.server import serve, serve_embedded
from runner.emulator.options import EmulatorOptions


def main(arguments: list[str] | None = None) -> int:
    """Serve with the options of the command line; return 2 when they do not fit or the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m runner.emulator", description=__doc__)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--options-json", metavar="JSON", default="{}", help="serve until SIGINT or SIGTERM")
    chosen.add_argument("--embedded", metavar="JSON", help="serve until standard input ends; print the port as JSON")
    given = parser.parse_args(arguments)
    try:
        mapping = msgspec.json.decode(given.options_json if given.embedded is None else given.embedded)
        if not isinstance(mapping, dict):
            raise ValueError("the emulator's options are not a JSON object")
        options = EmulatorOptions.from_mapping(mapping)
        if given.embedded is None:
            serve(options, _announce)
        else:
            serve_embedded(options)
    except msgspec.DecodeError as error:
        return _refuse(f"the emulator's options are not valid JSON: {error}")
    except OSError as error:
        return _refuse(error.strerror or str(error))
    except ValueError as error:
        return _refuse(str(error))
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(f"{url}/v1\n")
    sys.stdout.flush()


def _refuse(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
