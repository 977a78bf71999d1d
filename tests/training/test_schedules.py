"""Learning-rate schedules at hand-computed points."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training import schedules
from metrabs_like.training.config import TrainConfig


def rate(step, **settings):
    return float(schedules.make_schedule(TrainConfig(**settings))(step))


def test_two_phases():
    settings = dict(steps=1000, learning_rate=3.0, phase1_fraction=0.9)
    points = {0: 3.0, 450: 3 * 3**-0.5, 900: 0.1, 950: 0.1 * 0.3**0.5, 1000: 0.03, 2000: 0.03}
    for step, wanted in points.items():
        assert rate(step, **settings) == pytest.approx(wanted, rel=1e-5)
    assert rate(899, **settings) == pytest.approx(1.0, rel=2e-3)


def test_warm_up_is_linear_and_never_zero():
    rates = [rate(i, schedule="constant", learning_rate=1.0, warmup_steps=4) for i in range(6)]
    np.testing.assert_allclose(rates, [0.25, 0.5, 0.75, 1, 1, 1])


def test_cosine_anneals_within_the_run_after_warm_up():
    settings = dict(schedule="cosine", steps=110, warmup_steps=10, learning_rate=2.0)
    settings |= dict(final_factor=0.1)
    points = {10: 2.0, 60: 2 * 0.55, 110: 0.2, 500: 0.2}
    for step, wanted in points.items():
        assert rate(step, **settings) == pytest.approx(wanted, rel=1e-5)


def test_steps_drop_the_rate():
    settings = dict(schedule="steps", drop_steps=(10, 20), drop_factor=0.5, learning_rate=2.0)
    assert [rate(step, **settings) for step in (0, 9, 10, 19, 20, 99)] == [2, 2, 1, 1, 0.5, 0.5]
    assert rate(0, **settings, warmup_steps=4) == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(schedule="steps"), "drop_steps=.. with schedule='steps'"),
        (dict(drop_steps=(5,)), "with schedule='two_phase'"),
        (dict(schedule="steps", drop_steps=(5, 5)), "ascending"),
        (dict(schedule="steps", drop_steps=(0, 5)), "at least 1"),
        (dict(schedule="steps", drop_steps=(5,), drop_factor=0), "drop_factor=0"),
    ],
)
def test_steps_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_settings_of_steps_go_through_json():
    config = TrainConfig(schedule="steps", drop_steps=(5, 9))
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("schedule", ["two_phase", "cosine", "steps", "constant"])
def test_serialization_and_graph_mode(schedule):
    drops = dict(drop_steps=(3, 30)) if schedule == "steps" else {}
    made = schedules.make_schedule(TrainConfig(schedule=schedule, steps=50, **drops), factor=0.5)
    again = type(made).from_config(made.get_config())
    in_graph = tf.function(again)
    for step in (0, 20, 49):
        assert float(in_graph(tf.constant(step))) == pytest.approx(float(made(step)))
        assert float(made(step)) == pytest.approx(
            0.5 * rate(step, schedule=schedule, steps=50, **drops)
        )
