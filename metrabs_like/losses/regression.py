"""Absolute and squared errors of regressed vectors and maps.

Conventions: `predicted` and `true` in one unit (CenterNet: cells); masks select. Float32. The
released code adds 1e-4 to each count, and so does this: of k micro-batches the counts sum to k *
1e-4 more, below the rounding of a count of some dozens.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes
from metrabs_like.losses.terms import LossTerm

#: What the released code adds to a count before it divides.
COUNT_EPSILON = 1e-4


def l1_term(predicted, true, is_valid):
    """Averages absolute errors over the coordinates of valid vectors.

    Args:
      predicted: float `[B, N, C]`.
      true: float `[B, N, C]`.
      is_valid: bool or 0/1 `[B, N]`.

    Returns:
      LossTerm; its count is C * valid vectors + 1e-4.

    Raises:
      ValueError: if shapes disagree.

    Masking: invalid vectors, NaN or not, influence neither value nor gradient. Gradient: the sign
    of the error, 0 for no error.

    References:
      Released code of Objects as Points, `RegL1Loss`.
    """
    predicted, true, is_valid = _checked(predicted, true, is_valid, "B N C", "B N")
    n_coordinates = tf.cast(tf.shape(predicted)[2], tf.float32)
    total = _total(tf.abs, predicted, true, is_valid[..., tf.newaxis])
    return LossTerm(total, n_coordinates * count_of(is_valid) + COUNT_EPSILON, 1.0)


def smooth_l1_term(predicted, true, is_valid):
    """Sums smooth absolute errors of valid vectors; divides by their number.

    The error is d^2 / 2 below 1 and |d| - 1/2 above.

    Args:
      predicted: float `[B, N, C]`.
      true: float `[B, N, C]`.
      is_valid: bool or 0/1 `[B, N]`.

    Returns:
      LossTerm; its count is valid vectors + 1e-4: unlike `l1_term` it does not divide by C.

    Raises:
      ValueError: if shapes disagree.

    Masking and gradient: as `l1_term`; the gradient is the error, cut off at 1.

    References:
      Released code of Objects as Points, `RegLoss`.
    """
    predicted, true, is_valid = _checked(predicted, true, is_valid, "B N C", "B N")
    total = _total(smooth_l1, predicted, true, is_valid[..., tf.newaxis])
    return LossTerm(total, count_of(is_valid) + COUNT_EPSILON, 1.0)


def weighted_l1_term(predicted, true, is_valid, *, smooth=False):
    """Averages absolute errors over valid coordinates, each with a mask of its own.

    Args:
      predicted: float `[B, N, C]`.
      true: float `[B, N, C]`.
      is_valid: bool or 0/1 `[B, N, C]`.
      smooth: whether errors below 1 count as d^2 / 2, larger ones as |d| - 1/2.

    Returns:
      LossTerm; its count is valid coordinates + 1e-4.

    Raises:
      ValueError: if shapes disagree.

    Masking and gradient: as `l1_term`, by coordinate.

    References:
      Released code of Objects as Points, `RegWeightedL1Loss`; the smooth variant is ours.
    """
    predicted, true, is_valid = _checked(predicted, true, is_valid, "B N C", "B N C")
    total = _total(smooth_l1 if smooth else tf.abs, predicted, true, is_valid)
    return LossTerm(total, count_of(is_valid) + COUNT_EPSILON, 1.0)


def dense_l1_term(predicted, true, weights):
    """Averages absolute errors of whole maps, weighted cell by cell.

    Args:
      predicted: float `[B, H, W, C]`.
      true: float `[B, H, W, C]`.
      weights: float >= 0 `[B, H, W, C]`; a cell of weight 0 does not count.

    Returns:
      LossTerm; its total is the sum of |weight * error|, its count the sum of weights + 1e-4.

    Raises:
      ValueError: if shapes disagree.

    Masking: cells of weight 0, NaN or not, influence neither value nor gradient. Gradient: to
    `predicted`, not to the weights.

    References:
      Released code of Objects as Points, `MultiPoseLoss` with `dense_hp`.
    """
    predicted, true, is_valid = _checked(predicted, true, weights, "B H W C", "B H W C")
    weights = tf.stop_gradient(as_float(weights, predicted))
    total = _total(lambda error: weights * tf.abs(error), predicted, true, is_valid)
    return LossTerm(total, expected_dense_count(weights), 1.0)


def mean_square_term(predicted, true):
    """Averages squared errors over all entries.

    Args:
      predicted: float `[B, H, W, C]`.
      true: float `[B, H, W, C]`.

    Returns:
      LossTerm; its count is the number of entries.

    Raises:
      ValueError: if shapes disagree.

    Gradient: to `predicted`.

    References:
      Released code of Objects as Points, `mse_loss`: it compares raw maps, without a sigmoid.
    """
    predicted = as_float(predicted)
    true = as_float(true, predicted)
    check_shapes(predicted=(predicted, "B H W C"), true=(true, "B H W C"))
    total = tf.reduce_sum(tf.square(predicted - tf.stop_gradient(true)))
    return LossTerm(total, tf.cast(tf.size(true), tf.float32), 1.0)


def smooth_l1(error):
    """Returns d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere.

    Args:
      error: float `[...]`.

    Returns:
      `[...]`. Gradient: the error, cut off at 1.
    """
    size = tf.abs(error)
    inner = tf.minimum(size, 1.0)  # NaN stays NaN
    return inner * (size - 0.5 * inner)


def count_of(is_valid):
    """Counts valid entries.

    Args:
      is_valid: bool or 0/1 of any shape.

    Returns:
      float32 scalar.
    """
    return tf.reduce_sum(tf.cast(as_mask(is_valid), tf.float32))


def expected_dense_count(weights):
    """Returns the count of `dense_l1_term`.

    Args:
      weights: float >= 0 of any shape.

    Returns:
      float32 scalar: their sum + 1e-4.
    """
    return tf.reduce_sum(as_float(weights)) + COUNT_EPSILON


def _checked(predicted, true, is_valid, pattern, mask_pattern):
    """Converts the arguments and compares their shapes; the truth gets no gradient."""
    predicted, is_valid = as_float(predicted), as_mask(is_valid)
    true = as_float(true, predicted)
    check_shapes(
        predicted=(predicted, pattern), true=(true, pattern), is_valid=(is_valid, mask_pattern)
    )
    return predicted, tf.stop_gradient(true), is_valid


def _total(penalty, predicted, true, is_valid):
    """Sums the penalty of errors; where invalid, both are selected away before the difference."""
    predicted, true = tf.where(is_valid, predicted, 0.0), tf.where(is_valid, true, 0.0)
    return tf.reduce_sum(penalty(predicted - true))
