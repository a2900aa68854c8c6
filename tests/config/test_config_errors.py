"""Every mistake in a configuration gives a message with line, key, the value found and what is expected."""

from __future__ import annotations

import re

import pytest

from runner.config import load_config
from runner.errors import ConfigError

HEAD = "dataset:\n  path: a.jsonl\n"
JUDGE = "judge: {}\n"
TEMPLATE = "judge:\n  kind: template\n"

BAD = [
    # keys
    (
        HEAD + JUDGE + "service:\n  limits:\n    rmp: 3\n",
        "judge.yaml:6: service.limits.rmp: unknown key; did you mean 'rpm'?",
    ),
    (HEAD + JUDGE + "ruoter: {}\n", "judge.yaml:4: ruoter: unknown key; did you mean 'router'?"),
    (HEAD + JUDGE + "judgs: {}\n", "judge.yaml:4: judgs: unknown key; did you mean 'judges'?"),
    (HEAD + JUDGE + "x: {}\n", "judge.yaml:4: x: unknown key; expected one of: name, tags, dataset, judge,"),
    (HEAD + "judge:\n  modle: x\n", "judge.yaml:4: judge.modle: unknown key; did you mean 'model'?"),
    (HEAD + "judges:\n  - repeat: 2\n", "judge.yaml:4: judges.0.repeat: unknown key; did you mean 'repeats'?"),
    (
        HEAD + JUDGE + "prices: {models: {m: {inptu: 1, output: 2}}}\n",
        "prices.models.m.inptu: unknown key; did you mean 'input'?",
    ),
    (
        HEAD + JUDGE + "service: {limits: {concurrency: {mx: 3}}}\n",
        "service.limits.concurrency.mx: unknown key; did you mean 'max'?",
    ),
    (HEAD + JUDGE + JUDGE, "judge.yaml:4: judge: the same key is already at "),
    (
        HEAD + "judge:\n  model: a\n  kind: pai_single\n  model: b\n",
        "judge.yaml:6: judge.model: the same key is already",
    ),
    (HEAD + JUDGE + "judges: []\n", "judge.yaml:3: judge: expected either 'judge' or 'judges', found both"),
    (
        HEAD + JUDGE + "service: {}\nservices: [{}]\n",
        "judge.yaml:4: service: expected either 'service' or 'services', found both",
    ),
    (HEAD, "judge.yaml:1: judge: is missing; it is required"),
    (JUDGE, "judge.yaml:1: dataset: is missing; it is required"),
    ("dataset: {format: csv}\njudge: {}\n", "judge.yaml:1: dataset.path: is missing; it is required"),
    (HEAD + "judges: []\n", "judge.yaml:3: judges: expected at least one entry, found none"),
    (
        HEAD + "judge: [{}]\n",
        "judge.yaml:3: judge: expected a mapping, found a list; put a list of judges under 'judges'",
    ),
    (HEAD + "judges: {}\n", "judge.yaml:3: judges: expected a list, found a mapping"),
    (HEAD + "judge: {? [a] : 1}\n", "judge.yaml:3: judge: a key must be a text"),
    # kinds of value
    (
        HEAD + "judge:\n  repeats: two\n",
        "judge.yaml:4: judge.repeats: expected a whole number of at least 1, found 'two'",
    ),
    (HEAD + "judge:\n  repeats: 0\n", "judge.yaml:4: judge.repeats: expected a whole number of at least 1, found 0"),
    (HEAD + "judge:\n  repeats: 1.5\n", "expected a whole number of at least 1, found 1.5"),
    (HEAD + "judge:\n  repeats: true\n", "expected a whole number of at least 1, found true"),
    (HEAD + "judge:\n  reask: -1\n", "judge.reask: expected a whole number of at least 0, found -1"),
    (HEAD + "judge:\n  swap: maybe\n", "judge.swap: expected true or false, found 'maybe'"),
    (HEAD + "judge:\n  model: true\n", "judge.model: expected a text, found true"),
    (HEAD + "judge:\n  model: ' '\n", "judge.model: expected a non-empty text"),
    (
        HEAD + "judge:\n  kind: pai_sinlge\n",
        "expected one of: pai_single, pai_pairwise, template, found 'pai_sinlge'; did you mean 'pai_single'?",
    ),
    (HEAD + "judge:\n  name: a b\n", "judge.name: expected a name of letters, digits, '_', '.' and '-', found 'a b'"),
    (
        HEAD + "judge:\n  scale: [5, 1]\n",
        "judge.scale: expected two numbers, the lower first, such as [1, 5], found [5, 1]",
    ),
    (HEAD + "judge:\n  parameters: {stop: .nan}\n", "judge.parameters: it contains .nan or .inf"),
    (HEAD + "judge:\n  pai: {scene: [a]}\n", "judge.pai.scene: expected a text, found a list"),
    (
        HEAD + JUDGE + "router:\n  online_within: 5x\n",
        "judge.yaml:5: router.online_within: expected a duration such as 30, 30s, 5m or 6h, found '5x'",
    ),
    (HEAD + JUDGE + "service: {timeout: {total: 0}}\n", "service.timeout.total: expected a duration above 0, found 0"),
    (HEAD + JUDGE + "service: {timeout: 60}\n", "service.timeout: expected a mapping, found 60"),
    (
        HEAD + JUDGE + "service: {limits: {rpm: 0}}\n",
        "service.limits.rpm: expected a whole number of at least 1, found 0",
    ),
    (
        HEAD + JUDGE + "service: {limits: {tpm: x}}\n",
        "service.limits.tpm: expected a whole number of at least 1, {input: N, output: N} or null",
    ),
    (HEAD + JUDGE + "service: {limits: {tpm: {input: 3}}}\n", "service.limits.tpm.output: is missing"),
    (
        HEAD + JUDGE + "service: {limits: {concurrency: 0}}\n",
        "service.limits.concurrency: expected a whole number of at least 1, or {start: N, max: N}, found 0",
    ),
    (
        HEAD + JUDGE + "service: {limits: {concurrency: {start: 9, max: 8}}}\n",
        "service.limits.concurrency: start (9) is above max (8)",
    ),
    (HEAD + JUDGE + "service: {batch: perhaps}\n", "service.batch: expected auto, true or false, found 'perhaps'"),
    (
        HEAD + JUDGE + "service: {base_url: ftp://host/v1}\n",
        "service.base_url: expected an address such as https://host/v1",
    ),
    (HEAD + JUDGE + "service: {base_url: 'https://host:port/v1'}\n", "service.base_url: expected an address such as"),
    (
        HEAD + JUDGE + "service: {base_url: 'https://host/v1?a=b'}\n",
        "service.base_url: expected an address without '?' or '#'; put what follows '?' under 'query'",
    ),
    (HEAD + JUDGE + "service: {base_url: https://host/v1/chat/completions/}\n", "without /chat/completions"),
    (HEAD + JUDGE + "service: {base_url: https://host/v1/responses}\n", "without /responses"),
    (HEAD + JUDGE + "service: {client_key: k.pem}\n", "service.client_key: expected the certificate of this key, too"),
    (HEAD + JUDGE + "service: {query: {a: true}}\n", "service.query.a: expected a text"),
    (HEAD + JUDGE + "service: {stream: maybe}\n", "service.stream: expected true or false, found 'maybe'"),
    (HEAD + JUDGE + "service: {headers: {'a b': c}}\n", "service.headers: the name of a header may contain only"),
    (HEAD + JUDGE + 'service: {headers: {a: "b\\nc"}}\n', "service.headers: the header a contains a line break"),
    (HEAD + JUDGE + "service: {proxy: host:3128}\n", "service.proxy: expected an address such as http://host:3128"),
    (HEAD + JUDGE + "output: {tolerate: 1.5}\n", "output.tolerate: expected a number from 0 to 1, found 1.5"),
    (HEAD + JUDGE + "output: {compression: zip}\n", "output.compression: expected one of: zstd, snappy"),
    (HEAD + JUDGE + "breaker: {share: 0}\n", "breaker.share: expected a number above 0 and at most 1, found 0"),
    (HEAD + JUDGE + "batch: {shard_mb: 0}\n", "batch.shard_mb: expected a number above 0, found 0"),
    (HEAD + JUDGE + "batch: {poll: {first: 61}}\n", "batch.poll: first (61 s) is above ceiling (60 s)"),
    (HEAD + JUDGE + "online: {retry: {base: 1m}}\n", "online.retry: base (60 s) is above ceiling (30 s)"),
    (HEAD + JUDGE + "prices: {currency: CNY}\n", "prices.models: is missing"),
    (
        HEAD + JUDGE + "prices: {models: {m: {input: 1, output: 2, cached: 3}}}\n",
        "prices.models.m: expected `cached` to be at most `input`, 1, found 3",
    ),
    (
        HEAD + JUDGE + "prices: {models: {m: {input: 1, output: 2, cached_input: 3}}}\n",
        "prices.models.m.cached_input: unknown key; did you mean 'cached'?",
    ),
    (
        HEAD + JUDGE + "prices: {models: {m: {input: -1, output: 1}}}\n",
        "prices.models.m.input: expected a number of at least 0, found -1",
    ),
    (
        HEAD + JUDGE + "monitor: {listen: '8701'}\n",
        "monitor.listen: expected host:port, such as 127.0.0.1:8701, found '8701'",
    ),
    (HEAD + JUDGE + "name: a/b\n", "judge.yaml:4: name: expected a valid folder name"),
    # dataset
    ("dataset: {path: ''}\njudge: {}\n", "dataset.path: expected a non-empty text"),
    (
        "dataset: {path: 'http://x/a'}\njudge: {}\n",
        "dataset.path: expected a file, a directory, a glob, hf://... or s3://...",
    ),
    (
        HEAD + "  fields: {id: {valeu: 1}}\n" + JUDGE,
        "dataset.fields.id: expected a column, or {value: ...} for a constant, found a mapping",
    ),
    (
        HEAD + "  keep: [a.score]\n" + JUDGE,
        "judge.yaml:3: dataset.keep: 'score' is a column of the results; keep it under another name: {my_score: a.s",
    ),
    (HEAD + "  keep: [a.x, b.x]\n" + JUDGE, "dataset.keep: two columns are kept as 'x'"),
    (HEAD + "  keep: {x: {column: c, type: int46}}\n" + JUDGE, "dataset.keep.type: expected one of: string, bool"),
    (HEAD + "  keep: {x: {column: c, name: y}}\n" + JUDGE, "dataset.keep: the name is the key"),
    (HEAD + "  keep: [{x: y}]\n" + JUDGE, "dataset.keep: expected a column in the list"),
    (HEAD + "  keep: {x: []}\n" + JUDGE, "dataset.keep: expected a column, or {column: ..., type: ...} for 'x'"),
    (
        HEAD + "  keep: category\n" + JUDGE,
        "dataset.keep: expected a list of columns, or {name: column}, found 'category'",
    ),
    (HEAD + "  human_label: {map: {}}\n" + JUDGE, "dataset.human_label.column: is missing"),
    (
        HEAD + "  human_label: []\n" + JUDGE,
        "dataset.human_label: expected a column, or {column: ..., map: ..., scale: ..., kind: ...}",
    ),
    (
        HEAD + "  human_label: {column: c, map: {a: 1, b: win}}\n" + JUDGE,
        "dataset.human_label.map: expected every value to be one of 1, 2, tie",
    ),
    # judges and services together
    (HEAD + "judges: [{name: a}, {name: a}]\n", "judges.1.name: two judges have the name 'a'"),
    (HEAD + JUDGE + "services: [{}, {}]\n", "services.1.name: two services have the name 'default'"),
    (
        HEAD + "judge: {service: prdo}\nservice: {name: prod}\n",
        "judge.yaml:3: judge.service: no service is called 'prdo'; did you mean 'prod'?",
    ),
    (
        HEAD + "judge: {service: a}\nservices: [{name: a, kind: emulator}, {name: b}]\n",
        "judge.yaml:4: services: emulated and real services cannot be mixed: either all or none have kind emulator",
    ),
    (
        HEAD
        + "judge: {service: [a, b]}\nrouter: {mode: batch}\n"
        + "services: [{name: a, batch: false}, {name: b, batch: false}]\n",
        "judge.yaml:4: router.mode: the services 'a', 'b' do not accept batches: their 'batch' is false",
    ),
    (HEAD + "judge: {service: []}\n", "judge.service: expected the name of a service; known services: default"),
    (
        HEAD + "judge:\n  parameters: {n: 2}\n",
        "judge.yaml:4: judge.parameters.n: cannot be set here: use judge.repeats",
    ),
    (HEAD + "judge: {parameters: {model: x}}\n", "judge.parameters.model: cannot be set here"),
    (HEAD + "judge: {parameters: {messages: []}}\n", "judge.parameters.messages: cannot be set here"),
    (HEAD + "judge: {parameters: {stream: true}}\n", "judge.parameters.stream: cannot be set here"),
    (HEAD + "judge: {swap: true}\n", "judge.swap: there is only one answer"),
    (
        HEAD + "judge: {scale: [1, 10]}\n",
        "judge.scale: PAI-Judge scores from 1 to 5 by default; for another scale add pai: {max_score",
    ),
    (
        HEAD + "judge: {scale: [1, 10], pai: {max_score: 7}}\n",
        "judge.scale: the request asks for scores up to 7 (pai.max_score), not 10",
    ),
    (HEAD + "judge: {user: hi}\n", "judge.user: only a judge of kind template has 'user'; this one is pai_single"),
    (HEAD + "judge: {system: hi}\n", "judge.system: only a judge of kind template has 'system'"),
    (HEAD + "judge: {verdict: pai_single}\n", "judge.verdict: only a judge of kind template has 'verdict'"),
    (
        HEAD + JUDGE + "service: {batch: false}\nrouter:\n  mode: batch\n",
        "judge.yaml:6: router.mode: the service 'default' does not accept batches: its 'batch' is false",
    ),
    # templates
    (HEAD + TEMPLATE + "  verdict: pai_single\n", "judge.yaml:3: judge: a template needs 'user'"),
    (HEAD + TEMPLATE + "  user: hi\n", "judge: a template needs 'verdict'"),
    (HEAD + TEMPLATE + "  user: ''\n  verdict: pai_single\n", "judge.user: expected a non-empty text"),
    (HEAD + TEMPLATE + "  user: file://nope.txt\n  verdict: pai_single\n", "judge.yaml:5: judge.user: cannot read "),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: mt_bench_sinlge\n",
        "expected one of: pai_single, pai_pairwise, mt_bench_single",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: [a]\n",
        "judge.verdict: expected the name of a format, {format: ...} or {pattern: ..., kind: ...}, found a list",
    ),
    (HEAD + TEMPLATE + "  user: hi\n  verdict: {}\n", "judge.verdict: expected either a format or a pattern"),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {pattern: '(', kind: score}\n",
        "judge.yaml:6: judge.verdict.pattern: not a regular expression: missing )",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {pattern: a}\n",
        "judge.verdict: a pattern needs 'kind': score, winner or label",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {format: pai_single, pick: last}\n",
        "judge.verdict.pick: only a pattern has 'pick'",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {format: pai_single, kind: score}\n",
        "judge.verdict.kind: only a pattern has 'kind'",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {format: pai_single, score: s}\n",
        "judge.verdict.score: only format: json has 'score'",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {format: json}\n",
        "judge.verdict: format: json needs the key of the 'score', of the 'winner', or both",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {pattern: a, kind: score, map: {a: 1}}\n",
        "judge.verdict.map: a map needs a verdict that yields a winner or a label",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: {pattern: a, kind: winner, map: {a: 3}}\n",
        "judge.verdict.map.a: expected one of: 1, 2, tie, found '3'",
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  swap: true\n  verdict: {format: mt_bench_single}\n",
        "judge.yaml:6: judge.swap: swapping the answers needs a verdict that names a winner",
    ),
    *(
        (
            TEMPLATE + f"  user: hi\n  dimension: tone\n  verdict: {verdict}\n" + HEAD,
            "judge.yaml:4: judge.dimension: a dimension needs a score, and this judge's verdict has none",
        )
        for verdict in ("arena_hard", "{pattern: x, kind: winner}", "{format: json, winner: w}")
    ),
    (
        HEAD + TEMPLATE + "  user: hi\n  verdict: pai_single\n  pai: {scene: x}\n",
        "judge.pai: only a judge of kind pai_single or pai_pairwise",
    ),
    # money
    (
        HEAD + JUDGE + "budget: {tokens: 5}\n",
        "budget.tokens: for this limit, the judge 'judge' needs parameters.max_tokens",
    ),
    (
        HEAD + JUDGE + "budget: {cost: 5}\n",
        "budget.cost: for this limit, the judge 'judge' needs a price for its model under 'prices'",
    ),
    # YAML
    ("", "judge.yaml: the file is empty; it needs at least 'dataset' and 'judge'"),
    ("# nothing\n---\n", "judge.yaml: the file is empty"),
    ("- a\n", "judge.yaml:1: expected keys such as 'dataset:' and 'judge:' at the top"),
    ("a: b: c\n", "judge.yaml:1:5: not valid YAML: mapping values are not allowed"),
    ("a: 1\n---\nb: 2\n", "judge.yaml:2:1: not valid YAML: but found another document"),
    ("a: {b: ${X}}\n", 'inside { } or [ ] put a variable in quotes: "${NAME}"'),
    ("a: *b\n", "judge.yaml:1:4: not valid YAML: found undefined alias"),
    ("a: \x07\n", "judge.yaml: not valid YAML: it contains a control character"),
    (
        HEAD + "judge: !python/name:os.system {}\n",
        "judge.yaml:3: judge: YAML values with a '!' tag are not supported",
    ),
    (HEAD + "judge: {repeats: !!int two}\n", "judge.repeats: YAML values with a '!' tag"),
    (HEAD + "judge: &j {parameters: *j}\n", "judge.yaml: it is nested too deeply, or an alias contains itself"),
    (HEAD + "judge: &j {<<: *j}\n", "judge.yaml: it is nested too deeply, or an alias contains itself"),
    (HEAD + "judge: {<<: 5}\n", "judge.yaml:3:1: not valid YAML: '<<' needs a mapping or a list of mappings"),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[expected[:60] for _, expected in BAD])
def test_mistakes_are_named(load_error, text, expected):
    message = load_error(text)
    assert expected in message
    assert not re.search(r"pydantic|Input should|NoneType|\bdict\b|\btuple\b", message)


def test_all_problems_are_listed_in_the_order_of_the_file(load_error):
    message = load_error("dataset: {}\njudge:\n  repeats: x\n  swap: x\nservice:\n  lmits: {}\nrouter: {mode: x}\n")
    assert [line.split(": ")[0] for line in message.splitlines()] == [f"judge.yaml:{n}" for n in (1, 3, 4, 6, 7)]


def test_a_long_list_of_problems_is_cut(load_error):
    lines = load_error(HEAD + JUDGE + "".join(f"k{n}: 1\n" for n in range(14))).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 4 more"


def test_nested_aliases_cannot_exhaust_memory(load_error):
    bomb = "x-a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for one, other in ("ab", "bc", "cd", "de", "ef"):
        bomb += f"x-{other}: &{other} [{', '.join([f'*{one}'] * 10)}]\n"
    assert "more than 100,000 values" in load_error(bomb + HEAD + "judge: {parameters: {stop: *f}}\n")


def test_deep_nesting_is_an_error_message(load_error):
    assert "nested deeper than 100" in load_error(HEAD + "judge: {parameters: {a: " + "[" * 3000 + "]" * 3000 + "}}\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"dataset:\n  path: caf\xe9\n", ":2: not UTF-8 text (byte 0xe9); save it as UTF-8"),
        ("dataset: {}\n".encode("utf-16"), ":1: not UTF-8 text (byte 0xff)"),
    ],
)
def test_other_encodings_are_refused(tmp_path, content, expected):
    path = tmp_path / "judge.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert expected in str(caught.value)


def test_a_byte_order_mark_is_stripped(tmp_path):
    path = tmp_path / "judge.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + (HEAD + JUDGE).encode())
    assert load_config(path).document == HEAD + JUDGE


def test_a_missing_file_suggests_a_similar_name(tmp_path):
    (tmp_path / "judge.yaml").touch()
    with pytest.raises(ConfigError, match=r"jugde\.yaml: there is no such file; did you mean 'judge\.yaml'\?"):
        load_config(tmp_path / "jugde.yaml")
    with pytest.raises(ConfigError, match="expected a YAML file, found a directory"):
        load_config(tmp_path)
