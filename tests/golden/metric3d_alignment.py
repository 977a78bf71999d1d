"""Golden quantities of alignment and metrics."""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import alignment, masking
from metrabs_like.metrics import published
from tests.golden import exact_losses, exact_metrics, nonfinite
from tests.golden.metric3d_quantities import weighted_gradients

NLF_NAMES = "mean_error_abs mean_error auc pck mean_error_procrustes mean_error_px mean_error_px_2d"
METRABS_NAMES = "mean_error mean_error_abs mean_error_2d mean_error_procrustes mean_auc mean_pck"


def center_relative_pose(case):
    """Relative poses; the NumPy variant's NaN at masked points is not imitated."""
    mask = case["in_mask"] if case["arg_use_mask"] else None
    joints = case["in_center_joints"] if case["arg_use_center_joints"] else None

    def center(coords3d):
        return alignment.center_relative_pose(
            coords3d, mask, bool(case["arg_center_is_mean"]), joints
        )

    def exact(x):
        center = x[:, -1:]
        if case["arg_center_is_mean"]:
            chosen = np.arange(valid.shape[1]) if mask is None or joints is None else joints
            x_chosen, is_chosen = tf.gather(x, chosen, axis=1), valid[:, chosen, np.newaxis]
            count = np.maximum(is_chosen.sum(1, keepdims=True), 1)
            total = tf.reduce_sum(tf.where(is_chosen, x_chosen, 0), 1, keepdims=True)
            center = total / count
        return tf.where(is_gone, 0, tf.where(is_gone, 0, x) - center)

    inputs, weights = [case["in_coords3d"]], [case["in_w"]]
    out, (grad,) = weighted_gradients(center, inputs, weights)
    results = {"out": (out, "value"), "grad_coords3d": (grad, "grad")}
    is_broken = nonfinite.is_broken(inputs[0])
    if not is_broken.any():
        return results
    # A masked point that is not finite becomes 0 as a whole, and only there NaN may not show.
    valid = np.ones_like(is_broken) if mask is None else mask.astype(bool)
    is_gone = (is_broken & ~valid)[..., np.newaxis]
    doubles = [[np.asarray(x, np.float64) for x in arrays] for arrays in (inputs, weights)]
    out64, (grad64,) = weighted_gradients(exact, *doubles)
    values = np.asarray(out64), grad64
    return {
        key: (*result, exact_losses.Expected.of_value(value))
        for (key, result), value in zip(results.items(), values, strict=True)
    }


def rigid_align(case):
    """Procrustes alignment, and what our result implies about the released code's internals."""
    mask = case["in_mask"] if case["arg_use_mask"] else np.ones_like(case["in_mask"])
    rows, weights = case["in_grad_rows"], np.zeros_like(case["in_w"])
    weights[rows] = case["in_w"][rows]

    def align(pred):
        return alignment.rigid_align(
            pred,
            case["in_coords_true"],
            joint_validity_mask=mask,
            scale_align=bool(case["arg_scale_align"]),
            reflection_align=bool(case["arg_reflection_align"]),
        )

    out, (grad,) = weighted_gradients(align, [case["in_coords_pred"]], [weights])
    out = out.numpy()
    n_valid = mask.sum(1)
    broken = ~np.isfinite(case["in_coords_pred"] + case["in_coords_true"]).all(-1)
    is_sound = ~(broken & mask).any(1)
    assert np.isfinite(out[is_sound]).all(), "only NaN at a valid point may give NaN"
    assert not np.isfinite(out[~is_sound]).any(), "NaN at a valid point is lost"
    # With two valid points the rotation about their line is free, with fewer the reference is NaN.
    reference, shown = case["out_aligned"], out.copy()
    for i in np.flatnonzero(n_valid <= 2):
        is_free = ~mask[i][:, np.newaxis] & np.isfinite(reference[i])
        shown[i] = np.where(is_free, reference[i], shown[i])
    is_used = is_sound[:, np.newaxis] & ~broken
    transform, scale, is_full_rank = _implied_transform(case["in_coords_pred"], out, is_used)
    is_known = ((n_valid > 2) & is_full_rank)[:, np.newaxis, np.newaxis]
    has_scale = case["out_scale"].ndim > 0

    def unknown(reference):
        return np.where(is_sound[:, np.newaxis, np.newaxis], np.nan_to_num(reference), reference)

    scale = np.where(is_known, scale, unknown(case["out_scale"])) if has_scale else np.float32(1.0)
    mean_pred, _ = masking.mean_stdev_masked(case["in_coords_pred"], mask)
    mean_true, _ = masking.mean_stdev_masked(case["in_coords_true"], mask)
    return {
        "out_aligned": (shown, "value"),
        "grad_coords_pred_rows": (grad[rows], "svd_grad"),
        "out_meanY": (mean_pred, "value"),
        "out_T": (np.where(is_known, transform, unknown(case["out_T"])), "svd_grad"),
        "out_scale": (scale, "svd_grad"),
        "out_meanX": (mean_true, "value"),
    }


def _implied_transform(pred, aligned, is_used):
    """Returns the rotation and scale that align the points, and whether these determine them."""
    is_used = is_used[..., np.newaxis]
    count = np.maximum(is_used.sum(1, keepdims=True), 1)
    pred, aligned = (np.where(is_used, x, 0).astype(np.float64) for x in (pred, aligned))
    pred, aligned = (
        np.where(is_used, x - x.sum(1, keepdims=True) / count, 0) for x in (pred, aligned)
    )
    linear = np.linalg.pinv(pred) @ aligned
    scale = np.cbrt(np.abs(np.linalg.det(linear)))[:, np.newaxis, np.newaxis]
    is_full_rank = np.linalg.matrix_rank(pred) == 3
    return linear / np.where(scale > 0, scale, 1.0), scale, is_full_rank


def nlf_metrics(case):
    """The released NLF metrics."""
    results = published.nlf_metrics(
        case["in_coords3d_true"],
        case["in_coords3d_abs"],
        case["in_intrinsics"],
        case["in_coords2d_true"],
        case["in_point_validity"],
        proc_side=case["flag_proc_side"],
    )
    return _metrics(results, NLF_NAMES, exact_metrics.nlf_metrics, case)


def metrabs_metrics(case):
    """The released MeTRAbs metrics, in millimetres."""
    results = published.metrabs_metrics(
        case["in_coords3d_true"],
        case["in_coords3d_pred"],
        case["in_mask"],
        case["in_coords2d_true"],
        case["in_coords2d_pred"],
        mean_relative=bool(case["flag_mean_relative"]),
    )
    return _metrics(results, METRABS_NAMES, exact_metrics.metrabs_metrics, case)


def _metrics(results, names, exact, case):
    """Returns the named metrics.

    One example with a single valid point sets the reference's Procrustes error of the whole batch
    to 0, and NaN, behind a mask or not, does the same to other metrics: there the measure is a
    float64 evaluation.
    """
    results = {f"out_{name}": (results[name], "value") for name in names.split()}
    if not nonfinite.broken_points(case).any():
        if (nonfinite.validity(case).sum(1) == 1).any():
            value = exact(case)["mean_error_procrustes"]
            results["out_mean_error_procrustes"] += (exact_losses.Expected.of_value(value),)
        return results
    values = exact(case)
    return {
        key: (*result, exact_losses.Expected.of_value(values[key.removeprefix("out_")]))
        for key, result in results.items()
    }
