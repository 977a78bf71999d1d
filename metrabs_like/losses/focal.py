"""Penalty-reduced focal loss on heat maps whose peaks are exactly 1.

Conventions: logits and heat maps of one shape, any layout; a cell equal to 1 is a positive, one
below 1 a negative. Float32.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.losses.terms import LossTerm

#: Distance that probabilities keep from 0 and 1 in training (released code).
PROBABILITY_MARGIN = 1e-4


def clamped_sigmoid(logits):
    """Returns probabilities that keep away from 0 and 1, so that their logarithm is bounded.

    For training only: at inference the plain sigmoid keeps the order of large logits.

    Args:
      logits: float `[...]`.

    Returns:
      `[...]` float32 in [1e-4, 1 - 1e-4].

    Gradient: that of the sigmoid inside the interval, 0 outside.

    References:
      Zhou et al., Objects as Points; released code, `_sigmoid`.
    """
    logits = as_float(logits)
    return tf.clip_by_value(tf.sigmoid(logits), PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN)


def focal_term(probabilities, heatmap_true):
    """Compares probabilities with a heat map of Gaussians.

    Positives cost -log(p) (1 - p)^2, negatives -log(1 - p) p^2 (1 - heat map)^4, so that cells
    close to a peak cost little. The sum is divided by the number of positives.

    Args:
      probabilities: float `[...]` in (0, 1), see `clamped_sigmoid`.
      heatmap_true: float `[...]`, same shape; exactly 1 at peaks.

    Returns:
      LossTerm. Its count is the number of positives, at least 1 where there are cells at all: a
      batch without a person still trains the background, by its plain sum. So where an update of
      several micro-batches or replicas has some without any positive, each of those counts as one
      positive more, and the mean is smaller than that of one large batch by this share.

    Raises:
      ValueError: if the shapes differ.

    Masking: cells whose truth is above 1 or NaN influence neither value nor gradient. Gradient: to
    the probabilities, none to the heat map.

    References:
      Zhou et al., Objects as Points, eq. 1; Law and Deng, CornerNet, 2018; released code.
    """
    probabilities = as_float(probabilities)
    heatmap_true = as_float(heatmap_true, probabilities)
    _check_same_shape(probabilities, heatmap_true)
    heatmap_true = tf.stop_gradient(heatmap_true)
    is_positive, is_negative = tf.equal(heatmap_true, 1.0), heatmap_true < 1.0
    is_counted = is_positive | is_negative
    # One logarithm serves both kinds, as a cell is of one kind only.
    right = tf.where(is_positive, probabilities, 1.0 - probabilities)
    wrong = tf.where(is_positive, 1.0 - probabilities, probabilities)
    right, wrong = tf.where(is_counted, right, 1.0), tf.where(is_counted, wrong, 0.0)
    weight = tf.where(is_negative, (1.0 - heatmap_true) ** 4, 1.0)
    costs = -tf.math.log(right) * tf.square(wrong) * weight
    return LossTerm(tf.reduce_sum(costs), expected_focal_count(heatmap_true), 1.0)


def expected_focal_count(heatmap_true):
    """Returns the count of `focal_term`, which the truth alone decides.

    Args:
      heatmap_true: float `[...]`; exactly 1 at peaks.

    Returns:
      float32 scalar: the number of peaks, at least 1; 0 for a heat map without cells.
    """
    heatmap_true = as_float(heatmap_true)
    n_positive = tf.reduce_sum(tf.cast(tf.equal(heatmap_true, 1.0), tf.float32))
    return tf.maximum(n_positive, tf.cast(tf.size(heatmap_true) > 0, tf.float32))


def _check_same_shape(probabilities, heatmap_true):
    rank = heatmap_true.shape.rank
    letters = " ".join(chr(ord("a") + i) for i in range(rank or 0))
    check_shapes(probabilities=(probabilities, letters), heatmap_true=(heatmap_true, letters))
