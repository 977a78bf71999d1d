"""The colour augmentation of CenterNet: single steps by hand, and statistics of the draws."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data.appearance.eigen_colour import change_colours, eigen_colour

BRIGHTNESS, CONTRAST, SATURATION = range(3)
LUMA = np.array([0.299, 0.587, 0.114])


def one_step(images, step, alpha):
    """Executes one step; the others change nothing."""
    order = [step, *(other for other in range(3) if other != step)]
    n = len(images)
    return change_colours(images, [order] * n, [[alpha, 1.0, 1.0]] * n, np.zeros((n, 3))).numpy()


def changed_plainly(image, order, alphas, lighting):
    """One image, step by step, in float64."""
    grey = image @ LUMA
    changed = image
    for step, alpha in zip(order, alphas, strict=True):
        fillings = {BRIGHTNESS: 0.0, CONTRAST: grey.mean(), SATURATION: grey[..., np.newaxis]}
        changed = alpha * changed + (1 - alpha) * fillings[step]
    values = np.array([0.2141788, 0.01817699, 0.00341571])
    bgr = np.array(
        [
            [-0.58752847, -0.69563484, 0.41340352],
            [-0.5832747, 0.00994535, -0.81221408],
            [-0.56089297, 0.71832671, 0.41158938],
        ]
    )
    return changed + (bgr @ (values * lighting))[::-1]


@pytest.fixture
def images(rng):
    return rng.uniform(size=(3, 5, 7, 3)).astype(np.float32)


def test_brightness_multiplies_and_does_not_clip(images):
    bright = one_step(images, BRIGHTNESS, 1.4)
    np.testing.assert_allclose(bright, 1.4 * images, rtol=1e-6)
    assert bright.max() > 1


def test_contrast_pulls_to_the_mean_grey_and_keeps_it(images):
    flat = one_step(images, CONTRAST, 0.0)
    mean = (images @ LUMA).mean(axis=(1, 2))
    np.testing.assert_allclose(flat, np.broadcast_to(mean[:, None, None, None], flat.shape), 1e-5)
    strong = one_step(images, CONTRAST, 1.3)
    np.testing.assert_allclose((strong @ LUMA).mean(axis=(1, 2)), mean, rtol=1e-5)
    assert strong.std() > images.std()


def test_saturation_pulls_to_the_pixels_grey_and_keeps_it(images):
    half = one_step(images, SATURATION, 0.5)
    np.testing.assert_allclose(half @ LUMA, images @ LUMA, atol=1e-6)
    grey = one_step(images, SATURATION, 0.0)
    np.testing.assert_allclose(grey, np.repeat((images @ LUMA)[..., None], 3, axis=-1), atol=1e-6)


def test_convention_lighting_is_of_red_green_blue():
    """The first direction is brightness; its weight is largest for blue, which BGR has first."""
    black = np.zeros((1, 1, 1, 3), np.float32)
    added = change_colours(black, [[0, 1, 2]], np.ones((1, 3)), [[-1.0, 0, 0]]).numpy()[0, 0, 0]
    np.testing.assert_allclose(added, 0.2141788 * np.array([0.56089, 0.58327, 0.58753]), rtol=1e-4)


def test_any_order_step_by_step(images, rng):
    orders = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0]])
    alphas, lighting = rng.uniform(0.6, 1.4, (3, 3)), rng.normal(size=(3, 3)) * 0.1
    found = change_colours(images, orders, alphas, lighting)
    for i in range(3):
        expected = changed_plainly(images[i], orders[i], alphas[i], lighting[i])
        np.testing.assert_allclose(found[i], expected, atol=2e-6)
    other = change_colours(images, orders[::-1], alphas, lighting)
    assert np.abs(other[0] - found[0]).max() > 1e-3  # the order counts


def drawn_changes(n):
    """What is drawn for n images, told from two colours: gains, offsets."""
    tile = np.zeros((1, 1, 2, 3), np.float32)
    tile[0, 0, 1] = [1.0, 0.0, 0.0]
    return eigen_colour(np.repeat(tile, n, axis=0), tf.constant([3, 4])).numpy()


def test_draws_have_the_released_strengths():
    found = drawn_changes(20000)
    # A red and a black pixel of an image differ by the product of the alphas, in red alone, and by
    # grey, in all colours.
    difference = found[:, 0, 1] - found[:, 0, 0]
    product = difference[:, 0] - difference[:, 1]
    assert 0.6**3 < product.min() < 0.35 and 2.2 < product.max() < 1.4**3
    assert abs(product.mean() - 1) < 0.01
    assert abs(np.mean(product**2) - (1 + 0.4**2 / 3) ** 3) < 0.02
    # Saturation alone adds that grey: 1 - alpha times the alphas of the steps after it.
    added_grey = difference[:, 1] / 0.299
    assert abs(added_grey.mean()) < 0.01
    square = 1 + 0.4**2 / 3  # mean of alpha^2
    after = (1 + square + square**2) / 3  # none, one or two steps after it
    np.testing.assert_allclose(np.mean(added_grey**2), 0.4**2 / 3 * after, rtol=0.04)
    # Blue and green of the black pixel differ by lighting alone.
    light = found[:, 0, 0, 2] - found[:, 0, 0, 1]
    values = np.array([0.2141788, 0.01817699, 0.00341571])
    weights = np.array([-0.58752847 + 0.5832747, -0.69563484 - 0.00994535, 0.41340352 + 0.81221408])
    np.testing.assert_allclose(light.std(), 0.1 * np.linalg.norm(values * weights), rtol=0.03)
    assert abs(light.mean()) < 0.02 * light.std() + 1e-6


def test_draws_follow_from_the_seed(images):
    seed = tf.constant([1, 2])
    first = eigen_colour(images, seed)
    np.testing.assert_array_equal(eigen_colour(images, seed), first)
    assert np.abs(eigen_colour(images, tf.constant([1, 3])) - first).max() > 1e-3
    equal = eigen_colour(np.repeat(images[:1], 4, axis=0), seed)
    assert len(np.unique(equal[:, 0, 0, 0])) == 4  # each image its own way


def test_the_same_under_xla_and_for_any_batch(images):
    signature = [tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([2], tf.int32)]
    graph = tf.function(eigen_colour, signature, autograph=False, jit_compile=True)
    seed = tf.constant([5, 6])
    np.testing.assert_allclose(graph(images, seed), eigen_colour(images, seed), atol=1e-6)
    assert eigen_colour(images[:0], seed).shape == (0, 5, 7, 3)
    assert eigen_colour(tf.cast(images, tf.float16), seed).dtype == tf.float16
