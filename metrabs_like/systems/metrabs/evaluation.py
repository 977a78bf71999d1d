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
      decoded: of `decode`.
      targets: of `prepare`, of a batch that `decode` can take: all its kinds have canonical points,
        or none has.
      config: `Config`; relative errors refer to its root joint.

    Returns:
      Dict name -> (sum, count). With 3D annotations those of `metrics.pose3d.pose_sums` of the
      joints (mpjpe_mm, pa_mpjpe_mm, absolute_error_mm, pck and auc at 100 and 150 mm,
      mpjpe_per_joint_mm) and `relative_root_depth_error`, |z - z_true| / z_true of the root, per
      person; of kind param also `surface_mpjpe_mm`, of the surface points relative to their mean.
      With 2D annotations, the 3D ones' projection and surface points included,
      `reprojection_error_px` (crop px).
    """
    sums, pixel_sums = {}, []
    for kind, pred in split_predictions(decoded, targets).items():
        true = targets[kind]
        valid = true["point_validity"]
        pixel_sums.append(pose3d.pixel_error(pred["coords2d"], true["coords2d_true"], valid))
        if kind in KINDS_3D:
            for name, (total, count) in _sums_3d(pred, true, config).items():
                before = sums.get(name, (0.0, 0.0))
                sums[name] = (before[0] + total, before[1] + count)
    totals, counts = zip(*pixel_sums, strict=True)
    sums["reprojection_error_px"] = (tf.add_n(totals), tf.add_n(counts))
    return sums


def _sums_3d(pred, true, config):
    """Sums and counts of a kind with 3D annotations: of the joints, and of surface points."""
    joints = slice(None, config.n_points)
    points = pred["coords3d_abs"], true["coords3d_true"], true["point_validity"]
    pred_joints, true_joints, valid = (value[:, joints] for value in points)
    root = config.root_index
    sums = pose3d.pose_sums(pred_joints, true_joints, valid, root_index=root)
    errors, has_root = _relative_depth_errors(pred_joints, true_joints, valid, root)
    sums["relative_root_depth_error"] = pose3d.sums(errors, has_root)
    if "canonical_points" in true and true["canonical_points"].shape[1] != 0:
        surface = (value[:, config.n_points :] for value in points)
        sums["surface_mpjpe_mm"] = pose3d.pose_sums(*surface, root_index=-1)["mpjpe_mm"]
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
    joints = slice(None, config.n_points)
    per_point = ("coords3d_true", "coords2d_true", "point_validity")
    true = targets[kind] | {name: targets[kind][name][:, joints] for name in per_point}
    pred = split_predictions(decoded, targets)[kind]
    pred = {name: value[:, joints] for name, value in pred.items()}
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
