import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import augment, pipeline

CONFIG = pipeline.PipelineConfig(max_roll_degrees=10, max_scale=0.25, max_shift=0.1)


def test_draws_belong_to_the_example_not_to_the_batch():
    whole = augment.uniform_per_example(5, tf.range(20, dtype=tf.int64)).numpy()
    part = augment.uniform_per_example(5, tf.range(7, 12, dtype=tf.int64)).numpy()
    np.testing.assert_array_equal(part, whole[7:12])
    assert len(np.unique(whole)) > 150
    other = augment.uniform_per_example(6, tf.range(20, dtype=tf.int64)).numpy()
    assert not np.any(other == whole)
    assert augment.uniform_per_example(5, tf.zeros([0], tf.int64)).shape == (0, 8)


@pytest.mark.parametrize("mapped", [False, True])
def test_geometric_draws_fill_their_ranges(mapped):
    numbers = tf.range(4000, dtype=tf.int64)
    if mapped:
        dataset = tf.data.Dataset.from_tensors(numbers)
        draws = next(iter(dataset.map(lambda n: augment.draw_geometric(1, n, CONFIG))))
    else:
        draws = augment.draw_geometric(1, numbers, CONFIG)
    draws = {name: value.numpy() for name, value in draws.items()}
    for name, low, high in (
        ("roll", -np.radians(10), np.radians(10)),
        ("scale", 0.8, 1.25),
        ("shift", -0.1, 0.1),
    ):
        assert low <= draws[name].min() < low + 0.02 * (high - low)
        assert high >= draws[name].max() > high - 0.02 * (high - low)
    assert 0.45 < draws["mirror"].mean() < 0.55
    assert abs(np.corrcoef(draws["roll"], draws["scale"])[0, 1]) < 0.06


def draw_placement(n, partial, full, key=7):
    draws = augment.draw_placement(
        key,
        tf.range(n, dtype=tf.int64),
        partial_probability=partial,
        full_rotation_probability=full,
    )
    return {name: value.numpy() for name, value in draws.items()}


def test_placement_shares_and_ranges():
    draws = draw_placement(8000, 0.3, 0.1)
    assert abs(draws["is_partial"].mean() - 0.3) < 0.02
    assert abs(np.mean(draws["full_roll"] != 0) - 0.1) < 0.015
    turned = draws["full_roll"][draws["full_roll"] != 0]
    assert -np.pi <= turned.min() < -3.05 and 3.05 < turned.max() <= np.pi
    assert np.all(draws["part"][~draws["is_partial"]] == [0, 0, 1, 1])
    part = draws["part"][draws["is_partial"]]
    size, end = part[:, 2:], part[:, :2] + part[:, 2:]
    assert 0.35 <= size.min() < 0.36 and 0.99 < size.max() <= 1
    assert part[:, :2].min() >= 0 and end.max() <= 1 + 1e-6
    touches = np.concatenate([part[:, :2] == 0, end > 1 - 1e-6], axis=-1)
    assert np.all(touches.any(axis=-1))
    assert np.all(np.abs(touches.mean(axis=0) - 0.25) < 0.04)
    assert abs(np.corrcoef(size.T)[0, 1]) < 0.08


def test_placement_is_a_stream_of_its_own():
    numbers = tf.range(50, dtype=tf.int64)
    usual = augment.uniform_per_example(7, numbers).numpy()
    angles = draw_placement(50, 0.0, 1.0)["full_roll"]
    assert not np.any(np.isin(((angles / np.pi) + 1) / 2, usual))
    again = augment.draw_placement(
        7, numbers[20:], partial_probability=0.0, full_rotation_probability=1.0
    )
    np.testing.assert_array_equal(again["full_roll"], angles[20:])
    assert not np.any(draw_placement(50, 1.0, 1.0, key=8)["full_roll"] == angles)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_placement_never_and_always(probability):
    draws = draw_placement(300, probability, probability)
    assert np.all(draws["is_partial"] == bool(probability))
    assert np.all((draws["full_roll"] != 0) == bool(probability))
    assert draw_placement(0, 1.0, 1.0)["part"].shape == (0, 4)


def test_partial_box():
    box = tf.constant([[10.0, 20, 40, 80], [1, 2, 3, 4]])
    part = tf.constant([[0.5, 0, 0.5, 0.25], [0, 0, 1, 1]])
    np.testing.assert_allclose(augment.partial_box(box, part), [[30, 20, 20, 20], [1, 2, 3, 4]])


def test_photometric_is_the_same_under_xla(rng):
    images = tf.constant(rng.uniform(size=(4, 8, 8, 3)), tf.float32)
    seed = tf.constant([3, 4])
    plain = augment.photometric(images, seed)
    compiled = tf.function(augment.photometric, jit_compile=True)(images, seed)
    np.testing.assert_allclose(plain, compiled, atol=1e-5)
    assert len(np.unique(plain)) > 500
    assert plain.shape == images.shape and plain.dtype == images.dtype
    assert np.all(plain >= 0) and np.all(plain <= 1)
    other = augment.photometric(images, tf.constant([3, 5]))
    assert np.abs(plain - other).mean() > 0.01
    assert augment.photometric(images[:0], seed).shape == (0, 8, 8, 3)


def test_photometric_treats_each_image_on_its_own_way():
    images = tf.fill([64, 8, 8, 3], 0.5)
    means = tf.reduce_mean(augment.photometric(images, tf.constant([1, 2])), axis=[1, 2, 3]).numpy()
    assert 0.05 < means.std() < 0.25 and abs(means.mean() - 0.5) < 0.08
