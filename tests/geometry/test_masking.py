"""Masked statistics: hand-computed values, NaN behind the mask, empty batches, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import masking
from tests.geometry.derivatives import assert_gradients_match


def test_mean_over_everything_weighs_examples_by_their_valid_points():
    x = np.array([[1.0, 2.0, 3.0], [10.0, 99.0, 99.0]])
    mask = np.array([[1, 1, 1], [1, 0, 0]], bool)
    assert masking.reduce_mean_masked(x, mask).numpy() == pytest.approx(16 / 4)


def test_convention_reducing_points_and_coordinates_divides_by_points():
    x = np.ones((1, 4, 3))
    mask = np.array([[1, 1, 0, 0]], bool)
    mean = masking.reduce_mean_masked(x, mask, axis=[1, 2])
    np.testing.assert_allclose(mean, [3.0])
    np.testing.assert_allclose(masking.reduce_mean_masked(x, mask), 1.0)


@pytest.mark.parametrize("axis", [None, 1, [1, 2]])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_masked_entries_touch_neither_value_nor_gradient(rng, axis, bad):
    x = rng.normal(size=(3, 5, 3)).astype(np.float32)
    mask = np.ones((3, 5), bool)
    mask[:, 3:] = False
    dirty = np.where(mask[..., None], x, np.float32(bad))
    results = []
    for data in (x, dirty):
        data = tf.constant(data)
        with tf.GradientTape() as tape:
            tape.watch(data)
            mean = tf.reduce_sum(masking.reduce_mean_masked(data, mask, axis) ** 2)
        results.append((mean, tape.gradient(mean, data)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert (results[1][1].numpy()[:, 3:] == 0).all()


def test_nan_at_a_valid_entry_stays_visible():
    x = np.array([[np.nan, 1.0], [2.0, 3.0]], np.float32)
    assert np.isnan(masking.reduce_mean_masked(x, np.ones((2, 2), bool)))
    per_row = masking.reduce_mean_masked(x, np.ones((2, 2), bool), axis=1)
    np.testing.assert_array_equal(np.isnan(per_row), [True, False])


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3)])
@pytest.mark.parametrize("has_mask", [True, False])
def test_nothing_to_average_gives_zero(shape, has_mask):
    mask = np.ones(shape[:2], bool) if has_mask else None
    assert masking.reduce_mean_masked(np.zeros(shape), mask) == 0
    assert masking.reduce_sum_masked(np.zeros(shape), mask) == 0


def test_stdev_is_the_rms_norm_of_deviations(rng):
    x = rng.normal(size=(2, 7, 3))
    mask = rng.uniform(size=(2, 7)) > 0.3
    mean, stdev = masking.mean_stdev_masked(x, mask)
    for i in range(2):
        valid = x[i][mask[i]]
        np.testing.assert_allclose(mean[i, 0], valid.mean(0), rtol=1e-6)
        deviations = np.linalg.norm(valid - valid.mean(0), axis=-1)
        expected = np.sqrt(np.mean(deviations**2) + 1e-10)
        np.testing.assert_allclose(stdev[i, 0, 0], expected, rtol=1e-6)


def test_stdev_without_valid_points_is_the_root_of_epsilon():
    mean, stdev = masking.mean_stdev_masked(np.ones((1, 4, 3)), np.zeros((1, 4), bool))
    np.testing.assert_array_equal(mean, np.zeros((1, 1, 3)))
    np.testing.assert_allclose(stdev, np.full((1, 1, 1), 1e-5), rtol=1e-5)


def test_stdev_about_a_fixed_point():
    x = np.array([[[3.0, 0.0], [0.0, 4.0]]])
    center, stdev = masking.mean_stdev_masked(x, fixed_ref=np.zeros((1, 1, 2)))
    np.testing.assert_array_equal(center, np.zeros((1, 1, 2)))
    np.testing.assert_allclose(stdev[0, 0, 0], np.sqrt(25 / 2), rtol=1e-6)


def test_gradients_match_finite_differences(rng):
    mask = rng.uniform(size=(2, 4)) > 0.3
    x = rng.normal(size=(2, 4, 3))

    def both(x):
        mean, stdev = masking.mean_stdev_masked(x, mask)
        return tf.reduce_sum(mean**3) + tf.reduce_sum(stdev**2)

    assert_gradients_match(both, [x])


def test_coincident_points_have_a_finite_gradient():
    x = tf.ones([1, 4, 3])
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, stdev = masking.mean_stdev_masked(x)
    assert np.isfinite(tape.gradient(stdev, x)).all()


def test_a_mask_of_higher_rank_is_refused():
    with pytest.raises(ValueError, match="`is_valid` has rank 3, more than the data's 2"):
        masking.reduce_mean_masked(np.zeros((2, 3)), np.ones((2, 3, 1), bool))
