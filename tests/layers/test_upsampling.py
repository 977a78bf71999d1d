"""Learned upsampling: against the transposed convolution, interpolation, gradients, precision."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.upsampling import LearnedUpsampling, bilinear_kernel, upsample_depthwise


def _oracle(inputs, kernel):
    """TensorFlow's own transposed depthwise convolution."""
    factor = kernel.shape[0] // 2
    n, height, width, channels = inputs.shape
    shape = [n, height * factor, width * factor, channels]
    return tf.nn.depthwise_conv2d_backprop_input(
        shape, kernel[..., tf.newaxis], inputs, [1, factor, factor, 1], "SAME"
    )


def _inputs(rng, factor, channels=3):
    size = 2 * factor
    inputs = tf.constant(rng.normal(size=[2, 3, 5, channels]), tf.float32)
    return inputs, tf.constant(rng.normal(size=[size, size, channels]), tf.float32)


@pytest.mark.parametrize(("factor", "jit_compile"), [(2, False), (4, False), (8, False), (2, True)])
def test_is_the_transposed_depthwise_convolution(rng, factor, jit_compile):
    inputs, kernel = _inputs(rng, factor)
    call = tf.function(upsample_depthwise, autograph=False, jit_compile=jit_compile)
    np.testing.assert_allclose(call(inputs, kernel), _oracle(inputs, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4])
def test_gradients_are_those_of_the_transposed_convolution(rng, factor):
    inputs, kernel = _inputs(rng, factor)
    weights = rng.normal(size=_oracle(inputs, kernel).shape).astype(np.float32)
    gradients = []
    for function in (upsample_depthwise, _oracle):
        with tf.GradientTape() as tape:
            tape.watch([inputs, kernel])
            loss = tf.reduce_sum(function(inputs, kernel) * weights)
        gradients.append(tape.gradient(loss, [inputs, kernel]))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_hand_computed_kernel():
    row = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(bilinear_kernel(2), np.outer(row, row))


@pytest.mark.parametrize("factor", [2, 4])
def test_begins_as_interpolation(factor):
    layer = LearnedUpsampling(factor)
    y, x = np.mgrid[:5, :6].astype(np.float32)
    image = (2 * x + 3 * y + 1)[np.newaxis, ..., np.newaxis]
    enlarged = layer(image)[0, ..., 0].numpy()
    # output pixel p lies at (p + 0.5) / factor - 0.5 of the input; the frame mixes with zeros
    y, x = ((np.mgrid[: 5 * factor, : 6 * factor] + 0.5) / factor) - 0.5
    inner = slice(factor, -factor)
    np.testing.assert_allclose(enlarged[inner, inner], (2 * x + 3 * y + 1)[inner, inner], rtol=1e-5)


def test_channels_do_not_mix(rng):
    inputs, kernel = _inputs(rng, 2)
    alone = upsample_depthwise(inputs[..., 1:2], kernel[..., 1:2])
    np.testing.assert_allclose(upsample_depthwise(inputs, kernel)[..., 1:2], alone, rtol=1e-5)


def test_one_trace_for_all_sizes(rng):
    layer, n_traces = LearnedUpsampling(2), []
    layer.build((None, None, None, 4))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 4])], autograph=False)
    def call(image):
        n_traces.append(1)
        return layer(image)

    shapes = [call(tf.zeros([n, h, w, 4])).shape for n, h, w in ((1, 4, 4), (3, 2, 7))]
    assert [tuple(shape) for shape in shapes] == [(1, 8, 8, 4), (3, 4, 14, 4)]
    assert len(n_traces) == 1
    assert layer.compute_output_shape((None, 4, None, 4)) == (None, 8, None, 4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision(rng, dtype):
    layer = LearnedUpsampling(2, dtype=tf.keras.mixed_precision.Policy(f"mixed_{dtype}"))
    inputs, _ = _inputs(rng, 2)
    output = layer(inputs)
    assert output.dtype == tf.as_dtype(dtype) and layer.weights[0].dtype == tf.float32
    expected = LearnedUpsampling(2)(inputs)
    np.testing.assert_allclose(tf.cast(output, tf.float32), expected, rtol=0.02, atol=0.02)


def test_trains_and_serializes(tmp_path, rng):
    image = tf.keras.Input([None, None, 3])
    model = tf.keras.Model(image, LearnedUpsampling(4, name="up")(image))
    inputs, kernel = _inputs(rng, 4)
    model.get_layer("up").set_weights([kernel])
    model.save(tmp_path / "model.keras")
    loaded = tf.keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert len(loaded.trainable_variables) == 1 and loaded.get_layer("up").factor == 4


@pytest.mark.parametrize("factor", [0, 1, 3])
def test_other_factors_are_refused(factor):
    with pytest.raises(ValueError, match=f"factor={factor}"):
        LearnedUpsampling(factor)
