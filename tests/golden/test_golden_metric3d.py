"""Golden vectors of the graph library: the released codes' numbers and gradients.

Folder: METRABS_LIKE_GOLDENS (default tests/goldens), in it `metric3d/`. Each file's prefix names what it tests; a file or a
quantity that no prefix knows fails. Sizes, seeds and flags are read from the files, so that any file of the same form can be put
there.
"""

import numpy as np
import pytest

from tests.golden import (
    closeness,
    metric3d_alignment,
    metric3d_losses,
    metric3d_quantities,
    metric3d_recon,
    npz_cases,
)

SYSTEM = "metric3d"

QUANTITIES = {
    "align_center_relative_pose": metric3d_alignment.center_relative_pose,
    "align_rigid": metric3d_alignment.rigid_align,
    "geom_intrinsics_from_fov": metric3d_quantities.intrinsics_from_fov,
    "geom_is_within_fov": metric3d_quantities.is_within_fov,
    "geom_project": metric3d_quantities.project,
    "geom_rotations": metric3d_quantities.rotations,
    "head_features_weights": metric3d_quantities.head_features,
    "head_logits": metric3d_quantities.head_logits,
    "heatmap_to_image": metric3d_quantities.heatmap_to_image,
    "loss2d_gt": metric3d_losses.loss_with_2d_gt,
    "loss3d": metric3d_losses.loss_with_3d_gt,
    "loss_my_norm": metric3d_losses.my_norm,
    "metrabs_distortion": metric3d_quantities.distortion,
    "metrabs_metrics_mm": metric3d_alignment.metrabs_metrics,
    "metrics": metric3d_alignment.nlf_metrics,
    "recon_abs": metric3d_recon.reconstruct_absolute,
    "recon_ref": metric3d_recon.reference_point,
    "stats_auc": metric3d_quantities.stats_auc,
    "stats_charbonnier": metric3d_quantities.stats_charbonnier,
    "stats_linspace": metric3d_quantities.stats_linspace,
    "stats_mean_stdev_masked": metric3d_quantities.mean_stdev_masked,
    "stats_reduce_mean_masked": metric3d_quantities.reduce_mean_masked,
    "stats_softargmax": metric3d_quantities.softargmax,
    "trainer_reconstruct_absolute": metric3d_recon.trainer_reconstruct_absolute,
}

# Float64 evaluations that stand beside reference output.
EXACT = "exact64_"

# pending: functions that are not part of the library yet; the files are known and not tested.
PENDING_FILES = {
    "metrabs_plausibility": "pending: plausibility, pose similarity and NMS",
    "metrabs_reconstruct_absolute_mm": "pending: the older MeTRAbs reconstruction in millimetres",
    "metrabs_align_2d_skeletons": "pending: alignment of 2D skeletons",
}

# pending: single quantities of files that are tested otherwise.
PENDING_QUANTITIES = {
    "geom_rotations": ("out_twist", "out_swing", "out_haversine_R"),
    "metrabs_metrics_mm": ("out_ncps", "out_ncps_auc", "out_pck_wrists", "out_auc_wrists"),
}


def _lookup(table, stem, default=None):
    """Returns the entry whose key is the longest prefix of the file's name."""
    matching = [prefix for prefix in table if stem.startswith(prefix)]
    return table[max(matching, key=len)] if matching else default


def _is_pending(case):
    stem = case.path.stem
    return bool(_lookup(PENDING_FILES, stem)) or (
        case.name in _lookup(PENDING_QUANTITIES, stem, ()) and not case.prefix
    )


ALL_CASES = npz_cases.collect(SYSTEM)
CASES = [case for case in ALL_CASES if not _is_pending(case)]
PENDING = [case for case in ALL_CASES if _is_pending(case)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.test_id)
def test_agrees_with_the_released_code(case):
    stem = case.path.stem
    if stem.startswith(EXACT):
        _check_exact(case)
        return
    quantities = _lookup(QUANTITIES, stem)
    assert quantities, f"{case.path}: no test knows a file of this name"
    computed = quantities(case)
    pending = _lookup(PENDING_QUANTITIES, stem, ())
    expected = [key for key in case.expected() if key not in pending]
    assert expected, f"{case.test_id}: nothing to compare"
    for key in expected:
        assert key in computed, f"{case.path}: no test knows the quantity {key!r}"
        _compare(case, key, *computed[key])


def _compare(case, key, value, kind, exact=None):
    """Compares one quantity, or asserts the designed behaviour where the reference's is a defect."""
    context = f"{case.test_id} {key}"
    value = np.asarray(value)
    if kind == "broken":
        metric3d_losses.assert_broken(key, value, context)
    elif not case.path.stem.startswith("stats_reduce") or np.isfinite(case["in_x"]).all():
        _compare_infinities(value, case[key], context)
        closeness.assert_close(value, case[key], kind, exact, context)
    else:
        _compare_masked_nan(case, key, value, context)


def _compare_infinities(value, reference, context):
    """Infinities must agree: they come from overflow at valid points. NaN in the reference is not imitated."""
    is_inf = np.isinf(np.asarray(reference, np.float64))
    np.testing.assert_array_equal(value[is_inf], reference[is_inf], err_msg=context)


def _compare_masked_nan(case, key, value, context):
    """NaN in the data of a mean: invisible where masked, visible where valid (the original: neither)."""
    x, mask = case["in_x"], case["in_mask"]
    mask = np.broadcast_to(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x.shape)
    is_shown = mask & ~np.isfinite(x)
    if key == "out_mean":
        axis = None if case["arg_axis"].tolist() == [-99] else tuple(case["arg_axis"])
        shown = is_shown.any(axis=axis, keepdims=bool(case["arg_keepdims"]))
        np.testing.assert_array_equal(np.isfinite(value), ~shown, err_msg=context)
        reference = np.where(np.isfinite(case[key]) & ~shown, case[key], value)
        closeness.assert_close(
            np.nan_to_num(value), np.nan_to_num(reference), "value", None, context
        )
    else:
        assert (value[~mask] == 0).all(), f"{context}: gradient at a masked entry"


def _check_exact(case):
    """Ours against the float64 evaluation: at least as near as the reference's own distance to it."""
    stem, name = case.name.split("__")
    path = case.path.with_name(stem + ".npz")
    owner = next(c for c in npz_cases.cases_of(path) if c.name == name)
    value, exact = metric3d_recon.reference_point(owner)["out_ref"][0], case[case.name]
    closeness.assert_close(value, owner["out_ref"], "recon", exact, case.test_id)
    own_error = np.abs(owner["out_ref"] - exact).max(-1)
    allowed = closeness.allowed_error(exact, "recon").max(-1)
    assert (np.abs(value - exact).max(-1) <= np.maximum(own_error, allowed)).all(), case.test_id


@pytest.mark.parametrize("case", PENDING, ids=lambda case: case.test_id + "-pending")
def test_pending_quantities_are_known(case):
    """pending: read and listed, not compared; fails when the listing no longer fits the file."""
    assert npz_cases.load(case.path)[
        case.prefix + case.name if not case.prefix else "case_names"
    ].size
    reason = _lookup(PENDING_FILES, case.path.stem, "pending: " + case.name)
    assert reason.startswith("pending")


def test_golden_metric3d_files_exist():
    assert CASES, f"no golden files in {npz_cases.folder(SYSTEM)}"
