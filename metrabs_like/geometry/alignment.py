"""Relative poses and rigid alignment of predicted to true points.

Conventions:
  Points `[B, P, 3]` in any length unit, the same for both poses. Masks are bool, True = valid.
  Invalid points are selected away before the arithmetic: they move neither the fit nor any
  gradient, NaN or not. They are still transformed like the others; a non-finite invalid point
  comes out as 0.
"""

import tensorflow as tf

from metrabs_like.geometry import rotation
from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes
from metrabs_like.geometry.masking import reduce_mean_masked
from metrabs_like.geometry.tracing import traced_once


def center_relative_pose(
    coords3d, joint_validity_mask=None, center_is_mean=False, center_joints=None
):
    """Subtracts each pose's centre from its points.

    The centre is the last joint, unless `center_is_mean`; then it is the mean over the valid
    points (0 where none is valid). As in the released code, the mask plays no part for the
    last joint, and `center_joints` none unless both mean and mask are in use.

    Args:
      coords3d: float `[B, P, 3]`.
      joint_validity_mask: bool `[B, P]`, or None for all valid.
      center_is_mean: whether the mean rather than the last joint is subtracted.
      center_joints: int `[J]`, indices of the points to average, or None for all.

    Returns:
      `[B, P, 3]`, dtype of `coords3d`. A non-finite point that the mask excludes becomes 0.

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).

    Gradient: flows through the points and the centre.

    References:
      NLF, released TensorFlow code (its NumPy variant writes NaN to masked points; not done).
    """
    coords3d = as_float(coords3d)
    valid = None if joint_validity_mask is None else as_mask(joint_validity_mask)
    check_shapes(coords3d=(coords3d, "B P 3"), joint_validity_mask=(valid, "B P"))
    if valid is None:
        valid, center_joints = tf.ones(tf.shape(coords3d)[:2], tf.bool), None
    is_harmful = _is_masked_nonfinite(coords3d, valid)
    safe = tf.where(is_harmful, tf.zeros_like(coords3d), coords3d)
    if not center_is_mean:
        center = coords3d[:, -1:]
    elif center_joints is None:
        center = reduce_mean_masked(coords3d, valid, axis=1, keepdims=True)
    else:
        chosen = tf.gather(coords3d, center_joints, axis=1)
        is_chosen_valid = tf.gather(valid, center_joints, axis=1)
        center = reduce_mean_masked(chosen, is_chosen_valid, axis=1, keepdims=True)
    return tf.where(is_harmful, tf.zeros_like(coords3d), safe - center)


def rigid_align(
    coords_pred,
    coords_true,
    *,
    joint_validity_mask=None,
    scale_align=False,
    reflection_align=False,
):
    """Moves each predicted pose onto the true one as well as a rigid motion can (Procrustes).

    Finds, per example, the rotation, translation and optionally scale that minimize the sum of
    squared distances over the valid points, and applies them to all points.

    Args:
      coords_pred: float `[B, P, 3]`.
      coords_true: float `[B, P, 3]`, same unit and dtype.
      joint_validity_mask: bool `[B, P]`, or None for all valid.
      scale_align: whether a scale factor is fitted too (as PA-MPJPE does).
      reflection_align: whether a mirrored fit is allowed where it is the better one.

    Returns:
      `[B, P, 3]`. With one valid point the pose is only translated, with none it is returned
      translated by 0; if all valid predicted points coincide, likewise. With two valid points
      (or all on a line) the rotation about their line is free: one of the best is taken, and
      only the valid points of the result mean anything. NaN at a valid point gives NaN in that
      example alone.

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).

    Gradient: exact first derivative with respect to both poses, rotation and scale included;
    finite also where the rotation is not unique (that free direction then has none).

    References:
      Kabsch, Acta Cryst. 1976; Umeyama, PAMI 1991; MeTRAbs and NLF, released code (there, fewer
      than two valid points give NaN).
    """
    coords_pred = as_float(coords_pred)
    coords_true = as_float(coords_true, like=coords_pred)
    valid = None if joint_validity_mask is None else as_mask(joint_validity_mask)
    check_shapes(
        coords_pred=(coords_pred, "B P 3"),
        coords_true=(coords_true, "B P 3"),
        joint_validity_mask=(valid, "B P"),
    )
    if valid is None:
        valid = tf.ones(tf.shape(coords_pred)[:2], tf.bool)
    return _rigid_align(coords_pred, coords_true, valid, bool(scale_align), bool(reflection_align))


@traced_once
def _rigid_align(coords_pred, coords_true, valid, scale_align, reflection_align):
    """Aligns checked tensors; see `rigid_align`."""
    mean_pred = reduce_mean_masked(coords_pred, valid, axis=1, keepdims=True)
    mean_true = reduce_mean_masked(coords_true, valid, axis=1, keepdims=True)
    is_harmful = _is_masked_nonfinite(coords_pred, valid)
    centered = tf.where(is_harmful, tf.zeros_like(coords_pred), coords_pred) - mean_pred
    n_valid = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)[:, tf.newaxis, tf.newaxis]
    # a single point minus its own mean need not be exactly zero
    takes_part = valid[..., tf.newaxis] & (n_valid >= 2)
    pred = tf.where(takes_part, centered, tf.zeros_like(centered))
    true_safe = tf.where(takes_part, coords_true, tf.zeros_like(coords_true))
    true = tf.where(takes_part, true_safe - mean_true, tf.zeros_like(centered))
    # row vectors: aligned = centered @ rotation
    covariance = _small_matmul(tf.linalg.matrix_transpose(pred), true)
    rotmat = (_nearest_orthogonal if reflection_align else rotation.project_to_so3)(covariance)
    aligned = _small_matmul(centered, rotmat)
    if scale_align:
        overlap = tf.reduce_sum(rotmat * covariance, axis=[1, 2], keepdims=True)
        size_squared = tf.reduce_sum(tf.square(pred), axis=[1, 2], keepdims=True)
        has_size = tf.not_equal(size_squared, 0)
        safe_size = tf.where(has_size, size_squared, tf.ones_like(size_squared))
        aligned *= tf.where(has_size, overlap / safe_size, tf.ones_like(overlap))
    return tf.where(is_harmful, tf.zeros_like(aligned), aligned + mean_true)


def _nearest_orthogonal(a):
    """Finds the nearest orthogonal matrix, reflections allowed."""
    determinant = tf.reduce_sum(
        a[..., 0, :] * tf.linalg.cross(a[..., 1, :], a[..., 2, :]), axis=-1
    )[..., tf.newaxis, tf.newaxis]
    sign = tf.where(determinant < 0, -tf.ones_like(determinant), tf.ones_like(determinant))
    return sign * rotation.project_to_so3(sign * a)


def _small_matmul(a, b):
    """Multiplies `[B, N, K]` and `[B, K, M]` in full precision, which matmul may not on a GPU."""
    return tf.reduce_sum(a[..., :, :, tf.newaxis] * b[..., tf.newaxis, :, :], axis=-2)


def _is_masked_nonfinite(points, valid):
    """Marks `[B, P, 1]` invalid points with a NaN or infinite coordinate."""
    is_finite = tf.reduce_all(tf.math.is_finite(points), axis=-1, keepdims=True)
    return ~is_finite & ~valid[..., tf.newaxis]
