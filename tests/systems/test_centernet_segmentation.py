"""Conditional convolution against convolutions one by one; masks inside boxes."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.centernet.segmentation import conditional_convolution, inside_boxes


def _one_by_one(features, filters):
    """Each image with its own filters, by an ordinary convolution."""
    side = 1 if filters.shape[2] == features.shape[3] else 3
    maps = []
    for image, own in zip(features, filters, strict=True):
        # number = channel * taps + 3 * row + column
        kernel = own.reshape(-1, features.shape[3], side, side).transpose(2, 3, 1, 0)
        maps.append(tf.nn.conv2d(image[np.newaxis], kernel, 1, "SAME")[0].numpy())
    return np.moveaxis(maps, 3, 1)


def _example(rng, taps, n_images=3):
    features = rng.normal(size=(n_images, 6, 7, 4)).astype(np.float32)
    return features, rng.normal(size=(n_images, 5, 4 * taps)).astype(np.float32)


@pytest.mark.parametrize("taps", [1, 9])
def test_each_image_has_its_own_filters(rng, taps):
    features, filters = _example(rng, taps)
    masks = conditional_convolution(features, filters)
    np.testing.assert_allclose(masks, _one_by_one(features, filters), rtol=1e-4, atol=1e-5)
    alone = conditional_convolution(features[1:2], filters[1:2])
    np.testing.assert_allclose(alone[0], masks[1], rtol=1e-5, atol=1e-6)


def test_convention_of_taps():
    """Tap (row 0, column 2) looks up and to the right; the channel is the slow index."""
    features = np.zeros([1, 4, 5, 2], np.float32)
    features[0, 1, 3, 1] = 1
    filters = np.zeros([1, 1, 18], np.float32)
    filters[0, 0, 1 * 9 + 0 * 3 + 2] = 1
    expected = np.zeros([4, 5])
    expected[2, 2] = 1
    np.testing.assert_array_equal(conditional_convolution(features, filters)[0, 0], expected)


@pytest.mark.parametrize("taps", [1, 9])
def test_gradient_is_that_of_the_sum_of_products(rng, taps):
    """The result is bilinear: the gradient along each argument reproduces the value."""
    features, filters = (tf.constant(x) for x in _example(rng, taps))
    weights = rng.normal(size=(3, 5, 6, 7)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch([features, filters])
        value = tf.reduce_sum(weights * conditional_convolution(features, filters))
    for source, gradient in zip(
        [features, filters], tape.gradient(value, [features, filters]), strict=True
    ):
        np.testing.assert_allclose(tf.reduce_sum(source * gradient), value, rtol=1e-3)


@pytest.mark.parametrize("taps", [1, 9])
def test_empty_batch(rng, taps):
    features, filters = (tf.constant(x) for x in _example(rng, taps, 0))
    with tf.GradientTape() as tape:
        tape.watch([features, filters])
        masks = conditional_convolution(features, filters)
    assert masks.shape == (0, 5, 6, 7)
    gradients = tape.gradient(masks, [features, filters], unconnected_gradients="zero")
    assert [g.shape for g in gradients] == [features.shape, filters.shape]


@pytest.mark.parametrize("taps", [1, 9])
def test_empty_batch_of_unknown_sizes(rng, taps):
    features, filters = _example(rng, taps, 0)
    signature = [
        tf.TensorSpec([None, None, None, features.shape[3]]),
        tf.TensorSpec([None, None, filters.shape[2]]),
    ]
    compiled = tf.function(conditional_convolution, input_signature=signature, autograph=False)
    assert compiled(features, filters).shape == (0, 5, 6, 7)


def test_filters_have_one_or_nine_taps(rng):
    features, _ = _example(rng, 1)
    with pytest.raises(ValueError, match=r"8 numbers for 4 channels.*4 \(1x1\) or 36 \(3x3\)"):
        conditional_convolution(features, tf.zeros([3, 5, 8]))
    with pytest.raises(ValueError, match="filters"):
        conditional_convolution(features, tf.zeros([2, 5, 4]))


@pytest.mark.parametrize("jit_compile", [None, True])
def test_sizes_may_be_unknown(rng, jit_compile):
    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 4]), tf.TensorSpec([None, None, 36])],
        jit_compile=jit_compile,
        autograph=False,
    )
    def compiled(features, filters):
        return conditional_convolution(features, filters)

    example = _example(rng, 9)
    np.testing.assert_allclose(compiled(*example), _one_by_one(*example), rtol=1e-4, atol=1e-5)


def test_masks_end_with_the_enlarged_box():
    logits = np.ones([1, 2, 8, 10], np.float32)
    logits[0, 0, 3, 3] = -1
    boxes = np.array([[[2, 2, 4, 6], [0, 0, 0, 0]]], np.float32)
    masks = inside_boxes(logits, boxes, factor=2.0).numpy()
    expected = np.zeros([8, 10], bool)
    expected[0:8, 1:6] = True
    expected[3, 3] = False
    np.testing.assert_array_equal(masks[0, 0], expected)
    assert masks[0, 1].sum() == 1 and masks[0, 1, 0, 0]
    default = inside_boxes(logits, boxes).numpy()[0, 0]
    assert default.sum() < expected.sum() and not default[0].any() and default[2, 2]
