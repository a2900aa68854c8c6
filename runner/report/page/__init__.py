"""The page of a report: one HTML file, made from the summary alone.

Other packages import only `render`. Each module here prepares the data of one part of the page, and the templates only
lay it out. All text that comes from a dataset or a judge is escaped by the templates' environment.
"""

from __future__ import annotations

from runner.report.page.layout import render

__all__ = ["render"]
