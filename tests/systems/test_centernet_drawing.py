"""Pictures of found people."""

import dataclasses

import numpy as np
import pytest

from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.drawing import draw

GREY = np.full((60, 80, 3), 100, np.uint8)


def people(n, scores, **more):
    """N people with all joints in the middle of their boxes."""
    boxes = np.array([[5 + 30 * i, 10, 20, 40] for i in range(n)], np.float32).reshape(n, 4)
    middle = boxes[:, np.newaxis, :2] + boxes[:, np.newaxis, 2:] / 2
    return {
        "boxes": boxes,
        "scores": np.array(scores, np.float32),
        "joints2d": np.tile(middle, [1, 17, 1]),
        "joint_scores": np.ones((n, 17), np.float32),
        **more,
    }


def test_only_sure_people_are_drawn():
    both, one = draw(GREY, people(2, [0.9, 0.8])), draw(GREY, people(2, [0.9, 0.1]))
    assert (one[:, :30] != GREY[:, :30]).any()
    np.testing.assert_array_equal(one[:, 32:], GREY[:, 32:])
    assert (both[:, 32:] != GREY[:, 32:]).any()
    np.testing.assert_array_equal(draw(GREY, people(0, [])), GREY)


def test_joints_without_a_score_are_left_out():
    seen = people(1, [0.9])
    unseen = seen | {"joint_scores": np.zeros((1, 17), np.float32)}
    middle = (slice(25, 35), slice(10, 20))
    assert (draw(GREY, seen)[middle] != GREY[middle]).any()
    np.testing.assert_array_equal(draw(GREY, unseen)[middle], GREY[middle])


def test_masks_are_tinted():
    mask = np.zeros((1, 60, 80), bool)
    mask[0, 50:, 70:] = True
    picture = draw(GREY, people(1, [0.9], masks=mask))
    assert (picture[55:, 75:] != 100).all(axis=-1).any()
    np.testing.assert_array_equal(picture[:40, 70:], GREY[:40, 70:])


def test_batches_and_float_images():
    pair = {key: np.stack([value] * 2) for key, value in people(1, [0.9]).items()}
    pictures = draw(np.stack([GREY, GREY]), pair)
    np.testing.assert_array_equal(pictures[1], draw(GREY, people(1, [0.9])))
    np.testing.assert_array_equal(draw(GREY / 255.0, people(1, [0.9])), pictures[0])
    none = {key: value[:0] for key, value in pair.items()}
    assert draw(np.zeros((0, 60, 80, 3), np.uint8), none).shape == (0, 60, 80, 3)


def test_other_skeletons_are_refused():
    config = dataclasses.replace(Config(), skeleton="smpl_24")
    with pytest.raises(ValueError, match="17 joints.*24"):
        draw(GREY, people(1, [0.9]), config)
