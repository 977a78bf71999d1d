"""Optimizers by name, in both generations."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training import optimizers
from metrabs_like.training.config import TrainConfig
from tests.training import toy

IS_ADDONS_LANE = tf.__version__.startswith("2.15.")


def config(**settings):
    return TrainConfig(**(dict(schedule="constant", learning_rate=0.1) | settings))


def applied(optimizer, value=1.0, gradient=0.5):
    variable = tf.Variable([[value, value]])
    optimizers.build(optimizer, [variable])
    optimizers.apply(optimizer, [tf.constant([[gradient, gradient]])], [variable])
    return variable.numpy()[0, 0]


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "lion", "AdamW"])
def test_optimizers_by_name_step_downhill(name):
    optimizer = optimizers.make_optimizer(config(optimizer=name), [])
    assert applied(optimizer) < 1.0 and type(optimizer).__module__.startswith("keras")


def test_first_steps_by_hand():
    assert applied(optimizers.make_optimizer(config(optimizer="sgd"), [])) == pytest.approx(0.95)
    adam = optimizers.make_optimizer(config(optimizer="adamw"), [])
    assert applied(adam) == pytest.approx(1.0 - 0.1, abs=1e-5)
    adamw = optimizers.make_optimizer(config(optimizer="adamw", weight_decay=0.3), [])
    assert applied(adamw) == pytest.approx(1.0 - 0.3 * 0.1 - 0.1, abs=1e-5)


def test_weight_decay_spares_vectors():
    model = toy.toy_model()
    optimizer = optimizers.make_optimizer(config(weight_decay=0.5), model.trainable_variables)
    optimizers.build(optimizer, model.trainable_variables)
    for variable in model.trainable_variables:
        variable.assign(tf.ones_like(variable))
    zeros = [tf.zeros(v.shape) for v in model.trainable_variables]
    optimizers.apply(optimizer, zeros, model.trainable_variables)
    for variable in model.trainable_variables:
        wanted = 1.0 if len(variable.shape) == 1 else 1 - 0.5 * 0.1
        np.testing.assert_allclose(np.asarray(variable), wanted, atol=1e-6)


def test_schedule_drives_the_rate():
    settings = dict(optimizer="sgd", schedule="cosine", steps=2, learning_rate=1.0, momentum=0.0)
    optimizer = optimizers.make_optimizer(config(**settings, final_factor=0.5), [])
    variable = tf.Variable([0.0])
    optimizers.build(optimizer, [variable])
    for _ in range(3):
        optimizers.apply(optimizer, [tf.ones(1)], [variable])
    assert variable.numpy()[0] == pytest.approx(-(1 + 0.75 + 0.5))


def test_backbone_rate_without_a_backbone_is_an_error():
    with pytest.raises(ValueError, match="backbone_lr_factor=0.1: no backbone variables"):
        optimizers.make_optimizer(config(backbone_lr_factor=0.1), [])


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="optimizer='adma': use one of .*adamw.*sgd"):
        optimizers.make_optimizer(config(optimizer="adma"), [])


def test_weight_decay_without_effect_is_an_error(monkeypatch):
    class Plain:
        def __init__(self, learning_rate):
            pass

    monkeypatch.setattr(optimizers, "_optimizer_class", lambda name: Plain)
    with pytest.raises(ValueError, match="tfa.Yogi.*no weight decay.*set it to 0"):
        optimizers.make_optimizer(config(optimizer="tfa.Yogi", weight_decay=0.1), [])


def test_addons_optimizer():
    """Works in the addons lane; elsewhere the error gives the one command that helps."""
    settings = config(optimizer="tfa.RectifiedAdam", learning_rate=0.01)
    if not IS_ADDONS_LANE:
        with pytest.raises(ImportError, match=r"pip install 'metrabs_like\[addons\]'"):
            optimizers.make_optimizer(settings, [])
        return
    train_step, model, _ = toy.make_step(
        optimizer="tfa.RectifiedAdam", learning_rate=0.01, grad_accum_steps=2, clip_norm=1.0
    )
    before = toy.logs_of(train_step, toy.toy_batch(8))["loss"]
    for _ in range(20):
        after = toy.logs_of(train_step, toy.toy_batch(8))["loss"]
    assert after < 0.9 * before


def test_unknown_addons_optimizer_is_named():
    error = ValueError if IS_ADDONS_LANE else ImportError
    with pytest.raises(error, match="tfa.Nonsense"):
        optimizers.make_optimizer(config(optimizer="tfa.Nonsense"), [])
