"""What must fit together across keys; each value alone is right by now."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from runner.config.exposed_secrets import SECRET_HEADER
from runner.config.judges import JudgeConfig, VerdictConfig
from runner.config.models import RunConfig
from runner.config.problems import KeyPath, Problem, nearest
from runner.config.services import Adaptive, ServiceConfig
from runner.core import COMPLETION_CAP_PARAMETERS

_OURS = {
    "model": "the model stands in judge.model",
    "messages": "the messages are made from the dataset",
    "stream": "answers are read whole",
    "n": "use judge.repeats",
}
_PAI_SCALE = (1.0, 5.0)


def misfits(config: RunConfig) -> Iterator[Problem]:
    """Find every pair of values that cannot be meant together."""
    for index, judge in enumerate(config.judges):
        yield from _judge(judge, ("judges", index))
        yield from _services_of(judge, ("judges", index), config)
    for index, service in enumerate(config.services):
        yield from _service(service, ("services", index))
    yield from _unique("judges", [judge.name for judge in config.judges])
    yield from _unique("services", [service.name for service in config.services])
    yield from _emulated(config)
    yield from _route(config)
    yield from _orders(config)
    yield from _budget(config)
    yield from _groups(config)


def _judge(judge: JudgeConfig, at: KeyPath) -> Iterator[Problem]:
    for key in judge.parameters:
        if key in _OURS:
            yield Problem((*at, "parameters", key), f"not a parameter to choose: {_OURS[key]}")
    if judge.kind == "template":
        yield from _template(judge, at)
    else:
        yield from _pai(judge, at)
    if judge.verdict is not None:
        yield from _verdict(judge.verdict, (*at, "verdict"))
        if judge.dimension is not None and not judge.verdict.yields_score:
            yield Problem((*at, "dimension"), "a dimension is a score, and this judge's verdict has none")


def _template(judge: JudgeConfig, at: KeyPath) -> Iterator[Problem]:
    for key, value in (("user", judge.user), ("verdict", judge.verdict)):
        if value is None:
            yield Problem(at, f"a template needs '{key}'")
    if judge.user is not None and not judge.user.strip():
        yield Problem((*at, "user"), "expected a text that is not empty")
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
    asked = judge.pai.get("max_score")
    if judge.scale is None:
        return
    top = f"{judge.scale[1]:g}"
    if asked is None and judge.scale != _PAI_SCALE:
        yield Problem(
            (*at, "scale"), f'PAI-Judge scores from 1 to 5 unless asked otherwise: add pai: {{max_score: "{top}"}}'
        )
    elif asked is not None and re.fullmatch(r"\d+(\.\d+)?", asked) and float(asked) != judge.scale[1]:
        yield Problem((*at, "scale"), f"the judge is asked for scores up to {asked} (pai.max_score), not {top}")


def _verdict(verdict: VerdictConfig, at: KeyPath) -> Iterator[Problem]:
    if (verdict.format is None) == (verdict.pattern is None):
        yield Problem(at, "expected either a format or a pattern")
        return
    if verdict.pattern is not None and verdict.kind is None:
        yield Problem(at, "a pattern needs 'kind': score, winner or label")
    if verdict.pattern is None and "pick" in verdict.model_fields_set:
        yield Problem((*at, "pick"), "only a pattern has 'pick'; a format knows its own place")
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
            guess = nearest(name, names)
            hint = f"did you mean '{guess}'?" if guess else f"there is: {', '.join(names)}"
            yield Problem((*at, "service"), f"no service is called '{name}'; {hint}")
    if not judge.service:
        yield Problem((*at, "service"), f"expected the name of a service; there is: {', '.join(names)}")
    if len(set(judge.service)) < len(judge.service):
        yield Problem((*at, "service"), "a service is named twice")


def _groups(config: RunConfig) -> Iterator[Problem]:
    dataset = config.dataset
    labels = () if dataset.human_label is None else ("human_winner", "human_score", "human_label")
    models = [name for name in ("model", "model1", "model2") if dataset.source_of(name) is not None]
    carried = [*labels, *models, *(item.name for item in dataset.keep)]
    for name in () if config.report is None else config.report.group_by:
        if name not in carried:
            guess = nearest(name, carried)
            hint = f"did you mean '{guess}'?" if guess else f"dataset: {{keep: [{name}]}} puts it there"
            yield Problem(("report", "group_by"), f"'{name}' is no column that the dataset gives the results; {hint}")


def _service(service: ServiceConfig, at: KeyPath) -> Iterator[Problem]:
    given = service.model_fields_set
    if service.token_file is not None and "token_env" in given and service.token_env is not None:
        yield Problem((*at, "token_file"), "expected either token_env or token_file, found both")
    private = [name for name in service.headers if SECRET_HEADER.search(name)]
    twice = [name for name in private if name.lower() == "authorization"]
    if twice and service.sends_token:
        yield Problem((*at, "headers", twice[0]), "set 'token_env: null' where the header is given here")
    open_wire = service.base_url.lower().startswith("http:") and not service.is_local and not service.allow_http
    if service.kind == "http" and open_wire and (service.sends_token or private):
        yield Problem(
            (*at, "base_url"),
            "a token would go over plain http to another host; use https, or set 'allow_http: true'",
        )
    concurrency = service.limits.concurrency
    if isinstance(concurrency, Adaptive) and concurrency.start > concurrency.max:
        yield Problem((*at, "limits", "concurrency"), f"start ({concurrency.start}) is above max ({concurrency.max})")


def _unique(section: str, names: list[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem((section, index, "name"), f"two {section} are called '{name}'; give each its own 'name'")


def _emulated(config: RunConfig) -> Iterator[Problem]:
    kinds = {service.kind for service in config.services}
    if len(kinds) > 1:
        yield Problem(("services",), "emulated and real answers do not mix: all of kind emulator, or none")


def _route(config: RunConfig) -> Iterator[Problem]:
    without = {service.name for service in config.services if service.batch is False}
    for judge in config.judges:
        if config.router.mode == "batch" and judge.service and without.issuperset(judge.service):
            names = ", ".join(f"'{name}'" for name in judge.service)
            said = (
                f"the service {names} takes no batches: its 'batch' is false"
                if len(judge.service) == 1
                else f"the services {names} take no batches: their 'batch' is false"
            )
            yield Problem(("router", "mode"), said)
            return


def _orders(config: RunConfig) -> Iterator[Problem]:
    retry, poll = config.online.retry, config.batch.poll
    if retry.base > retry.ceiling:
        yield Problem(("online", "retry"), f"base ({retry.base:g} s) is above ceiling ({retry.ceiling:g} s)")
    if poll.first > poll.ceiling:
        yield Problem(("batch", "poll"), f"first ({poll.first:g} s) is above ceiling ({poll.ceiling:g} s)")


def _budget(config: RunConfig) -> Iterator[Problem]:
    budget = config.budget
    priced = config.prices.models if config.prices is not None else {}
    needs: list[tuple[bool, str, Callable[[JudgeConfig], bool], str]] = [
        (budget.cost is not None, "cost", _has_bound, "parameters.max_tokens"),
        (budget.tokens is not None, "tokens", _has_bound, "parameters.max_tokens"),
        (budget.cost is not None, "cost", lambda judge: judge.model in priced, "its model's price under 'prices'"),
    ]
    for capped, key, has, what in needs:
        for judge in config.judges if capped else ():
            if not has(judge):
                yield Problem(("budget", key), f"this cap needs, for the judge '{judge.name}', {what}")


def _has_bound(judge: JudgeConfig) -> bool:
    """Whether the length of its answers has a bound; some services know it by the newer name only."""
    given = [judge.parameters[name] for name in COMPLETION_CAP_PARAMETERS if name in judge.parameters]
    return bool(given) and all(type(most) is int and most > 0 for most in given)
