"""Masks as targets: where they land on the map, and which cells count."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry.affine import affine_from_placement
from metrabs_like.losses.segmentation import IGNORED
from metrabs_like.serving.detection import image_masks
from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.mask_targets import encode_masks, warp_masks
from metrabs_like.systems.centernet.targets import encode_targets

MAP = (16, 20)  # height, width; images of 80 x 64 px map 4 to 1
WHOLE = [-0.5, -0.5, 80, 64]
CONFIG = Config(proc_side=64)


def make_people(masks, mask_boxes, **changes):
    masks = np.array(masks, np.uint8)[np.newaxis]
    return {
        "masks": masks,
        "mask_boxes": np.array(mask_boxes, np.float32)[np.newaxis],
        "mask_validity": np.ones(masks.shape[:2], bool),
        "image_size": np.array([[64, 80]]),
        "center": np.array([[40.0, 32.0]], np.float32),
        "scale": np.array([80.0], np.float32),
        "angle_degrees": np.array([0.0], np.float32),
        "is_mirrored": np.array([False]),
    } | {name: np.array(value) for name, value in changes.items()}


def image_mask(top, bottom, left, right):
    mask = np.zeros((64, 80), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def warp(people, **options):
    return warp_masks(people, MAP, jit_compile=False, **options).numpy()[0]


def test_a_mask_by_hand():
    """The cell (x, y) shows the pixel (4 x, 4 y)."""
    mask = image_mask(16, 40, 20, 61)
    found = warp(make_people([mask], [WHOLE]))
    np.testing.assert_array_equal(found[0], mask[::4, ::4] / 255)
    assert found.dtype == np.float32 and found.sum() == 6 * 11


def test_a_cut_out_and_shrunk_mask_lands_in_the_same_place():
    whole = warp(make_people([image_mask(16, 40, 20, 60)], [WHOLE]))
    cut = warp(make_people([np.full((64, 80), 255)], [[19.5, 15.5, 40, 24]]))
    np.testing.assert_array_equal(cut > 0.5, whole > 0.5)


def test_mirrored_masks():
    upright, mirrored = (
        warp(make_people([image_mask(16, 40, 4, 40)], [WHOLE], is_mirrored=[flag]))[0]
        for flag in (False, True)
    )
    # The cell x shows the pixel 79 - 4 x.
    np.testing.assert_array_equal(np.flatnonzero(upright.any(axis=0)), np.arange(1, 10))
    np.testing.assert_array_equal(np.flatnonzero(mirrored.any(axis=0)), np.arange(10, 19))
    np.testing.assert_array_equal(mirrored.any(axis=1), upright.any(axis=1))


def test_people_without_a_mask_are_empty():
    mask = image_mask(16, 40, 20, 60)
    boxes = [WHOLE, [0, 0, 0, 0], [np.nan] * 4, WHOLE]
    people = make_people([mask] * 4, boxes, mask_validity=[[True, True, True, False]])
    found = warp(people)
    assert found[0].any() and not found[1:].any()


def test_every_person_and_image_by_itself(rng):
    people = make_people(rng.integers(0, 256, (3, 9, 7)), rng.uniform(2, 40, (3, 4)))
    both = {
        name: np.concatenate(
            [value, value[:, ::-1] if value.ndim > 1 and len(value[0]) == 3 else value]
        )
        for name, value in people.items()
    }
    found = warp_masks(both, MAP).numpy()
    np.testing.assert_allclose(found[0], warp(people), atol=1e-5)
    np.testing.assert_array_equal(found[1], found[0, ::-1])
    empty = {
        name: value[:, :0] if value.shape[1:2] == (3,) else value for name, value in people.items()
    }
    assert warp_masks(empty, MAP).shape == (1, 0, *MAP)


def encoded(masks, boxes, **changes):
    people = make_people(masks, [WHOLE] * len(masks), **changes)
    n = len(boxes)
    labelled = {
        "boxes": np.array(boxes, np.float32)[np.newaxis],
        "joints2d": np.full((1, n, CONFIG.n_joints, 2), 30.0, np.float32),
        "joint_validity": np.ones((1, n, CONFIG.n_joints), bool),
        "person_validity": np.ones((1, n), bool),
    }
    people |= labelled
    targets = encode_targets(people, CONFIG, map_size=MAP, jit_compile=False)
    return targets, encode_masks(people, targets, MAP, jit_compile=False).numpy()[0]


def test_masks_count_in_and_around_their_box():
    """A box of 10 x 6 cells about (9.5, 7) counts within 6.5 x 3.9 cells."""
    _, found = encoded([image_mask(0, 64, 20, 80)], [[18, 16, 40, 24]])
    assert found.dtype == np.uint8
    expected = np.full(MAP, IGNORED)
    expected[4:11, 3:17] = 0
    expected[4:11, 5:17] = 1
    np.testing.assert_array_equal(found[0], expected)


def test_slots_that_are_not_drawn_are_background_and_missing_masks_ignored():
    masks = [image_mask(0, 64, 0, 80)] * 3
    boxes = [[-50, 0, 10, 10], [18, 16, 40, 24], [18, 16, 40, 24]]
    targets, found = encoded(masks, boxes, mask_validity=[[True, True, False]])
    np.testing.assert_array_equal(targets["gt_det_mask"], [[0, 1, 1]])
    np.testing.assert_array_equal(found[0], np.zeros(MAP))
    assert (found[1] == 1).any() and (found[1] == IGNORED).any()
    np.testing.assert_array_equal(found[2], np.full(MAP, IGNORED))


def test_mismatching_shapes_are_refused():
    people = make_people([image_mask(0, 1, 0, 1)] * 2, [WHOLE])
    with pytest.raises(ValueError, match="`mask_boxes` has shape"):
        warp(people)


def test_unknown_batch_and_people_in_a_graph():
    people = make_people([image_mask(16, 40, 20, 60)], [WHOLE])
    specs = {
        name: tf.TensorSpec([None] * min(value.ndim, 2) + list(value.shape[2:]), value.dtype)
        for name, value in people.items()
    }
    graph = tf.function(
        lambda people: warp_masks(people, MAP, jit_compile=False), [specs], autograph=False
    )
    found = graph({name: tf.constant(value) for name, value in people.items()})
    np.testing.assert_allclose(found[0], warp(people), atol=1e-6)


@pytest.mark.parametrize("size", [(120, 200), (200, 120)])
def test_masks_come_back_to_where_they_were_in_the_image(size):
    """Onto the map and, by the served detector's way, back to an oblong image."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    mask = ((x - 70) / 30) ** 2 + ((y - 60) / 41) ** 2 < 1
    placement = {
        "image_size": [[height, width]],
        "center": np.float32([[width / 2, height / 2]]),
        "scale": np.float32([200.0]),
    }
    people = make_people([255 * mask], [[-0.5, -0.5, width, height]], **placement)
    covered = warp_masks(people, (64, 64), jit_compile=False)[0]
    input_from_image = affine_from_placement(
        placement["center"], placement["scale"], 0.0, (256, 256)
    )
    box = np.float32([[40, 19, 60, 82]])
    found = image_masks(covered - 0.5, box, input_from_image, 4, size)[0].numpy()
    assert np.sum(found & mask) / np.sum(found | mask) > 0.97
    for line in (x, y):
        np.testing.assert_allclose(line[found].mean(), line[mask].mean(), atol=0.3)
