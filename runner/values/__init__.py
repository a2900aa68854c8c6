"""What the values of Arrow's types are: as a text or number that people read, and exactly, on their way to the results.

- `shown_values` is the form for prompts, labels, CSV and JSON lines: texts, numbers, booleans, lists and objects.
- `exact_values` is the form in which kept values go through rows and the journal. JSON holds it, and with the type
  `to_array` gives back the same Arrow values.
- `kept_type` is the type that results give a column.
"""

from __future__ import annotations

from runner.values.exact import exact_rows, exact_values, to_array
from runner.values.kinds import inner_types, is_as_shown, kept_type, repeated_name
from runner.values.shown import FIELD, Style, shown_rows, shown_values
from runner.values.walk import as_rows

__all__ = [
    "FIELD",
    "Style",
    "as_rows",
    "exact_rows",
    "exact_values",
    "inner_types",
    "is_as_shown",
    "kept_type",
    "repeated_name",
    "shown_rows",
    "shown_values",
    "to_array",
]
