"""Options: valid ones are read, and invalid ones get an error that names them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator import EmulatorOptions
from runner.emulator.text_facts import estimate_tokens, is_chinese, truncate


def test_all_documented_options_are_read():
    options = EmulatorOptions.from_mapping(
        {
            "host": "127.0.0.1",
            "port": 8700,
            "token": "t",
            "seed": 3,
            "dialect": "dashscope",
            "latency": {"median": 1, "sigma": 0.2},
            "rpm": 600,
            "tpm": None,
            "noise": 0.1,
            "bias": -0.5,
            "faults": {500: 0.1, "503": 0.1, 429: 0.1, "reset": 0.1, "truncate": 0.1, "hang": 0, "malformed": 0.1}
            | {"refuse": 0.5, "unparsable": 0.1},
            "batch": {"delay": 1, "expire": 1, "fail": 2, "lose": 0.1, "errors_in_output": 0.5, "drop_create": 0.1}
            | {"unsupported": ["list", "cancel", "delete"]},
        }
    )
    assert (options.faults.server_error, options.faults.throttled, options.faults.refuse) == (0.1, 0.1, 0.5)
    assert options.batch.unsupported == ("list", "cancel", "delete")
    assert options.latency.median == 1.0
    assert options.tpm is None


def test_an_empty_mapping_gives_the_defaults():
    assert EmulatorOptions.from_mapping({}) == EmulatorOptions()


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"rmp": 5}, "unknown emulator option rmp; did you mean rpm?"),
        ({"faults": {"truncated": 0.1}}, "unknown emulator option faults.truncated; did you mean faults.truncate?"),
        ({"faults": {"zzz": 0.1}}, "unknown emulator option faults.zzz; known keys: 500, 503, 429, reset"),
        ({"faults": {"500": 1.5}}, "emulator option faults.500: expected `float` <= 1.0"),
        ({"faults": {"500": -0.1}}, "emulator option faults.500: expected `float` >= 0.0"),
        ({"faults": {"500": "often"}}, "emulator option faults.500: expected `float`, got `str`"),
        ({"faults": 0.1}, "emulator option faults: expected a mapping, got `float`"),
        ({"faults": {"500": 0.6, "reset": 0.6}}, "emulator option faults: the shares add up to 1.2"),
        ({"bias": 2}, "emulator option bias: expected `float` <= 1.0"),
        ({"rpm": 0}, "emulator option rpm: expected `int` >= 1"),
        ({"port": 70000}, "emulator option port: expected `int` <= 65535"),
        ({"dialect": "azure"}, "emulator option dialect: invalid enum value 'azure'"),
        ({"noise": True}, "emulator option noise: expected `float`, got `bool`"),
        ({"batch": {"enqueued": 0}}, "emulator option batch.enqueued: expected `int` >= 1"),
        ({"batch": {"garbled": 0.1}}, "unknown emulator option batch.garbled; did you mean batch.garble?"),
        ({"batch": {"unsupported": ["lists"]}}, "emulator option batch.unsupported[0]: invalid enum value"),
    ],
)
def test_an_invalid_option_is_named(mapping, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        EmulatorOptions.from_mapping(mapping)


@given(st.text(max_size=400), st.integers(1, 50))
def test_tokens_of_any_text_are_estimated_and_it_can_be_truncated(text, limit):
    assert 0 <= estimate_tokens(text) <= 2 * len(text) + 1
    assert (estimate_tokens(text) == 0) == (text == "")
    assert text.startswith(truncate(text, limit))
    assert len(truncate(text, limit)) <= max(1, len(text) * limit)


def test_the_language_is_that_of_most_of_the_text():
    assert is_chinese("请解释 base rate 是什么")
    assert not is_chinese("What does the character 猫 stand for in this sentence?")
    assert not is_chinese("")
