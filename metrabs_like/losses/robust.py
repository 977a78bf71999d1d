"""Robust per-vector penalties."""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float


def charbonnier(x, epsilon, axis=-1, keepdims=False):
    """Computes a length, smooth at zero if epsilon is positive, scaled by 1/sqrt(D).

    epsilon 0: |x| / sqrt(D). epsilon > 0: sqrt(mean(x^2) + epsilon^2) - epsilon.

    Args:
      x: float `[..., D]`.
      epsilon: Python float >= 0, unit of `x`.
      axis: axis of the vector's components.
      keepdims: whether the axis stays, with size 1.

    Returns:
      `[...]`, unit of `x`.

    Raises:
      ValueError: if epsilon is negative.

    Gradient: for epsilon 0 it is defined as 0 at x = 0 and wherever the squared norm under- or
    overflows to 0 or Inf. NaN stays NaN.

    References:
      Charbonnier et al., ICIP 1994; released code of Neural Localizer Fields.
    """
    x = as_float(x)
    return charbonnier_of_square(
        tf.reduce_sum(tf.square(x), axis, keepdims), tf.shape(x)[axis], epsilon
    )


def charbonnier_of_square(square, n_dims, epsilon):
    """Computes `charbonnier` from the squared norm; see there.

    Args:
      square: float `[...]`, sum of the squared components.
      n_dims: D, int or scalar int tensor.
      epsilon: Python float >= 0.

    Returns:
      `[...]`. Gradient: with respect to the square.

    Raises:
      ValueError: if epsilon is negative.
    """
    if epsilon < 0:
        raise ValueError(f"epsilon={epsilon}: must not be negative.")
    n_dims = tf.cast(n_dims, square.dtype)
    if epsilon > 0:
        return tf.sqrt(square / n_dims + epsilon**2) - epsilon
    is_singular = (square == 0) | tf.math.is_inf(square)
    regular = tf.sqrt(tf.where(is_singular, tf.ones_like(square), square))
    return tf.where(is_singular, tf.stop_gradient(square), regular) / tf.sqrt(n_dims)
