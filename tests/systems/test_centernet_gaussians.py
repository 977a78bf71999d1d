"""Gaussians on maps: hand-made ones, borders, order of people, plain loops as an oracle."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.centernet import gaussians

SIZE = (9, 13)  # height, width


def patch(radius):
    """A Gaussian on a square, by the definition."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.exp(-(x**2 + y**2) / (2 * ((2 * radius + 1) / 6) ** 2))


def drawn_plainly(heatmap, x, y, radius, gaussian=None):
    """Draws one Gaussian cell by cell."""
    gaussian = patch(radius) if gaussian is None else gaussian
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if 0 <= y + dy < heatmap.shape[0] and 0 <= x + dx < heatmap.shape[1]:
                value = np.float32(gaussian[dy + radius, dx + radius])
                heatmap[y + dy, x + dx] = max(heatmap[y + dy, x + dx], value)


def draw(centers, radii, is_drawn=None, size=SIZE, **options):
    """Draws Gaussians of one channel into one map."""
    centers = np.array(centers, np.float32)[np.newaxis, :, np.newaxis]
    is_drawn = np.ones(centers.shape[1], bool) if is_drawn is None else np.array(is_drawn)
    radii = np.array(radii, np.int32)[np.newaxis]
    is_drawn = is_drawn[np.newaxis, :, np.newaxis]
    maps = gaussians.draw_umich_gaussians(centers, radii, is_drawn, size, **options)
    assert maps.dtype == tf.float32
    return maps.numpy()[0, ..., 0]


def test_radius_by_hand():
    # The third root: (-28 + sqrt(28^2 + 4 * 2.8 * 30)) / 2.
    np.testing.assert_allclose(gaussians.gaussian_radius(10, 10), 2.7332005, atol=1e-6)
    np.testing.assert_array_equal(gaussians.gaussian_radius([0, 0], [0, 5]), [0, 0])


def test_radius_is_symmetric_and_proportional(rng):
    height, width = rng.uniform(0, 200, (2, 50))
    radius = gaussians.gaussian_radius(height, width)
    assert radius.dtype == tf.float64
    np.testing.assert_allclose(gaussians.gaussian_radius(width, height), radius, atol=1e-9)
    np.testing.assert_allclose(gaussians.gaussian_radius(3 * height, 3 * width), 3 * radius)
    assert np.all(gaussians.gaussian_radius(height, width, 0.5) > radius)


def test_gaussian_patch():
    np.testing.assert_allclose(gaussians.gaussian2D(2), patch(2), rtol=1e-14)
    narrow = gaussians.gaussian2D(4, 0.4).numpy()
    assert narrow[4, 4] == 1 and narrow[4, 0] == 0  # exp(-50) is below the precision
    assert gaussians.gaussian2D(0).numpy() == 1


def test_convention_centres_are_x_y():
    heatmap = draw([[10.0, 3.0]], [0])
    np.testing.assert_array_equal(np.argwhere(heatmap), [[3, 10]])


@pytest.mark.parametrize(
    ("center", "cell"),
    [
        ((6.9, 4.99), (6, 4)),  # truncated, not rounded
        ((0.0, 8.0), (0, 8)),
        ((-0.9, 2.0), (0, 2)),  # towards zero
        ((-1.5, 2.0), (-1, 2)),
        ((14.0, -2.0), (14, -2)),  # outside, but near enough to show
        ((40.0, 4.0), (40, 4)),
        ((6.0, -1e9), (6, -10000)),
    ],
)
def test_gaussians_are_clipped_at_the_border(center, cell):
    expected = np.zeros(SIZE, np.float32)
    drawn_plainly(expected, *cell, 3)
    np.testing.assert_allclose(draw([center], [3]), expected, atol=2e-7)


def test_where_gaussians_meet_the_largest_counts(rng):
    centers, radii = rng.integers(-2, 14, (8, 2)), rng.integers(0, 5, 8)
    expected = np.zeros(SIZE, np.float32)
    for (x, y), radius in zip(centers, radii, strict=True):
        drawn_plainly(expected, x, y, radius)
    found = draw(centers, radii)
    np.testing.assert_allclose(found, expected, atol=2e-7)
    np.testing.assert_array_equal(found == 1, expected == 1)
    np.testing.assert_array_equal(draw(centers[::-1], radii[::-1]), found)


def test_peaks_have_the_asked_for_height():
    heatmap = draw([[2.0, 2.0], [10.0, 5.0]], [4, 2], k=np.array([[0.7, 1.0]]))
    assert heatmap[2, 2] == np.float32(0.7) and heatmap[5, 10] == 1
    np.testing.assert_allclose(heatmap[2, 3] / heatmap[2, 2], patch(4)[4, 5], rtol=1e-6)


def test_what_is_not_drawn_may_be_anything():
    found = draw([[np.nan, 3.0], [5.0, 3.0], [np.inf, -np.inf]], [2, 1, 7], [False, True, False])
    np.testing.assert_array_equal(found, draw([[5.0, 3.0]], [1]))


def test_channels_share_their_persons_radius(rng):
    centers = rng.uniform(0, 9, (2, 3, 4, 2)).astype(np.float32)
    radii = rng.integers(1, 4, (2, 3)).astype(np.int32)
    is_drawn = rng.uniform(size=(2, 3, 4)) < 0.7
    maps = gaussians.draw_umich_gaussians(centers, radii, is_drawn, SIZE)
    assert maps.shape == (2, *SIZE, 4)
    for b in range(2):
        for c in range(4):
            expected = draw(centers[b, :, c], radii[b], is_drawn[b, :, c])
            np.testing.assert_array_equal(maps[b, ..., c], expected)


def msra_plainly(centers, sigma, size):
    heatmap = np.zeros(size, np.float32)
    for center, deviation in zip(centers, sigma, strict=True):
        y, x = np.mgrid[: size[0], : size[1]]
        dx, dy = (grid - int(c + 0.5) for grid, c in zip((x, y), center, strict=True))
        gaussian = np.exp(-(dx**2 + dy**2) / (2 * deviation**2))
        reach = 3 * deviation
        is_inside = (np.abs(dx) <= reach) & (np.abs(dy) <= reach)
        heatmap = np.maximum(heatmap, np.where(is_inside, gaussian, 0))
    return heatmap


@pytest.mark.parametrize("size", [(12, 12), (8, 20), (20, 8)])
def test_gaussians_of_fixed_width_on_maps_of_any_shape(rng, size):
    centers = rng.uniform(-4, 24, (6, 2)).astype(np.float32)
    sigma = np.array([1, 2, 3, 1, 2, 1], np.int32)
    is_drawn = np.ones((1, 6, 1), bool)
    found = gaussians.draw_msra_gaussians(centers[None, :, None], sigma[None], is_drawn, size)
    expected = msra_plainly(centers, sigma, size)
    assert expected.max() > 0.5
    np.testing.assert_allclose(found[0, ..., 0], expected, atol=3e-7)


def dense_arguments(rng, n_images=2, n_people=6, n_joints=3):
    return [
        rng.integers(0, 9, (n_images, n_people, 2)).astype(np.int32),
        rng.integers(0, 5, (n_images, n_people)).astype(np.int32),
        rng.normal(size=(n_images, n_people, n_joints, 2)).astype(np.float32),
        rng.uniform(size=(n_images, n_people)) < 0.8,
        rng.uniform(size=(n_images, n_people, n_joints)) < 0.7,
    ]


def dense_plainly(centers, radii, values, is_object, is_valid, is_offset):
    """One image: person by person, as the released code does."""
    heatmap, dense = np.zeros(SIZE, np.float32), np.zeros((*SIZE, values.shape[1], 2), np.float32)
    for n in np.flatnonzero(is_object):
        (cx, cy), radius = centers[n], radii[n]
        before = heatmap.copy()
        for dy in range(-radius, radius + 1):
            for dx in range(-radius, radius + 1):
                x, y = cx + dx, cy + dy
                if not (0 <= y < SIZE[0] and 0 <= x < SIZE[1]):
                    continue
                if patch(radius)[dy + radius, dx + radius] >= before[y, x]:
                    vectors = values[n] - (np.float32([dx, dy]) if is_offset else 0)
                    dense[y, x] = np.where(is_valid[n, :, np.newaxis], vectors, dense[y, x])
        drawn_plainly(heatmap, cx, cy, radius)
    return dense


@pytest.mark.parametrize("is_offset", [True, False])
def test_dense_regression_person_by_person(rng, is_offset):
    arguments = dense_arguments(rng)
    found = gaussians.dense_regression(*arguments, SIZE, is_offset=is_offset)
    for image in range(2):
        expected = dense_plainly(*(x[image] for x in arguments), is_offset)
        np.testing.assert_array_equal(found[image], expected)


def dense_of(
    centers, radii, values, is_object=(True, True), is_valid=((True,), (True,)), **options
):
    arguments = [np.array(x)[np.newaxis] for x in (centers, radii, values, is_object, is_valid)]
    return gaussians.dense_regression(
        arguments[0], arguments[1], arguments[2].astype(np.float32), *arguments[3:], SIZE, **options
    ).numpy()[0, ..., 0, :]


def test_of_equal_people_the_later_writes_peaks():
    dense = dense_of([[4, 4], [4, 4]], [2, 2], [[[1.0, 2.0]], [[3.0, 4.0]]])
    np.testing.assert_array_equal(dense[4, 4], [3, 4])
    np.testing.assert_array_equal(dense[4, 8], [0, 0])


def test_a_joint_that_is_not_valid_leaves_the_person_before_in_place():
    values = [[[1.0, 2.0]], [[np.nan, np.nan]]]
    dense = dense_of([[4, 4], [4, 4]], [2, 2], values, is_valid=((True,), (False,)))
    np.testing.assert_array_equal(dense[4, 4], [1, 2])
    np.testing.assert_array_equal(dense[3, 5], [0, 3])  # from the cell (5, 3)


def test_people_who_do_not_count_hide_nobody():
    alone = dense_of([[4, 4]], [3], [[[1.0, 2.0]]], (True,), ((True,),))
    beside = dense_of([[5, 4], [4, 4]], [4, 3], [[[9.0, 9.0]], [[1.0, 2.0]]], (False, True))
    np.testing.assert_array_equal(beside, alone)


def test_dense_regression_compares_with_gaussians_of_fixed_width():
    values = [[[1.0, 1.0]], [[2.0, 2.0]]]
    wide, narrow = (
        dense_of([[4, 4], [6, 4]], [4, 4], values, sigma=np.array([[s, s]]), is_offset=False)
        for s in (9, 1)
    )
    assert wide[4, 5, 0] == 1  # exp(-1 / 162) of the first is more than the second's exp(-1 / 4.5)
    assert narrow[4, 5, 0] == 2  # exp(-1 / 2) is less


def test_no_images_and_no_people():
    for n_images, n_people in ((0, 3), (2, 0)):
        centers = np.zeros((n_images, n_people, 5, 2), np.float32)
        radii = np.zeros((n_images, n_people), np.int32)
        is_drawn = np.ones((n_images, n_people, 5), bool)
        for function in (gaussians.draw_umich_gaussians, gaussians.draw_msra_gaussians):
            maps = function(centers, radii, is_drawn, SIZE)
            np.testing.assert_array_equal(maps, np.zeros((n_images, *SIZE, 5)))


@pytest.mark.parametrize("n_people", [3, 0])
def test_one_trace_for_all_batches_and_the_same_under_xla(rng, n_people):
    signature = [
        tf.TensorSpec([None, None, 2], tf.int32),
        tf.TensorSpec([None, None], tf.int32),
        tf.TensorSpec([None, None, 3, 2]),
        tf.TensorSpec([None, None], tf.bool),
        tf.TensorSpec([None, None, 3], tf.bool),
    ]

    def both(centers, radii, values, is_object, is_valid):
        maps = gaussians.draw_umich_gaussians(2 * values, radii, is_valid, SIZE)
        return maps, gaussians.dense_regression(centers, radii, values, is_object, is_valid, SIZE)

    graphs = [
        tf.function(both, signature, autograph=False, jit_compile=jit_compile)
        for jit_compile in (False, True)
    ]
    for n_images in (2, 1):
        arguments = dense_arguments(rng, n_images, n_people)
        plain, compiled = (graph(*arguments) for graph in graphs)
        for ours, expected, eager in zip(compiled, plain, both(*arguments), strict=True):
            assert ours.shape[1:3] == SIZE
            np.testing.assert_allclose(ours, expected, atol=2e-7)
            np.testing.assert_allclose(eager, expected, atol=2e-7)
    assert [graph.experimental_get_tracing_count() for graph in graphs] == [1, 1]
