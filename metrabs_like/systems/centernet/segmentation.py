"""Masks by conditional convolution: each person's centre predicts the filter that finds it.

Conventions: cells of the map; filters are numbered channel * taps + 3 * row + column, correlated
without a flip, zeros beyond the border.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.geometry.boxes import MASK_BOX_FACTOR


def conditional_convolution(features, filters):
    """Convolves each image's features with filters of its own.

    Args:
      features: float `[B, H, W, C]`.
      filters: float `[B, K, C]` (1x1) or `[B, K, 9 * C]` (3x3, K > 0).

    Returns:
      `[B, K, H, W]` float32, logits of K masks.

    Raises:
      ValueError: if the filters are neither 1x1 nor 3x3, or shapes disagree.

    Gradient: to both arguments.

    References:
      Tian et al., Conditional Convolutions for Instance Segmentation, ECCV 2020; released code of
      centerpose, `whole_body_decode`, whose reshape is right for a single image only.
    """
    features, filters = as_float(features), as_float(filters)
    check_shapes(features=(features, "B H W C"), filters=(filters, "B K F"))
    n_channels, n_weights = features.shape[3], filters.shape[2]
    if n_weights not in (n_channels, 9 * n_channels):
        raise ValueError(
            f"`filters` have {n_weights} numbers for {n_channels} channels of `features`: must be "
            f"{n_channels} (1x1) or {9 * n_channels} (3x3)"
        )
    if n_weights == n_channels:
        return _correlated(features, filters)
    batch, n_filters = tf.unstack(tf.shape(filters)[:2])
    kernels = tf.reshape(filters, [batch, n_filters, n_channels, 3, 3])
    kernels = tf.transpose(kernels, [0, 3, 4, 2, 1])
    # One ordinary convolution per image: five times faster, with gradients, than sums of shifts.
    masks = tf.map_fn(
        lambda one: tf.nn.conv2d(one[0][tf.newaxis], one[1], 1, "SAME")[0],
        (_at_least_one(features), _at_least_one(kernels)),
        fn_output_signature=features.dtype,
    )[:batch]
    masks = tf.reshape(masks, tf.concat([tf.shape(features)[:3], [n_filters]], axis=0))
    return tf.transpose(masks, [0, 3, 1, 2])


def inside_boxes(mask_logits, boxes, factor=MASK_BOX_FACTOR):
    """Removes from masks what is far from their boxes.

    Args:
      mask_logits: float `[B, K, H, W]`.
      boxes: float `[B, K, 4]`, x1 y1 x2 y2, cells.
      factor: by which boxes are enlarged about their centres.

    Returns:
      `[B, K, H, W]` bool: logit > 0 and inside.

    Raises:
      ValueError: if shapes disagree.

    Gradient: none, truth values.

    References:
      Released code of centerpose, its viewer.
    """
    mask_logits, boxes = as_float(mask_logits), as_float(boxes)
    check_shapes(mask_logits=(mask_logits, "B K H W"), boxes=(boxes, "B K 4"))
    center = 0.5 * (boxes[..., :2] + boxes[..., 2:])
    half = 0.5 * factor * (boxes[..., 2:] - boxes[..., :2])
    height, width = tf.unstack(tf.shape(mask_logits)[2:])
    is_column = _is_within(center[..., 0], half[..., 0], width)
    is_row = _is_within(center[..., 1], half[..., 1], height)
    return (mask_logits > 0) & is_row[..., tf.newaxis] & is_column[..., tf.newaxis, :]


def _at_least_one(values):
    """Adds an example of zeros to none: results of unknown size cannot be stacked from nothing."""
    n_missing = tf.maximum(1 - tf.shape(values)[0], 0)
    return tf.pad(values, [[0, n_missing], *[[0, 0]] * (values.shape.rank - 1)])


def _correlated(features, filters):
    """Products of all pixels `[B, H, W, C]` with all filters `[B, K, C]`: `[B, K, H, W]`."""
    batch, height, width, _ = tf.unstack(tf.shape(features))
    pixels = tf.reshape(features, [batch, height * width, features.shape[3]])
    products = tf.matmul(filters, pixels, transpose_b=True)
    return tf.reshape(products, [batch, tf.shape(filters)[1], height, width])


def _is_within(center, half, n):
    """Which of n places are within an interval, `[B, K, n]`."""
    distance = tf.abs(tf.range(n, dtype=center.dtype) - center[..., tf.newaxis])
    return distance <= half[..., tf.newaxis]
