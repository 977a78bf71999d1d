"""Placement of whole images: the distributions, told from many draws."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import augment, image_placement
from metrabs_like.data.image_placement import PlacementConfig, draw_placement

N = 20000


def draw(size, n=N, key=3, **settings):
    numbers = tf.range(n, dtype=tf.int64)
    sizes = tf.tile(tf.constant([size], tf.int32), [n, 1])
    draws = draw_placement(key, numbers, sizes, PlacementConfig(**settings))
    return {name: value.numpy() for name, value in draws.items()}


def shares(values):
    distinct, counts = np.unique(values, return_counts=True)
    return dict(zip(distinct, counts / len(values), strict=True))


def test_random_crops_have_eight_equally_likely_sizes():
    found = shares(draw((300, 400))["scale"])
    expected = np.float32(400) * np.arange(6, 14, dtype=np.float32) / 10
    np.testing.assert_allclose(list(found), expected, rtol=1e-6)
    np.testing.assert_allclose(list(found.values()), np.full(8, 1 / 8), atol=0.01)


@pytest.mark.parametrize(
    ("size", "border"),
    [((480, 640), (128, 128)), ((257, 256), (128, 64)), ((100, 20), (32, 8)), ((1, 2), (0, 0))],
)
def test_random_crops_are_centred_on_any_pixel_off_the_border(size, border):
    center = draw(size, flip_probability=0.0)["center"]
    for values, side, width in zip(center.T, size[::-1], border[::-1], strict=True):
        places = np.arange(width, side - width)
        assert len(places) > 0
        found = shares(values)
        np.testing.assert_array_equal(list(found), places)  # every pixel, and only pixels
        error = np.abs(np.array(list(found.values())) - 1 / len(places))
        assert error.max() < 6 * np.sqrt(1 / len(places) / N)


def test_draws_are_independent_of_each_other():
    settings = {"rotate_probability": 0.5, "rotate_degrees": 20.0}
    found = draw((480, 640), **settings)
    center = found["center"].copy()
    center[found["is_mirrored"], 0] = 639 - center[found["is_mirrored"], 0]
    columns = [*center.T, found["scale"], found["angle_degrees"], found["angle_degrees"] != 0]
    correlation = np.corrcoef([*columns, found["is_mirrored"]])
    assert np.abs(correlation - np.eye(6)).max() < 0.03


@pytest.mark.parametrize("random_crop", [True, False])
def test_mirroring_takes_the_centre_along(random_crop):
    plain, mirrored, half = (
        draw((300, 420), 500, random_crop=random_crop, flip_probability=p) for p in (0, 1, 0.5)
    )
    assert mirrored["is_mirrored"].all() and not plain["is_mirrored"].any()
    np.testing.assert_allclose(mirrored["center"][:, 0], 419 - plain["center"][:, 0], atol=1e-4)
    np.testing.assert_array_equal(mirrored["center"][:, 1], plain["center"][:, 1])
    expected = np.where(half["is_mirrored"], mirrored["center"][:, 0], plain["center"][:, 0])
    np.testing.assert_array_equal(half["center"][:, 0], expected)


@pytest.mark.parametrize(("probability", "tolerance"), [(0.0, 0.0), (0.3, 0.02), (1.0, 0.0)])
def test_shares_of_mirrored_and_turned_images(probability, tolerance):
    found = draw(
        (50, 50), rotate_probability=probability, flip_probability=probability, rotate_degrees=10.0
    )
    assert abs(found["is_mirrored"].mean() - probability) <= tolerance
    assert abs(np.mean(found["angle_degrees"] != 0) - probability) <= tolerance


def assert_clipped_normal(values, stdev, limit):
    """Half-normal shares inside, and the tails at the limits, not beyond."""
    values = np.asarray(values, np.float64) / stdev
    np.testing.assert_allclose([values.min(), values.max()], [-limit, limit], rtol=1e-4)
    tail = {2.0: 0.02275, 1.0: 0.15866}[limit]
    for sign in (-1, 1):
        assert abs(np.mean(sign * values > limit - 1e-4) - tail) < 0.008
    assert abs(np.mean(np.abs(values) < 0.5) - 0.38292) < 0.015
    assert abs(np.mean(values < 0) - 0.5) < 0.015


def test_turns_are_normal_and_end_at_two_deviations():
    found = draw((50, 50), rotate_probability=1.0, rotate_degrees=15.0)
    assert_clipped_normal(found["angle_degrees"], 15.0, 2.0)


def test_shift_and_scale_are_normal_and_clipped():
    found = draw((280, 500), random_crop=False, shift=0.1, scale=0.4, flip_probability=0.0)
    center = found["center"] - [250, 140]
    assert_clipped_normal(center[:, 0], 50.0, 2.0)  # shares of the longer side for both axes
    assert_clipped_normal(center[:, 1], 50.0, 2.0)
    assert_clipped_normal(found["scale"] - 500, 200.0, 1.0)
    np.testing.assert_allclose([found["scale"].min(), found["scale"].max()], [300, 700], rtol=1e-5)


def test_nothing_moves_without_shift_and_scale():
    found = draw((60, 41), 50, random_crop=False, shift=0.0, scale=0.0, flip_probability=0.0)
    fixed = image_placement.fixed_placement(tf.constant([[60, 41]] * 50))
    assert set(fixed) == set(found)
    for name, value in fixed.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
        assert found[name].dtype == value.dtype.as_numpy_dtype


def test_fixed_placement_shows_the_whole_image():
    fixed = image_placement.fixed_placement(tf.constant([[205, 310], [4, 1]]))
    np.testing.assert_array_equal(fixed["center"], [[155, 102.5], [0.5, 2]])
    np.testing.assert_array_equal(fixed["scale"], [310, 4])
    np.testing.assert_array_equal(fixed["angle_degrees"], [0, 0])
    np.testing.assert_array_equal(fixed["is_mirrored"], [False, False])


@pytest.mark.parametrize(
    ("size", "border"), [(257, 128), (256, 64), (129, 64), (128, 32), (3, 1), (2, 0), (1, 0)]
)
def test_borders_halve_until_they_fit(size, border):
    assert image_placement.crop_border(tf.constant([size]))[0] == border


def test_draws_belong_to_the_example_and_the_key():
    settings = PlacementConfig(rotate_probability=0.5, rotate_degrees=9.0)
    sizes = tf.constant([[200, 300]] * 12)
    numbers = tf.range(12, dtype=tf.int64)
    whole = draw_placement(4, numbers, sizes, settings)
    part = draw_placement(tf.constant(4, tf.int64), numbers[5:9], sizes[5:9], settings)
    other = draw_placement(5, numbers, sizes, settings)
    for name, value in whole.items():
        np.testing.assert_array_equal(part[name], value[5:9], err_msg=name)
        assert np.any(np.not_equal(other[name], value)), name
    empty = draw_placement(4, numbers[:0], sizes[:0], settings)
    assert empty["center"].shape == (0, 2) and empty["scale"].shape == (0,)


def test_draws_differ_from_those_of_crops():
    numbers = tf.range(2000, dtype=tf.int64)
    found = draw((640, 640), 2000, random_crop=False, flip_probability=0.0)
    for draws in np.transpose(augment.uniform_per_example(3, numbers)):
        assert abs(np.corrcoef(draws, found["center"][:, 0])[0, 1]) < 0.1


def test_draws_in_a_dataset_equal_eager_ones():
    settings = PlacementConfig(random_crop=False, rotate_probability=0.5, rotate_degrees=9.0)
    arguments = tf.range(7, dtype=tf.int64), tf.constant([[90, 70]] * 7)
    dataset = tf.data.Dataset.from_tensors(arguments)
    mapped = next(iter(dataset.map(lambda n, size: draw_placement(1, n, size, settings))))
    eager = draw_placement(1, *arguments, settings)
    for name, value in eager.items():
        np.testing.assert_array_equal(mapped[name], value, err_msg=name)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shift", -0.1),
        ("shift", float("nan")),
        ("scale", 1.0),
        ("scale", -0.5),
        ("rotate_probability", 1.5),
        ("rotate_degrees", float("inf")),
        ("flip_probability", -0.5),
    ],
)
def test_impossible_settings_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}={value}"):
        PlacementConfig(**{field: value})
