"""Key findings: a few sentences that rules derive from the numbers, most important first."""

from __future__ import annotations

from runner.report.page.figures import Data
from runner.report.page.finding import Finding
from runner.report.page.findings_about_judges import contradictions, leader, panel, position, repeats
from runner.report.page.findings_about_people import agreement, groups, judges, mistakes, undecided
from runner.report.page.findings_about_rows import labels, models, scales, unused_groups, verdicts

MAX_FINDINGS = 8

_RULES = (
    *(verdicts, models, labels, unused_groups, scales),
    *(position, agreement, undecided, judges, mistakes, groups),
    *(panel, repeats, contradictions, leader),
)


def findings(summary: Data) -> list[Finding]:
    """Returns what a reader should know first, at most `MAX_FINDINGS` findings: the last ones give way to warnings."""
    if not summary["counts"]["all"]["rows"]:
        where = " in Parquet parts" if summary["settings"]["journal_rows"] is None else ""
        return [Finding("no_rows", "warn", f"There are no rows{where} yet.")]
    found = [finding for rule in _RULES for finding in rule(summary)]
    for finding in reversed(found):
        if len(found) > MAX_FINDINGS and finding.tone != "warn":
            found.remove(finding)
    return found[:MAX_FINDINGS]
