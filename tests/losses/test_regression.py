"""Absolute and squared errors: counts as in the release, masks, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses.regression import (
    COUNT_EPSILON,
    count_of,
    dense_l1_term,
    expected_dense_count,
    l1_term,
    mean_square_term,
    smooth_l1,
    smooth_l1_term,
    weighted_l1_term,
)

_PER_VECTOR = [l1_term, smooth_l1_term]


def _smooth_weighted(predicted, true, is_valid):
    return weighted_l1_term(predicted, true, is_valid, smooth=True)


def _gradient(term_fn, predicted, *others):
    predicted = tf.constant(predicted, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        term = term_fn(predicted, *others)
        mean = term.mean()
    return mean.numpy(), tape.gradient(mean, predicted).numpy()


def _mask_of(term_fn, valid):
    """The mask in the form that a term takes: per vector or per number."""
    is_per_vector = term_fn in _PER_VECTOR
    return valid if is_per_vector else np.broadcast_to(valid[..., np.newaxis], [*valid.shape, 3])


def test_l1_divides_by_all_numbers_of_valid_vectors():
    true = np.zeros([1, 3, 2], np.float32)
    predicted = np.array([[[1.0, -3.0], [7.0, 7.0], [0.5, 0.0]]])
    mean, gradient = _gradient(l1_term, predicted, true, [[1, 0, 1]])
    count = 4 + COUNT_EPSILON
    np.testing.assert_allclose(mean, 4.5 / count, rtol=1e-6)
    expected = np.array([[[1, -1], [0, 0], [1, 0]]]) / count
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_smooth_l1_divides_by_valid_vectors():
    true = np.zeros([1, 3, 2], np.float32)
    predicted = np.array([[[1.0, -3.0], [7.0, 7.0], [0.5, 0.0]]])
    mean, gradient = _gradient(smooth_l1_term, predicted, true, [[1, 0, 1]])
    count = 2 + COUNT_EPSILON
    np.testing.assert_allclose(mean, (0.5 + 2.5 + 0.125) / count, rtol=1e-6)
    expected = np.array([[[1, -1], [0, 0], [0.5, 0]]]) / count
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize(("smooth", "total"), [(False, 4.0), (True, 0.5 + 2.5)])
def test_weighted_l1_has_a_mask_per_number(smooth, total):
    true = np.zeros([1, 2, 2], np.float32)
    predicted, mask = np.array([[[1.0, 9.0], [3.0, 9.0]]]), np.array([[[1, 0], [1, 0]]])
    term = weighted_l1_term(predicted, true, mask, smooth=smooth)
    np.testing.assert_allclose(term.total, total)
    np.testing.assert_allclose(term.count, 2 + COUNT_EPSILON)


def test_dense_l1_is_weighted():
    predicted = tf.constant([3.0, 5.0, 7.0], shape=[1, 1, 3, 1])
    true, weights = tf.ones([1, 1, 3, 1]), tf.constant([0.5, 0.25, 0.0], shape=[1, 1, 3, 1])
    mean, gradient = _gradient(dense_l1_term, predicted, true, weights)
    np.testing.assert_allclose(mean, 2 / (0.75 + COUNT_EPSILON), rtol=1e-6)
    expected = np.array([0.5, 0.25, 0]) / (0.75 + COUNT_EPSILON)
    np.testing.assert_allclose(gradient.ravel(), expected, rtol=1e-6)
    np.testing.assert_allclose(expected_dense_count(weights), 0.75 + COUNT_EPSILON)


def test_mean_square_is_over_all_entries(rng):
    predicted, true = rng.normal(size=(2, 2, 3, 4, 5)).astype(np.float32)
    mean, gradient = _gradient(mean_square_term, predicted, true)
    np.testing.assert_allclose(mean, np.mean((predicted - true) ** 2), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * (predicted - true) / true.size, rtol=1e-5)


def test_smooth_l1_joins_its_pieces():
    errors = tf.constant([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    with tf.GradientTape() as tape:
        tape.watch(errors)
        values = smooth_l1(errors)
    np.testing.assert_allclose(values, [1.5, 0.5, 0.125, 0, 0.125, 0.5, 2.5])
    np.testing.assert_allclose(tape.gradient(values, errors), [-1, -1, -0.5, 0, 0.5, 1, 1])
    assert np.isnan(smooth_l1(tf.constant(np.nan)))


@pytest.mark.parametrize("term_fn", [*_PER_VECTOR, weighted_l1_term, _smooth_weighted])
@pytest.mark.parametrize("where", ["predicted", "true"])
def test_nan_that_is_masked_moves_nothing(rng, term_fn, where):
    predicted, true = rng.normal(size=(2, 2, 5, 3)).astype(np.float32)
    valid = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 0, 1]])
    mask = _mask_of(term_fn, valid)
    expected, expected_gradient = _gradient(term_fn, predicted, true, mask)
    broken = {"predicted": predicted.copy(), "true": true.copy()}
    broken[where][valid == 0] = np.nan
    mean, gradient = _gradient(term_fn, broken["predicted"], broken["true"], mask)
    assert mean == expected > 0
    np.testing.assert_array_equal(gradient, expected_gradient)
    np.testing.assert_array_equal(gradient[valid == 0], 0)
    broken[where][valid == 1] = np.nan
    assert np.isnan(_gradient(term_fn, broken["predicted"], broken["true"], mask)[0])


def test_nan_of_weight_zero_moves_nothing(rng):
    predicted, true, weights = rng.normal(size=(3, 1, 4, 4, 2)).astype(np.float32)
    weights = np.maximum(weights, 0)
    expected = _gradient(dense_l1_term, predicted, true, weights)
    predicted, true = (np.where(weights == 0, np.nan, x) for x in (predicted, true))
    for one, other in zip(
        _gradient(dense_l1_term, predicted, true, weights), expected, strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert (weights == 0).any() and expected[0] > 0


@pytest.mark.parametrize("term_fn", [*_PER_VECTOR, weighted_l1_term, _smooth_weighted])
@pytest.mark.parametrize("n_images", [0, 2])
def test_nothing_valid_costs_nothing(rng, term_fn, n_images):
    predicted = rng.normal(size=(n_images, 4, 3)).astype(np.float32)
    mask = _mask_of(term_fn, np.zeros([n_images, 4]))
    mean, gradient = _gradient(term_fn, predicted, np.zeros_like(predicted), mask)
    assert mean == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(predicted))


def test_a_slot_that_is_there_twice_counts_twice(rng):
    predicted, true = rng.normal(size=(2, 1, 1, 3)).astype(np.float32)
    one = l1_term(predicted, true, [[1]])
    two = l1_term(np.repeat(predicted, 2, 1), np.repeat(true, 2, 1), [[1, 1]])
    np.testing.assert_allclose(two.total, 2 * one.total, rtol=1e-6)
    np.testing.assert_allclose(two.count, 2 * 3 + COUNT_EPSILON)


def test_float32_under_mixed_precision(rng):
    predicted, true = rng.normal(size=(2, 2, 5, 3)).astype(np.float32)
    half = tf.cast(predicted, tf.float16)
    term = l1_term(half, true, np.ones([2, 5]))
    assert term.total.dtype == tf.float32
    np.testing.assert_array_equal(term.total, l1_term(half.numpy(), true, np.ones([2, 5])).total)


def test_truth_gets_no_gradient(rng):
    true = tf.constant(rng.normal(size=(1, 5, 3)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(true)
        term = l1_term(tf.zeros([1, 5, 3]), true, tf.ones([1, 5]))
    assert tape.gradient(term.total, true) is None
    assert count_of([[True, False], [True, True]]) == 3


def test_compiles_with_unknown_sizes(rng):
    predicted, true = rng.normal(size=(2, 2, 5, 3)).astype(np.float32)
    valid = rng.random((2, 5)) < 0.5
    vectors, mask = tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, None], tf.bool)

    @tf.function(input_signature=[vectors, vectors, mask], jit_compile=True, autograph=False)
    def compiled(predicted, true, mask):
        with tf.GradientTape() as tape:
            tape.watch(predicted)
            mean = smooth_l1_term(predicted, true, mask).mean()
        return mean, tape.gradient(mean, predicted)

    expected = _gradient(smooth_l1_term, predicted, true, valid)
    for one, other in zip(compiled(predicted, true, valid), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("term_fn", [*_PER_VECTOR, weighted_l1_term])
def test_shapes_must_agree(term_fn):
    mask = _mask_of(term_fn, np.ones([2, 4]))
    with pytest.raises(ValueError, match="is_valid"):
        term_fn(tf.zeros([2, 5, 3]), tf.zeros([2, 5, 3]), mask)
    with pytest.raises(ValueError, match="true"):
        term_fn(tf.zeros([2, 4, 3]), tf.zeros([2, 4, 2]), mask)
