"""Heatmap decoding: hand-made peaks, axis order, conversions."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import heatmap
from metrabs_like.geometry.camera import CropGrid
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match


def test_convention_axes_give_the_order_of_coordinates():
    volume = np.zeros((1, 3, 5, 9), np.float32)  # height, width, depth
    volume[0, 2, 1, 4] = 1.0
    coords = heatmap.decode_heatmap(volume, [2, 1, 3])
    np.testing.assert_allclose(coords, [[0.25, 1.0, 0.5]])


def test_first_and_last_bin_are_zero_and_one():
    logits = np.full((2, 1, 4), -1e4, np.float32)
    logits[0, 0, 0] = logits[1, 0, 3] = 1e4
    np.testing.assert_allclose(heatmap.soft_argmax(logits, [2])[:, 0], [[0.0], [1.0]])


def test_a_single_bin_is_the_middle():
    np.testing.assert_allclose(heatmap.soft_argmax(np.zeros((1, 1)), [1]), [[0.5]])


@pytest.mark.parametrize(
    ("args", "endpoint", "expected"),
    [
        ((0.0, 1.0, 5), True, [0, 0.25, 0.5, 0.75, 1]),
        ((3.0, 1.0, 1), True, [2]),
        ((3.0, 1.0, 1), False, [3]),
        ((-1.0, 2.0, 3), False, [-1, 0, 1]),
    ],
)
def test_linspace(args, endpoint, expected):
    np.testing.assert_allclose(heatmap.linspace(*args, endpoint=endpoint), expected)


def test_softmax_runs_over_all_axes_together_and_does_not_overflow(rng):
    logits = rng.normal(size=(2, 3, 4, 5)).astype(np.float32) * 100 + 1e4
    probability = heatmap.softmax_over(logits, [1, 2, 3])
    np.testing.assert_allclose(np.sum(probability, axis=(1, 2, 3)), [1, 1], rtol=1e-5)


def test_mirroring_the_heatmap_mirrors_the_coordinate(rng):
    logits = rng.normal(size=(2, 4, 6)).astype(np.float32)
    x, y = np.moveaxis(heatmap.soft_argmax(logits, [2, 1]).numpy(), -1, 0)
    mirrored_x, mirrored_y = np.moveaxis(
        heatmap.soft_argmax(logits[..., ::-1], [2, 1]).numpy(), -1, 0
    )
    np.testing.assert_allclose(mirrored_x, 1 - x, atol=1e-6)
    np.testing.assert_allclose(mirrored_y, y, atol=1e-6)


def test_decoding_is_float32_under_half_precision_input(rng):
    logits = tf.constant(rng.normal(size=(2, 8, 8)), tf.float16)
    assert heatmap.soft_argmax(logits, [2, 1]).dtype == tf.float32


@pytest.mark.parametrize(
    ("grid", "last", "offset"),
    [
        (CropGrid(256, 32, True), 224, 16),
        (CropGrid(256, 8, False), 248, 0),
        (CropGrid(384, 16, False), 368, 0),
        (CropGrid(257, 32, True), 256, 16),
    ],
)
def test_conversions_to_pixels_and_metres(grid, last, offset):
    coords = np.array([[0.0, 0.5, 0.25], [1.0, 1.0, 1.0]])
    pixels = np.array([[0.0, 0.5], [1, 1]]) * last + offset
    np.testing.assert_allclose(heatmap.heatmap_to_image(coords, grid), pixels)
    metric = np.concatenate([pixels * 2.0 / grid.proc_side, [[0.5], [2.0]]], axis=1)
    np.testing.assert_allclose(heatmap.heatmap_to_metric(coords, grid, 2.0), metric)
    mixed = np.concatenate([pixels, [[0.5], [2.0]]], axis=1)
    np.testing.assert_allclose(heatmap.heatmap_to_25d(coords, grid, 2.0), mixed)


def test_gradients_match_finite_differences(rng):
    weights = rng.normal(size=(1, 3))

    def weighted(logits):
        return tf.reduce_sum(heatmap.soft_argmax(logits, [2, 1, 3]) * weights)

    assert_gradients_match(weighted, [rng.normal(size=(1, 2, 3, 4))])


def test_unknown_shapes_trace_once_and_empty_batches_pass(rng):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32)])
    def decode(logits):
        return heatmap.soft_argmax(logits, [2, 1])

    for shape in ((2, 4, 6), (1, 8, 8), (0, 4, 4)):
        assert decode(tf.constant(rng.normal(size=shape), tf.float32)).shape == (shape[0], 2)
    assert decode.experimental_get_tracing_count() == 1


def test_decoding_compiles_once_over_all_shapes(rng):
    def run(logits):
        coords = heatmap.soft_argmax(logits, [2, 1, 3])
        weights = heatmap.softmax_over(logits, [1, 2])
        return coords, weights, heatmap.decode_heatmap(weights, [2, 1])

    shapes = (2, 4, 6, 5), (1, 8, 8, 1), (0, 4, 6, 5)
    assert_compiles_once(run, [[rng.normal(size=shape).astype(np.float32)] for shape in shapes])


def test_conversions_compile_once_over_all_shapes(rng):
    grid = CropGrid(257, 32)

    def run(coords):
        metric = heatmap.heatmap_to_metric(coords, grid, 2.2)
        return (
            heatmap.heatmap_to_image(coords, grid),
            metric,
            heatmap.heatmap_to_25d(coords, grid, 2.2),
        )

    shapes = (2, 4, 3), (1, 8, 3), (0, 4, 3)
    assert_compiles_once(run, [[rng.uniform(size=shape).astype(np.float32)] for shape in shapes])
