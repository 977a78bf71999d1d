"""Batch normalization: PyTorch's running statistics, inference, precision, freezing."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.normalization import BatchNorm


def _layer(rng, channels, **kwargs):
    layer = BatchNorm(**kwargs)
    layer.build((None, None, None, channels))
    shape = [channels]
    layer.set_weights(
        [
            rng.uniform(0.5, 2, shape),
            rng.normal(size=shape),
            rng.normal(size=shape),
            rng.uniform(0.5, 2, shape),
        ]
    )
    return layer


def _reference(layer, x):
    """Output and new statistics of a training step, written out in float64."""
    gamma, beta, mean, variance = (w.astype(np.float64) for w in layer.get_weights())
    items = x.reshape(-1, x.shape[-1]).astype(np.float64)
    normalized = (x - items.mean(0)) / np.sqrt(items.var(0) + 1e-5)
    new_mean = 0.9 * mean + 0.1 * items.mean(0)
    return normalized * gamma + beta, new_mean, 0.9 * variance + 0.1 * items.var(0, ddof=1)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_normalizes_by_the_biased_and_keeps_the_unbiased_variance(rng, jit_compile):
    layer = _layer(rng, 3)
    x = rng.normal(2, 3, [2, 3, 2, 3]).astype(np.float32)  # few items: the two variances differ
    output, mean, variance = _reference(layer, x)
    call = tf.function(layer, autograph=False, jit_compile=jit_compile)
    np.testing.assert_allclose(call(x, training=True), output, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-6)


def test_inference_uses_and_keeps_the_running_statistics(rng):
    layer = _layer(rng, 4)
    x = rng.normal(size=[2, 5, 4, 4]).astype(np.float32)
    gamma, beta, mean, variance = layer.get_weights()
    expected = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    for training in (False, None):
        np.testing.assert_allclose(layer(x, training=training), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.get_weights()[2:], [mean, variance])


def test_hand_computed_values():
    layer = BatchNorm(epsilon=0.0)
    x = tf.constant([1.0, 3.0])[:, None, None, None]
    np.testing.assert_allclose(tf.squeeze(layer(x, training=True)), [-1, 1], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_mean, [0.2], rtol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, [0.9 + 0.1 * 2], rtol=1e-6)


def test_shift_and_scale_of_the_input_do_not_matter_in_training(rng):
    layer = _layer(rng, 3)
    x = rng.normal(size=[4, 3, 3, 3]).astype(np.float32)
    np.testing.assert_allclose(
        layer(5 * x + 2, training=True), layer(x, training=True), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("training", [True, False])
def test_gradient_against_finite_differences(rng, training):
    layer = _layer(rng, 2)
    statistics = layer.get_weights()[2:]
    x = rng.normal(size=[2, 2, 3, 2]).astype(np.float32)
    weights = rng.normal(size=x.shape).astype(np.float32)

    def loss(value):
        output = layer(value, training=training)
        layer.set_weights([*layer.get_weights()[:2], *statistics])
        return tf.reduce_sum(output * weights)

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    gradient = tape.gradient(value, x)
    direction = rng.normal(size=x.shape).astype(np.float32)
    step = 1e-2
    numeric = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(tf.reduce_sum(gradient * direction), numeric, rtol=2e-3, atol=1e-3)


def test_frozen_layer_is_in_inference_mode(rng):
    layer = _layer(rng, 2)
    x = rng.normal(size=[2, 3, 3, 2]).astype(np.float32)
    expected, before = layer(x, training=False), layer.get_weights()
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), expected)
    for old, new in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_keeps_statistics_in_float32(rng, dtype):
    layer = _layer(rng, 3, dtype=tf.keras.mixed_precision.Policy(f"mixed_{dtype}"))
    x = rng.normal(100, 1, [4, 4, 4, 3]).astype(np.float32)
    rounded = tf.cast(tf.cast(x, dtype), tf.float32).numpy()
    expected, mean, variance = _reference(layer, rounded)
    output = layer(tf.constant(x), training=True)
    assert output.dtype == tf.as_dtype(dtype)
    np.testing.assert_allclose(tf.cast(output, tf.float32), expected, rtol=0.01, atol=0.02)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-4)


def test_serializes_with_its_defaults(tmp_path, rng):
    image = tf.keras.Input([None, None, 2])
    model = tf.keras.Model(image, BatchNorm(name="bn")(image))
    model.get_layer("bn").set_weights(_layer(rng, 2).get_weights())
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    x = rng.normal(size=[2, 3, 3, 2]).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
    config = loaded.get_layer("bn").get_config()
    assert (config["momentum"], config["epsilon"]) == (0.9, 1e-5)
