"""A key finding, and the kinds of findings that there are."""

from __future__ import annotations

import msgspec

from runner.report.page import formatting
from runner.report.page.figures import SHARE, Data

# Every kind of finding. A test holds each against a run that must have it and one that must not.
KINDS = (
    *("no_rows", "nothing_read", "all_read", "some_unread", "served_model"),
    *("labels_missing", "labels_not_compared", "labels_of_other_kind", "group_empty", "positions", "raw_scales_mixed"),
    *("one_order", "one_order_so_far", "orders_unread", "orders_few", "no_bias", "bias"),
    *("not_comparable", "beyond_chance_untested", "no_better_than_chance", "not_significantly_better"),
    *("better_than_chance", "less_than_chance", "score_untested", "score_unrelated", "score_rises", "score_falls"),
    *("undecided", "judges_differ", "judges_alike", "judge_below_chance", "mistake", "groups_differ"),
    *("panel_agrees", "panel_uncertain", "panel_disagrees", "repeats", "contradictions"),
    *("leader_certain", "leader_uncertain", "leader_shared"),
)


class Finding(msgspec.Struct, frozen=True):
    """One or two sentences; `tone` is `warn`, `good` or `note`."""

    kind: str
    tone: str
    text: str


def with_interval(figure: Data) -> str:
    """Returns a share with its interval, if it has one."""
    value = SHARE.write(figure["value"])
    if figure["low"] is None:
        return value
    return f"{value} ({SHARE.write(figure['low'])} to {SHARE.write(figure['high'])})"


def number_with_interval(figure: Data) -> str:
    """Returns a coefficient with its interval, if it has one."""
    if figure["low"] is None:
        return formatting.number(figure["value"])
    value, low, high = (formatting.number(figure[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"
