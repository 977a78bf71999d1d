"""3D pose errors over valid points, as sums and counts that add up over batches.

Conventions:
  Poses `[B, P, 3]` in metres, camera frame; masks bool `[B, P]`, None = all valid. Every metric
  returns `(total, count)`: add both over batches and replicas, then divide once
  (`metrics.accumulate.MetricSums` or `mean_of`), so that each valid point weighs the same.
  Invalid points never enter, NaN or not; NaN at a valid point makes the total NaN. Zero people
  or nothing valid is `(0, 0)`. All compile under XLA; each states its protocol.
"""

import tensorflow as tf

from metrabs_like import units
from metrabs_like.geometry import alignment
from metrabs_like.geometry.arguments import as_float, as_mask, check_shapes


def mpjpe(coords3d_pred, coords3d_true, point_validity=None, *, root_index=-1):
    """Sums root-relative joint errors.

    Protocol: MPJPE ("protocol 1"). Both poses are moved to their own root, no rotation or scale;
    then the Euclidean distance per point, averaged over all valid points of all examples. The
    root counts as a point (its error is 0), as usual. With a root joint, examples in which that
    joint is invalid are left out.

    Args:
      coords3d_pred: float `[B, P, 3]`, m; absolute or relative.
      coords3d_true: float `[B, P, 3]`, m.
      point_validity: bool `[B, P]` or None.
      root_index: int or int `[B]`; -1 takes the mean of the valid points as the root.

    Returns:
      (float scalar, m, sum of errors; float scalar, number of points).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).

    References:
      Ionescu et al., Human3.6M, PAMI 2014; with the mean as the root: NLF, released code.
    """
    return sums(*root_relative_errors(coords3d_pred, coords3d_true, point_validity, root_index))


def pa_mpjpe(coords3d_pred, coords3d_true, point_validity=None):
    """Sums joint errors after the best similarity transform of each example.

    Protocol: PA-MPJPE ("protocol 2"). Per example, rotation, translation and scale, without
    reflection, fitted to its valid points (`geometry.alignment.rigid_align`); then as MPJPE. An
    example with one valid point is only translated, so its error is 0 and it counts as one
    point; it does not disturb the rest of the batch (in the released code it does).

    Args:
      coords3d_pred: float `[B, P, 3]`, m.
      coords3d_true: float `[B, P, 3]`, m.
      point_validity: bool `[B, P]` or None.

    Returns:
      (float scalar, m, sum of errors; float scalar, number of points).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    return sums(*aligned_errors(coords3d_pred, coords3d_true, point_validity))


def absolute_error(coords3d_pred, coords3d_true, point_validity=None):
    """Sums joint errors in the camera frame.

    Protocol: A-MPJPE, the Euclidean distance without any alignment, over all valid points.

    Args:
      coords3d_pred: float `[B, P, 3]`, m, camera frame.
      coords3d_true: float `[B, P, 3]`, m, camera frame.
      point_validity: bool `[B, P]` or None.

    Returns:
      (float scalar, m, sum of errors; float scalar, number of points).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    return sums(*absolute_errors(coords3d_pred, coords3d_true, point_validity))


def pck(coords3d_pred, coords3d_true, point_validity=None, *, threshold, root_index=-1):
    """Counts points whose root-relative error is small.

    Protocol: 3DPCK. The share of valid points with root-relative error (as in `mpjpe`) of at
    most `threshold`, ends inclusive: 0.15 in the MPI-INF-3DHP protocol, 0.1 in NLF.

    Args:
      coords3d_pred: float `[B, P, 3]`, m.
      coords3d_true: float `[B, P, 3]`, m.
      point_validity: bool `[B, P]` or None.
      threshold: float, m.
      root_index: as in `mpjpe`.

    Returns:
      (float scalar, number of points within; float scalar, number of points). Share 0..1.

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run) or
        the threshold is not positive.

    References:
      Mehta et al., MPI-INF-3DHP, 3DV 2017.
    """
    errors, valid = root_relative_errors(coords3d_pred, coords3d_true, point_validity, root_index)
    return sums(pck_scores(errors, threshold), valid)


def auc(coords3d_pred, coords3d_true, point_validity=None, *, lower=0.0, upper, root_index=-1):
    """Sums the area under the PCK curve.

    Protocol: the exact integral of the 3DPCK curve over thresholds from `lower` to `upper`,
    divided by the length of that range (the released codes' form; the sampled form of
    MPI-INF-3DHP, every 5 mm from 0 to 150 mm, differs slightly).

    Args:
      coords3d_pred: float `[B, P, 3]`, m.
      coords3d_true: float `[B, P, 3]`, m.
      point_validity: bool `[B, P]` or None.
      lower: float, m.
      upper: float, m.
      root_index: as in `mpjpe`.

    Returns:
      (float scalar, sum of per-point areas 0..1; float scalar, number of points).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run) or
        the range is empty.
    """
    errors, valid = root_relative_errors(coords3d_pred, coords3d_true, point_validity, root_index)
    return sums(auc_scores(errors, lower, upper), valid)


def per_joint(errors, valid):
    """Sums errors of each joint over the batch.

    Protocol: that of the errors given (`root_relative_errors`, `aligned_errors`,
    `absolute_errors`), averaged over the examples in which the joint is valid.

    Args:
      errors: float `[B, P]`.
      valid: bool `[B, P]`.

    Returns:
      (float `[P]`, sums; float `[P]`, counts).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    return sums(errors, valid, axis=0)


def pixel_error(coords2d_pred, coords2d_true, point_validity=None):
    """Sums distances in the image.

    Protocol: Euclidean distance in pixels over all valid points, wherever they lie (no test of
    field of view or depth: a point projected from behind the camera can give a huge value).

    Args:
      coords2d_pred: float `[B, P, 2]`, px.
      coords2d_true: float `[B, P, 2]`, px.
      point_validity: bool `[B, P]` or None.

    Returns:
      (float scalar, px, sum of errors; float scalar, number of points).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    pred, true, valid = _checked(coords2d_pred, coords2d_true, point_validity, 2)
    return sums(_distances(pred, true, valid), valid)


def pose_sums(coords3d_pred, coords3d_true, point_validity=None, *, root_index=-1):
    """Computes the usual metrics of this library's evaluation tables in one pass.

    Protocols: `mpjpe_mm`, `pck_at_*` and `auc_at_*` as `mpjpe`, `pck`, `auc` (lower end 0);
    `pa_mpjpe_mm` as `pa_mpjpe`; `absolute_error_mm` as `absolute_error`. Shares lie in 0..1.

    Args:
      coords3d_pred: float `[B, P, 3]`, m, camera frame.
      coords3d_true: float `[B, P, 3]`, m, camera frame.
      point_validity: bool `[B, P]` or None.
      root_index: as in `mpjpe`.

    Returns:
      dict of (sum, count): scalars under `mpjpe_mm`, `pa_mpjpe_mm`, `absolute_error_mm`,
      `pck_at_100mm`, `pck_at_150mm`, `auc_at_100mm`, `auc_at_150mm`; `[P]` tensors under
      `mpjpe_per_joint_mm`.

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    relative = root_relative_errors(coords3d_pred, coords3d_true, point_validity, root_index)
    result = {
        "mpjpe_mm": _to_mm(sums(*relative)),
        "pa_mpjpe_mm": _to_mm(pa_mpjpe(coords3d_pred, coords3d_true, point_validity)),
        "absolute_error_mm": _to_mm(absolute_error(coords3d_pred, coords3d_true, point_validity)),
        "mpjpe_per_joint_mm": _to_mm(per_joint(*relative)),
    }
    errors, valid = relative
    for threshold_mm in (100, 150):
        threshold = threshold_mm / units.MM_PER_M
        result[f"pck_at_{threshold_mm}mm"] = sums(pck_scores(errors, threshold), valid)
        result[f"auc_at_{threshold_mm}mm"] = sums(auc_scores(errors, 0.0, threshold), valid)
    return result


def root_relative_errors(coords3d_pred, coords3d_true, point_validity=None, root_index=-1):
    """Measures each point's distance after moving both poses to their roots.

    Args:
      coords3d_pred: float `[B, P, 3]`.
      coords3d_true: float `[B, P, 3]`.
      point_validity: bool `[B, P]` or None.
      root_index: int or int `[B]`, -1 = mean of the valid points. A root joint that is invalid
        makes its whole example invalid.

    Returns:
      (float `[B, P]`, 0 at invalid points; bool `[B, P]`, which points count).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    root_index = tf.cast(root_index, tf.int32)
    per_example = None if root_index.shape.rank == 0 else root_index
    pred, true, valid = _checked(coords3d_pred, coords3d_true, point_validity, 3, per_example)
    # The distance of two root-relative poses is the offset field less its own root.
    difference = tf.where(valid[..., tf.newaxis], pred - true, tf.zeros_like(pred))
    count = tf.reduce_sum(tf.cast(valid, pred.dtype), axis=1)[:, tf.newaxis]
    mean = tf.reduce_sum(difference, axis=1) / tf.maximum(count, 1)
    root_index = tf.broadcast_to(root_index, tf.shape(valid)[:1])
    is_mean = root_index < 0
    safe_index = tf.where(is_mean, tf.zeros_like(root_index), root_index)
    root = tf.gather(difference, safe_index, batch_dims=1)
    offset = tf.where(is_mean[:, tf.newaxis], mean, root)
    valid &= (is_mean | tf.gather(valid, safe_index, batch_dims=1))[:, tf.newaxis]
    return _distances(difference, offset[:, tf.newaxis], valid), valid


def aligned_errors(coords3d_pred, coords3d_true, point_validity=None):
    """Measures each point's distance after the similarity alignment of `pa_mpjpe`.

    Args:
      coords3d_pred: float `[B, P, 3]`.
      coords3d_true: float `[B, P, 3]`.
      point_validity: bool `[B, P]` or None.

    Returns:
      (float `[B, P]`, 0 at invalid points; bool `[B, P]`).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    pred, true, valid = _checked(coords3d_pred, coords3d_true, point_validity, 3)
    aligned = alignment.rigid_align(pred, true, joint_validity_mask=valid, scale_align=True)
    return _distances(aligned, true, valid), valid


def absolute_errors(coords3d_pred, coords3d_true, point_validity=None):
    """Measures each point's distance as it is.

    Args:
      coords3d_pred: float `[B, P, 3]`.
      coords3d_true: float `[B, P, 3]`.
      point_validity: bool `[B, P]` or None.

    Returns:
      (float `[B, P]`, 0 at invalid points; bool `[B, P]`).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    pred, true, valid = _checked(coords3d_pred, coords3d_true, point_validity, 3)
    return _distances(pred, true, valid), valid


def pck_scores(errors, threshold):
    """Scores each error 1 where it is at most `threshold` (inclusive), else 0.

    Args:
      errors: float `[...]`.
      threshold: float, same unit, > 0.

    Returns:
      Float `[...]`; NaN where the error is NaN.

    Raises:
      ValueError: if the threshold is not positive.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}.")
    errors = tf.convert_to_tensor(errors)
    score = tf.cast(errors <= tf.constant(threshold, errors.dtype), errors.dtype)
    return tf.where(tf.math.is_nan(errors), errors, score)


def auc_scores(errors, lower, upper):
    """Scores each error by the share of thresholds in [lower, upper] above it.

    score = max(0, 1 - max(0, error - lower) / (upper - lower)).

    Args:
      errors: float `[...]`.
      lower: float, same unit.
      upper: float, same unit, > lower.

    Returns:
      Float `[...]`, 0..1; NaN where the error is NaN.

    Raises:
      ValueError: if the range is empty.
    """
    if not upper > lower:
        raise ValueError(f"upper must exceed lower, got [{lower}, {upper}].")
    errors = tf.convert_to_tensor(errors)
    score = tf.maximum(0.0, 1.0 - tf.maximum(0.0, errors - lower) / (upper - lower))
    # maximum() hides NaN on some devices
    return tf.where(tf.math.is_nan(errors), errors, score)


def sums(values, valid, axis=None):
    """Adds up values at valid points.

    Args:
      values: float `[...]`, usually `[B, P]`.
      valid: bool, same shape.
      axis: as in `tf.reduce_sum`.

    Returns:
      (sum, count), both of the dtype of `values`.

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).
    """
    values, valid = tf.convert_to_tensor(values), as_mask(valid)
    if values.shape.rank is not None:
        dims = " ".join(f"N{i}" for i in range(values.shape.rank))
        check_shapes(values=(values, dims), valid=(valid, dims))
    selected = tf.where(valid, values, tf.zeros_like(values))
    counted = tf.cast(valid, values.dtype)
    return tf.reduce_sum(selected, axis=axis), tf.reduce_sum(counted, axis=axis)


def mean_of(total, count):
    """Divides a sum by its count.

    Args:
      total: float `[...]`.
      count: float `[...]`.

    Returns:
      Float `[...]`; NaN where nothing was counted: no measurement, not a perfect one.
    """
    return tf.convert_to_tensor(total) / tf.convert_to_tensor(count)


def _distances(a, b, valid):
    """Measures `[B, P]` distances, 0 at invalid points, whose values are selected away."""
    difference = tf.where(valid[..., tf.newaxis], a - b, tf.zeros_like(a))
    return tf.norm(difference, axis=-1)


def _checked(pred, true, valid, n_dims, root_index=None):
    """Converts to float tensors and a bool mask of matching shapes."""
    pred = as_float(pred)
    true = as_float(true, like=pred)
    valid = None if valid is None else as_mask(valid)
    name, dims = f"coords{n_dims}d", f"B P {n_dims}"
    check_shapes(
        **{f"{name}_pred": (pred, dims), f"{name}_true": (true, dims)},
        point_validity=(valid, "B P"),
        root_index=(root_index, "B"),
    )
    return pred, true, tf.ones(tf.shape(pred)[:2], tf.bool) if valid is None else valid


def _to_mm(total_and_count):
    """Converts a sum in metres to millimetres."""
    total, count = total_and_count
    return total * units.MM_PER_M, count
