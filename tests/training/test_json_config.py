"""Configs as JSON."""

import dataclasses

import numpy as np
import pytest

from metrabs_like.training.json_config import JsonConfig, check_types


@dataclasses.dataclass(frozen=True)
class Small(JsonConfig):
    """A config of a field of each type."""

    side: int = 3
    name: str = "a"
    factor: float = 0.5
    is_fast: bool = False
    place: str | tuple = "here"


def test_round_trip_and_defaults_of_absent_fields():
    assert Small.from_json(Small(side=5).to_json()) == Small(side=5)
    assert Small.from_json('{"name": "b"}') == Small(name="b")


@pytest.mark.parametrize(("text", "words"), [("[1]", "list"), ('{"size": 1}', "size"), ("{", "")])
def test_other_texts_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Small.from_json(text)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("side", "3", "an integer"),
        ("side", 3.0, "an integer"),
        ("side", True, "an integer"),
        ("factor", "1", "a number"),
        ("factor", True, "a number"),
        ("factor", None, "a number"),
        ("is_fast", "false", "true or false"),
        ("is_fast", 0, "true or false"),
        ("name", None, "a text"),
        ("factor", 10**400, "a number"),
        ("side", 2**70, "an integer"),
    ],
)
def test_values_of_another_type_are_refused(field, value, words):
    with pytest.raises(ValueError, match=f"^{field}={value!r}: must be {words}"):
        check_types(Small(**{field: value}))


def test_whole_numbers_are_numbers_and_other_types_are_not_looked_at():
    check_types(Small(factor=2, place=(1, 2)))


def test_numbers_of_numpy_are_numbers():
    config = Small(side=np.int64(5), factor=np.float32(0.25), is_fast=np.bool_(True))
    check_types(config)
    assert Small.from_json(config.to_json()) == Small(side=5, factor=0.25, is_fast=True)
