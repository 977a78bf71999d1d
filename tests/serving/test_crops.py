import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import warping
from metrabs_like.serving.crops import render_crops

SIDE = 32


def crop(image, box, *, antialias_factor=1, focal=None):
    """Renders one crop of the box with a camera that looks at it."""
    height, width = image.shape[:2]
    focal = focal or max(height, width)
    intrinsics = tf.constant(
        [[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]], tf.float32
    )
    coeffs = tf.zeros([1, 12])
    turn, crop_k = warping.crop_camera(
        tf.constant([box], tf.float32), intrinsics, coeffs, SIDE, padding=0.0
    )
    arguments = (intrinsics, coeffs, turn, crop_k)
    rendered = render_crops(image[np.newaxis], 0, *arguments, SIDE, tf.constant(antialias_factor))
    return rendered[0].numpy(), arguments


def test_equals_the_training_warp_where_nothing_shrinks(rng):
    image = rng.integers(0, 256, [60, 80, 3]).astype(np.uint8)
    rendered, arguments = crop(image, [20, 10, 24, 24])
    expected = warping.warp_images(image[np.newaxis], *arguments, SIDE)[0]
    np.testing.assert_allclose(rendered, expected, atol=1e-4)


@pytest.mark.parametrize("size", [500, 1013, 2000])
@pytest.mark.parametrize("antialias_factor", [1, 2])
def test_fine_pattern_turns_grey_not_moire(size, antialias_factor):
    stripes = np.arange(size) % 3 * 127
    image = np.repeat(np.tile(stripes.astype(np.uint8)[:, None], [1, size])[..., None], 3, -1)
    rendered, _ = crop(image, [0, 0, size, size], antialias_factor=antialias_factor)
    inside = rendered[4:-4, 4:-4]
    assert np.abs(inside - 127 / 255).max() < 0.06
    plain = warping.warp_images(
        image[np.newaxis], *crop(image, [0, 0, size, size])[1], SIDE
    ).numpy()[0, 4:-4, 4:-4]
    assert np.abs(plain - 127 / 255).max() > 0.3  # what sampling without shrinking would do


def test_shrinking_does_not_shift(draw):
    """The disc's centre stays at its place whatever the size of the photograph."""
    for size in (64, 250, 1001):
        center = np.array([0.4, 0.6]) * size - 0.5
        image = draw(size, size, [center] * 3, size / 12)
        rendered, arguments = crop(image, [0.1 * size, 0.2 * size, 0.7 * size, 0.7 * size])
        y, x = np.mgrid[:SIDE, :SIDE]
        weight = rendered[..., 0]
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        expected = warping.image_to_crop_points(
            tf.constant(center[np.newaxis, np.newaxis], tf.float32), *arguments
        )
        np.testing.assert_allclose(found, expected[0, 0], atol=0.05)


def test_outside_the_image_is_black():
    image = np.full([40, 40, 3], 255, np.uint8)
    rendered, arguments = crop(image, [-40, -40, 80, 80], focal=400)
    points = warping.image_to_crop_points(
        tf.constant([[[0.0, 0.0], [39.0, 39.0]]]), *arguments
    ).numpy()[0]
    first, last = np.ceil(points[0]).astype(int), np.floor(points[1]).astype(int)
    np.testing.assert_allclose(
        rendered[first[1] + 1 : last[1], first[0] + 1 : last[0]], 1, atol=1e-5
    )
    assert not rendered[: first[1] - 1].any() and not rendered[:, : first[0] - 1].any()


def test_tiny_image_is_enlarged():
    image = np.full([2, 3, 3], 51, np.uint8)
    rendered, _ = crop(image, [0, 0, 2, 2])
    assert np.isclose(rendered, 0.2, atol=1e-5).mean() > 0.2
    assert rendered.max() < 0.2001
