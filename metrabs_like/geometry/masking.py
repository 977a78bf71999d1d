"""Statistics over valid points only.

Conventions: masks are bool; a mask of lower rank than the data gets trailing singleton dimensions.
Invalid entries are selected away before any arithmetic, so that NaN there touches neither value nor
gradient. Nothing valid gives 0.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, as_mask

# Added under the root of a standard deviation: keeps its gradient finite (released code).
STDEV_EPSILON = 1e-10


def _expanded(is_valid, x):
    """Returns the mask with trailing singleton dimensions up to the rank of x."""
    is_valid = as_mask(is_valid)
    if is_valid.shape.rank > x.shape.rank:
        raise ValueError(
            f"`is_valid` has rank {is_valid.shape.rank}, more than the data's {x.shape.rank}: "
            "pass a mask over the leading dimensions of the data."
        )
    for _ in range(x.shape.rank - is_valid.shape.rank):
        is_valid = is_valid[..., tf.newaxis]
    return is_valid


def reduce_sum_masked(x, is_valid=None, axis=None, keepdims=False):
    """Sums the valid entries.

    Args:
      x: float `[...]`.
      is_valid: bool, leading dimensions of `x`, or None for all valid.
      axis: int, list of ints, or None for all.
      keepdims: whether reduced axes stay, with size 1.

    Returns:
      The sum, 0 where nothing is valid. Gradient: 1 at valid entries, 0 elsewhere.
    """
    x = as_float(x)
    if is_valid is not None:
        x = tf.where(_expanded(is_valid, x), x, tf.zeros([], x.dtype))
    return tf.reduce_sum(x, axis, keepdims)


def reduce_mean_masked(x, is_valid=None, axis=None, keepdims=False):
    """Averages the valid entries.

    Without axis and keepdims: the mean over all scalars of all valid entries together. With either
    of them the sum is divided by the number of valid *mask* entries along the axes: reducing points
    and coordinates divides by the number of valid points, not of valid scalars (as the original; it
    makes RMS values those of vector norms).

    Args:
      x: float `[...]`.
      is_valid: bool, leading dimensions of `x`, or None for all valid (an ordinary mean).
      axis: int, list of ints, or None for all.
      keepdims: whether reduced axes stay, with size 1.

    Returns:
      The mean, 0 where nothing is valid (an empty batch included).

    Raises:
      ValueError: if the mask has more dimensions than the data.

    Gradient: 0 at invalid entries. Departure from the original, on purpose: it multiplies by the
    mask (NaN at invalid entries leaks) and turns a NaN result into 0 (hides a broken loss). Here
    NaN at a valid entry stays NaN.

    References:
      Released code of Neural Localizer Fields, masked statistics.
    """
    x = as_float(x)
    total = reduce_sum_masked(x, is_valid, axis, keepdims)
    if is_valid is None:
        ones = tf.ones_like(x)
    elif axis is None and not keepdims:
        ones = tf.cast(tf.broadcast_to(_expanded(is_valid, x), tf.shape(x)), x.dtype)
    else:
        ones = tf.cast(_expanded(is_valid, x), x.dtype)
    return tf.math.divide_no_nan(total, tf.reduce_sum(ones, axis, keepdims))


def mean_stdev_masked(x, is_valid=None, items_axis=1, dimensions_axis=2, fixed_ref=None):
    """Computes the mean of valid points and one standard deviation per example.

    stdev = sqrt(sum over valid points and coordinates of squared deviation / number of valid points
    + 1e-10): the RMS norm of the deviation vectors.

    Args:
      x: float `[B, P, D]` (axes as given below).
      is_valid: bool `[B, P]` or None.
      items_axis: axis of the points.
      dimensions_axis: axis of the coordinates.
      fixed_ref: `[B, 1, D]`, replaces the mean as the centre of the deviations.

    Returns:
      (mean `[B, 1, D]` or `fixed_ref`, stdev `[B, 1, 1]`). Nothing valid: mean 0, stdev 1e-5.

    Gradient: finite everywhere, 0 at invalid points. NaN at a valid point stays in its example.
    """
    x = as_float(x)
    mask = None
    if is_valid is not None:
        mask = tf.expand_dims(as_mask(is_valid), dimensions_axis)
        x = tf.where(mask, x, tf.zeros([], x.dtype))
    mean = fixed_ref
    if fixed_ref is None:
        mean = reduce_mean_masked(x, mask, items_axis, keepdims=True)
    squares = tf.reduce_sum(tf.square(x - as_float(mean, x)), dimensions_axis, keepdims=True)
    variance = reduce_mean_masked(squares, mask, items_axis, keepdims=True)
    return mean, tf.sqrt(variance + STDEV_EPSILON)
