"""The exact inverse of lens distortion, and the radius where a lens model stops being one.

Conventions: normalized coordinates; coefficients in OpenCV order, padded with zeros to 12. A radial
polynomial that bends back (typical of barrel distortion far outside the image) maps two rays to one
pixel; only rays inside that *fold* are real.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.distortion import distort_points

_N_RADII = 126
_RADII = np.linspace(0, 5, _N_RADII, dtype=np.float32)  # up to 157 degrees field of view (ours)
_N_NEWTON_STEPS = 5  # 3 reach the end of float32 for strong lenses, away from the fold (measured)


def fold_radius(distortion_coeffs):
    """Finds the undistorted radius where the radial distortion folds back.

    Args:
      distortion_coeffs: float `[B, 12]`.

    Returns:
      float32 `[B]`, to 0.04; 1e6 where the lens does not fold below a radius of 5.
    """
    _, last = _radial_table(tf.cast(distortion_coeffs, tf.float32))
    return tf.where(last < _N_RADII - 1, tf.gather(_RADII, last), 1e6)


def undistort_exactly(distorted, distortion_coeffs):
    """Removes lens distortion to float accuracy, for strong lenses too.

    The radius comes from a table, Newton steps finish it. (The published five fixed-point steps,
    `camera.undistort_points`, leave errors of pixels behind for strong lenses.)

    Args:
      distorted: float `[B, M, 2]`, normalized, distorted.
      distortion_coeffs: float `[B, 12]`.

    Returns:
      float32 `[B, M, 2]`, undistorted. A point beyond the fold, which no ray reaches, is taken just
      inside it.

    Gradient: flows through the Newton steps.
    """
    distorted = tf.cast(distorted, tf.float32)
    distortion_coeffs = tf.cast(distortion_coeffs, tf.float32)
    table, last = _radial_table(distortion_coeffs)
    limit = 0.999 * tf.gather(table, last, batch_dims=1)
    limit = tf.where(last < _N_RADII - 1, limit, 1e6)[:, tf.newaxis]
    radius = tf.norm(distorted, axis=-1)
    direction = distorted / tf.maximum(radius, 1e-12)[..., tf.newaxis]
    radius = tf.minimum(radius, limit)
    distorted = direction * radius[..., tf.newaxis]
    rising = tf.where(tf.range(_N_RADII) <= last[:, tf.newaxis], table, 1e6)
    points = direction * _looked_up_radius(radius, rising)[..., tf.newaxis]
    for _ in range(_N_NEWTON_STEPS):
        points = _newton_step(points, distorted, distortion_coeffs)
    return points


def _looked_up_radius(distorted_radius, table):
    """Inverts the table `[B, R]` at `[B, M]` by linear interpolation."""
    is_below = table[:, tf.newaxis] <= distorted_radius[..., tf.newaxis]
    below = tf.reduce_sum(tf.cast(is_below, tf.int32), axis=-1)
    below = tf.clip_by_value(below - 1, 0, _N_RADII - 2)
    low, high = (tf.gather(table, below + i, batch_dims=1) for i in (0, 1))
    return tf.gather(_RADII, below) + _RADII[1] * (distorted_radius - low) / (high - low)


def _radial_table(distortion_coeffs):
    """Returns the distorted `_RADII`, `[B, R]`, and the index `[B]` where they stop rising."""
    ratio, _ = _radial_ratio_and_slope(_RADII**2, distortion_coeffs)
    distorted = _RADII * ratio
    is_rising = tf.cast(distorted[:, 1:] > distorted[:, :-1], tf.int32)
    return distorted, tf.reduce_sum(tf.math.cumprod(is_rising, axis=-1), axis=-1)


def _radial_ratio_and_slope(squared_radius, distortion_coeffs):
    """Returns, for `[B or 1, M]`, distorted radius / radius and d(distorted radius)/d(radius)."""
    k = tf.unstack(distortion_coeffs[:, :8, tf.newaxis], axis=1)
    s = squared_radius
    over, over_slope = _cubic(s, k[0], k[1], k[4])
    under, under_slope = _cubic(s, k[5], k[6], k[7])
    ratio = over / under
    return ratio, ratio + 2 * s * (over_slope - ratio * under_slope) / under


def _cubic(s, first, second, third):
    """Returns 1 + first s + second s^2 + third s^3 and its derivative by s."""
    value = 1 + s * (first + s * (second + s * third))
    return value, first + s * (2 * second + s * 3 * third)


def _newton_step(points, distorted, distortion_coeffs):
    """Improves undistorted points, with the radial part of the distortion as the Jacobian."""
    squared_radius = tf.reduce_sum(points**2, axis=-1)
    outward = points / tf.sqrt(tf.maximum(squared_radius, 1e-12))[..., tf.newaxis]
    residual = distorted - distort_points(points, distortion_coeffs[:, tf.newaxis])
    along = tf.reduce_sum(residual * outward, axis=-1, keepdims=True) * outward
    ratio, slope = _radial_ratio_and_slope(squared_radius, distortion_coeffs)
    across = (residual - along) / ratio[..., tf.newaxis]
    return points + across + along / tf.maximum(slope, 0.02)[..., tf.newaxis]
