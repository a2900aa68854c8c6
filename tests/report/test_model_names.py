"""Which names are versions of the model that was asked, and which are other models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.model_names import EMULATED_PREFIX, is_emulated, is_same_model, model_notes


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("pai-judge", "pai-judge"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("GPT-4o", "gpt-4o"),
        ("gpt-4o", "openai/gpt-4o-2024-08-06"),
        ("openai/gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4", "gpt-4-0613"),
        ("gemini-1.5-pro", "models/gemini-1.5-pro-002"),
        ("gemini-2.5-flash", "gemini-2.5-flash-preview-04-17"),
        ("claude-3-opus", "claude-3-opus@20240229"),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022"),
        ("claude-3-5-sonnet", "us.anthropic.claude-3-5-sonnet-20240620-v1:0"),
        ("qwen-plus-latest", "qwen-plus-2025-01-25"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("llama3", "llama3:latest"),
        ("command-r", "command-r-08-2024"),
        ("/srv/models/Qwen3-8B/", "Qwen/Qwen3-8B"),
    ],
)
def test_versions_and_spellings_of_the_same_model(asked: str, served: str) -> None:
    assert is_same_model(asked, served)
    assert model_notes({"j": asked}, {"j": {served: 3}}) == []


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("big-judge", "small-fallback-model"),
        ("pai-judge", "pai-judge-plus"),
        ("gpt-4", "gpt-4.1"),
        ("gpt-4", "gpt-4o"),
        ("gpt-4", "gpt-4-32k"),
        ("gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06"),
        ("claude-3", "claude-3-5"),
        ("qwen2.5-7b", "qwen2.5-72b"),
        ("llama3:8b", "llama3:70b"),
        ("qwen3-8b", "qwen3-8b-awq"),
        ("gpt-5", "gpt-5-nano"),
    ],
)
def test_other_models(asked: str, served: str) -> None:
    assert not is_same_model(asked, served)
    assert model_notes({"j": asked}, {"j": {served: 1}}) == [
        f"Judge j: asked was {asked}, but another model answered: {served} (1 row)."
    ]


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (
            {"m-2024-05-13": 5, "m-2024-08-06": 70},
            "Judge j: asked was m, and several versions of the model answered: m-2024-08-06 (70 rows), "
            "m-2024-05-13 (5 rows).",
        ),
        ({"m": 2, "x": 1}, "Judge j: asked was m, and several models answered: m (2 rows), x (1 row)."),
        ({"m": 2, "org/M": 1}, None),
        ({f"{EMULATED_PREFIX}m": 2}, None),
        (
            {f"{EMULATED_PREFIX}m": 2, "m": 1},
            "Judge j: some rows are the emulator's and made up, others are a model's: emulated:m (2 rows), m (1 row).",
        ),
        (
            {f"x{n}": 1 for n in range(7)},
            "Judge j: asked was m, and several models answered: x0 (1 row), x1 (1 row), x2 (1 row), x3 (1 row), "
            "x4 (1 row) and 2 more.",
        ),
        ({}, None),
    ],
)
def test_what_is_said_about_the_models_of_a_judge(rows: dict[str, int], note: str | None) -> None:
    assert model_notes({"j": "m"}, {"j": rows, "gone": {"z": 1}}) == ([] if note is None else [note])


def test_emulated_rows_are_known_by_their_model() -> None:
    assert is_emulated([None, "m", f"{EMULATED_PREFIX}m"])
    assert not is_emulated([None, "m", "my-emulated:m"])


names = st.text("abz019-.:/@v ", max_size=20)


@given(names, names)
def test_any_names(asked: str, served: str) -> None:
    assert is_same_model(asked, asked)
    assert isinstance(is_same_model(asked, served), bool)
