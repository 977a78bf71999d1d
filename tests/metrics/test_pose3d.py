"""Pose metrics: values by hand, invariances, empty and poor input."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import rotation
from metrabs_like.metrics import MetricSums, pose3d


def mean(sum_and_count):
    return float(pose3d.mean_of(*sum_and_count))


@pytest.fixture
def pair():
    """Two poses of four points; errors of the second pose's points are 0, 0, 0.3, 0.4 m."""
    true = np.zeros((2, 4, 3))
    true[:, :, 0] = [0, 1, 2, 3]
    true[:, 3, 1] = 1
    true[:, 2, 2] = 1
    pred = true.copy()
    pred[1, 2, 1] += 0.3
    pred[1, 3, 2] -= 0.4
    return pred, true


def test_absolute_error_by_hand(pair):
    assert [float(v) for v in pose3d.absolute_error(*pair)] == pytest.approx([0.7, 8])
    shifted = pair[0] + [0, 3, 4]
    assert mean(pose3d.absolute_error(shifted[:1], pair[1][:1])) == pytest.approx(5.0)


def test_mpjpe_with_a_root_joint_by_hand(pair):
    pred, true = pair
    assert mean(pose3d.mpjpe(pred, true, root_index=0)) == pytest.approx(0.7 / 8)
    # root = point 2 of the second pose, whose own error of 0.3 moves onto the others
    total, count = pose3d.mpjpe(pred, true, root_index=2)
    assert float(total) == pytest.approx(0.3 + 0.3 + 0 + 0.5)
    assert float(count) == 8
    total, _ = pose3d.mpjpe(pred, true, root_index=[2, 0])
    assert float(total) == pytest.approx(0.7)


def test_mpjpe_with_the_mean_as_root_by_hand(pair):
    pred, true = pair
    offset = (pred - true)[1] - (pred - true)[1].mean(axis=0)
    expected = np.linalg.norm(offset, axis=-1).sum()
    assert float(pose3d.mpjpe(pred, true)[0]) == pytest.approx(expected)
    mixed = pose3d.mpjpe(pred, true, root_index=[0, -1])
    assert float(mixed[0]) == pytest.approx(expected)


def test_mpjpe_leaves_out_people_without_a_valid_root(pair):
    valid = np.ones((2, 4), bool)
    valid[0, 1] = False
    valid[1, 0] = False
    total, count = pose3d.mpjpe(*pair, valid, root_index=1)
    assert float(count) == 3
    assert float(total) == pytest.approx(0.7)


def test_pck_and_auc_by_hand(pair):
    pred, true = pair
    assert mean(pose3d.pck(pred, true, threshold=0.3, root_index=0)) == pytest.approx(7 / 8)
    assert mean(pose3d.pck(pred, true, threshold=0.29, root_index=0)) == pytest.approx(6 / 8)
    # areas 1, 1, 1, 1, 1, 1, 1 - 0.3 / 0.5, 1 - 0.4 / 0.5
    area = mean(pose3d.auc(pred, true, upper=0.5, root_index=0))
    assert area == pytest.approx((6 + 0.4 + 0.2) / 8)
    part = mean(pose3d.auc(pred, true, lower=0.2, upper=0.4, root_index=0))
    assert part == pytest.approx((6 + 0.5 + 0) / 8)


def test_auc_is_the_integral_of_the_pck_curve(rng):
    errors = np.abs(rng.normal(size=500)) * 0.1
    thresholds = (np.arange(4000) + 0.5) / 4000 * 0.15
    integral = np.mean([np.mean(errors <= t) for t in thresholds])
    assert float(np.mean(pose3d.auc_scores(errors, 0.0, 0.15))) == pytest.approx(integral, abs=1e-4)


def test_per_joint_adds_up_to_the_whole(pair, rng):
    valid = np.array([[True, True, False, True], [True, False, False, True]])
    errors, counted = pose3d.root_relative_errors(*pair, valid, 0)
    totals, counts = pose3d.per_joint(errors, counted)
    np.testing.assert_array_equal(counts, [2, 1, 0, 2])
    np.testing.assert_allclose(totals, [0, 0, 0, 0.4])
    whole = pose3d.mpjpe(*pair, valid, root_index=0)
    assert float(np.sum(totals)) == pytest.approx(float(whole[0]))


def test_pixel_error_by_hand():
    pred = [[[3.0, 4.0], [0.0, 0.0]]]
    true = [[[0.0, 0.0], [6.0, 8.0]]]
    assert mean(pose3d.pixel_error(pred, true)) == pytest.approx(7.5)
    assert mean(pose3d.pixel_error(pred, true, [[True, False]])) == pytest.approx(5.0)


def test_invariances(rng):
    true, pred = rng.normal(size=(2, 3, 6, 3))
    rotmat = rotation.project_to_so3(rng.normal(size=(3, 3))).numpy()
    shift = rng.normal(size=(3, 1, 3))
    for index in (-1, 2):
        moved = pose3d.mpjpe(pred + shift, true, root_index=index)
        assert mean(moved) == pytest.approx(mean(pose3d.mpjpe(pred, true, root_index=index)))
        turned = pose3d.mpjpe(pred @ rotmat, true @ rotmat, root_index=index)
        assert mean(turned) == pytest.approx(mean(pose3d.mpjpe(pred, true, root_index=index)))
    aligned = mean(pose3d.pa_mpjpe(pred, true))
    assert mean(pose3d.pa_mpjpe(0.3 * pred @ rotmat + shift, true)) == pytest.approx(aligned)
    assert mean(pose3d.pa_mpjpe(true @ rotmat * 2 + shift, true)) == pytest.approx(0, abs=1e-9)
    assert mean(pose3d.pa_mpjpe(pred * [1, 1, -1], true)) != pytest.approx(aligned)
    assert aligned < mean(pose3d.mpjpe(pred, true)) < mean(pose3d.absolute_error(pred + 9, true))


def test_one_poor_example_does_not_spoil_pa_mpjpe(rng):
    true, pred = rng.normal(size=(2, 3, 6, 3)).astype(np.float32)
    valid = np.ones((3, 6), bool)
    valid[1] = False
    good = [float(v) for v in pose3d.pa_mpjpe(pred[[0, 2]], true[[0, 2]])]
    with_none = [float(v) for v in pose3d.pa_mpjpe(pred, true, valid)]
    assert with_none == pytest.approx(good, rel=1e-5)
    valid[1, 3] = True
    with_one = [float(v) for v in pose3d.pa_mpjpe(pred, true, valid)]
    assert with_one == pytest.approx([good[0], good[1] + 1], rel=1e-5)


def test_nan_counts_only_where_valid(rng):
    true, pred = rng.normal(size=(2, 3, 6, 3)).astype(np.float32)
    valid = np.ones((3, 6), bool)
    valid[0, 2] = False
    clean = pose3d.pose_sums(pred, true, valid)
    pred[0, 2], true[0, 2] = np.nan, np.inf
    masked = pose3d.pose_sums(pred, true, valid)
    for name, sum_and_count in clean.items():
        for before, after in zip(sum_and_count, masked[name], strict=True):
            np.testing.assert_array_equal(after, before, err_msg=name)
    pred[1, 1] = np.nan
    spoilt = pose3d.pose_sums(pred, true, valid)
    assert all(np.isnan(total).any() for total, _ in spoilt.values())


def test_pose_sums_agree_with_the_single_functions_in_mm(rng):
    true = rng.normal(size=(3, 6, 3)).astype(np.float32)
    pred = true + rng.normal(size=true.shape).astype(np.float32) * 0.1
    valid = rng.uniform(size=(3, 6)) < 0.7
    sums = pose3d.pose_sums(pred, true, valid, root_index=-1)
    expected = {
        "mpjpe_mm": 1000 * mean(pose3d.mpjpe(pred, true, valid)),
        "pa_mpjpe_mm": 1000 * mean(pose3d.pa_mpjpe(pred, true, valid)),
        "absolute_error_mm": 1000 * mean(pose3d.absolute_error(pred, true, valid)),
        "pck_at_100mm": mean(pose3d.pck(pred, true, valid, threshold=0.1)),
        "pck_at_150mm": mean(pose3d.pck(pred, true, valid, threshold=0.15)),
        "auc_at_100mm": mean(pose3d.auc(pred, true, valid, upper=0.1)),
        "auc_at_150mm": mean(pose3d.auc(pred, true, valid, upper=0.15)),
    }
    assert set(sums) == {*expected, "mpjpe_per_joint_mm"}
    for name, value in expected.items():
        assert mean(sums[name]) == pytest.approx(value, rel=1e-6), name
    assert sums["mpjpe_per_joint_mm"][0].shape == (6,)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_shapes_and_empty_batches(jit_compile, rng):
    points = tf.TensorSpec([None, None, 3])

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[points, points, tf.TensorSpec([None, None], tf.bool)],
    )
    def f(pred, true, valid):
        return pose3d.pose_sums(pred, true, valid)

    accumulated = MetricSums()
    whole_pred, whole_true = rng.normal(size=(2, 4, 6, 3)).astype(np.float32)
    whole_valid = np.ones((4, 6), bool)
    whole_valid[0], whole_valid[1, :3] = False, False
    for part in (slice(0, 2), slice(2, 4), slice(0, 0)):
        accumulated.add(f(whole_pred[part], whole_true[part], whole_valid[part]))
    expected = pose3d.pose_sums(whole_pred, whole_true, whole_valid)
    for name, value in accumulated.result().items():
        np.testing.assert_allclose(value, pose3d.mean_of(*expected[name]), rtol=1e-5, atol=1e-4)


def test_nothing_measured_is_not_a_perfect_score():
    total, count = pose3d.mpjpe(tf.zeros([0, 5, 3]), tf.zeros([0, 5, 3]))
    assert float(total) == 0 and float(count) == 0
    assert np.isnan(mean((total, count)))


def test_bad_arguments_are_named():
    zeros = tf.zeros([2, 5, 3])
    with pytest.raises(ValueError, match="true"):
        pose3d.mpjpe(zeros, tf.zeros([2, 4, 3]))
    with pytest.raises(ValueError, match="point_validity"):
        pose3d.pa_mpjpe(zeros, zeros, tf.ones([2, 4], tf.bool))
    with pytest.raises(ValueError, match="threshold must be positive, got 0"):
        pose3d.pck(zeros, zeros, threshold=0)
    with pytest.raises(ValueError, match="upper must exceed lower"):
        pose3d.auc(zeros, zeros, lower=0.1, upper=0.1)
