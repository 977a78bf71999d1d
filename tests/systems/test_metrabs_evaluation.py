"""Evaluation of metrabs on poses whose errors are known."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry.camera import project_pose
from metrabs_like.systems.metrabs import collect, evaluate, prepare, tiny_config
from tests.systems import metrabs_batches

CONFIG = tiny_config()


def _scene(rng, offset, kinds=("kp3d",), n=3):
    """Targets, and predictions that are the truth moved by `offset` metres."""
    batch = metrabs_batches.make_batch(rng, n, CONFIG, kinds)
    inputs, targets = prepare(batch, CONFIG, None)
    true = tf.concat([targets[k]["coords3d_true"] for k in targets if k in kinds], 0)
    moved = true + tf.constant(offset, tf.float32)
    decoded = {
        "coords3d_abs": moved,
        "coords2d": project_pose(moved, inputs["intrinsics"]),
        "uncert": tf.fill(tf.shape(true)[:2], 0.1),
    }
    return decoded, targets


def _means(sums):
    return {name: np.asarray(total) / np.asarray(count) for name, (total, count) in sums.items()}


def test_a_moved_pose_has_only_absolute_errors(rng):
    decoded, targets = _scene(rng, [0, 0, 0.3])
    means = _means(evaluate(decoded, targets, CONFIG))
    np.testing.assert_allclose(means["mpjpe_mm"], 0, atol=1e-3)
    np.testing.assert_allclose(means["pa_mpjpe_mm"], 0, atol=1e-2)
    np.testing.assert_allclose(means["absolute_error_mm"], 300, rtol=1e-4)
    assert means["pck_at_100mm"] == 1
    valid = targets["kp3d"]["point_validity"].numpy()
    z = targets["kp3d"]["coords3d_true"][..., 2].numpy()
    depth = np.array([z[i][valid[i]].mean() for i in range(3)])
    np.testing.assert_allclose(means["relative_root_depth_error"], (0.3 / depth).mean(), rtol=1e-4)


def test_perfect_pose(rng):
    decoded, targets = _scene(rng, [0, 0, 0])
    means = _means(evaluate(decoded, targets, CONFIG))
    np.testing.assert_allclose(means["reprojection_error_px"], 0, atol=1e-3)
    np.testing.assert_allclose(means["auc_at_150mm"], 1, atol=1e-6)


def test_reprojection_counts_both_kinds(rng):
    decoded, targets = _scene(rng, [0.1, 0, 0], ("kp3d", "kp2d"))
    sums = evaluate(decoded, targets, CONFIG)
    n_valid = sum(
        int(tf.math.count_nonzero(targets[k]["point_validity"])) for k in ("kp3d", "kp2d")
    )
    assert sums["reprojection_error_px"][1] == n_valid
    assert sums["mpjpe_mm"][1] < n_valid


def test_only_2d_annotations(rng):
    decoded, targets = _scene(rng, [0, 0, 0], ("kp2d",))
    assert set(evaluate(decoded, targets, CONFIG)) == {"reprojection_error_px"}


def test_sums_add_up_over_batches(rng):
    decoded, targets = _scene(rng, [0.1, 0, 0.2])
    decoded["coords3d_abs"] += rng.normal(size=[3, 24, 3]) * 0.05
    whole = evaluate(decoded, targets, CONFIG)
    parts = []
    for rows in (slice(0, 1), slice(1, 3)):
        part = {"kp3d": {k: v[rows] for k, v in targets["kp3d"].items()}}
        parts.append(evaluate({k: v[rows] for k, v in decoded.items()}, part, CONFIG))
    for name, (total, count) in whole.items():
        np.testing.assert_allclose(parts[0][name][0] + parts[1][name][0], total, rtol=1e-4)
        np.testing.assert_array_equal(parts[0][name][1] + parts[1][name][1], count)


def test_collect(rng):
    decoded, targets = _scene(rng, [0, 0, 0.3])
    valid = targets["kp3d"]["point_validity"].numpy()
    values = {key: value.numpy() for key, value in collect(decoded, targets, CONFIG).items()}
    assert values["point_error_m"].shape == values["point_uncert_m"].shape == (valid.sum(),)
    np.testing.assert_allclose(values["point_error_m"], 0, atol=1e-5)
    np.testing.assert_allclose(values["point_uncert_m"], 0.1)
    np.testing.assert_allclose(
        values["person_relative_depth_error"], 0.3 / values["person_depth_m"], rtol=1e-4
    )
    y = targets["kp3d"]["coords2d_true"][..., 1].numpy()
    extent = [np.ptp(y[i][valid[i]]) for i in range(3)]
    focal = targets["kp3d"]["intrinsics"][:, 1, 1]
    np.testing.assert_allclose(values["person_angular_height"], extent / focal, rtol=1e-5)


@pytest.mark.parametrize("value", [9.0, np.nan])
def test_invalid_points_do_not_count(rng, value):
    decoded, targets = _scene(rng, [0, 0.05, 0.1])
    expected = evaluate(decoded, targets, CONFIG)
    masked = metrabs_batches.with_masked({"kp3d": targets["kp3d"]}, value)
    for name, pair in evaluate(decoded, masked, CONFIG).items():
        np.testing.assert_allclose(pair, expected[name], rtol=1e-5)


def test_people_without_valid_points_are_left_out(rng):
    decoded, targets = _scene(rng, [0, 0, 0.3])
    valid = targets["kp3d"]["point_validity"].numpy()
    valid[1] = False
    targets["kp3d"]["point_validity"] = tf.constant(valid)
    assert evaluate(decoded, targets, CONFIG)["relative_root_depth_error"][1] == 2
    assert collect(decoded, targets, CONFIG)["person_depth_m"].shape == (2,)
