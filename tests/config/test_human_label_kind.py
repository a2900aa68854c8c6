"""`human_label.kind` says what a label means; a map or a scale that contradicts it is refused."""

from __future__ import annotations

import pytest

HEAD = "judge: {}\ndataset: {path: a, human_label: "


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("{column: h, kind: label}", "human_label.kind"),
        ("{column: h, kind: winner, map: {good: 5}}", "with kind: winner, expected every value of map to be one of 1"),
        ("{column: h, kind: score, map: {a: 1, b: tie}}", "with kind: score, expected every value of map to be a num"),
        ("{column: h, kind: winner, scale: [1, 5]}", "a scale belongs to scores; with kind: winner, leave it out"),
        ("{column: h, kinds: winner}", "did you mean 'kind'?"),
    ],
)
def test_a_contradiction_is_refused(load_error, label, says):
    assert says in load_error(f"{HEAD}{label}}}\n")


@pytest.mark.parametrize(
    "label", ["{column: h, kind: winner, map: {a: 1, b: 2, c: tie}}", "{column: h, kind: score, scale: [1, 5]}"]
)
def test_both_kinds_are_accepted(load, label):
    assert load(f"{HEAD}{label}}}\n").dataset.human_label.kind in ("winner", "score")
