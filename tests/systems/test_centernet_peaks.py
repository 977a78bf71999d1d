"""Peaks of heat maps: neighbours, plateaus, exact top k in two rounds, reading cells."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.centernet import peaks


def _neighbourhood_max(maps, kernel):
    """Largest value around each cell, written out."""
    r = kernel // 2
    padded = np.pad(maps, [(0, 0), (r, r), (r, r), (0, 0)], constant_values=-np.inf)
    height, width = maps.shape[1:3]
    shifted = [
        padded[:, i : i + height, j : j + width] for i in range(kernel) for j in range(kernel)
    ]
    return np.max(shifted, axis=0)


def _brute_top_k(maps, k):
    """Scores and cells by sorting everything, `[B, C, k]`."""
    flat = np.moveaxis(maps.reshape(maps.shape[0], -1, maps.shape[3]), 2, 1)
    order = np.argsort(-flat, axis=2, kind="stable")[..., :k]
    return np.take_along_axis(flat, order, axis=2), order


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_only_the_largest_of_a_neighbourhood_stays(rng, kernel):
    maps = rng.integers(-3, 4, [2, 9, 11, 3]).astype(np.float32)  # many plateaus
    expected = np.where(_neighbourhood_max(maps, kernel) == maps, maps, 0)
    np.testing.assert_array_equal(peaks.suppress_non_peaks(maps, kernel), expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_maps_of_one_row_or_column(rng, shape):
    maps = rng.random((2, *shape, 3)).astype(np.float32)
    expected = np.where(_neighbourhood_max(maps, 3) == maps, maps, 0)
    np.testing.assert_array_equal(peaks.suppress_non_peaks(maps), expected)
    scores, cells = peaks.top_k_per_channel(maps, 5)
    n = min(5, shape[0] * shape[1])
    expected, order = _brute_top_k(maps, n)
    np.testing.assert_array_equal(scores[..., :n], expected)
    np.testing.assert_array_equal(cells[..., :n], order)
    np.testing.assert_array_equal(scores[..., n:], 0)
    assert np.all(cells < shape[0] * shape[1])


@pytest.mark.parametrize("kernel", [0, 2, -3])
def test_a_neighbourhood_has_a_middle(kernel):
    with pytest.raises(ValueError, match=f"kernel={kernel}"):
        peaks.suppress_non_peaks(tf.zeros([1, 4, 4, 1]), kernel)


# fewer and more cells than blocks, not divisible, larger than one block
@pytest.mark.parametrize("shape", [(4, 4), (13, 17), (32, 40), (5, 99)])
@pytest.mark.parametrize("k", [1, 7, 16])
def test_top_k_of_each_channel_is_exact(rng, shape, k):
    n = shape[0] * shape[1]
    maps = rng.permutation(3 * 2 * n).reshape(2, *shape, 3).astype(np.float32) - 2 * n
    scores, cells = peaks.top_k_per_channel(maps, k)
    expected, order = _brute_top_k(maps, k)
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(cells, order)


def test_equal_scores_are_all_found(rng):
    """More of them in one block than others have in all."""
    maps = np.zeros([1, 16, 16, 1], np.float32)
    maps[0, 3, 2:12] = 0.5
    maps[0, 9, 9] = 0.25
    scores, cells = peaks.top_k_per_channel(maps, 11)
    np.testing.assert_array_equal(scores[0, 0], [0.5] * 10 + [0.25])
    assert sorted(cells[0, 0].numpy()[:10]) == [3 * 16 + x for x in range(2, 12)]


def test_top_k_over_channels(rng):
    maps = rng.permutation(2 * 12 * 9 * 4).reshape(2, 12, 9, 4).astype(np.float32)
    scores, cells, channels = peaks.top_k_over_channels(maps, 20)
    expected, order = _brute_top_k(maps.reshape(2, -1, 1, 1), 20)
    np.testing.assert_array_equal(scores, expected[:, 0])
    np.testing.assert_array_equal(cells, order[:, 0] // 4)
    np.testing.assert_array_equal(channels, order[:, 0] % 4)


def test_top_k_must_be_positive():
    with pytest.raises(ValueError, match="k=0"):
        peaks.top_k_per_channel(tf.zeros([1, 4, 4, 1]), 0)


def test_empty_batch():
    maps = tf.zeros([0, 8, 8, 3])
    assert peaks.suppress_non_peaks(maps).shape == (0, 8, 8, 3)
    assert [x.shape for x in peaks.top_k_over_channels(maps, 5)] == [(0, 5)] * 3
    assert peaks.gather_cells(maps, tf.zeros([0, 5], tf.int32)).shape == (0, 5, 3)


def test_gather_reads_rows_and_adds_up_gradients(rng):
    maps, cells = tf.constant(rng.normal(size=(2, 3, 4, 5)), tf.float32), [[0, 5, 5], [11, 2, 0]]
    with tf.GradientTape() as tape:
        tape.watch(maps)
        values = peaks.gather_cells(maps, cells)
    np.testing.assert_array_equal(values[0, 1], maps[0, 1, 1])
    np.testing.assert_array_equal(values[1, 0], maps[1, 2, 3])
    gradient = tf.convert_to_tensor(tape.gradient(values, maps)).numpy()
    assert (gradient[0, 1, 1] == 2).all() and gradient.sum() == 2 * 3 * 5
    xy = peaks.cell_coordinates(tf.constant(cells), 4)
    np.testing.assert_array_equal(xy[1], [[3, 2], [2, 0], [0, 0]])


@pytest.mark.parametrize("jit_compile", [None, True])
def test_sizes_may_be_unknown(rng, jit_compile):
    n_traces = []

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, None, 3])],
        jit_compile=jit_compile,
        autograph=False,
    )
    def found(maps):
        n_traces.append(1)
        return peaks.top_k_per_channel(peaks.suppress_non_peaks(maps), 6)

    for shape in [(2, 9, 7), (1, 3, 1)]:
        maps = rng.random((*shape, 3)).astype(np.float32)
        expected = peaks.top_k_per_channel(peaks.suppress_non_peaks(maps), 6)
        np.testing.assert_array_equal(found(maps)[0], expected[0])
    assert len(n_traces) == 1
