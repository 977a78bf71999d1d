"""Computes, for each metric3d golden case, the quantities that the file holds.

Every function takes a case and returns {key: (value, kind of tolerance)}; `metric3d_recon`,
`metric3d_losses` and `metric3d_alignment` hold the larger families.
"""

import re

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import camera, heatmap, masking, rotation
from metrabs_like.losses.robust import charbonnier
from metrabs_like.metrics import pose3d
from metrabs_like.systems.metrabs import decoding
from scripts.benchmarks import plain


def weighted_gradients(function, inputs, weights):
    """Returns outputs and the gradients of sum(weights * outputs), 0 where unconnected."""
    inputs = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        pairs = zip(listed, weights, strict=True)
        scalar = sum(tf.reduce_sum(out * w) for out, w in pairs if w is not None)
    gradients = tape.gradient(scalar, inputs, unconnected_gradients="zero")
    return outputs, [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def grid_of(case, stride="flag_stride_train"):
    """Returns the CropGrid that the case's flags describe."""
    return camera.CropGrid(case["flag_proc_side"], case[stride], case["flag_centered_stride"])


def is_within_fov(case):
    """Field of view, for random points and for points on its edge."""
    grid, border = grid_of(case), case["arg_border_factor"]
    return {
        f"out_{name}": (camera.is_within_fov(case[f"in_{name}"], grid, border), "exact")
        for name in ("random", "edge")
    }


def project(case):
    """Projections and their inverse."""
    coords3d, intrinsics = case["in_coords3d"], case["in_intrinsics"]
    pose, (grad_pose,) = weighted_gradients(
        lambda x: camera.project_pose(x, intrinsics), [coords3d], [case["in_w2"]]
    )
    plain, (grad_plain,) = weighted_gradients(camera.project, [coords3d], [case["in_w2"]])
    back_inputs = [case["in_camcoords2d"], case["in_delta_z"], case["in_z_offset"]]
    back, back_grads = weighted_gradients(camera.back_project, back_inputs, [case["in_w3"]])
    return {
        "out_to_homogeneous": (camera.to_homogeneous(case["in_camcoords2d"]), "exact"),
        "out_project_pose": (pose, "value"),
        "grad_project_pose_coords3d": (grad_pose, "grad"),
        "out_project": (plain, "value"),
        "grad_project_coords3d": (grad_plain, "grad"),
        "out_back_project": (back, "value"),
        "grad_back_project_camcoords2d": (back_grads[0], "grad"),
        "grad_back_project_delta_z": (back_grads[1], "grad"),
        "grad_back_project_z_offset": (back_grads[2], "grad"),
        "out_project_pose_single_K": (camera.project_pose(coords3d, intrinsics[0]), "value"),
    }


def intrinsics_from_fov(case):
    """Intrinsics from an angle."""
    matrix = camera.intrinsic_matrix_from_field_of_view(
        case["arg_fov_degrees"], case["arg_imshape"]
    )
    return {"out_intrinsics": (matrix, "value")}


def rotations(case):
    """Rotations about axes, towards a view direction, and nearest to a matrix."""
    rows = case["in_grad_rows"]
    weights = np.zeros_like(case["in_A"])
    weights[rows] = case["in_w33"][rows]
    nearest, (grad,) = weighted_gradients(rotation.project_to_so3, [case["in_A"]], [weights])
    results = {
        "out_new_rotation_matrix": (
            rotation.get_new_rotation_matrix(case["in_forward"], case["in_up"]),
            "value",
        ),
        "out_rot_z_scalar": (rotation.rotation_mat(case["in_angle_scalar"], "z"), "value"),
        "out_project_to_SO3": (nearest, "value"),
        "grad_project_to_SO3_A_rows": (grad[rows], "svd_grad"),
    }
    for axis in "xyz":
        results[f"out_rot_{axis}"] = (rotation.rotation_mat(case["in_angle"], axis), "value")
    return results


def distortion(case):
    """Lens distortion and its inverse; four coefficients mean fisheye in NLF."""
    if case.name == "out_corner_aligned_scale_mat_half":
        return {case.name: (camera.corner_aligned_scale_mat(0.5), "exact")}
    coeffs = case["in_coeffs"]
    is_fisheye = case["arg_impl"] == "nlf" and coeffs.shape[-1] == 4 and coeffs.any()
    model = "fisheye" if is_fisheye else "opencv"
    results = {}
    for verb, function in (
        ("distort", camera.distort_points),
        ("undistort", camera.undistort_points),
    ):
        out, (grad,) = weighted_gradients(
            lambda points, function=function: function(points, coeffs, model),
            [case["in_points"]],
            [case["in_w"]],
        )
        results[f"out_{verb}ed"] = (out, "value")
        results[f"grad_{verb}_points"] = (grad, "grad")
    return results


def reduce_mean_masked(case):
    """Masked mean."""
    axis = None if case["arg_axis"].tolist() == [-99] else case["arg_axis"].tolist()
    mask = case["in_mask"] if "in_mask" in case else None
    options = {"axis": axis, "keepdims": bool(case["arg_keepdims"])}
    mean, (grad,) = weighted_gradients(
        lambda x: masking.reduce_mean_masked(x, mask, **options), [case["in_x"]], [1.0]
    )
    return {"out_mean": (mean, "value"), "grad_x": (grad, "grad")}


def mean_stdev_masked(case):
    """Masked mean and standard deviation, and the masked sum; exact ones beside."""
    mask = case["in_mask"]
    valid = mask.reshape(mask.shape + (1,) * (case["in_x"].ndim - mask.ndim)).astype(bool)
    exact_x = np.where(valid | np.isfinite(case["in_x"]), case["in_x"], 0).astype(np.float64)
    if "out_sum_all" in case:
        return {
            "out_sum_all": (masking.reduce_sum_masked(case["in_x"], mask), "value"),
            "out_sum_axis1": (masking.reduce_sum_masked(case["in_x"], mask, axis=1), "value"),
        }
    fixed = case["in_fixed_ref"] if "in_fixed_ref" in case else None
    weights = [case["in_w_mean"] if fixed is None else None, case["in_w_stdev"]]

    def exact(x):
        mean, stdev = plain.mean_stdev(x, mask)
        if fixed is not None:
            factor = tf.cast(valid, x.dtype)
            count = tf.reduce_sum(factor, 1, keepdims=True)
            mean, stdev = fixed, plain.rms(x - fixed, factor, count)
        return mean, stdev

    (mean, stdev), (grad,) = weighted_gradients(
        lambda x: masking.mean_stdev_masked(x, mask, fixed_ref=fixed), [case["in_x"]], weights
    )
    results = {
        "out_mean": (mean, "value"),
        "out_stdev": (stdev, "value"),
        "grad_x": (grad, "grad"),
    }
    if np.isfinite(case["in_x"]).all():
        return results
    (mean, stdev), (grad,) = weighted_gradients(exact, [exact_x], weights)
    pairs = zip(results.items(), (mean, stdev, grad), strict=True)
    return {key: (*result, np.asarray(value64)) for (key, result), value64 in pairs}


def stats_charbonnier(case):
    """Smoothed length."""
    epsilon = case["arg_epsilon"]
    out, (grad,) = weighted_gradients(
        lambda x: charbonnier(x, epsilon), [case["in_x"]], [case["in_w"]]
    )
    keepdims = charbonnier(case["in_x"], epsilon, keepdims=True)
    return {
        "out": (out, "value"),
        "grad_x": (grad, "grad"),
        "out_keepdims": (keepdims, "value"),
    }


def stats_auc(case):
    """Scores of error thresholds."""
    lower, upper = case["arg_t1"], case["arg_t2"]
    return {
        "out_auc": (pose3d.auc_scores(case["in_x"], lower, upper), "value"),
        "out_pck_t2": (tf.reduce_mean(pose3d.pck_scores(case["in_x"], upper)), "value"),
    }


def stats_linspace(case):
    """Evenly spaced values; the key holds start, stop, count and whether the end is one."""
    start, stop, n, endpoint = case.name.removeprefix("out_linspace_").split("_")
    values = heatmap.linspace(float(start), float(stop), int(n), endpoint=endpoint == "1")
    return {case.name: (values, "value")}


def softargmax(case):
    """Soft-argmax; the digits in the key tell the axes: 32 is x, y; 342 is x, y, z."""
    logits, key = case["in_logits"], case.name
    if key == "out_softmax3":
        return {key: (heatmap.softmax_over(logits, [2, 3, 4]), "value")}
    axes = {"32": [3, 2], "342": [3, 2, 4]}[re.search(r"_(\d+)(_|$)", key).group(1)]
    if key.startswith("out_decode"):
        # The unnormalised heatmap of the file is the magnitude of the logits.
        return {key: (heatmap.decode_heatmap(np.abs(logits), axes), "value")}
    logits = logits[..., 0] if key.endswith("slice0") else logits
    out, (grad,) = weighted_gradients(
        lambda x: heatmap.soft_argmax(x, axes), [logits], [case[f"in_w{len(axes)}"]]
    )
    return {key: (out, "value") if key.startswith("out") else (grad, "grad")}


def heatmap_conversions(case, coords2d, coords3d):
    """Heatmap coordinates in pixels, metres and both, for both strides."""
    results = {}
    coords25d = np.concatenate([coords2d, coords3d[..., 2:]], axis=-1)
    for phase in ("train", "test"):
        if f"flag_stride_{phase}" not in case:
            continue
        grid, box = grid_of(case, f"flag_stride_{phase}"), case["flag_box_size_m"]
        results[f"out_image_{phase}"] = (heatmap.heatmap_to_image(coords2d, grid), "value")
        results[f"out_metric_{phase}"] = (heatmap.heatmap_to_metric(coords3d, grid, box), "value")
        results[f"out_25d_{phase}"] = (heatmap.heatmap_to_25d(coords25d, grid, box), "value")
    return results


def heatmap_to_image(case):
    """Conversion of given coordinates."""
    coords = case["in_coords_01"]
    return heatmap_conversions(case, coords[..., :2], coords)


def head_logits(case):
    """The head's decoding from logits."""
    biases = {name: case[f"flag_{name}"] for name in ("uncert_bias", "uncert_bias2")}

    def decode(logits):
        return decoding.decode_head(logits, **biases)

    weights = [case[f"in_w_{name}"] for name in ("coords2d", "coords3d", "uncert")]
    outputs, (grad,) = weighted_gradients(decode, [case["in_logits"]], weights)
    _, (grad_uncert,) = weighted_gradients(decode, [case["in_logits"]], [None, None, weights[2]])
    names = ("out_coords2d_01", "out_coords3d_01", "out_uncertainties")
    results = {name: (out, "value") for name, out in zip(names, outputs, strict=True)}
    results["grad_all_logits"] = (grad, "grad")
    results["grad_uncertonly_logits"] = (grad_uncert, "grad")
    return {**results, **heatmap_conversions(case, outputs[0], outputs[1])}


def head_features(case):
    """The head's decoding from features and weights; `same`: all use those of example 0."""
    biases = {name: case[f"flag_{name}"] for name in ("uncert_bias", "uncert_bias2")}
    results = {}
    for infix, weights in (("", case["in_weights"]), ("same_", case["in_weights"][0])):
        outputs = decoding.decode_features(case["in_features"], weights, **biases)
        names = ("coords2d_01", "coords3d_01", "uncertainties")
        for name, out in zip(names, outputs, strict=True):
            results[f"out_{infix}{name}"] = (out, "value")
    return results
