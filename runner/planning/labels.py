"""What the human labels mean, and which of them can be compared with no verdict."""

from __future__ import annotations

from collections import Counter

from runner.config import HumanLabel, JudgeConfig, RunConfig
from runner.core import nearest
from runner.dataset import LabelKind
from runner.types import Sample

_MAX_NAMED_LABELS = 3
_MAX_NAMED_KEYS = 6
_EXPECTED = {"winner": "1, 2 or tie", "score": "a number"}


def label_kind(config: RunConfig) -> LabelKind:
    """Return what a human label means: `human_label.kind`, else what the judges' verdicts are."""
    label = config.dataset.human_label
    if label is not None and label.kind is not None:
        return label.kind
    if any(judge.yields_winner for judge in config.judges):
        return "winner"
    return "score" if any(judge.yields_score for judge in config.judges) else "label"


class LabelCheck:
    """Collects the labels of the first samples, and says which of them cannot be compared with the verdicts."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._words: Counter[str] = Counter()
        self._winners = self._scores = self._rows = 0

    def add(self, sample: Sample) -> None:
        """Count the label of one sample."""
        if self._config.dataset.human_label is None:
            return
        self._rows += 1
        winner, score, word = (sample.columns.get(f"human_{kind}") for kind in ("winner", "score", "label"))
        self._winners += winner is not None
        self._scores += score is not None
        if word is not None:
            self._words[word] += 1

    def warnings(self) -> list[str]:
        """Return a line for each kind of label that no verdict can be compared with."""
        label, judges = self._config.dataset.human_label, self._config.judges
        if label is None or not self._rows:
            return []
        labelled = self._winners + self._scores + self._words.total()
        if not labelled:
            rows = "row has" if self._rows == 1 else f"{self._rows} rows have"
            where = f"the first {rows} no label in column {label.column!r}"
            return [f"human_label: {where}; nothing is compared with people"]
        found = []
        if self._words and not any(_yields_label(judge) for judge in judges):
            found.append(self._unknown_words(label, labelled))
        if self._winners and not any(judge.yields_winner for judge in judges):
            found.append(_wrong_kind(self._winners, labelled, "a winner (1, 2 or tie)", "names a winner", "score"))
        if self._scores and not any(judge.yields_single_score for judge in judges):
            found.append(_wrong_kind(self._scores, labelled, "a score", "gives an overall score", "winner"))
        return found

    def _unknown_words(self, label: HumanLabel, labelled: int) -> str:
        words = [word for word, _ in self._words.most_common(_MAX_NAMED_LABELS)]
        shown = ", ".join(f"'{word:.40}'" for word in words)
        if label.map is None:
            kind = label_kind(self._config)
            place = _EXPECTED[kind]
            hint = "; add a map such as {a: 1, b: 2, both: tie}" if kind == "winner" else "; add a map to numbers"
        else:
            keys = [key or "null" for key in label.map]
            more = ", ..." if len(keys) > _MAX_NAMED_KEYS else ""
            place = f"in map ({', '.join(keys[:_MAX_NAMED_KEYS])}{more})"
            guesses = [(word, guess) for word in words if (guess := _nearest(word, keys))]
            hint = f"; did you mean '{guesses[0][0]}' for '{guesses[0][1]}'?" if guesses else ""
        count = self._words.total()
        if count == labelled:
            labels = "the first label" if labelled == 1 else f"none of the first {labelled} labels"
            verb = "is not" if labelled == 1 else "is"
            return f"human_label: {labels} ({shown}) {verb} {place}; nothing is compared with people{hint}"
        are, they = ("is", "it is") if count == 1 else ("are", "they are")
        some = f"{count} of the first {labelled} labels ({shown}) {are} not {place}"
        return f"human_label: {some}; {they} not compared with people{hint}"


def _nearest(word: str, keys: list[str]) -> str | None:
    lower = {key.lower(): key for key in keys}
    guess = nearest(word.lower(), lower)
    return None if guess is None else lower[guess]


def _yields_label(judge: JudgeConfig) -> bool:
    return judge.verdict is not None and judge.verdict.kind == "label"


def _wrong_kind(count: int, labelled: int, what: str, does: str, other: str) -> str:
    labels = "the first label is" if labelled == 1 else f"{count} of the first {labelled} labels are"
    return (
        f"human_label: {labels} {what}, but no judge {does}; nothing is compared with them; "
        f"if they mean something else, set human_label.kind: {other}"
    )
