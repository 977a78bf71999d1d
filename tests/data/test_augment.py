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
