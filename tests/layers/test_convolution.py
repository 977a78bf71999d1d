"""Convolutions with PyTorch's padding: sizes, alignment, dilation, first weights."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers.convolution import convolution, normalized, torch_uniform


def _model(kernel_size=3, channels=1, input_channels=1, **kwargs):
    image = tf.keras.Input([None, None, input_channels])
    return tf.keras.Model(image, convolution(image, channels, kernel_size, "conv", **kwargs))


def _reference(x, kernel, stride, dilation):
    """Cross-correlation of `[H, W]` with zeros of `dilation * (k - 1) / 2` on all sides."""
    size = kernel.shape[0]
    pad = dilation * (size - 1) // 2
    padded = np.pad(x, pad)
    rows, columns = (-(-n // stride) for n in x.shape)
    output = np.zeros([rows, columns])
    for v in range(rows):
        for u in range(columns):
            for i in range(size):
                for j in range(size):
                    y, z = v * stride + i * dilation, u * stride + j * dilation
                    output[v, u] += padded[y, z] * kernel[i, j]
    return output


@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation"),
    [(1, 1, 1), (3, 1, 1), (3, 2, 1), (7, 1, 1), (7, 2, 1), (3, 1, 2), (3, 2, 2), (1, 2, 1)],
)
def test_is_padded_alike_on_both_sides(rng, kernel_size, stride, dilation):
    model = _model(kernel_size, stride=stride, dilation=dilation)
    x = rng.normal(size=[8, 6])
    kernel = model.get_layer("conv").kernel.numpy()[..., 0, 0]
    found = model(x[None, ..., None].astype(np.float32))[0, ..., 0]
    np.testing.assert_allclose(found, _reference(x, kernel, stride, dilation), rtol=1e-4, atol=1e-5)


def test_convention_a_strided_one_looks_around_even_pixels():
    model = _model(3, stride=2)
    model.get_layer("conv").set_weights([np.eye(1, 9, 4).reshape(3, 3, 1, 1)])
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(model(image)[0, ..., 0], [[0, 2], [8, 10]])


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="kernel_size=4"):
        _model(4)


def test_first_weights_are_uniform_within_the_root_of_the_fan_in():
    tf.keras.utils.set_random_seed(0)
    values = np.array(torch_uniform()(shape=[3, 3, 64, 64], dtype="float32"))
    limit = 1 / np.sqrt(9 * 64)
    assert 0.99 * limit < np.abs(values).max() <= limit
    np.testing.assert_allclose(values.std(), limit / np.sqrt(3), rtol=0.01)


def test_bias_begins_as_told():
    bias = tf.keras.initializers.Constant(-2.0)
    model = _model(3, channels=2, use_bias=True, bias_initializer=bias)
    np.testing.assert_array_equal(model.get_layer("conv").bias, [-2, -2])
    np.testing.assert_array_equal(model(np.zeros([1, 2, 2, 1]))[0, 0, 0], [-2, -2])


def test_normalized_names_its_layers_and_cuts_negative_values(rng):
    image = tf.keras.Input([None, None, 3])
    model = tf.keras.Model(image, normalized(image, "bn", activation="relu"))
    assert [layer.name for layer in model.layers[1:]] == ["bn", "relu"]
    x = rng.normal(size=[1, 4, 4, 3]).astype(np.float32)
    np.testing.assert_allclose(model(x), np.maximum(x, 0) / np.sqrt(1 + 1e-5), rtol=1e-5)
    assert len(tf.keras.Model(image, normalized(image, "bn2")).layers) == 2
