"""Why a reference number is not finite, and what ours must be there.

The released code multiplies by masks, so that NaN behind one poisons its whole example. Ours is
finite where the cause is a masked point; where it is a valid point, or finite input that overflows,
ours is not finite either. A gradient is judged per example: one of its arrays must show the defect,
which ones is a matter of how the derivative is written.
"""

import enum

import numpy as np

from metrabs_like.geometry import camera

MASKS = ("point_validity", "point_validity_mask", "mask")


class Ours(enum.IntEnum):
    """What must hold where the reference is not finite."""

    FINITE = 0
    NONFINITE = 1
    JUDGED_TOGETHER = 2


def validity(case):
    """Returns the case's mask in use, bool `[B, P]`, or None."""
    for name in MASKS:
        if f"in_{name}" in case and (f"arg_use_{name}" not in case or case[f"arg_use_{name}"]):
            return case[f"in_{name}"].astype(bool)
    return None


def broken_points(case):
    """Returns bool `[B, P]`: which points have a non-finite coordinate; None without a mask."""
    shapes = [case[f"in_{name}"].shape for name in MASKS if f"in_{name}" in case]
    if not shapes:
        return None
    broken = np.zeros(shapes[0], bool)
    for key in case.inputs():
        x = case[key]
        if x.shape[:2] == broken.shape and x.dtype.kind == "f" and not key.startswith("in_w"):
            broken |= is_broken(x)
    return broken


def is_broken(x):
    """Returns bool `[B, P]`: where an array `[B, P, ...]` has a non-finite entry."""
    return ~np.isfinite(x).all(axis=tuple(range(2, x.ndim)))


def prescribe(case, key, reference):
    """Returns an array of `Ours` like the reference: what must hold where that is not finite."""
    broken = broken_points(case)
    everywhere = np.full(reference.shape, Ours.NONFINITE)
    if broken is None:
        return everywhere
    counts, shows = _roles(case, broken.shape)
    if key.endswith("_rows"):
        broken, counts, shows = (x[case["in_grad_rows"]] for x in (broken, counts, shows))
    spoilt = (counts & broken).any(1)
    if reference.shape[:1] != spoilt.shape:
        caused = spoilt.any() or not broken.any()
        return everywhere if caused else np.full(reference.shape, Ours.FINITE)
    is_per_point = reference.shape[:2] == broken.shape and reference.ndim > 2
    spoilt |= ~broken.any(1) & _overflows(case, shows, reference, is_per_point)
    if key.startswith("out"):
        result = spoilt[:, np.newaxis] | (shows & broken) if is_per_point else spoilt
        kind = Ours.NONFINITE
    else:
        result, kind = spoilt | (shows & broken).any(1), Ours.JUDGED_TOGETHER
    result = result.reshape(result.shape + (1,) * (reference.ndim - result.ndim))
    return np.broadcast_to(np.where(result, kind, Ours.FINITE), reference.shape)


def _overflows(case, valid, reference, is_per_point):
    """Returns in which examples valid points are the cause if all points are finite."""
    # Alignment needs two points, where ours is defined for fewer.
    is_enough = valid.sum(1) >= (2 if "in_coords_pred" in case else 1)
    if not is_per_point:
        return is_enough
    return is_enough & (valid & ~np.isfinite(reference).all(-1)).any(1)


def _roles(case, shape):
    """Returns which points decide about their example, and which show their own defects."""
    valid = validity(case)
    valid = np.ones(shape, bool) if valid is None else valid
    if "arg_center_is_mean" in case and not case["arg_center_is_mean"]:
        # The root is subtracted whether it is valid or not.
        valid = valid | (np.arange(shape[1]) == shape[1] - 1)
    if "in_coords2d" not in case or "in_coords3d_rel" not in case:
        return valid, valid
    grid = camera.CropGrid(
        case["flag_proc_side"], case["flag_stride_train"], case["flag_centered_stride"]
    )
    border = case["arg_border_factor1"] if "arg_border_factor1" in case else 1
    # Points outside the field of view, NaN too, do not decide about the reference point.
    return valid & camera.is_within_fov(case["in_coords2d"], grid, border).numpy(), valid


def assert_prescribed(actual, reference, prescribed, context):
    """Asserts that ours is finite, or is not, where the reference is not finite."""
    is_bad = ~np.isfinite(actual)
    unknown = ~np.isfinite(reference)
    hidden = unknown & (prescribed == Ours.FINITE) & is_bad
    assert not hidden.any(), f"{context}: a masked point makes {hidden.sum()} numbers non-finite"
    if reference.ndim > 1 and reference.shape[-1] in (2, 3):
        # A point is not finite if one of its coordinates is not.
        is_bad = np.broadcast_to(is_bad.any(-1, keepdims=True), is_bad.shape)
    lost = unknown & (prescribed == Ours.NONFINITE) & ~is_bad
    assert not lost.any(), f"{context}: a valid point's defect is lost in {lost.sum()} numbers"


def assert_gradients_show(case, gradients, context):
    """Asserts that each example with a defect at a valid point has a non-finite gradient.

    Args:
      case: the golden case.
      gradients: {key: ours}; examples are judged where a reference is not finite.
      context: what is compared.
    """
    expected, shown = set(), set()
    for key, actual in gradients.items():
        reference = case[key]
        together = prescribe(case, key, reference) == Ours.JUDGED_TOGETHER
        expected |= set(_examples(together & ~np.isfinite(reference)))
        shown |= set(_examples(~np.isfinite(actual)))
    lost = sorted(expected - shown)
    assert not lost, f"{context}: gradients of examples {lost} hide the defect of a valid point"


def _examples(is_so):
    """Returns the examples in which something is so."""
    return np.flatnonzero(is_so.any(axis=tuple(range(1, is_so.ndim)))) if is_so.ndim else []
