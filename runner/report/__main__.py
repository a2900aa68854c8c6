"""`python -m runner.report OPTIONS`: the report as a separate program. OPTIONS is a JSON object, see `Options`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from runner.report.data.tables import ReportError
from runner.report.models import Scales, Span
from runner.report.write import write_report


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of `write_report`; `summarize` describes them. `journal` is empty if the journal has no rows."""

    run_dir: str
    group_by: Sequence[str] = ()
    human_scale: Span | None = None
    judge_scales: Mapping[str, Span] = {}
    journal: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Write the report. Returns 0, or 2 with the reason on standard error if it cannot be written."""
    try:
        # `json`, unlike msgspec, decodes the names of folders that are not UTF-8.
        options = msgspec.convert(json.loads(arguments[0]), Options)
        scales = Scales(human=options.human_scale, judges=options.judge_scales)
        write_report(Path(options.run_dir), options.group_by, scales, options.journal)
    except (ReportError, msgspec.ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
