"""`python -m runner.emulator`: run the emulator on its own, or as the child process of a run."""

from __future__ import annotations

import argparse
import sys

import msgspec

from runner.emulator.http.server import serve, serve_embedded
from runner.emulator.options import EmulatorOptions


def main(arguments: list[str] | None = None) -> int:
    """Serve with the options of the command line.

    Returns:
        The exit code: 2 if the options are invalid or the emulator cannot listen, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m runner.emulator", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--options-json", metavar="JSON", default="{}", help="serve until SIGINT or SIGTERM")
    mode.add_argument("--embedded", metavar="JSON", help="serve until standard input closes; print the port as JSON")
    parsed = parser.parse_args(arguments)
    embedded = parsed.embedded is not None
    try:
        mapping = msgspec.json.decode(parsed.embedded if embedded else parsed.options_json)
        if not isinstance(mapping, dict):
            raise ValueError("the emulator's options are not a JSON object")
        options = EmulatorOptions.from_mapping(mapping)
        if embedded:
            serve_embedded(options)
        else:
            serve(options, _print_address)
    except msgspec.DecodeError as error:
        return _fail(f"the emulator's options are not valid JSON: {error}")
    except OSError as error:
        return _fail(error.strerror or str(error))
    except ValueError as error:
        return _fail(str(error))
    return 0


def _print_address(url: str) -> None:
    sys.stdout.write(f"{url}/v1\n")
    sys.stdout.flush()


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
