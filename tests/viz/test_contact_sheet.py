"""Contact sheets: crops in a grid, marks at the points, a caption."""

import numpy as np
import pytest

from metrabs_like.viz.contact_sheet import draw_contact_sheet


def make_sheet(n, side, points, validity=None, caption="caption", **options):
    """A sheet of black crops; every crop has the same points."""
    images = np.zeros((n, side, side, 3), np.uint8)
    points = np.broadcast_to(np.asarray(points, float), (n, *np.shape(points)))
    if validity is None:
        validity = np.ones(points.shape[:2], bool)
    return draw_contact_sheet(images, points, validity, caption, **options)


def cell_of(sheet, index, side, n_columns, pitch_gap=4):
    """Cuts one crop out of a sheet of `side` px cells."""
    row, column = divmod(index, n_columns)
    n_rows = (sheet.shape[0] - pitch_gap) // (side + pitch_gap)
    start = sheet.shape[0] - n_rows * (side + pitch_gap) - pitch_gap
    top = start + pitch_gap + row * (side + pitch_gap)
    left = pitch_gap + column * (side + pitch_gap)
    return sheet[top : top + side, left : left + side]


def test_marks_are_at_the_points():
    points = [[40.0, 100], [150, 30]]
    sheet = make_sheet(5, 200, points)
    assert sheet.shape[1] == 3 * 204 + 4 and sheet.dtype == np.uint8
    for i in range(5):
        brightness = cell_of(sheet, i, 200, 3).max(axis=-1).astype(float)
        assert brightness[100, 40] > 200 and brightness[30, 150] > 200
        y, x = np.nonzero(brightness > 100)
        distances = np.hypot(x[:, None] - [40, 150], y[:, None] - [100, 30]).min(axis=1)
        assert distances.max() < 4
    assert not cell_of(sheet, 5, 200, 3).max() > 40  # an empty place


def test_small_crops_are_enlarged_with_their_points():
    sheet = make_sheet(1, 64, [[10.0, 20]])
    assert sheet.shape[1] == 2 * (192 + 4) + 4
    cell = cell_of(sheet, 0, 192, 2).max(axis=-1).astype(float)
    y, x = np.nonzero(cell > 100)
    assert abs(x.mean() - 31) < 0.6 and abs(y.mean() - 61) < 0.6


def test_invalid_and_outside_points_leave_no_mark():
    points = [[50.0, 50], [np.nan, np.nan], [5000, -70]]
    sheet = make_sheet(1, 160, points, validity=np.array([[False, False, True]]), edges=[(0, 2)])
    assert cell_of(sheet, 0, 160, 2).max() == 0


def test_edges_have_the_colour_of_their_side():
    points = [[20.0, 20], [140, 140], [20, 140]]
    sheet = make_sheet(1, 160, points, edges=[(0, 1), (0, 2)], sides=["middle", "left", "right"])
    cell = cell_of(sheet, 0, 160, 2)
    np.testing.assert_allclose(cell[80, 80], (240, 140, 0), atol=40)
    np.testing.assert_allclose(cell[80, 20], (40, 160, 255), atol=40)
    assert make_sheet(1, 160, points)[-84, 84].max() == 0


def test_float_images_and_their_order():
    images = np.linspace(0, 1, 4)[:, None, None, None] * np.ones((4, 160, 160, 3))
    sheet = draw_contact_sheet(images, np.zeros((4, 0, 2)), np.zeros((4, 0)), "c")
    for i, level in enumerate((0, 85, 170, 255)):
        np.testing.assert_array_equal(cell_of(sheet, i, 160, 3), level)


def test_caption_is_written_whole():
    short = make_sheet(1, 160, [[1.0, 1]], caption="x")
    long = make_sheet(1, 160, [[1.0, 1]], caption="word " * 40)
    assert short.shape[0] < long.shape[0] and short.shape[1] == long.shape[1]
    n_lines = (long.shape[0] - short.shape[0]) // 18 + 1
    strip = long[: n_lines * 18]
    for i in range(n_lines):
        assert strip[i * 18 : i * 18 + 18].max() > 200
    assert strip[:, -2:].max() < 60  # nothing is cut off


def test_no_crops():
    sheet = make_sheet(0, 64, np.zeros((3, 2)), caption="nobody")
    assert sheet.ndim == 3 and sheet.max() > 200


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match=r"points2d \[2, 3, 2\]"):
        draw_contact_sheet(np.zeros((1, 8, 8, 3)), np.zeros((2, 3, 2)), np.ones((2, 3)), "")
