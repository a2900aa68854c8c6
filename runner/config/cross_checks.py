"""Checks across keys. Each value is valid on its own by the time these run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from runner.config.judges import JudgeConfig, VerdictConfig
from runner.config.models import RunConfig
from runner.config.problems import KeyPath, Problem
from runner.config.services import Adaptive, ServiceConfig
from runner.core import COMPLETION_CAP_PARAMETERS, nearest
from runner.types import LABEL_COLUMNS, MODEL_COLUMNS

# Request parameters that judge-runner sets itself.
_RESERVED_PARAMETERS = {
    "model": "set judge.model instead",
    "messages": "the messages are made from the dataset",
    "stream": "set 'stream: true' of the service instead",
    "n": "use judge.repeats",
}
_PAI_SCALE = (1.0, 5.0)  # of scores, unless pai.max_score changes it


def find_conflicts(config: RunConfig) -> Iterator[Problem]:
    """Yield a problem for every combination of values that contradict each other."""
    for index, judge in enumerate(config.judges):
        yield from _judge(judge, ("judges", index))
        yield from _services_of(judge, ("judges", index), config)
    for index, service in enumerate(config.services):
        yield from _service(service, ("services", index))
    yield from _unique("judges", [judge.name for judge in config.judges])
    yield from _unique("services", [service.name for service in config.services])
    yield from _one_kind_of_service(config)
    yield from _route(config)
    yield from _minimum_below_maximum(config)
    yield from _budget(config)
    yield from _report_groups(config)


def _judge(judge: JudgeConfig, at: KeyPath) -> Iterator[Problem]:
    for key in judge.parameters:
        if key in _RESERVED_PARAMETERS:
            yield Problem((*at, "parameters", key), f"cannot be set here: {_RESERVED_PARAMETERS[key]}")
    if judge.kind == "template":
        yield from _template(judge, at)
    else:
        yield from _pai(judge, at)
    if judge.verdict is not None:
        yield from _verdict(judge.verdict, (*at, "verdict"))
        if judge.dimension is not None and not judge.verdict.yields_score:
            yield Problem((*at, "dimension"), "a dimension needs a score, and this judge's verdict has none")


def _template(judge: JudgeConfig, at: KeyPath) -> Iterator[Problem]:
    for key, value in (("user", judge.user), ("verdict", judge.verdict)):
        if value is None:
            yield Problem(at, f"a template needs '{key}'")
    if judge.user is not None and not judge.user.strip():
        yield Problem((*at, "user"), "expected a non-empty text")
    if judge.swap and judge.verdict is not None and not judge.verdict.yields_winner:
        yield Problem((*at, "swap"), "swapping the answers needs a verdict that names a winner")
    if judge.pai:
        yield Problem((*at, "pai"), "only a judge of kind pai_single or pai_pairwise sends these fields")


def _pai(judge: JudgeConfig, at: KeyPath) -> Iterator[Problem]:
    for key in ("system", "user", "verdict"):
        if getattr(judge, key) is not None:
            yield Problem((*at, key), f"only a judge of kind template has '{key}'; this one is {judge.kind}")
    if judge.swap and judge.kind == "pai_single":
        yield Problem((*at, "swap"), "there is only one answer; swap needs kind pai_pairwise or template")
    max_score = judge.pai.get("max_score")
    if judge.scale is None:
        return
    top = f"{judge.scale[1]:g}"
    if max_score is None and judge.scale != _PAI_SCALE:
        yield Problem(
            (*at, "scale"),
            f'PAI-Judge scores from 1 to 5 by default; for another scale add pai: {{max_score: "{top}"}}',
        )
    elif max_score is not None and re.fullmatch(r"\d+(\.\d+)?", max_score) and float(max_score) != judge.scale[1]:
        yield Problem((*at, "scale"), f"the request asks for scores up to {max_score} (pai.max_score), not {top}")


def _verdict(verdict: VerdictConfig, at: KeyPath) -> Iterator[Problem]:
    if (verdict.format is None) == (verdict.pattern is None):
        yield Problem(at, "expected either a format or a pattern")
        return
    if verdict.pattern is not None and verdict.kind is None:
        yield Problem(at, "a pattern needs 'kind': score, winner or label")
    if verdict.pattern is None and "pick" in verdict.model_fields_set:
        yield Problem((*at, "pick"), "only a pattern has 'pick'; a format finds the verdict itself")
    if verdict.pattern is None and verdict.kind is not None:
        yield Problem((*at, "kind"), "only a pattern has 'kind'")
    if verdict.format != "json":
        for key in ("score", "winner", "dimensions", "explanation"):
            if getattr(verdict, key) is not None:
                yield Problem((*at, key), f"only format: json has '{key}'")
    elif verdict.score is None and verdict.winner is None:
        yield Problem(at, "format: json needs the key of the 'score', of the 'winner', or both")
    yield from _map(verdict, at)


def _map(verdict: VerdictConfig, at: KeyPath) -> Iterator[Problem]:
    if verdict.map is None:
        return
    if verdict.kind not in ("winner", "label") and verdict.winner is None:
        yield Problem((*at, "map"), "a map needs a verdict that yields a winner or a label")
    elif verdict.kind != "label":
        for word, meaning in verdict.map.items():
            if meaning not in ("1", "2", "tie"):
                yield Problem((*at, "map", word), f"expected one of: 1, 2, tie, found '{meaning}'")


def _services_of(judge: JudgeConfig, at: KeyPath, config: RunConfig) -> Iterator[Problem]:
    names = [service.name for service in config.services]
    for name in judge.service:
        if name not in names:
            guess = nearest(name.lower(), names)
            hint = f"did you mean '{guess}'?" if guess else f"known services: {', '.join(names)}"
            yield Problem((*at, "service"), f"no service is called '{name}'; {hint}")
    if not judge.service:
        yield Problem((*at, "service"), f"expected the name of a service; known services: {', '.join(names)}")
    if len(set(judge.service)) < len(judge.service):
        yield Problem((*at, "service"), "the same service is listed twice")


def _report_groups(config: RunConfig) -> Iterator[Problem]:
    dataset = config.dataset
    labels = () if dataset.human_label is None else LABEL_COLUMNS
    models = [name for name in MODEL_COLUMNS if dataset.source_of(name) is not None]
    columns = [*labels, *models, *(item.name for item in dataset.keep)]
    for name in () if config.report is None else config.report.group_by:
        if name not in columns:
            guess = nearest(name.lower(), columns)
            hint = f"did you mean '{guess}'?" if guess else f"add it with dataset: {{keep: [{name}]}}"
            yield Problem(("report", "group_by"), f"'{name}' is not a dataset column of the results; {hint}")


def _service(service: ServiceConfig, at: KeyPath) -> Iterator[Problem]:
    given = service.model_fields_set
    if service.token_file is not None and "token_env" in given and service.token_env is not None:
        yield Problem((*at, "token_file"), "expected either token_env or token_file, found both")
    authorization = [name for name in service.headers if name.lower() == "authorization"]
    if authorization and service.sends_token:
        yield Problem((*at, "headers", authorization[0]), "set 'token_env: null' if you set this header here")
    for key, proxy in (("base_url", None), ("proxy", service.proxy)):
        problem = service.clear_text_problem(service.base_url, proxy)
        if problem is not None:
            yield Problem((*at, key), problem)
            break
    if service.client_key is not None and service.client_cert is None:
        yield Problem((*at, "client_key"), "expected the certificate of this key, too: set 'client_cert'")
    concurrency = service.limits.concurrency
    if isinstance(concurrency, Adaptive) and concurrency.start > concurrency.max:
        yield Problem((*at, "limits", "concurrency"), f"start ({concurrency.start}) is above max ({concurrency.max})")


def _unique(section: str, names: list[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem((section, index, "name"), f"two {section} have the name '{name}'; give each its own 'name'")


def _one_kind_of_service(config: RunConfig) -> Iterator[Problem]:
    kinds = {service.kind for service in config.services}
    if len(kinds) > 1:
        yield Problem(
            ("services",), "emulated and real services cannot be mixed: either all or none have kind emulator"
        )


def _route(config: RunConfig) -> Iterator[Problem]:
    without = {service.name for service in config.services if service.batch is False}
    for judge in config.judges:
        if config.router.mode == "batch" and judge.service and without.issuperset(judge.service):
            names = ", ".join(f"'{name}'" for name in judge.service)
            message = (
                f"the service {names} does not accept batches: its 'batch' is false"
                if len(judge.service) == 1
                else f"the services {names} do not accept batches: their 'batch' is false"
            )
            yield Problem(("router", "mode"), message)
            return


def _minimum_below_maximum(config: RunConfig) -> Iterator[Problem]:
    retry, poll = config.online.retry, config.batch.poll
    if retry.base > retry.ceiling:
        yield Problem(("online", "retry"), f"base ({retry.base:g} s) is above ceiling ({retry.ceiling:g} s)")
    if poll.first > poll.ceiling:
        yield Problem(("batch", "poll"), f"first ({poll.first:g} s) is above ceiling ({poll.ceiling:g} s)")


def _budget(config: RunConfig) -> Iterator[Problem]:
    budget = config.budget
    priced = config.prices.models if config.prices is not None else {}
    requirements: list[tuple[bool, str, Callable[[JudgeConfig], bool], str]] = [
        (budget.cost is not None, "cost", _has_bound, "parameters.max_tokens"),
        (budget.tokens is not None, "tokens", _has_bound, "parameters.max_tokens"),
        (budget.cost is not None, "cost", lambda judge: judge.model in priced, "a price for its model under 'prices'"),
    ]
    for is_set, key, is_met, what in requirements:
        for judge in config.judges if is_set else ():
            if not is_met(judge):
                yield Problem(("budget", key), f"for this limit, the judge '{judge.name}' needs {what}")


def _has_bound(judge: JudgeConfig) -> bool:
    """Returns True if the judge limits the length of answers; some services accept only the newer parameter name."""
    given = [judge.parameters[name] for name in COMPLETION_CAP_PARAMETERS if name in judge.parameters]
    return bool(given) and all(type(limit) is int and limit > 0 for limit in given)
