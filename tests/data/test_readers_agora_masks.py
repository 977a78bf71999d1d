import cv2
import numpy as np
import pytest

from metrabs_like.data.readers import agora_masks
from tests.native import agora as native


def test_large_masks_keep_their_place(tmp_path):
    """A mask of 3840 px is read at a third; its box stays to a pixel where it was."""
    name = f"{native.CAM00}_00000"
    for number, colour in ((0, (10, 90, 200)), (1, (255, 255, 255))):
        picture = np.zeros((2160, 3840, 3), np.uint8)
        picture[:] = (0, 0, 255) if number == 0 else 0
        picture[300:900, 1200:2400] = colour
        path = native.mask_path(tmp_path, native.CAM00, name, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    folders = agora_masks.mask_folders(str(tmp_path), "train")
    for width, box in ((3840, [1199.5, 299.5, 1200, 600]), (1280, [399.5, 99.5, 400, 200])):
        ((png, mask_box),) = agora_masks.read_visible_masks(str(tmp_path), folders, name, 1, width)
        np.testing.assert_allclose(mask_box, box, atol=1e-3)
        assert cv2.imdecode(np.frombuffer(png, np.uint8), 0).min() == 255


def test_colours_are_told_apart_by_overlap():
    """A person who stands inside another's silhouette keeps their own colour."""
    back, front = np.zeros((2, 40, 60), bool)
    back[5:35, 5:55], front[10:30, 20:40] = True, True
    everybody = np.full((40, 60, 3), (250, 5, 3), np.uint8)
    everybody[back], everybody[front] = (10, 200, 30), (20, 40, 90)
    everybody[6:8, 6:8] += 9  # within the tolerance
    hidden = np.zeros_like(back)
    hidden[12:14, 22:24] = True
    seen = agora_masks._visible([back, None, front, hidden], everybody)
    np.testing.assert_array_equal(seen[0], back & ~front)
    np.testing.assert_array_equal(seen[2], front)
    assert seen[1] is None and not seen[3].any()


def test_colours_of_a_palette_that_are_near_each_other():
    """Thirty grey levels apart are two people, five are one."""
    left, right = np.zeros((2, 40, 60), bool)
    left[10:30, 10:30], right[10:30, 30:50] = True, True
    everybody = np.full((40, 60, 3), (255, 0, 0), np.uint8)
    everybody[left], everybody[right] = (10, 100, 30), (10, 130, 30)
    everybody[10:14, 10:14] = (10, 105, 30)
    _, n_colours = agora_masks._colour_regions(everybody)
    assert n_colours == 2
    # Their silhouettes are wider: without a colour of their own each would get both.
    both = left | right
    seen = agora_masks._visible([both, right], everybody)
    np.testing.assert_array_equal(seen[0], left)
    np.testing.assert_array_equal(seen[1], right)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "ag_trainset_3dpeople_bfh_archviz_5_10_cam02_00007",
            "ag_trainset_3dpeople_bfh_archviz/"
            "ag_trainset_3dpeople_bfh_archviz_5_10_mask_cam02_000007_00003.png",
        ),
        (
            "ag_trainset_axyz_bfh_hdri_50mm_5_10_00123",
            "ag_trainset_axyz_bfh_hdri/ag_trainset_axyz_bfh_hdri_50mm_5_10_mask_000123_00003.png",
        ),
    ],
)
def test_mask_names(name, expected):
    assert agora_masks.mask_name(name, 3) == expected
