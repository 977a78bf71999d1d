"""Golden quantities of the losses."""

import numpy as np
import tensorflow as tf

from metrabs_like.losses import metric3d
from metrabs_like.losses.robust import charbonnier
from metrabs_like.training.counters import adjusted_train_counter
from tests.golden import exact_losses
from tests.golden.metric3d_quantities import grid_of, weighted_gradients

NAMES = ("loss3d", "loss3d_abs", "loss2d", "total")


def config_of(case):
    """Returns the loss options that the case's flags describe."""
    fields = ("nll_loss", "beta_nll", "charb_eps", "fix_uncert_factor", "box_size_m")
    fields += ("absloss_factor", "absloss_start_step")
    options = {name: case[f"flag_{name}"] for name in fields if f"flag_{name}" in case}
    if "flag_proc_side" in case:
        options["grid"] = grid_of(case)
    return metric3d.Metric3DLossConfig(**options)


def my_norm(case):
    """Uncertainty-weighted norm, with and without uncertainty."""
    config, x, uncert, weight = (
        config_of(case),
        case["in_x"],
        case["in_uncert"],
        case["in_w"],
    )
    out, (grad_x, grad_uncert) = weighted_gradients(
        lambda x, u: metric3d.uncertainty_norm(x, u, config), [x, uncert], [weight]
    )
    plain, (grad_plain,) = weighted_gradients(
        lambda x: metric3d.uncertainty_norm(x, None, config), [x], [weight]
    )
    length = charbonnier(x, 0.0, keepdims=True)
    return {
        "out": (out, "value"),
        "grad_x": (grad_x, "grad"),
        "grad_uncert": (grad_uncert, "grad"),
        "out_no_uncert": (plain, "value"),
        "grad_x_no_uncert": (grad_plain, "grad"),
        "out_euc": (length, "value"),
    }


def loss_with_3d_gt(case):
    """All losses against 3D ground truth, each with its gradients."""
    step = adjusted_train_counter(case["arg_train_counter"], case["flag_grad_accum_steps"])
    assert step == case["arg_adjusted"]
    config, uses_validity = config_of(case), case["arg_use_point_validity"]
    inps = {
        "coords3d_true": case["in_coords3d_true"],
        "intrinsics": case["in_intrinsics"],
        "root_index": case["in_root_index"],
        "point_validity": case["in_point_validity"] if uses_validity else None,
    }

    def losses(coords3d_abs, uncert):
        preds = {"coords3d_abs": coords3d_abs, "uncert": uncert}
        parts, total = metric3d.compute_loss_with_3d_gt(inps, preds, config, step)
        return [parts.loss3d, parts.loss3d_abs, parts.loss2d, total]

    results = {}
    inputs = [tf.constant(case["in_coords3d_abs"]), tf.constant(case["in_uncert"])]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        outputs = losses(*inputs)
    for name, out in zip(NAMES, outputs, strict=True):
        grads = tape.gradient(out, inputs, unconnected_gradients="zero")
        results[f"out_{name}"] = (out, "value")
        results[f"grad_{name}_coords3d_abs"] = (grads[0], "grad")
        results[f"grad_{name}_uncert"] = (grads[1], "grad")
    if not _is_finite(case):
        expected = exact_losses.losses_with_3d_gt(case, config, step)
        for name, parts in expected.items():
            keys = (f"out_{name}", f"grad_{name}_coords3d_abs", f"grad_{name}_uncert")
            results |= _designed(results, keys, parts)
    return results


def loss_with_2d_gt(case):
    """The loss against 2D ground truth."""
    config = config_of(case)
    inps = {
        "coords2d_true": case["in_coords2d_true"],
        "intrinsics": case["in_intrinsics"],
        "point_validity": case["in_point_validity"],
    }

    def loss(coords3d_abs, uncert):
        preds = {"coords3d_abs": coords3d_abs, "uncert": uncert}
        return metric3d.compute_loss_with_2d_gt(inps, preds, config)

    inputs = [case["in_coords3d_abs"], case["in_uncert"]]
    out, grads = weighted_gradients(loss, inputs, [1.0])
    results = {
        "out_loss": (out, "value"),
        "grad_coords3d_abs": (grads[0], "grad"),
        "grad_uncert": (grads[1], "grad"),
    }
    if not _is_finite(case):
        results = _designed(results, results, exact_losses.losses_with_2d_gt(case, config))
    return results


def _is_finite(case):
    """Tells whether all points are finite; where not, the released code is no measure."""
    keys = ("in_coords3d_abs", "in_coords3d_true", "in_coords2d_true", "in_uncert")
    return all(np.isfinite(case[key]).all() for key in keys if key in case)


def _designed(results, keys, parts):
    """Returns the results of these keys with what must hold instead of the reference."""
    return {key: (*results[key], part) for key, part in zip(keys, parts, strict=True)}
