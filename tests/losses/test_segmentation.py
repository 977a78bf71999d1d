"""Losses of masks: Lovasz hinge against its definition, dice by hand, ignored pixels."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses.segmentation import IGNORED, dice_term, lovasz_hinge


def _jaccard_loss(labels, is_wrong):
    """1 - IoU of the person, if exactly these pixels are wrong."""
    predicted = np.where(is_wrong, 1 - labels, labels)
    union = np.sum((labels == 1) | (predicted == 1))
    return 1 - np.sum((labels == 1) & (predicted == 1)) / union if union else 0.0


def _defined(logits, labels):
    """Algorithm 1 of the paper by its definition: differences of set losses, with elu + 1."""
    errors = 1 - logits * (2 * labels - 1)
    order = np.argsort(-errors, kind="stable")
    is_wrong, before, total = np.zeros(labels.shape, bool), 0.0, 0.0
    for pixel in order:
        is_wrong[pixel] = True
        after = _jaccard_loss(labels, is_wrong)
        error = errors[pixel]
        total += (after - before) * (error + 1 if error > 0 else np.exp(error))
        before = after
    return total


def _value_and_gradient(logits, labels, symmetric=False):
    logits = tf.constant(logits, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = lovasz_hinge(logits, labels, symmetric=symmetric)
    return loss.numpy(), tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_lovasz_is_defined_by_set_losses(rng, share):
    logits, labels = rng.normal(size=40) * 2, (rng.random(40) < share).astype(np.int64)
    expected = _defined(logits, labels)
    np.testing.assert_allclose(_value_and_gradient(logits, labels)[0], expected, rtol=1e-5)
    mirrored = _defined(-logits, 1 - labels)
    symmetric = _value_and_gradient(logits, labels, symmetric=True)[0]
    np.testing.assert_allclose(symmetric, (expected + mirrored) / 2, rtol=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
def test_lovasz_gradient_is_that_of_finite_differences(rng, symmetric):
    labels = (rng.random(30) < 0.4).astype(np.int64)
    # errors far enough apart that the steps do not change their order
    logits = (2 * labels - 1) * (1 - rng.permutation(np.linspace(-3, 3, 30)))
    gradient = _value_and_gradient(logits, labels, symmetric)[1]
    step = 0.01
    for pixel in range(0, 30, 5):
        ends = []
        for sign in (-1, 1):
            moved = logits.copy()
            moved[pixel] += sign * step
            value = _defined(moved, labels)
            ends.append((value + _defined(-moved, 1 - labels)) / 2 if symmetric else value)
        expected = (ends[1] - ends[0]) / (2 * step)
        np.testing.assert_allclose(gradient[pixel], expected, rtol=2e-3, atol=1e-6)


def test_lovasz_of_a_sure_and_right_mask_is_almost_zero(rng):
    labels = (rng.random((2, 8, 8)) < 0.3).astype(np.uint8)
    right = 20.0 * (2.0 * labels - 1)
    assert 0 <= _value_and_gradient(right, labels)[0] < 1e-6
    assert _value_and_gradient(-right, labels)[0] > 20


@pytest.mark.parametrize("symmetric", [False, True])
def test_ignored_pixels_move_nothing(rng, symmetric):
    logits, labels = rng.normal(size=(3, 6, 7)), (rng.random((3, 6, 7)) < 0.4).astype(np.uint8)
    ignored = rng.random(labels.shape) < 0.5
    alone = _value_and_gradient(logits[~ignored], labels[~ignored], symmetric)
    labels[ignored], logits[ignored] = IGNORED, np.nan
    value, gradient = _value_and_gradient(logits, labels, symmetric)
    np.testing.assert_allclose(value, alone[0], rtol=1e-6)
    np.testing.assert_allclose(gradient[~ignored], alone[1], rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(gradient[ignored], 0)


@pytest.mark.parametrize("shape", [(0,), (0, 4, 8, 8), (2, 3)])
def test_nothing_to_count_costs_nothing(shape):
    value, gradient = _value_and_gradient(np.ones(shape), np.full(shape, IGNORED), symmetric=True)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(shape))


def test_small_steps_of_many_pixels_are_exact():
    """A float32 difference of two Jaccard indices would lose all of these."""
    n = 2**20
    labels, logits = np.zeros(n, np.uint8), np.full(n, 0.75, np.float32)
    labels[: n // 2], logits[: n // 2] = 1, 0.5
    value, gradient = _value_and_gradient(logits, labels)
    # First all false pixels, of error 1.75: the index falls to 1/2; then the persons', of 0.5.
    np.testing.assert_allclose(value, 0.5 * 2.75 + 0.5 * 1.5, rtol=1e-5)
    assert np.count_nonzero(gradient) == n


def test_a_broken_pixel_that_counts_is_seen():
    assert np.isnan(_value_and_gradient([1.0, np.nan], [1, 0])[0])


def test_lovasz_compiles_with_unknown_sizes(rng):
    logits = rng.normal(size=(2, 5, 6)).astype(np.float32)
    labels = rng.choice([0, 1, IGNORED], size=logits.shape).astype(np.int32)
    shape = [None, None, None]

    @tf.function(
        input_signature=[tf.TensorSpec(shape), tf.TensorSpec(shape, tf.int32)],
        jit_compile=True,
        autograph=False,
    )
    def compiled(logits, labels):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = lovasz_hinge(logits, labels, symmetric=True)
        return loss, tape.gradient(loss, logits)

    expected = _value_and_gradient(logits, labels, symmetric=True)
    for one, other in zip(compiled(logits, labels), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_dice_by_hand():
    logits = tf.constant([[0.0, 0.0], [0.0, 0.0]], shape=[1, 1, 2, 2])
    labels = np.array([[1, 0], [1, 255]]).reshape(1, 1, 2, 2)
    term = dice_term(logits, labels, [[1]])
    np.testing.assert_allclose(term.total, 1 - 2 * 1.0 / (0.75 + 2), rtol=1e-4)
    assert term.count == 1


def test_dice_is_a_mean_over_valid_masks(rng):
    logits = rng.normal(size=(2, 3, 5, 6)).astype(np.float32)
    labels = rng.choice([0, 1, IGNORED], size=logits.shape)
    valid = np.array([[1, 0, 1], [0, 0, 1]])
    alone = [dice_term(logits[i : i + 1, j : j + 1], labels[i : i + 1, j : j + 1], [[1]]).total
             for i, j in np.argwhere(valid)]  # fmt: skip
    logits[valid == 0] = np.nan
    logits[labels == IGNORED] = np.nan
    source = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(source)
        term = dice_term(source, labels, valid)
    np.testing.assert_allclose(term.mean(), np.mean(alone), rtol=1e-6)
    gradient = tape.gradient(term.total, source).numpy()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    np.testing.assert_array_equal(gradient[valid == 0], 0)
    np.testing.assert_array_equal(gradient[labels == IGNORED], 0)


def test_dice_falls_from_one_to_zero(rng):
    labels = (rng.random((1, 2, 8, 8)) < 0.5).astype(np.uint8)
    right = 20.0 * (2.0 * labels - 1)
    assert dice_term(right, labels, [[1, 1]]).mean() < 1e-4
    assert dice_term(-right, labels, [[1, 1]]).mean() > 1 - 1e-4
    assert dice_term(tf.zeros([0, 2, 8, 8]), tf.zeros([0, 2, 8, 8]), tf.zeros([0, 2])).mean() == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="labels"):
        lovasz_hinge(tf.zeros([3]), tf.zeros([2], tf.int32))
    with pytest.raises(ValueError, match="is_valid"):
        dice_term(tf.zeros([1, 2, 3, 3]), tf.zeros([1, 2, 3, 3]), [[1]])
