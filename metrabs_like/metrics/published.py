"""The metric sets that the released codes print, with their names and units.

For comparing numbers with theirs; new evaluations use `metrics.pose3d`. The batch is one whole:
each value is a mean over all its valid points, 0 where nothing is valid.
"""

import tensorflow as tf

from metrabs_like import units
from metrabs_like.geometry import alignment, camera
from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.metrics import pose3d


def nlf_metrics(
    coords3d_true, coords3d_abs, intrinsics, coords2d_true=None, point_validity=None, *, proc_side
):
    """Computes the metrics of NLF's released TensorFlow trainer.

    Protocol: root = mean of the valid points; PCK and AUC up to 0.1 m in percent; Procrustes
    with scale, without reflection; pixel errors scaled to a 256 px crop, without any test of
    field of view or depth.

    Args:
      coords3d_true: float `[B, P, 3]`, m, camera frame.
      coords3d_abs: float `[B, P, 3]`, m, camera frame, predicted.
      intrinsics: float `[B, 3, 3]` of the crop.
      coords2d_true: float `[B, P, 2]`, crop px, or None (leaves out `mean_error_px_2d`).
      point_validity: bool `[B, P]` or None.
      proc_side: int, px, side of the crop.

    Returns:
      dict of float scalars: `mean_error_abs`, `mean_error`, `mean_error_procrustes` (mm), `auc`,
      `pck` (percent), `mean_error_px`, `mean_error_px_2d` (px of a 256 px crop). Two departures
      from the released code, by design: NaN at a valid point stays NaN, and an example with a
      single valid point counts as aligned by translation (there, it turns the whole batch's
      `mean_error_procrustes` into 0).

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).

    References:
      Sarandi and Pons-Moll, NLF, NeurIPS 2024, released code.
    """
    _check(
        coords3d_abs=(coords3d_abs, "B P 3"),
        coords3d_true=(coords3d_true, "B P 3"),
        intrinsics=(intrinsics, "B 3 3"),
        coords2d_true=(coords2d_true, "B P 2"),
        point_validity=(point_validity, "B P"),
    )
    pair = (coords3d_abs, coords3d_true, point_validity)
    errors, valid = pose3d.root_relative_errors(*pair)
    to_256 = 256.0 / proc_side
    image_pred = camera.project_pose(coords3d_abs, intrinsics)
    image_true = camera.project_pose(coords3d_true, intrinsics)
    result = {
        "mean_error_abs": units.MM_PER_M * _mean(pose3d.absolute_error(*pair)),
        "mean_error": units.MM_PER_M * _mean(pose3d.sums(errors, valid)),
        "auc": 100.0 * _mean(pose3d.sums(pose3d.auc_scores(errors, 0.0, 0.1), valid)),
        "pck": 100.0 * _mean(pose3d.sums(pose3d.pck_scores(errors, 0.1), valid)),
        "mean_error_procrustes": units.MM_PER_M * _mean(pose3d.pa_mpjpe(*pair)),
        "mean_error_px": to_256 * _mean(pose3d.pixel_error(image_pred, image_true, point_validity)),
    }
    if coords2d_true is not None:
        pixel_sums = pose3d.pixel_error(image_pred, coords2d_true, point_validity)
        result["mean_error_px_2d"] = to_256 * _mean(pixel_sums)
    return result


def metrabs_metrics(
    coords3d_true_mm,
    coords3d_pred_mm,
    mask=None,
    coords2d_true=None,
    coords2d_pred=None,
    *,
    mean_relative=False,
):
    """Computes the metrics of MeTRAbs' released trainer (without wrists and NCPS).

    Protocol: root = last joint, valid or not, or with `mean_relative` the mean of the valid
    points; PCK at 150 mm and AUC from 0 to 150 mm, in 0..1; Procrustes with scale, without
    reflection.

    Args:
      coords3d_true_mm: float `[B, P, 3]`, mm.
      coords3d_pred_mm: float `[B, P, 3]`, mm.
      mask: bool `[B, P]` or None.
      coords2d_true: float `[B, P, 2]`, px, or None.
      coords2d_pred: float `[B, P, 2]`, px, or None (then `mean_error_2d` is left out).
      mean_relative: the released code's flag of that name.

    Returns:
      dict of float scalars: `mean_error`, `mean_error_abs`, `mean_error_procrustes` (mm),
      `mean_error_2d` (px), `mean_auc`, `mean_pck` (0..1). A single valid point: as `nlf_metrics`.

    Raises:
      ValueError: if statically known shapes disagree (unknown ones are checked when run).

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021, released code.
    """
    _check(
        coords3d_pred_mm=(coords3d_pred_mm, "B P 3"),
        coords3d_true_mm=(coords3d_true_mm, "B P 3"),
        mask=(mask, "B P"),
        coords2d_true=(coords2d_true, "B P 2"),
        coords2d_pred=(coords2d_pred, "B P 2"),
    )
    pair = (coords3d_pred_mm, coords3d_true_mm)
    centered = [alignment.center_relative_pose(x, mask, mean_relative) for x in pair]
    errors, valid = pose3d.absolute_errors(*centered, mask)
    result = {
        "mean_error": _mean(pose3d.sums(errors, valid)),
        "mean_error_abs": _mean(pose3d.absolute_error(*pair, mask)),
        "mean_error_procrustes": _mean(pose3d.pa_mpjpe(*pair, mask)),
        "mean_auc": _mean(pose3d.sums(pose3d.auc_scores(errors, 0.0, 150.0), valid)),
        "mean_pck": _mean(pose3d.sums(pose3d.pck_scores(errors, 150.0), valid)),
    }
    if coords2d_true is not None and coords2d_pred is not None:
        result["mean_error_2d"] = _mean(pose3d.pixel_error(coords2d_pred, coords2d_true, mask))
    return result


def _check(**named):
    """Checks shapes here, where the arguments still have the names that the caller knows."""
    named = {name: pair for name, pair in named.items() if pair[0] is not None}
    check_shapes(**{name: (tf.convert_to_tensor(x), dims) for name, (x, dims) in named.items()})


def _mean(total_and_count):
    """Divides a sum by its count; 0 where nothing was counted, as the released codes do."""
    return tf.math.divide_no_nan(*total_and_count)
