"""Configs as JSON."""

import dataclasses

import pytest

from metrabs_like.training.json_config import JsonConfig


@dataclasses.dataclass(frozen=True)
class Small(JsonConfig):
    """A config of two fields."""

    side: int = 3
    name: str = "a"


def test_round_trip_and_defaults_of_absent_fields():
    assert Small.from_json(Small(side=5).to_json()) == Small(side=5)
    assert Small.from_json('{"name": "b"}') == Small(name="b")


@pytest.mark.parametrize(("text", "words"), [("[1]", "list"), ('{"size": 1}', "size"), ("{", "")])
def test_other_texts_are_refused(text, words):
    with pytest.raises(ValueError, match=words):
        Small.from_json(text)
