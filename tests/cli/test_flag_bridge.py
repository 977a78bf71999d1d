"""Flags generated from dataclasses: names, types, help, aliases, errors and the way back."""

import dataclasses
from typing import Literal

import pytest
from absl import flags

from metrabs_like.cli import flag_bridge


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    """A config.

    Attributes:
      rate: how fast, per step;
        goes on in a second line.
      steps: how many.
      name: what it is called.
      fast (bool): whether to hurry.
      precision: of the arithmetic.
      span: lowest and highest.
      scales: any number of them.
      limit: at most so many; None for no limit.
    """

    rate: float = 0.5
    steps: int = 3
    name: str = "a"
    fast: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    span: tuple[float, float] = (1.0, 2.0)
    scales: tuple[int, ...] = ()
    limit: int | None = None

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}: give at least 1")


def _parsed(*argv, **kwargs):
    values = flags.FlagValues()
    flag_bridge.define_flags(_Config, "train", values, **kwargs)
    values(["program", *argv])
    return values


def test_defaults_are_the_configs():
    assert flag_bridge.build(_Config, "train", _parsed()) == _Config()


def test_every_type_is_parsed():
    values = _parsed(
        "--train_rate=0.25",
        "--train_steps=7",
        "--train_name=b",
        "--train_fast",
        "--train_precision=bfloat16",
        "--train_span=3,4.5",
        "--train_scales=1,2,3",
        "--train_limit=9",
    )
    expected = _Config(
        rate=0.25,
        steps=7,
        name="b",
        fast=True,
        precision="bfloat16",
        span=(3.0, 4.5),
        scales=(1, 2, 3),
        limit=9,
    )
    assert flag_bridge.build(_Config, "train", values) == expected


def test_help_comes_from_the_attributes_section():
    assert _parsed()["train_rate"].help == "how fast, per step; goes on in a second line."
    assert flag_bridge.field_help(_Config)["fast"] == "whether to hurry."


def test_alias_sets_the_field_and_the_last_one_wins():
    values = _parsed("--train_steps=4", "--n=8", aliases={"n": "steps"})
    assert flag_bridge.build(_Config, "train", values).steps == 8


def test_misspelt_flag_names_the_close_match():
    with pytest.raises(flags.UnrecognizedFlagError, match="train_steps"):
        _parsed("--train_step=4")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--train_rate=fast", "train_rate.*fast|fast.*train_rate"),
        ("--train_span=1,2,3", "2 values"),
        ("--train_span=1,x", "floats separated by commas"),
        ("--train_precision=float8", "float32.*bfloat16"),
    ],
)
def test_value_that_does_not_fit_is_named(argument, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        _parsed(argument)


def test_config_validation_keeps_its_message_and_names_the_prefix():
    with pytest.raises(ValueError, match=r"steps is 0: give at least 1.*--train_"):
        flag_bridge.build(_Config, "train", _parsed("--train_steps=0"))


def test_excluded_field_has_no_flag_and_takes_the_override():
    values = _parsed(exclude=("steps",))
    assert "train_steps" not in values
    built = flag_bridge.build(_Config, "train", values, exclude=("steps",), steps=5)
    assert built.steps == 5


def test_excluding_an_unknown_field_fails():
    with pytest.raises(ValueError, match="has no field.*stepz"):
        _parsed(exclude=("stepz",))


def test_undescribed_field_fails():
    @dataclasses.dataclass(frozen=True)
    class Silent:
        """Nothing about its field."""

        rate: float = 1.0

    with pytest.raises(ValueError, match="Silent.rate is not described"):
        flag_bridge.define_flags(Silent, "x", flags.FlagValues())


def test_flagfile_text_repeats_the_command(tmp_path):
    values = _parsed("--train_fast", "--train_scales=4,5", "--train_rate=0.125")
    names = [flag_bridge.flag_name("train", f.name) for f in flag_bridge.config_fields(_Config)]
    path = tmp_path / "run.flags"
    path.write_text(flag_bridge.flagfile_text(values, names))
    again = flags.FlagValues()
    flag_bridge.define_flags(_Config, "train", again)
    again(["program", f"--flagfile={path}"])
    built = flag_bridge.build(_Config, "train", again)
    assert built == _Config(fast=True, scales=(4, 5), rate=0.125)
