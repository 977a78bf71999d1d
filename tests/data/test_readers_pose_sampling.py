import numpy as np

from metrabs_like.data.readers.pose_sampling import moving_frames

NAN = np.nan


def walk(positions):
    """One joint at the given x, another that stands still."""
    points = np.zeros((len(positions), 2, 3))
    points[:, 0, 0] = positions
    return points


def test_a_frame_is_kept_when_a_joint_has_moved_since_the_last_kept_one():
    # Steps of 0.04: from 0 to 0.12 (3 steps), from 0.12 to 0.24.
    assert moving_frames(walk(np.arange(8) * 0.04), 0.1) == [0, 3, 6]
    assert moving_frames(walk([0, 0.125, 0, 0.124]), 0.125) == [0, 1, 2]  # "at least"
    assert moving_frames(walk([0, 0, 0]), 0) == [0, 1, 2]


def test_distances_are_of_one_joint_in_space():
    points = np.zeros((2, 3, 3))
    points[1] = 0.07 / np.sqrt(3)  # every joint by 0.07, each coordinate less
    assert moving_frames(points, 0.08) == [0]
    assert moving_frames(points, 0.0699) == [0, 1]


def test_unknown_joints_do_not_count_as_motion():
    points = walk([NAN, 0, NAN, 5, 5])
    # The first frame keeps the still joint alone; nothing of it ever moves.
    assert moving_frames(points, 0.1) == [0]
    points = walk([0, NAN, 0.05, 0.2])
    assert moving_frames(points, 0.1) == [0, 3]


def test_frames_without_any_joint_are_left_out():
    points = walk([0, 1, 2, 3])
    points[[0, 2]] = NAN
    assert moving_frames(points, 0.1) == [1, 3]
    assert moving_frames(np.full((2, 2, 3), NAN), 0.1) == []
    assert moving_frames(np.zeros((0, 2, 3)), 0.1) == []


def test_a_frame_that_shares_no_joint_with_the_last_kept_one_is_kept():
    points = np.zeros((3, 2, 3))
    points[0, 1] = points[1, 0] = NAN
    assert moving_frames(points, 0.1) == [0, 1]
