"""Shares of found people and errors of their joints."""

import numpy as np
import tensorflow as tf

from metrabs_like.systems import centernet

CONFIG = centernet.tiny_config()


def results(boxes, scores, joints, true_boxes, true_joints, labelled=None, is_person=None):
    """Metrics of one image; joints are one place for all 17."""
    truth = {
        "boxes": np.float32([true_boxes]),
        "joints2d": np.tile(np.float32([true_joints])[:, :, np.newaxis], [1, 1, 17, 1]),
        "joint_validity": np.ones((1, len(true_boxes), 17), bool) if labelled is None else labelled,
        "person_validity": np.ones((1, len(true_boxes)), bool) if is_person is None else is_person,
    }
    decoded = {
        "boxes": np.float32([boxes]),
        "scores": np.float32([scores]),
        "joints2d": np.tile(np.float32([joints])[:, :, np.newaxis], [1, 1, 17, 1]),
    }
    sums = centernet.evaluate(
        {k: tf.constant(v) for k, v in decoded.items()},
        {"kp2d": {k: tf.constant(v) for k, v in truth.items()}},
        CONFIG,
    )
    return {name: (float(total), float(count)) for name, (total, count) in sums.items()}


def test_hand_checked():
    found = results(
        boxes=[[0, 0, 10, 20], [50, 50, 10, 10], [100, 0, 10, 10]],
        scores=[0.9, 0.5, 0.2],  # the third is not shown
        joints=[[5, 7], [0, 0], [0, 0]],
        true_boxes=[[0, 0, 10, 16], [100, 0, 10, 10]],
        true_joints=[[5, 10], [105, 5]],
    )
    assert found["recall_at_50_iou"] == (1, 2)
    assert found["precision_at_50_iou"] == (1, 2)
    np.testing.assert_allclose(found["mean_iou"], (0.8, 2), rtol=1e-6)
    np.testing.assert_allclose(found["joint_error_px"], (17 * 3, 17))
    np.testing.assert_allclose(found["joint_error_of_box"], (17 * 3 / 16, 17), rtol=1e-6)


def test_empty_slots_and_unlabelled_joints_do_not_count_nan_or_not():
    labelled = np.zeros((1, 2, 17), bool)
    labelled[0, 0, :5] = True
    found = results(
        boxes=[[0, 0, 10, 20]],
        scores=[0.9],
        joints=[[5, 7]],
        true_boxes=[[0, 0, 10, 20], [np.nan] * 4],
        true_joints=[[5, 8], [np.nan, np.nan]],
        labelled=labelled,
        is_person=np.array([[True, False]]),
    )
    assert found["recall_at_50_iou"] == (1, 1)
    np.testing.assert_allclose(found["joint_error_px"], (5, 5), rtol=1e-6)


def test_nobody_there_and_nobody_found():
    found = results([[0, 0, 1, 1]], [0.9], [[0, 0]], np.zeros((0, 4)), np.zeros((0, 2)))
    assert found["precision_at_50_iou"] == (0, 1) and found["recall_at_50_iou"] == (0, 0)
    found = results([[0, 0, 1, 1]], [0.1], [[0, 0]], [[0, 0, 1, 1]], [[0, 0]])
    assert found["precision_at_50_iou"] == (0, 0) and found["recall_at_50_iou"] == (0, 1)
