"""Lens distortion in normalized coordinates.

Conventions: coefficients in OpenCV order, k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4, shorter lists are
padded with zeros; the fisheye model has its own four, k1 k2 k3 k4. The model is named by the
caller, never guessed from the length.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes

# Steps of the inverse (released code); enough for ordinary lenses, not for extreme ones.
N_INVERSE_STEPS = 5


def distort_points(points, distortion_coeffs, model="opencv"):
    """Applies lens distortion.

    Args:
      points: float `[..., 2]`, normalized, undistorted.
      distortion_coeffs: `[n]` for all or `[B, n]` per example (leading dimensions as `points`),
        n <= 12, or n = 4 for the fisheye model.
      model: "opencv" or "fisheye".

    Returns:
      `[..., 2]`, normalized, distorted.

    Raises:
      ValueError: if the model is unknown or has not this many coefficients, or the points have not
        two coordinates.

    Gradient: to both arguments; that of the fisheye model is 0 on the optical axis itself (as the
    released code). NaN stays in its point.

    References:
      OpenCV documentation of calib3d; released code of MeTRAbs and Neural Localizer Fields.
    """
    points, coeffs = _prepare(points, distortion_coeffs, model)
    x, y = points[..., 0], points[..., 1]
    if model == "fisheye":
        radius, theta = _fisheye_angles(x, y)
        scale = tf.math.divide_no_nan(theta * _fisheye_polynomial(theta, coeffs)[0], radius)
        return tf.stack([x * scale, y * scale], axis=-1)
    a, b, c_x, c_y = _brown_terms(x, y, coeffs)
    return tf.stack([x * (a + b) + c_x, y * (a + b) + c_y], axis=-1)


def undistort_points(points, distortion_coeffs, model="opencv", n_steps=N_INVERSE_STEPS):
    """Removes lens distortion, by a fixed number of steps.

    Args:
      points: float `[..., 2]`, normalized, distorted.
      distortion_coeffs: as in `distort_points`.
      model: "opencv" (fixed-point steps) or "fisheye" (Newton steps).
      n_steps: number of steps (5: released code).

    Returns:
      `[..., 2]`, normalized, undistorted. Far outside the image of a strong lens the steps need not
      converge.

    Raises:
      ValueError: if the model is unknown or has not this many coefficients, or the points have not
        two coordinates.

    Gradient: to both arguments, through the steps. NaN stays in its point.

    References:
      Released code of MeTRAbs and Neural Localizer Fields.
    """
    points, coeffs = _prepare(points, distortion_coeffs, model)
    x_distorted, y_distorted = points[..., 0], points[..., 1]
    if model == "fisheye":
        return _undistort_fisheye(x_distorted, y_distorted, coeffs, n_steps)
    x, y = x_distorted, y_distorted
    for _ in range(n_steps):
        a, b, c_x, c_y = _brown_terms(x, y, coeffs)
        x, y = (x_distorted - c_x - x * b) / a, (y_distorted - c_y - y * b) / a
    return tf.stack([x, y], axis=-1)


def _prepare(points, distortion_coeffs, model):
    """Returns the points and the list of coefficients, each broadcastable against x."""
    points = as_float(points)
    check_shapes(points=(points, "... 2"))
    coeffs = as_float(distortion_coeffs, points)
    n = coeffs.shape[-1]
    if model not in ("opencv", "fisheye"):
        raise ValueError(f"model={model!r}: must be 'opencv' or 'fisheye'.")
    if n is None or n > 12 or (model == "fisheye" and n != 4):
        wanted = "exactly 4" if model == "fisheye" else "at most 12"
        raise ValueError(
            f"`distortion_coeffs` has {n} coefficients, but the {model} model takes {wanted}: "
            "pass them in OpenCV order."
        )
    for _ in range(points.shape.rank - 1 - (coeffs.shape.rank - 1)):
        coeffs = coeffs[..., tf.newaxis, :]
    return points, tf.unstack(coeffs, axis=-1)


def _brown_terms(x, y, coeffs):
    """Returns a, b, c of: distorted = (x, y) * (a + b) + c (radial, tangential, thin prism)."""
    zero = tf.zeros([], x.dtype)
    k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4 = coeffs + [zero] * (12 - len(coeffs))
    r2 = x * x + y * y
    a = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    b = 2 * (x * p2 + y * p1)
    return a, b, r2 * (p2 + s1 + r2 * s2), r2 * (p1 + s3 + r2 * s4)


def _fisheye_angles(x, y):
    """Returns the radius and its arctan, both with gradient 0 where they are 0."""
    square = x * x + y * y
    is_positive = square > 0
    radius = tf.sqrt(tf.where(is_positive, square, tf.ones_like(square)))
    radius = tf.where(is_positive, radius, tf.zeros_like(square))
    return radius, tf.atan(radius)


def _fisheye_polynomial(theta, coeffs):
    """Returns theta_d / theta and d(theta_d) / d(theta)."""
    k1, k2, k3, k4 = coeffs
    t2 = theta * theta
    ratio = 1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))
    slope = 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
    return ratio, slope


def _undistort_fisheye(x, y, coeffs, n_steps):
    """Inverts the fisheye polynomial by Newton steps on the angle."""
    theta_distorted, _ = _fisheye_angles(x, y)
    theta = theta_distorted
    for _ in range(n_steps):
        ratio, slope = _fisheye_polynomial(theta, coeffs)
        theta -= (theta * ratio - theta_distorted) / slope
    scale = tf.math.divide_no_nan(tf.tan(theta), theta_distorted)
    return tf.stack([x * scale, y * scale], axis=-1)
