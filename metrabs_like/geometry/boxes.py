"""Boxes in images.

Conventions: (x, y, width, height) px, continuous: a box of width 2 spans two pixels.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import check_shapes

MASK_BOX_FACTOR = 1.3
"""Masks end at the box, enlarged by this about its centre; released code of centerpose."""


def pairwise_iou(boxes, others):
    """Returns the intersection over union of every box with every other one.

    Args:
      boxes: float `[B, N, 4]`, px.
      others: float `[B, M, 4]`, px.

    Returns:
      float32 `[B, N, M]`, 0..1; 0 for boxes without area, or with a NaN.

    Raises:
      ValueError: if statically known dimensions disagree.

    Gradient: none is wanted.
    """
    boxes, others = (_without_nan(tf.cast(value, tf.float32)) for value in (boxes, others))
    check_shapes(boxes=(boxes, "B N 4"), others=(others, "B M 4"))
    first, second = boxes[:, :, tf.newaxis], others[:, tf.newaxis]
    low = tf.maximum(first[..., :2], second[..., :2])
    high = tf.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    overlap = tf.maximum(high - low, 0.0)
    shared = overlap[..., 0] * overlap[..., 1]
    areas = [tf.reduce_prod(tf.maximum(box[..., 2:], 0.0), axis=-1) for box in (first, second)]
    union = areas[0] + areas[1] - shared
    is_known = (shared > 0) & (union > 0)
    return tf.where(is_known, shared / tf.where(is_known, union, 1.0), 0.0)


def _without_nan(boxes):
    """Makes boxes that are not finite empty: the minimum with a NaN is not the same everywhere."""
    is_finite = tf.reduce_all(tf.math.is_finite(boxes), axis=-1, keepdims=True)
    return tf.where(is_finite, boxes, 0.0)
