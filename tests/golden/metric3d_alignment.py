"""Golden quantities of alignment and metrics."""

import numpy as np

from metrabs_like.geometry import alignment, masking
from metrabs_like.metrics import published
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

    out, (grad,) = weighted_gradients(center, [case["in_coords3d"]], [case["in_w"]])
    assert np.isfinite(out).all() or not np.isfinite(case["in_coords3d"]).all()
    return {"out": (out, "value"), "grad_coords3d": (grad, "grad")}


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
    assert np.isfinite(out).all(), "fewer than two valid points: translation only, never NaN"
    # With two valid points the rotation about their line is free, with fewer the reference is NaN.
    reference, shown = case["out_aligned"], out.copy()
    for i in np.flatnonzero(n_valid <= 2):
        shown[i, ~mask[i]] = reference[i, ~mask[i]]
    transform, scale, is_full_rank = _implied_transform(case["in_coords_pred"], out)
    is_known = ((n_valid > 2) & is_full_rank)[:, np.newaxis, np.newaxis]
    has_scale = case["out_scale"].ndim > 0
    scale = np.where(is_known, scale, case["out_scale"]) if has_scale else np.float32(1.0)
    mean_pred, _ = masking.mean_stdev_masked(case["in_coords_pred"], mask)
    mean_true, _ = masking.mean_stdev_masked(case["in_coords_true"], mask)
    return {
        "out_aligned": (shown, "value"),
        "grad_coords_pred_rows": (grad[rows], "svd_grad"),
        "out_meanY": (mean_pred, "value"),
        "out_T": (np.where(is_known, transform, case["out_T"]), "svd_grad"),
        "out_scale": (scale, "svd_grad"),
        "out_meanX": (mean_true, "value"),
    }


def _implied_transform(pred, aligned):
    """Returns the rotation and scale that align the points, and whether these determine them."""
    pred = (pred - pred.mean(1, keepdims=True)).astype(np.float64)
    aligned = (aligned - aligned.mean(1, keepdims=True)).astype(np.float64)
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
    points = case["in_coords3d_abs"], case["in_coords3d_true"], case["in_point_validity"]
    return _metrics(results, NLF_NAMES, *points, case, 1000.0)


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
    points = case["in_coords3d_pred"], case["in_coords3d_true"], case["in_mask"]
    return _metrics(results, METRABS_NAMES, *points, case, 1.0)


def _metrics(results, names, pred, true, mask, case, unit):
    """Returns the named metrics.

    One example with a single valid point sets the reference's Procrustes error of the whole
    batch to 0: there it is compared with a float64 evaluation.
    """
    results = {f"out_{name}": (results[name], "value") for name in names.split()}
    if (mask.sum(1) == 1).any():
        expected = unit * procrustes_error(pred, true, mask)
        value = np.asarray(results["out_mean_error_procrustes"][0])
        np.testing.assert_allclose(value, expected, rtol=2e-5)
        results["out_mean_error_procrustes"] = (case["out_mean_error_procrustes"], "value")
    return results


def procrustes_error(pred, true, mask):
    """Returns the mean error after similarity alignment; one valid point counts as aligned."""
    errors = []
    for x, y, valid in zip(pred.astype(np.float64), true.astype(np.float64), mask, strict=True):
        if valid.sum() < 2:
            errors += [0.0] * int(valid.sum())
            continue
        x, y = x[valid] - x[valid].mean(0), y[valid] - y[valid].mean(0)
        u, s, vt = np.linalg.svd(x.T @ y)
        sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        aligned = x @ (u * sign @ vt) * (s * sign).sum() / np.sum(x * x)
        errors += np.linalg.norm(aligned - y, axis=1).tolist()
    return np.mean(errors) if errors else 0.0
