"""Supervision of a heatmap itself, beside that of the point decoded from it.

Soft-argmax passes a weak gradient while a heatmap is still flat, so a network that starts from
random weights learns to localize slowly; the cross-entropy of the heatmap has no such phase.

Conventions: crop pixels; cell (row, column) of a heatmap stands for the pixel that
`geometry.heatmap.heatmap_to_image` gives it.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes
from metrabs_like.losses.terms import LossTerm


def heatmap_term(log_heatmap, coords2d_true, point_validity, grid):
    """Measures how far heatmaps are from the sharpest ones that decode to the true points.

    The target spreads a point over its four nearest cells bilinearly, so its mean position is
    exactly the point. The value is the Kullback-Leibler divergence from the target, >= 0, and 0
    where the heatmap is the target.

    Args:
      log_heatmap: float `[B, P, H, W]`, logarithm of heatmaps that sum to 1.
      coords2d_true: float `[B, P, 2]`, px of the crop.
      point_validity: bool `[B, P]`.
      grid: CropGrid.

    Returns:
      LossTerm in nats per point, over the valid points that the heatmap can express.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Masking: points not valid, or outside the area between the outermost cells, influence neither
    value nor gradient, NaN or not. Gradient: heatmap minus target, to the logits.

    References:
      Ours; the intermediate supervision of Sun et al., Integral Human Pose Regression, ECCV 2018,
      sec. 3, with the exact bilinear target.
    """
    log_heatmap, coords2d_true = as_float(log_heatmap), as_float(coords2d_true)
    point_validity = as_mask(point_validity)
    check_shapes(
        log_heatmap=(log_heatmap, "B P H W"),
        coords2d_true=(coords2d_true, "B P 2"),
        point_validity=(point_validity, "B P"),
    )
    n_rows, n_columns = log_heatmap.shape[2:]
    cells, is_inside = _cells(coords2d_true, point_validity, grid, n_rows, n_columns)
    row_weights = _hat(cells[..., 1], n_rows)
    column_weights = _hat(cells[..., 0], n_columns)
    target = row_weights[..., :, tf.newaxis] * column_weights[..., tf.newaxis, :]
    log_heatmap = tf.where(is_inside[..., tf.newaxis, tf.newaxis], log_heatmap, 0.0)
    per_cell = tf.math.xlogy(target, target) - target * log_heatmap
    per_point = tf.where(is_inside, tf.reduce_sum(per_cell, axis=[2, 3]), 0.0)
    return LossTerm(tf.reduce_sum(per_point), _count(is_inside), 1.0)


def expected_heatmap_count(coords2d_true, point_validity, grid):
    """Returns the count of `heatmap_term`, which the targets alone decide.

    Args:
      coords2d_true: float `[B, P, 2]`, px of the crop.
      point_validity: bool `[B, P]`.
      grid: CropGrid.

    Returns:
      float32 scalar.

    Raises:
      ValueError: as `heatmap_term`.
    """
    coords2d_true, point_validity = as_float(coords2d_true), as_mask(point_validity)
    check_shapes(coords2d_true=(coords2d_true, "B P 2"), point_validity=(point_validity, "B P"))
    n_cells = grid.proc_side // grid.stride
    return _count(_cells(coords2d_true, point_validity, grid, n_cells, n_cells)[1])


def _cells(coords2d_true, point_validity, grid, n_rows, n_columns):
    """Positions in cells (x, y) and whether each point is valid and inside; others are at 0."""
    offset = grid.stride // 2 if grid.centered_stride else 0
    last = grid.proc_side - 1
    unit = tf.constant([n_columns - 1, n_rows - 1], tf.float32) / float(last - last % grid.stride)
    cells = (coords2d_true - float(offset)) * unit
    inside = (cells >= 0.0) & (cells <= tf.constant([n_columns - 1, n_rows - 1], tf.float32))
    is_inside = tf.reduce_all(inside, axis=-1) & point_validity
    return tf.where(is_inside[..., tf.newaxis], cells, 0.0), is_inside


def _hat(positions, n_cells):
    """Weights `[..., n_cells]` of linear interpolation at positions `[...]`."""
    distances = tf.abs(positions[..., tf.newaxis] - tf.range(n_cells, dtype=positions.dtype))
    return tf.nn.relu(1.0 - distances)


def _count(is_inside):
    return tf.reduce_sum(tf.cast(is_inside, tf.float32))
