"""3D plots."""

import cv2
import numpy as np
import pytest

from metrabs_like.viz import plot3d

EDGES = ((0, 1), (1, 2))
# left of the camera at 2 m, right of it at 4 m, above at 3 m
POSE = np.array([[-0.5, 0.2, 2.0], [0.7, 0.3, 4.0], [0.1, -0.6, 3.0]])


def drawn_lines(axes):
    return [np.array(line.get_data_3d()).T for line in axes.lines]


def test_convention_camera_frame_is_turned_upright():
    figure = plot3d.pose_figure(POSE, EDGES)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        first, second = drawn_lines(axes)
        np.testing.assert_allclose(first, [[-0.5, 2.0, -0.2], [0.7, 4.0, -0.3]])
        np.testing.assert_allclose(second[1], [0.1, 3.0, 0.6])


def test_axes_have_one_scale_and_hold_every_point():
    figure = plot3d.pose_figure(POSE[np.newaxis], EDGES, reference3d_m=POSE[np.newaxis] + 1)
    for axes in figure.axes:
        limits = np.array([axes.get_xlim(), axes.get_ylim(), axes.get_zlim()])
        np.testing.assert_allclose(np.ptp(limits, axis=1), np.ptp(limits[0]))
        for line in drawn_lines(axes):
            assert (line >= limits[:, 0]).all() and (line <= limits[:, 1]).all()


def test_reference_is_drawn_where_valid_only():
    validity = np.array([[True, True, False]])
    figure = plot3d.pose_figure(POSE, EDGES, reference3d_m=POSE[np.newaxis], validity=validity)
    reference = drawn_lines(figure.axes[0])[:2]
    assert np.isfinite(reference[0]).all()
    assert np.isnan(reference[1][1]).all()


def test_nonfinite_points_are_left_out():
    pose = POSE.copy()
    pose[0, 1] = np.inf
    figure = plot3d.pose_figure(pose, EDGES, sides=("left", "middle", "right"))
    limits = figure.axes[0].get_xlim()
    assert np.isfinite(limits).all()
    assert np.isnan(drawn_lines(figure.axes[0])[0][0]).all()


@pytest.mark.parametrize("n_people", [0, 2])
def test_png_is_written(n_people, tmp_path):
    path = tmp_path / "pose.png"
    poses = np.repeat(POSE[np.newaxis], n_people, axis=0)
    plot3d.save_pose_plot(path, poses, EDGES, sides=("left", "middle", "right"), title="t")
    picture = cv2.imread(str(path))
    assert picture is not None and picture.shape[1] > picture.shape[0] > 300
    saturated = np.ptp(picture.astype(int), axis=-1) > 150
    # the legend's two lines are there without people too
    assert saturated.sum() > (600 if n_people else 50)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"poses3d_m must have shape.*\[2, 3, 2\]"):
        plot3d.pose_figure(np.zeros((2, 3, 2)), EDGES)
    with pytest.raises(ValueError, match="reference3d_m"):
        plot3d.pose_figure(POSE, EDGES, reference3d_m=np.zeros((2, 2)))
