"""Golden quantities of the reference point and of absolute reconstruction, exact ones beside."""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import absolute, camera
from metrabs_like.systems.metrabs import decoding
from metrabs_like.training.counters import adjusted_train_counter
from scripts.benchmarks import plain
from tests.golden import nonfinite
from tests.golden.metric3d_quantities import grid_of, weighted_gradients


def reference_point(case):
    """Weak or full reference point; the case's name says which."""
    inputs = [case["in_normalized_2d"], case["in_coords3d_rel"]]
    mask, l2 = case["in_mask"], case["flag_fullpersp_l2_regul"]
    is_weak = case.name.startswith("weak")

    def ours(normalized, rel):
        if is_weak:
            return absolute.reconstruct_ref_weakpersp(normalized, rel, mask)
        return absolute.reconstruct_ref_fullpersp(normalized, rel, mask, l2)

    def exact_of_one(normalized, rel, mask):
        if is_weak:
            return plain.reconstruct_ref_weakpersp(normalized, rel, mask)
        return plain.reconstruct_ref_fullpersp(normalized, rel, mask, l2)

    # An invalid point that is not finite is not there at all.
    is_there = mask.astype(bool) | ~nonfinite.broken_points(case)

    def exact(normalized, rel):
        if is_there.all():
            return exact_of_one(normalized, rel, mask)
        # Of no point at all the regularizer makes 0, the ratio of sizes 1.
        rows, of_nothing = [], tf.constant([[0.0, 0.0, float(is_weak)]], normalized.dtype)
        for i, keep in enumerate(is_there):
            if not keep.any():
                rows.append(of_nothing)
                continue
            one = (tf.boolean_mask(x[i], keep)[tf.newaxis] for x in (normalized, rel))
            rows.append(exact_of_one(*one, mask[i : i + 1, keep]))
        return tf.concat(rows, axis=0)

    keys = ["out_ref", "grad_normalized_2d", "grad_coords3d_rel"]
    return _with_exact(keys, ours, exact, inputs, case["in_w"])


def reconstruct_absolute(case):
    """Absolute reconstruction with all its options."""
    weak = case["arg_weak_perspective"]
    options = {
        "mix_based_on_3d": bool(case["arg_mix_based_on_3d"]),
        "border_factor1": case["arg_border_factor1"],
        "border_factor2": case["arg_border_factor2"],
        "l2_regularizer": case["flag_fullpersp_l2_regul"],
    }
    weak = bool(case["flag_weak_perspective"] if weak == -1 else weak)
    mask = case["in_point_validity_mask"] if case["arg_use_point_validity_mask"] else None
    mix = _mix(case)

    def ours(coords2d, rel, mix=mix):
        return absolute.reconstruct_absolute(
            coords2d,
            rel,
            case["in_intrinsics"],
            grid=grid_of(case),
            mix_3d_inside_fov=mix,
            weak_perspective=weak,
            point_validity_mask=mask,
            **options,
        )

    return _absolute(case, ours, mask, {**options, "weak": weak})


def trainer_reconstruct_absolute(case):
    """Training's form: weak perspective first, full perspective later."""
    step = adjusted_train_counter(case["arg_train_counter"], case["flag_grad_accum_steps"])
    assert step == case["arg_adjusted"]
    mask, l2 = case["in_point_validity_mask"], case["flag_fullpersp_l2_regul"]
    mix = _mix(case)

    def ours(coords2d, rel, mix=mix):
        return decoding.reconstruct_absolute(
            coords2d,
            rel,
            case["in_intrinsics"],
            mix,
            mask,
            grid=grid_of(case),
            step=step,
            l2_regularizer=l2,
        )

    options = {"border_factor1": 1, "border_factor2": 0.55, "mix_based_on_3d": False}
    return _absolute(case, ours, mask, {**options, "l2_regularizer": l2, "weak": step < 500})


def _mix(case):
    """Returns the share of the 3D prediction inside the field of view."""
    kinds = {"none": None, "half": 0.5}
    return kinds[case["arg_mix_kind"]] if case["arg_mix_kind"] in kinds else case["in_mix"]


def _absolute(case, ours, mask, options):
    """Returns ours and the float64 evaluation of absolute reconstruction and its gradients."""
    inputs = [case["in_coords2d"], case["in_coords3d_rel"]]
    keys = ["out_coords3d_abs", "grad_coords2d", "grad_coords3d_rel"]
    if "grad_mix" in case:
        inputs.append(case["in_mix"])
        keys.append("grad_mix")
    intrinsics, grid = tf.cast(case["in_intrinsics"], tf.float64), grid_of(case)
    margins, mix = [], _mix(case)
    valid = np.ones(inputs[0].shape[:2], bool) if mask is None else mask.astype(bool)

    def exact(coords2d, rel, mix=mix):
        mix = None if mix is None else tf.cast(mix, tf.float64)
        coords2d, rel = (_without_masked_nonfinite(x, valid) for x in (coords2d, rel))
        out, pixels, z = plain.reconstruct_absolute(
            coords2d, rel, intrinsics, mask, mix, grid, **options
        )
        margins.append(_decision_margin(pixels, z, grid, options["border_factor2"]))
        return out

    results = _with_exact(keys, ours, exact, inputs, case["in_w"])
    is_open = _is_open(margins[0], results["out_coords3d_abs"][2], case["out_coords3d_abs"])
    results = {
        key: _settled(result, is_open if key.startswith("out") else is_open.any(1), case[key])
        for key, result in results.items()
    }
    if "grad_mix" in results:
        terms = np.abs(np.nan_to_num(case["in_w"] * case["out_coords3d_abs"])).sum((1, 2))
        results["grad_mix"] += (2.0**-23 * terms[:, np.newaxis, np.newaxis],)
    return results


def _without_masked_nonfinite(x, valid):
    """Returns the tensor with 0 in place of non-finite numbers at invalid points."""
    return tf.where(valid[..., np.newaxis] | tf.math.is_finite(x), x, tf.zeros([], x.dtype))


def _with_exact(keys, ours, exact, inputs, weights):
    """Evaluates ours in float32 and the plain form in float64."""
    out, grads = weighted_gradients(ours, inputs, [weights])
    doubles = [np.asarray(x, np.float64) for x in inputs]
    out64, grads64 = weighted_gradients(exact, doubles, [np.asarray(weights, np.float64)])
    kinds = ["recon"] + ["recon_grad"] * len(grads)
    values = zip(kinds, [out, *grads], [out64, *grads64], strict=True)
    return {
        key: (np.asarray(value), kind, np.asarray(value64))
        for key, (kind, value, value64) in zip(keys, values, strict=True)
    }


def _decision_margin(pixels, z, grid, border_factor):
    """Returns how far, relative to its size, each point is from the other choice."""
    low, high = camera.fov_bounds(grid, border_factor)
    gap = np.minimum(np.abs(pixels - low), np.abs(pixels - high)) / (1 + np.abs(pixels))
    return np.minimum(gap.min(-1), np.abs(z - 0.001) / (1 + np.abs(z)))


def _is_open(margin, exact, reference):
    """Returns the points [B, P] whose choice a rounding error decides, in the reference too.

    That is where the margin is smaller than the reference's own error of position in that example,
    relative to the depth.
    """
    error = np.nan_to_num(np.abs(reference - exact)).max(-1)
    settled_error = np.where(margin > 1e-2, error, 0.0).max(axis=1, keepdims=True, initial=0.0)
    depth = np.maximum(np.abs(exact[..., 2]), 1e-3)
    return margin < 4 * settled_error / depth + 1e-6


def _settled(result, is_open, reference):
    """Sets open points, and gradients of their examples, equal to the reference."""
    value, kind, exact = result
    is_open = is_open.reshape(is_open.shape + (1,) * (value.ndim - is_open.ndim))
    is_open = is_open & np.isfinite(reference)
    return np.where(is_open, reference, value), kind, np.where(is_open, reference, exact)
