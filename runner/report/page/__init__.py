"""The page of a report: one HTML file, made from the summary alone.

`render` is the door. Each module makes what one part of the page shows; the templates only lay it out. Whatever comes
from a dataset or a judge is text to be escaped, which the templates' environment does everywhere.
"""

from __future__ import annotations

from runner.report.page.layout import render

__all__ = ["render"]
