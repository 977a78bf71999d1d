"""Mixed precision and loss scaling."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.training.precision import LossScale, precision_scope
from tests.training import toy


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_mixed_precision_follows_float32(name):
    def losses(precision):
        with precision_scope(precision):
            model = toy.toy_model()
        train_step, _, _ = toy.make_step(model, precision=precision, grad_accum_steps=2)
        assert model.get_layer("backbone").compute_dtype == precision
        assert model.get_layer("head").compute_dtype == "float32"
        return [toy.logs_of(train_step, toy.toy_batch(8))["loss"] for _ in range(10)]

    exact, mixed = losses("float32"), losses(name)
    np.testing.assert_allclose(mixed, exact, rtol=0.03)
    assert mixed[-1] < 0.9 * mixed[0] and mixed != exact


def test_policy_is_put_back_and_bad_names_are_named():
    before = tf.keras.mixed_precision.global_policy().name
    with precision_scope("bfloat16"):
        assert tf.keras.mixed_precision.global_policy().name == "mixed_bfloat16"
    assert tf.keras.mixed_precision.global_policy().name == before
    with pytest.raises(ValueError, match="precision='fp16': use one of float32"):
        with precision_scope("fp16"):
            pass


def test_overflow_halves_the_scale_and_skips():
    with precision_scope("float16"):
        model = toy.toy_model()
    train_step, model, _ = toy.make_step(model, precision="float16")
    train_step.loss_scale.scale.assign(2.0**8)
    toy.logs_of(train_step, toy.toy_batch(4))
    before, scale = toy.weights_of(model), float(train_step.loss_scale.scale)
    train_step.loss_scale.scale.assign(2.0**30)  # overflows in float16 activations' gradients
    assert toy.logs_of(train_step, toy.toy_batch(4))["applied"] == 0
    np.testing.assert_array_equal(toy.weights_of(model), before)
    assert float(train_step.loss_scale.scale) == 2.0**29
    train_step.loss_scale.scale.assign(scale)
    assert toy.logs_of(train_step, toy.toy_batch(4))["applied"] == 1


def test_scale_does_not_change_the_update():
    weights = []
    for scale in (1.0, 2.0**10):
        train_step, model, _ = toy.make_step(precision="float16", clip_norm=0.5)
        train_step.loss_scale.scale.assign(scale)
        toy.logs_of(train_step, toy.toy_batch(6))
        weights.append(toy.weights_of(model))
    np.testing.assert_allclose(*weights, atol=1e-6)


def test_scale_grows_after_2000_finite_updates():
    scale = LossScale(enabled=True)
    scale.good_steps.assign(1998)
    for wanted in (2.0**15, 2.0**16, 2.0**16):
        scale.update(tf.constant(True))
        assert float(scale.scale) == wanted
    disabled = LossScale(enabled=False)
    disabled.update(tf.constant(False))
    assert float(disabled.scale) == 1.0
