"""Findings about the rows: what could be read, which labels can be compared, and on which scale scores are."""

from __future__ import annotations

from collections.abc import Iterator

from runner.model_names import model_notes
from runner.report.page import formatting
from runner.report.page.figures import Data
from runner.report.page.finding import Finding

_MANY_UNREAD_SHARE = 0.05
_KINDS = (
    ("winner", "a winner", "names a winner", "score"),
    ("score", "a score", "gives an overall score", "winner"),
)


def verdicts(summary: Data) -> Iterator[Finding]:
    """Says how many rows have a verdict."""
    rows = summary["counts"]["all"]
    n, unread = rows["rows"], rows["unparsed"] + rows["failed"]
    if rows["ok"] == 0:
        yield Finding("nothing_read", "warn", f"No verdict could be read ({formatting.plural(n, 'row')}).")
    elif unread == 0:
        text = "The only row has a readable verdict." if n == 1 else f"All {n:,} rows have a readable verdict."
        yield Finding("all_read", "good", text)
    else:
        parts = f"{rows['unparsed']:,} not readable, {rows['failed']:,} failed"
        text = (
            f"{formatting.share(unread / n)} of the rows have no verdict ({parts}). They are excluded from all averages"
        )
        many = unread / n >= _MANY_UNREAD_SHARE
        more = "; if they differ from the other rows, the figures below describe only the other rows." if many else "."
        yield Finding("some_unread", "warn" if many else "note", text + more)


def models(summary: Data) -> Iterator[Finding]:
    """Says if another model than asked for answered."""
    asked = {judge["name"]: judge["models"][0] for judge in summary["judges"] if judge["models"]}
    served: dict[str, dict[str, int]] = {}
    for one in summary["served"]:
        served.setdefault(one["judge"], {})[one["model"]] = one["rows"]
    for note in model_notes(asked, served):
        yield Finding("served_model", "warn", note)


def labels(summary: Data) -> Iterator[Finding]:
    """Warns of human labels that no verdict can be compared with."""
    counts, judges = summary["labels"], summary["judges"]
    if not counts:
        return
    labelled = sum(counts.values())
    if not labelled:
        text = "No sample has a human label, so nothing is compared with people. Check the column of human_label."
        yield Finding("labels_missing", "warn", text)
        return
    read = summary["counts"]["all"]["ok"] > 0
    gives = {key: any(judge[f"{key}s"] for judge in judges) for key in ("winner", "score", "label")}
    words = counts.get("human_label", 0)
    if words and not gives["label"] and read:
        shown = formatting.listed([f"“{word}”" for word in summary["label_words"]], 3)
        wanted = "1, 2 or tie" if gives["winner"] else "numbers"
        text = (
            f"{words:,} of {labelled:,} human labels cannot be compared with the verdicts ({shown}): the judges need "
            f"{wanted}. Name these labels in human_label.map."
        )
        yield Finding("labels_not_compared", "warn", text)
    for key, what, does, other in _KINDS:
        n = counts.get(f"human_{key}", 0)
        if n and not gives[key] and read:
            text = (
                f"Human labels that mean {what} ({n:,} of {labelled:,}) are not compared: no judge {does}. "
                f"If they mean something else, set human_label.kind: {other}."
            )
            yield Finding("labels_of_other_kind", "warn", text)


def unused_groups(summary: Data) -> Iterator[Finding]:
    """Warns of grouping columns without any value."""
    for group in summary["settings"]["groups"]:
        if all(value is None for value in group["values"]):
            yield Finding(
                "group_empty", "warn", f"report.group_by: the column {group['column']} has no value in any row."
            )


def scales(summary: Data) -> Iterator[Finding]:
    """Says how the scores of judges on different scales were combined."""
    settings = summary["settings"]
    known = settings["scales"]["judges"]
    spans = {judge["name"]: known[judge["name"]] for judge in summary["judges"] if judge["name"] in known}
    shown = ", ".join(
        f"{name}: {formatting.plain(low)} to {formatting.plain(high)}" for name, (low, high) in spans.items()
    )
    if settings["positions"]:
        text = (
            f"The judges use different scales ({shown}). Combined scores are positions on each judge's own scale, "
            "from 0 (lowest) to 1 (highest)."
        )
        yield Finding("positions", "note", text)
    elif settings["mixed_raw"]:
        text = (
            f"The judges use different scales ({shown}), and samples.parquet holds means of their raw scores, which "
            "this report leaves out. `judge-runner rescore` writes positions on each judge's own scale instead."
        )
        yield Finding("raw_scales_mixed", "warn", text)
