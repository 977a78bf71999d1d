import cv2
import numpy as np
import pytest

from metrabs_like.data.masks import decode_mask, encode_mask


def blob(width=300, height=200):
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (180, 90), (40, 70), 20, 0, 360, 1, -1)
    return mask


def test_small_masks_come_back_exactly():
    png, box = encode_mask(blob())
    np.testing.assert_array_equal(decode_mask(png, box, 300, 200) > 127, blob() > 0)
    x, y, width, height = cv2.boundingRect(blob())
    np.testing.assert_array_equal(box, [x - 0.5, y - 0.5, width, height])


def test_large_masks_shrink_and_keep_their_place():
    mask = cv2.resize(blob(), (3000, 2000), interpolation=cv2.INTER_NEAREST)
    png, box = encode_mask(mask, max_side=128)
    assert max(cv2.imdecode(np.frombuffer(png, np.uint8), 0).shape) == 128
    back = decode_mask(png, box, 3000, 2000) > 127
    overlap = np.sum(back & (mask > 0)) / np.sum(back | (mask > 0))
    assert overlap > 0.98
    centre = [np.mean(np.nonzero(m), axis=1) for m in (back, mask)]
    np.testing.assert_allclose(centre[0], centre[1], atol=0.5)


def test_a_given_box_decides_what_is_kept():
    png, box = encode_mask(blob() > 0, box=(150, 60, 40, 30))
    np.testing.assert_array_equal(box, [149.5, 59.5, 40, 30])
    kept = decode_mask(png, box, 300, 200) > 127
    assert kept[60:90, 150:190].all() and kept.sum() == 40 * 30


def test_empty_masks_are_none():
    assert encode_mask(np.zeros((4, 5))) == (None, None)


@pytest.mark.parametrize(
    ("mask", "box", "words"),
    [(np.ones((2, 2, 3)), None, "one channel"), (np.ones((2, 2)), (0, 0, 3, 1), "leaves")],
)
def test_wrong_masks_are_refused(mask, box, words):
    with pytest.raises(ValueError, match=words):
        encode_mask(mask, box)
