"""Overlap of boxes."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry.boxes import pairwise_iou


def test_hand_checked_overlaps():
    boxes = np.array([[[0, 0, 4, 4], [10, 10, 2, 2]]], np.float32)
    others = np.array([[[0, 0, 4, 4], [2, 0, 4, 4], [4, 0, 4, 4]]], np.float32)
    iou = pairwise_iou(boxes, others)
    np.testing.assert_allclose(iou, [[[1, 8 / 24, 0], [0, 0, 0]]], atol=1e-6)


def test_agrees_with_counting_pixels(rng):
    corner = rng.integers(0, 12, size=(2, 2, 5, 2))
    size = rng.integers(1, 9, size=(2, 2, 5, 2))
    boxes = np.concatenate([corner, size], axis=-1).astype(np.float32)
    masks = np.zeros((2, 2, 5, 24, 24), bool)
    for index in np.ndindex(2, 2, 5):
        x, y, w, h = boxes[index].astype(int)
        masks[index][y : y + h, x : x + w] = True
    first, second = masks[0][:, :, np.newaxis], masks[1][:, np.newaxis]
    expected = (first & second).sum((-2, -1)) / (first | second).sum((-2, -1))
    np.testing.assert_allclose(pairwise_iou(boxes[0], boxes[1]), expected, atol=1e-6)
    np.testing.assert_allclose(pairwise_iou(boxes[0], boxes[0]).numpy()[:, range(5), range(5)], 1)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("broken", [[0, 0, 0, 3], [1, 1, -2, 5], [np.nan, 0, 3, 3]])
def test_broken_boxes_overlap_with_nothing(broken, jit_compile):
    boxes = np.array([[broken, [0, 0, 3, 3]]], np.float32)
    iou = tf.function(pairwise_iou, jit_compile=jit_compile, autograph=False)(boxes, boxes)
    np.testing.assert_array_equal(iou, [[[0, 0], [0, 1]]])


def test_no_boxes_and_unknown_sizes():
    assert pairwise_iou(np.zeros((2, 0, 4)), np.zeros((2, 3, 4))).shape == (2, 0, 3)
    assert pairwise_iou(np.zeros((0, 2, 4)), np.zeros((0, 3, 4))).shape == (0, 2, 3)
    spec = tf.TensorSpec([None, None, 4])
    traced = tf.function(pairwise_iou, input_signature=[spec, spec], autograph=False)
    assert traced(np.ones((1, 2, 4), np.float32), np.ones((1, 1, 4), np.float32)).shape == (1, 2, 1)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="boxes"):
        pairwise_iou(np.zeros((1, 2, 5)), np.zeros((1, 2, 4)))
