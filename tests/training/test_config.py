"""Settings check themselves."""

import pytest

from metrabs_like.training.config import TrainConfig


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(steps=0), "steps=0: must be at least 1"),
        (dict(learning_rate=float("nan")), "learning_rate=nan"),
        (dict(grad_accum_steps=0), "grad_accum_steps=0"),
        (dict(ema_momentum=1.0), "ema_momentum=1.0: must be at least 0 and below 1"),
        (dict(phase1_fraction=0.0), "phase1_fraction=0.0"),
        (dict(precision="half"), "precision='half': use one of float32, bfloat16, float16"),
        (dict(schedule="step"), "schedule='step'"),
        (dict(distribution="tpu"), "distribution='tpu'"),
        (dict(optimizer=""), "optimizer=''"),
        (dict(jit_compile=True, distribution="mirrored"), "set jit_compile=False"),
    ],
)
def test_bad_values_name_field_value_and_remedy(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_json_round_trip():
    config = TrainConfig(steps=7, optimizer="sgd", jit_compile=True)
    assert TrainConfig.from_json(config.to_json()) == config


def test_unknown_json_field_is_named():
    with pytest.raises(ValueError, match=r"unknown training setting.*\['lr'\]"):
        TrainConfig.from_json('{"lr": 1}')
