"""Wrong input ends with exit code 2, sends nothing, and gives the message of docs/bad-input.md."""

from __future__ import annotations

import fcntl
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "bad-input.md"
DATASET = "dataset: {path: answers.jsonl}\n"
JUDGE = "judge: {}\n"
SERVICE = "service: {base_url: URL}\n"
GOOD = DATASET + JUDGE + SERVICE
TABLE = GOOD.replace("answers.jsonl", "answers.csv")
TEMPLATE = "judge:\n  kind: template\n  user: '%s'\n  verdict: mt_bench_single\n"
ANSWERS = '{"id": "a", "question": "Why?", "answer": "So."}\n{"id": "b", "question": "When?", "answer": "Now."}\n'


class Case(NamedTuple):
    """A mistake: the command, its files and environment, and a correct command that runs before it."""

    command: str
    yaml: str = GOOD
    files: Mapping[str, str | bytes] = {}
    env: Mapping[str, str | None] = {}
    before: str = ""
    files_after: Mapping[str, str] = {}


RUN = "run judge.yaml --run-dir out"
CASES = {
    "an unknown key": Case(RUN, DATASET + JUDGE + "service:\n  base_url: URL\n  limits: {rmp: 600}\n"),
    "a value of the wrong type": Case(RUN, DATASET + "judge:\n  repeats: two\n" + SERVICE),
    "no judge": Case(RUN, DATASET + SERVICE),
    "the YAML file does not exist": Case("run jugde.yaml"),
    "the file is not YAML": Case(RUN, GOOD + "output: {directory: a: b}\n"),
    "a tab in the YAML": Case(RUN, GOOD + "output:\n\tdirectory: out\n"),
    "a value that begins with `*`": Case(RUN, GOOD.replace("answers.jsonl", "*.jsonl")),
    "an environment variable is not set": Case(RUN, GOOD + "output:\n  directory: ${JUDGE_RUNS}\n"),
    "the dataset does not exist": Case(RUN, GOOD.replace("answers.jsonl", "anwsers.jsonl")),
    "the dataset is empty": Case(RUN, files={"answers.jsonl": ""}),
    "the dataset is not JSON lines": Case(RUN, files={"answers.jsonl": "id,question,answer\n1,Why?,So.\n"}),
    "a column is missing": Case(RUN, files={"answers.jsonl": '{"id": "a", "questoin": "Why?", "answer": "So."}\n'}),
    "a mapped column is missing": Case(
        RUN, "dataset: {path: answers.jsonl, fields: {reference: gold}}\n" + JUDGE + SERVICE
    ),
    "a quoted cell is never closed": Case(
        RUN, TABLE, {"answers.csv": 'id,question,answer\n1,Why?,"So.\n2,When?,Now.\n'}
    ),
    "text follows a quote on a later line": Case(
        RUN, TABLE, {"answers.csv": 'id,question,answer\n1,Why?,"So.\n2,When?,"Now"\n'}
    ),
    "a quote swallows rows": Case(RUN, TABLE, {"answers.csv": 'id,question,answer\n1,Why?,"So.\n2,When?,Now"\n'}),
    "another delimiter": Case(RUN, TABLE, {"answers.csv": '"id|question|answer",and more\n1|Why?|So.,x\n'}),
    "an unknown encoding": Case(RUN, TABLE.replace("csv}", "csv, csv: {encoding: gkb}}")),
    "two characters as a delimiter": Case(RUN, TABLE.replace("csv}", "csv, csv: {delimiter: '::'}}")),
    "a file in UTF-16": Case(RUN, TABLE, {"answers.csv": "id,question,answer\n1,Why?,So.\n".encode("utf-16")}),
    "the named encoding is wrong": Case(
        RUN,
        TABLE.replace("csv}", "csv, csv: {encoding: gbk}}"),
        {"answers.csv": "id,question,answer\n1,为什么？,因为。\n"},
    ),
    "`csv` for another format": Case(RUN, GOOD.replace("jsonl}", "jsonl, csv: {quote: null}}")),
    "rows under a key": Case(
        RUN, GOOD.replace("jsonl", "json"), {"answers.json": f'{{"data": [{ANSWERS.splitlines()[0]}]}}'}
    ),
    "`records` names an unknown key": Case(
        RUN, GOOD.replace("jsonl}", "json, records: date}"), {"answers.json": '{"data": []}'}
    ),
    "a Git LFS pointer": Case(
        RUN,
        GOOD.replace("jsonl", "parquet"),
        {"answers.parquet": f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 9\n"},
    ),
    "a folder of `save_to_disk`": Case(
        RUN, GOOD.replace("answers.jsonl", "saved"), {"saved/state.json": "{}", "saved/data-00000-of-00001.arrow": ""}
    ),
    "a run directory as the dataset": Case(
        RUN, GOOD.replace("answers.jsonl", "earlier"), {"earlier/run.json": "{}", "earlier/lock": ""}
    ),
    "an empty list of paths": Case(RUN, GOOD.replace("answers.jsonl", "[]")),
    "the token is not set": Case(RUN, env={"JUDGE_MODEL_TOKEN": None}),
    "the token is empty": Case(RUN, env={"JUDGE_MODEL_TOKEN": ""}),
    "the token file does not exist": Case(RUN, DATASET + JUDGE + "service: {base_url: URL, token_file: token.txt}\n"),
    "an address with a query": Case(RUN, GOOD.replace("URL", "https://host/v1?api-version=1")),
    "a client certificate that does not exist": Case(RUN, GOOD.replace("URL", "https://host/v1, client_cert: my.pem")),
    "a proxy of another kind": Case(
        RUN, GOOD.replace("URL", "https://host/v1"), env={"HTTPS_PROXY": "socks5://127.0.0.1:1080"}
    ),
    "a token in the YAML": Case(RUN, DATASET + JUDGE + "service:\n  base_url: URL\n  token: SECRET\n"),
    "a token in a header": Case(
        RUN, DATASET + JUDGE + 'service:\n  base_url: URL\n  headers: {Authorization: "Bearer SECRET"}\n'
    ),
    "a token in `--set`": Case(f"{RUN} --set service.token=SECRET"),
    "a list has no such element": Case(
        RUN,
        "dataset: {path: answers.jsonl, fields: {answer: turns.2}}\n" + JUDGE + SERVICE,
        {"answers.jsonl": '{"id": "a", "question": "Why?", "turns": ["So.", "Yes."]}\n'},
    ),
    "a position is missing": Case(
        RUN,
        "dataset: {path: answers.jsonl, fields: {answer: turns.value}}\n" + JUDGE + SERVICE,
        {"answers.jsonl": '{"id": "a", "question": "Why?", "turns": [{"from": "gpt", "value": "So."}]}\n'},
    ),
    "a path below a cell of CSV": Case(
        RUN,
        TABLE.replace("csv}", "csv, fields: {answer: turns.0}}"),
        {"answers.csv": "id,question,turns\n1,Why?,[3]\n"},
    ),
    "a kept name that differs from a result column by case only": Case(
        RUN, GOOD.replace("jsonl}", "jsonl, keep: [Score]}")
    ),
    "two kept names that differ by case only": Case(RUN, GOOD.replace("jsonl}", "jsonl, keep: [tone, Tone]}")),
    "`{a,b}` in a path": Case(RUN, GOOD.replace("answers.jsonl", "'{answers,more}.jsonl'")),
    "a template names an unknown field": Case(RUN, DATASET + TEMPLATE % "Rate {questoin} {answer}" + SERVICE),
    "marks of thinking that are no pairs": Case(
        RUN,
        DATASET
        + "judge:\n  kind: template\n  user: '{answer}'\n  verdict: {format: last_number, thinking: '<x>'}\n"
        + SERVICE,
    ),
    "a template names an unknown key": Case(
        RUN,
        DATASET + TEMPLATE % "Rate {answer} in {meta.lagn}" + SERVICE,
        {"answers.jsonl": '{"id": "a", "answer": "So.", "meta": {"lang": "en"}}\n'},
    ),
    "a template names nothing": Case(RUN, DATASET + TEMPLATE % "Rate {{ answer }}" + SERVICE),
    "all requests are alike": Case(
        RUN,
        DATASET + TEMPLATE % "Rate { answer } in {lang}" + SERVICE,
        {"answers.jsonl": ANSWERS.replace('"id"', '"lang": "en", "id"')},
    ),
    "a prompt file does not exist": Case(RUN, DATASET + TEMPLATE % "file://prompt.txt" + SERVICE),
    "two judges with the same name": Case(
        RUN, DATASET + "judges:\n  - {name: a}\n  - {name: a, model: pai-judge-plus}\n" + SERVICE
    ),
    "batches for a service without a Batch API": Case(
        RUN, DATASET + JUDGE + "service: {base_url: URL, batch: false}\nrouter:\n  mode: batch\n"
    ),
    "the run directory belongs to another model": Case(f"{RUN} --set judge.model=pai-judge-plus", before=RUN),
    "the run directory belongs to another prompt": Case(
        f"{RUN} --set 'judge.user=Grade {{answer}}'", DATASET + TEMPLATE % "Rate {answer}" + SERVICE, before=RUN
    ),
    "the dataset was changed between two runs": Case(
        RUN, before=RUN, files_after={"answers.jsonl": ANSWERS.replace("When?", "Where?")}
    ),
    "another process uses the run directory": Case(RUN, files={"out/lock": "process 4711 on judgehost\n"}),
    "the output directory cannot be written": Case("run judge.yaml --run-dir answers.jsonl/out"),
    "`--set` names an unknown key": Case(f"{RUN} --set judge.modle=pai-judge-plus"),
    "`--set` without a value": Case(f"{RUN} --set judge.model"),
    "`--set` of the wrong type": Case(f"{RUN} --set judge.repeats=two"),
    "`--retry` of an unknown status": Case(f"{RUN} --retry faild"),
    "an invalid duration": Case(f"{RUN} --max-time soon"),
    "a price of cached tokens above that of the others": Case(
        RUN, GOOD + "prices: {models: {pai-judge: {input: 4, output: 12, cached: 8}}}\n"
    ),
    "an invalid duration in the YAML": Case(RUN, GOOD + "online:\n  retry: {patience: soon}\n"),
    "`--limit` is not a number above 0": Case(f"{RUN} --limit 0"),
    "an unknown command": Case("rnu judge.yaml"),
    "an unknown option": Case(f"{RUN} --limt 3"),
    "an argument is missing": Case("run"),
    "`run` of a folder that is not a run directory": Case("run folder", files={"folder/x": ""}),
    "`status` of a folder that is not a run directory": Case("status folder", files={"folder/x": ""}),
    "`rescore` of a folder that is not a run directory": Case("rescore folder", files={"folder/x": ""}),
    "`rescore` with another prompt": Case(
        "rescore out --set 'judge.user=Grade {answer}'", DATASET + TEMPLATE % "Rate {answer}" + SERVICE, before=RUN
    ),
    "`export` of a folder that is not a run directory": Case("export folder out.csv", files={"folder/x": ""}),
    "`export` with an unknown file extension": Case("export folder out.xlsx", files={"folder/x": ""}),
    "`export --excel` to another format": Case("export folder out.jsonl --excel", files={"folder/x": ""}),
    "`init` in a folder with a judge.yaml": Case("init ."),
    "`emulate` with an unknown option": Case("emulate --sed 3"),
    "`emulate` with a wrong value": Case("emulate --port 0 --seed x"),
    "`emulate` with a share above 1": Case("emulate --port 0 --faults.500 2"),
    "`emulate` with a file that does not exist": Case("emulate --config emulator.yaml"),
    "`emulate` on a port in use": Case("emulate --port PORT"),
    "a wrong option of the embedded emulator": Case(
        RUN, DATASET + JUDGE + "service: {kind: emulator, emulator: {sed: 3}}\n"
    ),
    "`--detach` with the embedded emulator": Case(RUN + " --detach", DATASET + JUDGE + "service: {kind: emulator}\n"),
    "a section that this version does not support": Case(RUN, GOOD + "cluster: {workers: 2}\n"),
    "a dataset address that this version does not support": Case(RUN, "dataset: {path: s3://a/b}\n" + JUDGE + SERVICE),
    "a report by an unknown column": Case(
        RUN, DATASET.replace("}", ", keep: [tone]}") + JUDGE + SERVICE + "report: {group_by: [tones]}\n"
    ),
    "`report` of a folder that is not a run directory": Case("report folder", files={"folder/x": ""}),
}


def documented_messages() -> dict[str, str]:
    """Return the mistakes of docs/bad-input.md and their messages."""
    rows = re.findall(r"^\| (.+?) \| (`+) ?(.+?) ?\2 \| 2 \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {mistake: message.replace("\\|", "|") for mistake, _, message in rows}


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold the lock of a run directory, as a run does."""
    with lock.open() as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def test_the_page_and_the_cases_list_the_same_mistakes():
    assert list(documented_messages()) == list(CASES)


@pytest.mark.parametrize("mistake", CASES)
def test_a_mistake_is_explained_and_nothing_is_sent(mistake, cli, tmp_path, plain_emulator, secret):
    case = CASES[mistake]
    yaml = case.yaml.replace("URL", plain_emulator.url).replace("SECRET", secret)
    write(tmp_path, {"judge.yaml": yaml, "answers.jsonl": ANSWERS, **case.files})
    if case.before:
        assert cli(*shlex.split(case.before)).returncode in (0, 1)
        write(tmp_path, case.files_after)
    command = case.command.replace("PORT", str(plain_emulator.port)).replace("SECRET", secret)
    sent = plain_emulator.stats()["requests"]

    lock = tmp_path / "out" / "lock"
    with held(lock) if "out/lock" in case.files else nullcontext():
        done = cli(*shlex.split(command), env=case.env)

    assert done.returncode == 2, done.stderr
    assert plain_emulator.stats()["requests"] == sent
    assert done.stdout == ""
    assert "Traceback" not in done.stderr and secret not in done.stderr
    assert in_order(documented_messages()[mistake].split("…"), done.stderr), done.stderr
    assert case.before or not list(tmp_path.rglob("out/run.json"))


def in_order(pieces: list[str], text: str) -> bool:
    """Returns True if the text contains all pieces in this order."""
    position = 0
    for piece in pieces:
        found = text.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    return True
