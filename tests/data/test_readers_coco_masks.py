import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from metrabs_like.data import masks
from metrabs_like.data.readers import coco_masks

SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]


def square_mask():
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    return expected


def decoded(segmentation, width=10, height=8):
    png, box = coco_masks.encoded_mask(segmentation, width, height)
    return masks.decode_mask(png, box, width, height) > 127


def test_polygons_and_codes_make_masks():
    np.testing.assert_array_equal(decoded([SQUARE]), square_mask())
    np.testing.assert_array_equal(coco_masks.encoded_mask([SQUARE], 10, 8)[1], [1.5, 0.5, 4, 3])
    arrays = [np.array(SQUARE, np.float32), np.array([0.0, 0, 1, 1], np.float32)]
    np.testing.assert_array_equal(decoded(arrays), square_mask())  # a line has no area
    # Columns of 8: two empty ones and one pixel, then 3 of 8 in each of four columns.
    counts = [17, 3, 5, 3, 5, 3, 5, 3, 36]
    np.testing.assert_array_equal(decoded({"counts": counts, "size": [8, 10]}), square_mask())


def test_compressed_codes_are_those_of_pycocotools(rng):
    for density in (0.01, 0.3, 0.9):
        mask = rng.uniform(size=(70, 90)) < density
        code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        code = {"size": [70, 90], "counts": code["counts"].decode()}
        np.testing.assert_array_equal(decoded(code, 90, 70), mask)
    mask[:] = False
    mask[20:, 30:50] = True  # runs long enough for several characters
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    code = {"size": [70, 90], "counts": code["counts"].decode()}
    np.testing.assert_array_equal(decoded(code, 90, 70), mask)


def test_polygons_may_reach_beyond_the_picture():
    expected = np.zeros((8, 10), bool)
    expected[:, :6] = True
    np.testing.assert_array_equal(decoded([[-10, -10, 6, -10, 6, 20, -10, 20]]), expected)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        7,
        "text",
        [[1, 2, 3, 4]],
        [["a", "b", "c", "d", "e", "f"]],
        [SQUARE, SQUARE[:-1]],
        [SQUARE, [1, 2, 3, 4, 5, None]],
        [SQUARE, [[1, 2], [3, 4], [5, 6]]],
        [SQUARE, 5],
        *([[*SQUARE[:-1], bad]] for bad in (math.nan, math.inf, -math.inf, 1e30, 3e8, 1e7, 20.5)),
        [[*SQUARE[:-1], 10**400]],
        [[*SQUARE[:-1], -10.5]],
        [SQUARE] * 1001,
        [[0, 0, 10, 8] * 200],
        {"size": [8, 10]},
        {"counts": [3, 4], "size": [100000, 100000]},
        {"counts": [80], "size": 5},
        {"counts": [0, 5, "x"], "size": [8, 10]},
        {"counts": [], "size": [8, 10]},
        {"counts": 80, "size": [8, 10]},
        {"counts": [17, 3, 61], "size": [8, 10]},
        {"counts": [17, 3, 59], "size": [8, 10]},
        {"counts": [90, -10], "size": [8, 10]},
        {"counts": [10, 70.0], "size": [8, 10]},
        {"counts": [10**400], "size": [8, 10]},
        {"counts": "x", "size": [8, 10]},
        {"counts": "?" * 5, "size": [8, 10]},
        {"counts": "o" * 50, "size": [8, 10]},
        {"counts": "\u20ac", "size": [8, 10]},
        {"counts": "0" * (1 << 21), "size": [8, 10]},
    ],
)
def test_a_segmentation_that_cannot_be_read_is_no_mask(segmentation):
    assert coco_masks.encoded_mask(segmentation, 10, 8) == (None, None)


def test_plain_numbers():
    np.testing.assert_array_equal(coco_masks.plain_numbers([1, 2.5]), [1, 2.5])
    assert coco_masks.plain_numbers([]).shape == (0,)
    for bad in (5, "12", {"a": 1}, None, [True], [[1]], ["1"], [None], [10**400], (1, 2)):
        assert coco_masks.plain_numbers(bad) is None
