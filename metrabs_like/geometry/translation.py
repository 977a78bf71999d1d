"""The two solvers behind `geometry.absolute`, on coordinate planes.

Conventions: a point is given as n_x, n_y (normalized 2D) and x, y, z (relative 3D, m), each
`[B, P]`; the result is three `[B]` tensors t_x, t_y, t_z, m.

Full perspective: unknown t with t_xy - n_i t_z = r_i, r_i = n_i Z_i - XY_i, weights w_i, W = sum
w_i. With v the number of valid points, the original scales column z by 1/s, s^2 = sum over valid
|n|^2 / v + 1e-10, scales the right side by its RMS, and adds l2 to the diagonal. The right side's
scale cancels. Eliminating t_xy, with weighted means m and rbar, k = W l2 / (W + l2):

  t_z  = -(sum w (n - m).(r - rbar) + k m.rbar) / (sum w |n - m|^2 + k |m|^2 + l2 s^2)
  t_xy = W / (W + l2) * (rbar + m t_z)

Centring before multiplying keeps float32 accurate for a person far away or far off the axis, where
the raw sums cancel. The centre itself is kept in two parts, the mean of the valid points and a
small rest: with a single valid point the deviations are far below the rounding of the mean, and
the gradient divides them by a number as small.
"""

import tensorflow as tf

from metrabs_like.geometry.masking import STDEV_EPSILON

# Weight of an invalid point's rows in the original, next to 1 + this for a valid point.
INVALID_ROW_WEIGHT = 1e-4
# Floor of a standard deviation under weak perspective (released code).
MIN_STDEV = 1e-5
# An invalid point with a larger coordinate counts as not finite: its square would overflow.
LARGEST_COORD = 1e9


def solve_weak_perspective(n_x, n_y, x, y, z, is_valid):
    """Solves for the translation by the ratio of 3D to 2D size.

    Args:
      n_x: float `[B, P]`, see the module for all five planes.
      n_y: the same.
      x: the same.
      y: the same.
      z: the same.
      is_valid: bool `[B, P]`.

    Returns:
      (t_x, t_y, t_z), `[B]` each. Masking and gradient: see
      `geometry.absolute.reconstruct_ref_weakpersp`.
    """
    zero = tf.zeros([], x.dtype)
    n_x, n_y, x, y, z = (tf.where(is_valid, plane, zero) for plane in (n_x, n_y, x, y, z))
    share = tf.math.divide_no_nan(
        tf.ones([], x.dtype), tf.reduce_sum(tf.cast(is_valid, x.dtype), 1, keepdims=True)
    )

    def mean(plane):
        return tf.reduce_sum(plane, 1, keepdims=True) * share

    def stdev(first, second, mean_first, mean_second):
        square = tf.square(first - mean_first) + tf.square(second - mean_second)
        stdev = tf.sqrt(mean(tf.where(is_valid, square, zero)) + STDEV_EPSILON)
        return tf.maximum(stdev, tf.constant(MIN_STDEV, x.dtype))

    mean_n_x, mean_n_y, mean_x, mean_y = mean(n_x), mean(n_y), mean(x), mean(y)
    depth = stdev(x, y, mean_x, mean_y) / stdev(n_x, n_y, mean_n_x, mean_n_y)
    translation = mean_n_x * depth - mean_x, mean_n_y * depth - mean_y, depth - mean(z)
    return tuple(component[:, 0] for component in translation)


def solve_full_perspective(n_x, n_y, x, y, z, is_valid, l2_regularizer):
    """Solves for the translation by regularized least squares.

    Args:
      n_x: float `[B, P]`, see the module for all five planes.
      n_y: the same.
      x: the same.
      y: the same.
      z: the same.
      is_valid: bool `[B, P]`.
      l2_regularizer: Python float >= 0.

    Returns:
      (t_x, t_y, t_z), `[B]` each. Masking: see `geometry.absolute.reconstruct_ref_fullpersp`.

    Gradient: in closed form, one pass over the points, to the five planes.
    """
    weight, valid_share = _weights(n_x, n_y, x, y, z, is_valid)

    @tf.custom_gradient
    def solve(n_x, n_y, x, y, z):
        zero = tf.zeros([], x.dtype)
        n_x, n_y, x, y, z = (tf.where(weight > 0, plane, zero) for plane in (n_x, n_y, x, y, z))
        sums = _centred_sums(n_x, n_y, n_x * z - x, n_y * z - y, weight, valid_share)
        solution, system = _solve_centred(*sums, l2_regularizer)

        def grad(g_x, g_y, g_z):
            planes = n_x, n_y, x, y, z, weight, valid_share
            return _full_perspective_gradient(planes, system, solution, (g_x, g_y, g_z))

        return tuple(component[:, 0] for component in solution), grad

    return solve(n_x, n_y, x, y, z)


def _weights(n_x, n_y, x, y, z, is_valid):
    """Returns each point's weight, and 1 / (number of valid points) at valid points."""
    one, zero = tf.ones([], x.dtype), tf.zeros([], x.dtype)
    # A sum keeps NaN and Inf, and both compare as not small.
    is_small = tf.abs(n_x) + tf.abs(n_y) + tf.abs(x) + tf.abs(y) + tf.abs(z) < LARGEST_COORD
    invalid_weight = tf.where(is_small, one * INVALID_ROW_WEIGHT**2, zero)
    weight = tf.where(is_valid, one * (1 + INVALID_ROW_WEIGHT) ** 2, invalid_weight)
    valid = tf.cast(is_valid, x.dtype)
    return weight, tf.math.divide_no_nan(valid, tf.reduce_sum(valid, 1, keepdims=True))


def _centred_sums(n_x, n_y, r_x, r_y, weight, valid_share):
    """Returns W, the centers of n and r in two parts, the moments, and s^2; `[B, 1]` each."""
    total = tf.reduce_sum(weight, 1, keepdims=True)

    def center(plane):
        pivot = tf.reduce_sum(valid_share * plane, 1, keepdims=True)
        rest = tf.reduce_sum(weight * (plane - pivot), 1, keepdims=True)
        return pivot, tf.math.divide_no_nan(rest, total)

    centers = [center(plane) for plane in (n_x, n_y, r_x, r_y)]
    d_x, d_y, e_x, e_y = map(_deviation, (n_x, n_y, r_x, r_y), centers)
    c_nn = tf.reduce_sum(weight * (d_x * d_x + d_y * d_y), 1, keepdims=True)
    c_nr = tf.reduce_sum(weight * (d_x * e_x + d_y * e_y), 1, keepdims=True)
    square = tf.reduce_sum(valid_share * (n_x * n_x + n_y * n_y), 1, keepdims=True)
    return total, centers, c_nn, c_nr, square + STDEV_EPSILON


def _deviation(plane, center):
    """Returns the plane less a center in two parts, the larger one first."""
    pivot, rest = center
    return (plane - pivot) - rest


def _solve_centred(total, centers, c_nn, c_nr, square, l2):
    """Solves the system of the module's docstring; also returns what the gradient needs."""
    m_x, m_y, rbar_x, rbar_y = (pivot + rest for pivot, rest in centers)
    shrink = tf.math.divide_no_nan(total, total + l2)
    ridge = shrink * l2
    numerator = c_nr + ridge * (m_x * rbar_x + m_y * rbar_y)
    denominator = c_nn + ridge * (m_x * m_x + m_y * m_y) + l2 * square
    t_z = -tf.math.divide_no_nan(numerator, denominator)
    solution = shrink * (rbar_x + m_x * t_z), shrink * (rbar_y + m_y * t_z), t_z
    return solution, (centers, total, shrink, ridge, denominator, l2)


def _full_perspective_gradient(planes, system, solution, upstream):
    """Returns the gradient with respect to n_x, n_y, x, y, z: affine in each point's own n and r.

    With shrink = W / (W + l2), ridge = k and q = (g_z + shrink g_xy.m) / denominator of t_z:

      d/dr_i = w_i (-q (n_i - m) + (shrink g_xy - q ridge m) / W)
      d/dn_i = w_i (-q (r_i - rbar) - 2 q t_z (n_i - m)
                    + (shrink g_xy t_z - q ridge (rbar + 2 t_z m)) / W)
               - 2 q t_z l2 n_i / v   (this term at valid points only)
               + z_i d/dr_i           (as r depends on n)
    """
    n_x, n_y, x, y, z, weight, valid_share = planes
    centers, total, shrink, ridge, denominator, l2 = system
    m_x, m_y = (pivot + rest for pivot, rest in centers[:2])
    t_z = solution[2]
    g_x, g_y, g_z = (component[:, tf.newaxis] for component in upstream)
    q = tf.math.divide_no_nan(g_z + shrink * (g_x * m_x + g_y * m_y), denominator)
    by_total = tf.math.divide_no_nan(tf.ones_like(total), total)

    def one_axis(n, xy, n_center, r_center, g):
        m, rbar, g = sum(n_center), sum(r_center), shrink * g
        d, e = _deviation(n, n_center), _deviation(n * z - xy, r_center)
        d_r = weight * ((g - q * ridge * m) * by_total - q * d)
        of_mean = (g * t_z - q * ridge * (rbar + 2 * t_z * m)) * by_total
        d_n = weight * (of_mean - q * (e + 2 * t_z * d)) - (2 * l2 * q * t_z) * valid_share * n
        return d_n + z * d_r, d_r

    d_nx, d_rx = one_axis(n_x, x, centers[0], centers[2], g_x)
    d_ny, d_ry = one_axis(n_y, y, centers[1], centers[3], g_y)
    return d_nx, d_ny, -d_rx, -d_ry, n_x * d_rx + n_y * d_ry
