"""The Charbonnier length and the uncertainty-weighted norm."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.losses.metric3d import Metric3DLossConfig, uncertainty_norm
from metrabs_like.losses.robust import charbonnier
from metrabs_like.losses.uncertainty import norm_of_square
from tests.geometry.derivatives import assert_gradients_match


def gradient_of(function, x):
    x = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    return tape.gradient(value, x).numpy()


def test_without_smoothing_it_is_the_scaled_length():
    np.testing.assert_allclose(charbonnier([[3.0, 4.0]], 0.0), [5 / np.sqrt(2)], rtol=1e-6)


def test_smoothing_is_zero_at_zero_and_nears_the_length():
    np.testing.assert_allclose(charbonnier([[0.0, 0.0, 0.0]], 0.02), [0.0], atol=1e-8)
    np.testing.assert_allclose(charbonnier([[3e3, 4e3]], 0.02), [5e3 / np.sqrt(2)], rtol=1e-4)


@pytest.mark.parametrize("x", [[[0.0, 0.0]], [[1e-30, 0.0]], [[1e30, 1e30]]])
def test_gradient_is_zero_at_the_singular_points(x):
    np.testing.assert_array_equal(gradient_of(lambda x: charbonnier(x, 0.0), x), [[0.0, 0.0]])


def test_nan_stays_nan():
    assert np.isnan(charbonnier([[np.nan, 0.0]], 0.0))


def test_other_axes_and_kept_dimensions(rng):
    x = rng.normal(size=(2, 3, 4))
    expected = charbonnier(np.moveaxis(x, 1, -1), 0.1)
    np.testing.assert_allclose(charbonnier(x, 0.1, axis=1), expected)
    assert charbonnier(x, 0.1, axis=1, keepdims=True).shape == (2, 1, 4)


@pytest.mark.parametrize("epsilon", [0.0, 0.02])
def test_charbonnier_gradients_match_finite_differences(rng, epsilon):
    x = rng.normal(size=(4, 3))
    assert_gradients_match(lambda x: tf.reduce_sum(charbonnier(x, epsilon) ** 2), [x])


def test_likelihood_by_hand():
    config = Metric3DLossConfig(beta_nll=0.5)
    value = uncertainty_norm([[3.0, 4.0]], [0.25], config)
    expected = (20 / np.sqrt(2) + np.sqrt(2) * np.log(0.25)) * 0.5
    np.testing.assert_allclose(value, [expected], rtol=1e-6)
    fixed = Metric3DLossConfig(beta_nll=0.0, fix_uncert_factor=True)
    expected = 20 / np.sqrt(2) + np.log(0.25) / np.sqrt(2)
    np.testing.assert_allclose(uncertainty_norm([[3.0, 4.0]], [0.25], fixed), [expected], rtol=1e-6)


def test_the_likelihood_is_best_where_uncertainty_equals_the_error():
    # |x| / (sqrt(D) u) + log(u) / sqrt(D) is least at u = |x|.
    config = Metric3DLossConfig(beta_nll=0.0, fix_uncert_factor=True)
    scales = np.exp(np.linspace(-2, 4, 601)).astype(np.float32)
    x = np.tile(np.float32([[3.0, 4.0, 0.0]]), (601, 1))
    best = scales[np.argmin(uncertainty_norm(x, scales, config))]
    assert best == pytest.approx(5.0, rel=0.02)


def test_without_uncertainty_the_norm_is_smoothed():
    expected = charbonnier([[0.3, 0.4]], 0.02)
    for config in (Metric3DLossConfig(), Metric3DLossConfig(charb_eps=0.5, nll_loss=False)):
        np.testing.assert_allclose(uncertainty_norm([[0.3, 0.4]], None, config), expected)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("nll", [True, False])
def test_squares_give_the_same_norm(rng, beta, nll):
    config = Metric3DLossConfig(beta_nll=beta, nll_loss=nll, charb_eps=0.01)
    x, uncert = rng.normal(size=(5, 3)), np.exp(rng.normal(size=5))
    square = tf.reduce_sum(x**2, axis=-1)
    expected = uncertainty_norm(x, uncert, config)
    np.testing.assert_allclose(norm_of_square(square, uncert, 3, config), expected)


def test_an_overflowing_square_has_no_gradient():
    config = Metric3DLossConfig()
    square, uncert = tf.constant([1e38, np.inf]), tf.constant([1e-3, 0.1])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([square, uncert])
        loss = norm_of_square(square, uncert, 3, config)
        frozen = tf.reduce_sum(tf.where([False, False], loss, 0.0))
    assert np.isinf(loss).all()
    for gradient in tape.gradient(frozen, [square, uncert]):
        np.testing.assert_array_equal(gradient, [0.0, 0.0])


def test_likelihood_gradients_match_finite_differences(rng):
    config = Metric3DLossConfig(beta_nll=0.0)
    x, uncert = rng.normal(size=(4, 3)), np.exp(rng.normal(size=4))
    assert_gradients_match(lambda x, u: tf.reduce_sum(uncertainty_norm(x, u, config)), [x, uncert])


@pytest.mark.parametrize(
    ("field", "value"), [("box_size_m", 0.0), ("charb_eps", -1.0), ("absloss_start_step", -5)]
)
def test_bad_options_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}"):
        Metric3DLossConfig(**{field: value})
    with pytest.raises(ValueError, match="epsilon=-1"):
        charbonnier([[1.0]], -1.0)
