"""Render the page: build each section from the summary and lay it out with the templates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from runner.report.page import formatting, samples
from runner.report.page.agreement import agreement_section
from runner.report.page.consistency import judge_consistency, panel_section, position_overview
from runner.report.page.cost_and_time import cost_and_time
from runner.report.page.distributions import verdict_section
from runner.report.page.findings import findings
from runner.report.page.header import judge_rows, page_header
from runner.report.page.ranking import ranking_section

# Control characters, surrogates and noncharacters, which HTML does not allow; tab and newline are kept.
_INVALID = (
    set(range(32)) - {ord("\t"), ord("\n")} | set(range(127, 160)) | set(range(0xD800, 0xE000)) | {0xFFFE, 0xFFFF}
)
_REPLACEMENTS = dict.fromkeys(_INVALID, "\N{REPLACEMENT CHARACTER}") | {ord("\r"): ""}


def render(summary: Mapping[str, Any]) -> str:
    """Render the page of a summary, as returned by `summarize` or read from `summary.json`.

    The page is one self-contained file: it loads no other file and makes no network requests.
    """
    summary = _clean(summary)
    page = _environment().get_template("page.html.j2")
    return page.render(
        summary=summary,
        css=_text("page.css"),
        js=_text("page.js"),
        header=page_header(summary),
        judges=judge_rows(summary),
        findings=findings(summary),
        verdicts=verdict_section(summary),
        agreement=agreement_section(summary),
        consistency=judge_consistency(summary),
        positions=position_overview(summary),
        panel=panel_section(summary),
        ranking=ranking_section(summary),
        cost_and_time=cost_and_time(summary),
        causes=samples.causes(summary),
        rules=samples.rules(summary),
        disputed=samples.disputed_samples(summary),
        reasons=samples.REASONS,
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
    """Returns the content of a template, of the style sheet or of the script."""
    return files("runner.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _clean(value: Any) -> Any:
    """Returns the same data with characters replaced that HTML does not allow."""
    if isinstance(value, str):
        return value.translate(_REPLACEMENTS)
    if isinstance(value, Mapping):
        return {_clean(key): _clean(one) for key, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list | tuple) else value
