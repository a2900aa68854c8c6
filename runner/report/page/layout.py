"""The page from the summary: every part's view, laid out by the templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from runner.report.page import distributions, formatting, samples
from runner.report.page.agreement import against
from runner.report.page.consistency import panel, places, steady
from runner.report.page.cost_and_time import effort
from runner.report.page.findings import findings
from runner.report.page.header import judges, top
from runner.report.page.ranking import ranking

_BAD = set(range(32)) - {ord("\t"), ord("\n")} | set(range(127, 160)) | set(range(0xD800, 0xE000)) | {0xFFFE, 0xFFFF}
_CONTROLS = dict.fromkeys(_BAD, "\N{REPLACEMENT CHARACTER}") | {ord("\r"): ""}


def render(summary: Mapping[str, Any]) -> str:
    """Make the whole page of a summary, as `summarize` gives it or `summary.json` keeps it.

    The page is one file: it needs no other one, and asks no network for anything.
    """
    summary = _clean(summary)
    page = _environment().get_template("page.html.j2")
    return page.render(
        summary=summary,
        css=_text("page.css"),
        js=_text("page.js"),
        top=top(summary),
        judges=judges(summary),
        findings=findings(summary),
        falls=distributions.falls(summary),
        against=against(summary),
        steady=steady(summary),
        places=places(summary),
        panel=panel(summary),
        ranking=ranking(summary),
        effort=effort(summary),
        causes=samples.causes(summary),
        rules=samples.rules(summary),
        cases=samples.cases(summary),
        why=samples.WHY,
    )


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(whole=formatting.whole, share=formatting.share, plural=formatting.plural)
    return environment


def _text(name: str) -> str:
    """A template, the style or the script, as the package keeps it."""
    return files("runner.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _clean(value: Any) -> Any:
    """The same data, without characters that HTML does not allow."""
    if isinstance(value, str):
        return value.translate(_CONTROLS)
    if isinstance(value, Mapping):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value
