"""Poses and boxes drawn on images."""

import numpy as np
import pytest

from metrabs_like.viz import overlay, palette

GREY = np.full((80, 120, 3), 100, np.uint8)
EDGES = ((0, 1), (1, 2))


def assert_color(pixel, color):
    # antialiasing lets a little of the background through thin lines
    np.testing.assert_allclose(pixel.astype(int), color, atol=40)


def test_lines_lie_on_their_points_in_side_colours():
    pose = np.array([[[20.0, 40], [60, 40], [100, 40]]])
    picture = overlay.draw_poses(GREY, pose, EDGES, sides=("left", "middle", "right"))
    assert_color(picture[40, 40], palette.SIDE_COLORS["left"])
    assert_color(picture[40, 80], palette.SIDE_COLORS["right"])
    changed_rows = np.flatnonzero((picture != GREY).any(axis=(1, 2)))
    # a line through row 40 (pixel centre) is symmetric about it
    assert changed_rows.min() + changed_rows.max() == 80
    assert len(changed_rows) < 12


def test_the_image_is_copied_and_zero_people_change_nothing():
    before = GREY.copy()
    for poses in (np.zeros((0, 3, 2)), np.zeros((0, 0, 2)), []):
        picture = overlay.draw_poses(GREY, poses, EDGES, boxes=np.zeros((0, 4)))
        np.testing.assert_array_equal(picture, GREY)
        assert picture is not GREY
    overlay.draw_poses(GREY, np.ones((1, 3, 2)) * 30, EDGES, boxes=[[1, 2, 30, 40, 0.9]])
    np.testing.assert_array_equal(GREY, before)


def test_boxes_are_x_y_width_height_and_differ_by_person():
    picture = overlay.draw_poses(GREY, [], (), boxes=[[10, 20, 30, 40], [70, 10, 20, 20]])
    for row, column in ((20, 25), (60, 25), (40, 10), (40, 40)):
        assert_color(picture[row, column], palette.PERSON_COLORS[0])
    assert_color(picture[10, 80], palette.PERSON_COLORS[1])
    assert tuple(picture[40, 25]) == (100, 100, 100)


def test_invalid_and_nonfinite_points_are_left_out():
    pose = np.array([[[20.0, 40], [60, 40], [np.nan, 40]]])
    picture = overlay.draw_poses(GREY, pose, EDGES)
    assert (picture[:, 75:] == 100).all() and (picture[40, 20:60] != 100).any()
    validity = np.array([[True, False, True]])
    picture = overlay.draw_poses(GREY, np.nan_to_num(pose, nan=100.0), EDGES, validity=validity)
    assert (picture[:, 30:90] == 100).all()


@pytest.mark.parametrize("far", [1e3, 1e9, 1e30])
def test_points_far_outside_keep_the_direction_of_their_line(far):
    pose = np.array([[[60.0, 40], [60 + far, 40 + far], [-far, -far]]])
    picture = overlay.draw_poses(GREY, pose, EDGES[:1])
    rows, columns = np.nonzero((picture == 240).all(axis=-1))
    line = columns > 66
    assert line.sum() > 10
    assert np.abs((columns - rows - 20)[line]).max() <= 2


def test_grey_images_become_rgb_and_wrong_ones_are_named():
    assert overlay.draw_poses(GREY[..., 0], [], ()).shape == GREY.shape
    assert overlay.draw_poses(GREY[..., :1], [], ()).shape == GREY.shape
    with pytest.raises(ValueError, match="uint8"):
        overlay.draw_poses(GREY / 255.0, [], ())
    with pytest.raises(ValueError, match="uint8"):
        overlay.draw_poses(np.zeros((5, 5, 4), np.uint8), [], ())
    with pytest.raises(ValueError, match=r"\[N, P, 2\]"):
        overlay.draw_poses(GREY, np.zeros((3, 2)), EDGES)


def test_intensities_become_grey_levels():
    levels = overlay.to_uint8(np.array([-0.5, 0, 0.5, 1, 2], np.float32))
    assert levels.dtype == np.uint8
    np.testing.assert_array_equal(levels, [0, 0, 128, 255, 255])
    np.testing.assert_array_equal(overlay.to_uint8(GREY), GREY)


def test_masks_are_tinted_where_they_are():
    mask = np.zeros(GREY.shape[:2], bool)
    mask[10:20, 30:40] = True
    picture = overlay.tinted(GREY, mask, (200, 0, 100), opacity=0.5)
    np.testing.assert_array_equal(picture[mask], [[150, 50, 100]] * 100)
    np.testing.assert_array_equal(picture[~mask], GREY[~mask])
