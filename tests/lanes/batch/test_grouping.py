"""Several services by batch: shards go to them in turn, in their dialect, and are collected where they went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from batch_lane_run import COMPLETE, DETACHED, Bench, exit_of
from fake_batch_service import Do, FakeBatchService, all_answered, ending, error_reply
from test_packing import judge, pack, sample

from runner.judge import Panel
from runner.lanes.batch import BatchEndpoint, group_variants, request_line

PAI, OPEN = BatchEndpoint("pai", "http://pai/v1", "pai"), BatchEndpoint("open", "http://open/v1", "openai")
OTHER = BatchEndpoint("other", "http://other/v1", "pai")


def models(packed: Any, number: int) -> set[str]:
    return {line["body"]["model"] for line in packed.files[number]}


def test_judges_share_a_group_only_if_their_endpoints_and_models_allow_it() -> None:
    names = ["m", "n"]
    one, two = group_variants([[PAI, OTHER]] * 2, names)
    assert one is two and one.model == ""
    assert [one.next_endpoint() for _ in range(3)] == [PAI, OTHER, PAI]
    one, two = group_variants([[PAI, OPEN]] * 2, names)
    assert (one.model, two.model) == ("m", "n")  # a file for OpenAI names one model
    one, two = group_variants([[PAI, OTHER], [PAI]], names)
    assert one is not two


def test_shards_go_to_the_services_in_turn_each_in_its_dialect(tmp_path: Path) -> None:
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


def test_a_line_must_fit_at_every_endpoint_of_its_group(tmp_path: Path) -> None:
    size = len(request_line(Panel([judge()]).request(sample(0), 0), "pai"))
    packed = pack(tmp_path, [sample(0)], max_bytes=size, endpoints=[PAI, OPEN])
    assert (packed.shards, list(packed.rows)) == ([], ["0-judge-o-0"])
    assert len(pack(tmp_path, [sample(0)], max_bytes=size, endpoints=[PAI, OTHER]).shards) == 1


# runs


def bench_of(folder: Path, rows: int, services: dict[str, FakeBatchService], **more: Any) -> Bench:
    """A bench whose judge may use each of these services."""
    bench = Bench(folder, "http://127.0.0.1:9/v1", rows)
    common = bench.config.pop("service")
    bench.config["services"] = [
        {**common, "name": name, "base_url": service.url, **more.get(name, {})} for name, service in services.items()
    ]
    bench.config["judge"]["service"] = list(services)
    bench.config["batch"]["shard_lines"] = 3
    return bench


@pytest.mark.anyio
async def test_rows_name_the_service_that_answered(tmp_path: Path) -> None:
    async with FakeBatchService() as first, FakeBatchService() as second:
        bench = bench_of(tmp_path, 12, {"a": first, "b": second}, b={"dialect": "openai", "batch": True})
        assert exit_of(await bench.run()) == COMPLETE
        assert bench.column("service") == (["a"] * 3 + ["b"] * 3) * 2
        assert (len(first.submitted), len(second.submitted)) == (6, 6)
        assert {*second.bodies[0]} - {*first.bodies[0]} == {"metadata"}  # PAI documents none
        ends = {len(first.files), len(second.files)}
        assert ends == {0}  # each service's files were deleted there


@pytest.mark.anyio
async def test_batches_are_collected_from_a_service_that_the_judge_no_longer_uses(tmp_path: Path) -> None:
    answer = False

    def end(number: int, ids: list[str]) -> dict[str, Any]:
        return all_answered(number, ids) if answer else {}

    async with FakeBatchService(end) as first, FakeBatchService(end) as second:
        bench = bench_of(tmp_path, 9, {"a": first, "b": second})
        bench.config["batch"]["parallel"] = 2
        assert exit_of(await bench.run(detach=True)) == DETACHED
        bench.config["judge"]["service"] = "b"
        answer = True
        assert exit_of(await bench.run()) == COMPLETE
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
async def test_leftovers_of_one_service_go_to_the_next(tmp_path: Path) -> None:
    def end(_: int, ids: list[str]) -> dict[str, Any]:
        return ending("Failed")

    async with FakeBatchService(end) as first, FakeBatchService() as second:
        bench = bench_of(tmp_path, 6, {"a": first, "b": second})
        bench.config["router"]["leftovers"] = "resubmit"
        bench.config["batch"]["resubmits"] = 5
        assert exit_of(await bench.run()) == COMPLETE
        assert set(bench.column("service")) == {"b"}
        assert (first.calls["create"], second.calls["create"]) == (2, 2)


@pytest.mark.anyio
async def test_a_lost_reply_to_create_is_looked_up_at_its_own_service(tmp_path: Path) -> None:
    def lost(count: int, do: Do) -> Any:
        reply = do()
        return error_reply(500, "lost") if count == 1 else reply

    async with FakeBatchService() as first, FakeBatchService(create=lost) as second:
        bench = bench_of(tmp_path, 6, {"a": first, "b": second})
        assert exit_of(await bench.run()) == COMPLETE
        assert (first.calls["list"], second.calls["list"]) == (0, 1)
        assert (first.submitted_twice, second.submitted_twice) == ({}, {})
