"""Several services by batch: their files in turn, each with its own words, and collected where they went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_lane_run import AWAY, FINE, Bench, how
from fake_batch_service import Do, Scripted, all_answered, ending, said
from test_packing import judge, pack, sample

from runner.judge import Panel
from runner.lanes.batch import BatchEndpoint, group_variants, request_line

PAI, OPEN = BatchEndpoint("pai", "http://pai/v1", "pai"), BatchEndpoint("open", "http://open/v1", "openai")
OTHER = BatchEndpoint("other", "http://other/v1", "pai")


def models(packed: Any, number: int) -> set[str]:
    return {line["body"]["model"] for line in packed.files[number]}


def test_judges_share_a_pile_where_they_share_everything() -> None:
    names = ["m", "n"]
    one, two = group_variants([[PAI, OTHER]] * 2, names)
    assert one is two and one.model == ""
    assert [one.next_endpoint() for _ in range(3)] == [PAI, OTHER, PAI]
    one, two = group_variants([[PAI, OPEN]] * 2, names)
    assert (one.model, two.model) == ("m", "n")  # a file for OpenAI names one model
    one, two = group_variants([[PAI, OTHER], [PAI]], names)
    assert one is not two


def test_files_go_to_the_services_in_turn_each_in_its_own_form(tmp_path: Path) -> None:
    packed = pack(tmp_path, [sample(n) for n in range(10)], max_lines=3, endpoints=[PAI, OPEN, OTHER])
    assert [shard.service for shard in packed.shards] == ["pai", "open", "other", "pai"]
    assert [shard.base_url for shard in packed.shards] == [f"http://{s.service}/v1" for s in packed.shards]
    forms = [{tuple(line) for line in packed.files[shard.number]} for shard in packed.shards]
    plain, whole = {("custom_id", "body")}, {("custom_id", "method", "url", "body")}
    assert forms == [plain, whole, plain, plain]


def test_each_judge_has_its_own_services(tmp_path: Path) -> None:
    judges = [judge("a", "one"), judge("b", "two"), judge("c", "one"), judge("d", "two")]
    endpoints = {"a": [PAI, OTHER], "b": [PAI, OTHER], "c": [OPEN], "d": [OPEN, PAI]}
    packed = pack(tmp_path, [sample(n) for n in range(8)], judges, max_lines=6, endpoints=endpoints)
    found = sorted((shard.service, sorted(models(packed, shard.number)), shard.requests) for shard in packed.shards)
    assert found == [
        ("open", ["one"], 2),
        ("open", ["one"], 6),
        ("open", ["two"], 6),
        ("other", ["one", "two"], 6),
        ("pai", ["one", "two"], 4),
        ("pai", ["one", "two"], 6),
        ("pai", ["two"], 2),
    ]


def test_a_line_must_fit_whoever_gets_it(tmp_path: Path) -> None:
    size = len(request_line(Panel([judge()]).request(sample(0), 0), "pai"))
    packed = pack(tmp_path, [sample(0)], max_bytes=size, endpoints=[PAI, OPEN])
    assert (packed.shards, list(packed.rows)) == ([], ["0-judge-o-0"])
    assert len(pack(tmp_path, [sample(0)], max_bytes=size, endpoints=[PAI, OTHER]).shards) == 1


# runs


def bench_of(folder: Path, rows: int, services: dict[str, Scripted], **more: Any) -> Bench:
    """A bench whose judge may be asked at each of these services."""
    bench = Bench(folder, "http://127.0.0.1:9/v1", rows)
    common = bench.config.pop("service")
    bench.config["services"] = [
        {**common, "name": name, "base_url": service.url, **more.get(name, {})} for name, service in services.items()
    ]
    bench.config["judge"]["service"] = list(services)
    bench.config["batch"]["shard_lines"] = 3
    return bench


@pytest.mark.anyio
async def test_rows_say_which_service_answered(tmp_path: Path) -> None:
    async with Scripted() as first, Scripted() as second:
        bench = bench_of(tmp_path, 12, {"a": first, "b": second}, b={"dialect": "openai", "batch": True})
        assert how(await bench.run()) == FINE
        assert bench.column("service") == (["a"] * 3 + ["b"] * 3) * 2
        assert (len(first.submitted), len(second.submitted)) == (6, 6)
        assert {tuple(body) for body in first.bodies} == {tuple(body) for body in second.bodies}
        ends = {len(first.files), len(second.files)}
        assert ends == {0}  # each deleted its own


@pytest.mark.anyio
async def test_batches_are_collected_where_they_are_though_nobody_is_asked_there_any_more(tmp_path: Path) -> None:
    answer = False

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return all_answered(number, ids) if answer else {}

    async with Scripted(end) as first, Scripted(end) as second:
        bench = bench_of(tmp_path, 9, {"a": first, "b": second})
        bench.config["batch"]["parallel"] = 2
        assert how(await bench.run(detach=True)) == AWAY
        bench.config["judge"]["service"] = "b"
        answer = True
        assert how(await bench.run()) == FINE
        assert bench.column("service") == ["a"] * 3 + ["b"] * 6
        assert (first.calls["create"], second.calls["create"]) == (1, 2)
        assert [
            json.loads(p.read_bytes())["service"] for p in sorted((bench.directory / "batches").glob("*.json"))
        ] == [
            "a",
            "b",
            "b",
        ]


@pytest.mark.anyio
async def test_what_one_service_leaves_goes_to_the_next(tmp_path: Path) -> None:
    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed")

    async with Scripted(end) as first, Scripted() as second:
        bench = bench_of(tmp_path, 6, {"a": first, "b": second})
        bench.config["router"]["leftovers"] = "resubmit"
        bench.config["batch"]["resubmits"] = 5
        assert how(await bench.run()) == FINE
        assert set(bench.column("service")) == {"b"}
        assert (first.calls["create"], second.calls["create"]) == (2, 2)


@pytest.mark.anyio
async def test_an_answer_to_create_that_was_lost_is_looked_up_at_its_own_service(tmp_path: Path) -> None:
    def lost(count: int, do: Do) -> Any:
        reply = do()
        return said(500, "lost") if count == 1 else reply

    async with Scripted() as first, Scripted(create=lost) as second:
        bench = bench_of(tmp_path, 6, {"a": first, "b": second})
        assert how(await bench.run()) == FINE
        assert (first.calls["list"], second.calls["list"]) == (0, 1)
        assert (first.twice, second.twice) == ({}, {})
