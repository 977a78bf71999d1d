"""The loss on heatmaps: its target decodes to the true point, its gradient, masks."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry.camera import CropGrid
from metrabs_like.geometry.heatmap import heatmap_to_image, soft_argmax
from metrabs_like.losses.heatmap import expected_heatmap_count, heatmap_term

GRIDS = [
    CropGrid(proc_side=128, stride=16),
    CropGrid(proc_side=256, stride=32, centered_stride=False),
]


def _log_softmax(logits):
    flat = tf.reshape(logits, [*logits.shape[:2], -1])
    return tf.reshape(tf.nn.log_softmax(flat), logits.shape)


def _points_inside(rng, grid, shape):
    last = (grid.proc_side - 1) // grid.stride * grid.stride
    offset = grid.stride // 2 if grid.centered_stride else 0
    return tf.constant(offset + rng.uniform(0, last, [*shape, 2]), tf.float32)


def _optimum(points, grid):
    """Heatmap logits after gradient descent on the loss."""
    n = grid.proc_side // grid.stride
    valid = tf.ones(points.shape[:2], bool)
    logits = tf.Variable(tf.zeros([*points.shape[:2], n, n]))
    for _ in range(400):
        with tf.GradientTape() as tape:
            term = heatmap_term(_log_softmax(logits), points, valid, grid)
        logits.assign_sub(4.0 * tape.gradient(term.total, logits))
    return logits, term


@pytest.mark.parametrize("grid", GRIDS)
def test_optimum_decodes_to_the_point(rng, grid):
    points = _points_inside(rng, grid, (2, 3))
    logits, term = _optimum(points, grid)
    decoded = heatmap_to_image(soft_argmax(logits, [3, 2]), grid)
    np.testing.assert_allclose(decoded, points, atol=0.02 * grid.proc_side)
    assert 0 <= float(term.mean()) < 0.05


def test_flat_heatmap_by_hand():
    grid = GRIDS[0]
    flat = tf.fill([1, 2, 8, 8], -float(np.log(64)))
    points = tf.constant([[[8.0, 8.0], [16.0, 8.0]]])  # on a cell; between two cells
    term = heatmap_term(flat, points, tf.ones([1, 2], bool), grid)
    np.testing.assert_allclose(term.total, np.log(64) + np.log(32), rtol=1e-6)
    assert float(term.count) == 2


def test_gradient_is_heatmap_minus_target(rng):
    grid = GRIDS[0]
    points = tf.constant([[[8.0 + 16 * 3, 8.0 + 16 * 5]]])
    logits = tf.constant(rng.normal(size=[1, 1, 8, 8]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        term = heatmap_term(_log_softmax(logits), points, tf.ones([1, 1], bool), grid)
    target = np.zeros([1, 1, 8, 8])
    target[0, 0, 5, 3] = 1
    expected = np.exp(_log_softmax(logits)) - target
    np.testing.assert_allclose(tape.gradient(term.total, logits), expected, atol=1e-6)


def test_invalid_and_outside_points_do_not_count(rng):
    grid = GRIDS[0]
    points = np.array([[[60.0, 60.0], [np.nan, 3.0], [-50.0, 60.0], [60.0, 127.0]]], np.float32)
    valid = tf.constant([[True, False, True, True]])
    log_heatmap = rng.normal(size=[1, 4, 8, 8]).astype(np.float32)
    log_heatmap[0, 1:] = np.nan
    with tf.GradientTape() as tape:
        heatmaps = tf.constant(log_heatmap)
        tape.watch(heatmaps)
        term = heatmap_term(heatmaps, points, valid, grid)
    gradient = tape.gradient(term.total, heatmaps).numpy()
    alone = heatmap_term(log_heatmap[:, :1], points[:, :1], valid[:, :1], grid)
    np.testing.assert_allclose(term.total, alone.total)
    assert float(term.count) == 1 == float(expected_heatmap_count(points, valid, grid))
    assert np.all(gradient[0, 1:] == 0) and np.abs(gradient[0, 0]).max() > 0


def test_empty_batch():
    empty = tf.zeros([0, 5, 8, 8]), tf.zeros([0, 5, 2]), tf.zeros([0, 5], bool)
    assert float(heatmap_term(*empty, GRIDS[0]).mean()) == 0
