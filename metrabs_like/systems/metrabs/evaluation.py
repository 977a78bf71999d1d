"""Metrics of the `metrabs` system: sums and counts that add up over batches.

Conventions: millimetres only in values whose key ends in `_mm`; crop pixels; everything else in
metres. All over valid points, NaN at others has no influence. A batch without people gives zeros.
"""

import tensorflow as tf

from metrabs_like.geometry.masking import reduce_mean_masked
from metrabs_like.metrics import pose3d
from metrabs_like.systems.metrabs.preparation import split_predictions
from metrabs_like.systems.metrabs.supervision import KINDS_3D


def evaluate(decoded, targets, config):
    """Measures the decoded poses.

    Args:
      decoded: of `decode`, for the whole batch of `prepare`.
      targets: of `prepare`.
      config: `Config`; relative errors refer to its root joint. Canonical points of the kinds
        that have them count as points.

    Returns:
      Dict name -> (sum, count). With 3D annotations those of `metrics.pose3d.pose_sums` (mpjpe_mm,
      pa_mpjpe_mm, absolute_error_mm, pck and auc at 100 and 150 mm, mpjpe_per_joint_mm) and
      `relative_root_depth_error`, |z - z_true| / z_true of the root, per person. With 2D
      annotations, the 3D ones' projection included, `reprojection_error_px` (crop px).
    """
    sums, pixel_sums = {}, []
    for kind, pred in split_predictions(decoded, targets).items():
        true = targets[kind]
        valid = true["point_validity"]
        pixel_sums.append(pose3d.pixel_error(pred["coords2d"], true["coords2d_true"], valid))
        if kind in KINDS_3D:
            pair = (pred["coords3d_abs"], true["coords3d_true"])
            sums.update(pose3d.pose_sums(*pair, valid, root_index=config.root_index))
            errors, has_root = _relative_depth_errors(*pair, valid, config.root_index)
            sums["relative_root_depth_error"] = pose3d.sums(errors, has_root)
    totals, counts = zip(*pixel_sums, strict=True)
    sums["reprojection_error_px"] = (tf.add_n(totals), tf.add_n(counts))
    return sums


def collect(decoded, targets, config):
    """Returns single values for medians, reliability plots and baselines.

    Args:
      decoded: of `decode`.
      targets: of `prepare`, with 3D annotations.
      config: `Config`.

    Returns:
      Dict of arrays, `point_*` of every valid point of the batch, `person_*` of every person with
      a valid root: `point_error_m` (root-relative) and `point_uncert_m`; `person_error_m` (mean of
      its points), `person_relative_depth_error`, `person_depth_m` (true root depth) and
      `person_angular_height` (vertical extent of the valid points in the crop over its focal
      length: body height / depth for a person seen upright).
    """
    kind = next(kind for kind in KINDS_3D if kind in targets)
    pred, true = split_predictions(decoded, targets)[kind], targets[kind]
    valid = true["point_validity"]
    pair = (pred["coords3d_abs"], true["coords3d_true"])
    errors, counted = pose3d.root_relative_errors(*pair, valid, config.root_index)
    depth_errors, has_root = _relative_depth_errors(*pair, valid, config.root_index)
    y = true["coords2d_true"][..., 1]
    top = tf.reduce_min(tf.where(valid, y, y.dtype.max), axis=1)
    bottom = tf.reduce_max(tf.where(valid, y, y.dtype.min), axis=1)
    people = {
        "person_error_m": reduce_mean_masked(errors, counted, axis=1),
        "person_relative_depth_error": depth_errors,
        "person_depth_m": _root_depth(true["coords3d_true"], valid, config.root_index),
        "person_angular_height": (bottom - top) / true["intrinsics"][:, 1, 1],
    }
    return {
        "point_error_m": errors[counted],
        "point_uncert_m": pred["uncert"][counted],
        **{key: value[has_root] for key, value in people.items()},
    }


def _relative_depth_errors(coords3d_pred, coords3d_true, valid, root_index):
    """|z - z_true| / z_true of the root `[B]`, and for which people it is defined."""
    depth_true = _root_depth(coords3d_true, valid, root_index)
    difference = tf.abs(_root_depth(coords3d_pred, valid, root_index) - depth_true)
    has_root = tf.reduce_any(valid, axis=1) if root_index < 0 else valid[:, root_index]
    has_root &= depth_true > 0
    return difference / tf.where(has_root, depth_true, 1.0), has_root


def _root_depth(coords3d, valid, root_index):
    """Depth of the root joint, or mean depth of the valid points, `[B]`; 0 where there is none."""
    z = coords3d[..., 2]
    if root_index < 0:
        return reduce_mean_masked(z, valid, axis=1)
    return tf.where(valid[:, root_index], z[:, root_index], 0.0)
