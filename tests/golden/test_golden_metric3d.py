"""Golden vectors of the graph library: the released codes' numbers and gradients.

Folder: METRABS_LIKE_GOLDENS (default tests/goldens), in it `metric3d/`. Each file's prefix names
what it tests; a file or a quantity that no prefix knows fails. Sizes, seeds and flags are read from
the files, so that any file of the same form can be put there.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests.golden import (
    closeness,
    exact_losses,
    metric3d_alignment,
    metric3d_losses,
    metric3d_quantities,
    metric3d_recon,
    nonfinite,
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


@pytest.fixture
def run_as(request):
    """Runs the first case of each file as graphs, the others op by op: 400 graphs take minutes."""
    tf.config.run_functions_eagerly(request.param == "ops")
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    ("run_as", "case"),
    [("graph" if case.prefix in ("", "c00_") else "ops", case) for case in CASES],
    ids=[case.test_id for case in CASES],
    indirect=["run_as"],
)
@pytest.mark.usefixtures("run_as")
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
    gradients = {key: np.asarray(computed[key][0]) for key in expected if key.startswith("grad")}
    nonfinite.assert_gradients_show(case, gradients, case.test_id)


def _compare(case, key, value, kind, exact=None, noise=0.0):
    """Compares one quantity, or asserts the designed behaviour where it differs."""
    context = f"{case.test_id} {key}"
    value = np.asarray(value)
    if isinstance(exact, exact_losses.Expected):
        exact_losses.assert_expected(value, exact, kind, context)
    elif case.path.stem.startswith("stats_reduce") and not np.isfinite(case["in_x"]).all():
        _compare_mean_of_nonfinite(case, key, value, context)
    else:
        reference = case[key]
        if kind != "exact":
            prescribed = nonfinite.prescribe(case, key, reference)
            nonfinite.assert_prescribed(value, reference, prescribed, context)
            is_ours_alone = prescribed == nonfinite.Ours.FINITE
            reference = closeness.completed(reference, exact, is_ours_alone)
        closeness.assert_close(value, reference, kind, exact, noise, context)


def _compare_mean_of_nonfinite(case, key, value, context):
    """NaN in the data of a mean is invisible where masked and visible where valid.

    The released code does neither: it multiplies by the mask and turns a NaN result into 0.
    """
    x = case["in_x"].astype(np.float64)
    mask = case["in_mask"] if "in_mask" in case else np.ones_like(x, bool)
    mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)).astype(bool)
    axis = None if case["arg_axis"].tolist() == [-99] else tuple(case["arg_axis"])
    keepdims = bool(case["arg_keepdims"])
    counted = np.broadcast_to(mask, x.shape) if axis is None and not keepdims else mask
    count = np.maximum(counted.sum(axis, keepdims=True), 1)
    if key == "out_mean":
        mean = (np.where(mask, x, 0).sum(axis, keepdims=True) / count).reshape(value.shape)
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(mean), err_msg=context)
        closeness.assert_close(value, mean, "value", context=context)
    else:
        closeness.assert_close(value, mask / count * np.ones_like(x), "grad", context=context)


def _check_exact(case):
    """Ours against the float64 evaluation: at least as near to it as the reference is."""
    stem, name = case.name.split("__")
    path = case.path.with_name(stem + ".npz")
    owner = next(c for c in npz_cases.cases_of(path) if c.name == name)
    value, exact = metric3d_recon.reference_point(owner)["out_ref"][0], case[case.name]
    closeness.assert_close(value, owner["out_ref"], "recon", exact, context=case.test_id)
    own_error = np.abs(owner["out_ref"] - exact).max(-1)
    allowed = closeness.allowed_error(exact, "recon").max(-1)
    assert (np.abs(value - exact).max(-1) <= np.maximum(own_error, allowed)).all(), case.test_id


def test_golden_metric3d_pending_is_not_implemented():
    """pending: known and not compared. Fails once a pending quantity exists and is still listed."""
    for case in PENDING:
        computes = _lookup(QUANTITIES, case.path.stem)
        assert computes is None or case.name not in computes(case), f"{case.test_id} is implemented"


def test_golden_metric3d_files_exist():
    paths = sorted(npz_cases.folder(SYSTEM).glob("*.npz"))
    assert paths, f"no golden files in {npz_cases.folder(SYSTEM)}"
    for path in paths:
        is_known = any(_lookup(table, path.stem) for table in (QUANTITIES, PENDING_FILES))
        assert is_known or path.stem.startswith(EXACT), f"{path}: no test knows such a file"
        assert npz_cases.cases_of(path), f"{path}: holds nothing to compare"
