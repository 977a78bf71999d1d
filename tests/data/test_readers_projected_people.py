import numpy as np
import pytest

from metrabs_like.data.readers import projected_people
from metrabs_like.geometry.lens import fold_radius
from tests.native import scene

INTRINSICS = np.array([[500.0, 0, 320], [0, 510, 240], [0, 0, 1]])
RATIONAL = np.array([0.5, -2.7, 0.0006, -0.0003, 1.6, 0.38, -2.5, 1.5, 0, 0, 0, 0])


def test_projection_by_hand():
    points, is_seen = projected_people.project([[0.2, -0.1, 2.0]], INTRINSICS, np.zeros(12))
    np.testing.assert_allclose(points, [[370, 214.5]])
    assert is_seen.tolist() == [True]


def test_rational_lenses(rng):
    points3d = rng.uniform([-0.5, -0.5, 2], [0.5, 0.5, 4], size=(20, 3))
    points, is_seen = projected_people.project(points3d, INTRINSICS, RATIONAL)
    np.testing.assert_allclose(points, scene.pixels(points3d, INTRINSICS, RATIONAL[:8]), atol=1e-9)
    assert is_seen.all()


def test_what_has_no_projection():
    points3d = [[0, 0, -2.0], [0, 0, 0.05], [np.nan, 0, 1], [3, 0, 1], [0.1, 0, 1]]
    points, is_seen = projected_people.project(points3d, INTRINSICS, np.zeros(12), max_radius=2.0)
    assert is_seen.tolist() == [False, False, False, False, True]
    assert not points[:4].any()


def test_points_beyond_the_fold_are_not_seen():
    """A barrel lens would bring what is far outside back into the picture."""
    barrel = np.array([-0.3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    limit = float(fold_radius(barrel[np.newaxis])[0])
    assert 0.9 < limit < 1.2
    far = [[1.6, 0, 1.0]]
    points, is_seen = projected_people.project(far, INTRINSICS, barrel)
    assert is_seen[0] and 0 < points[0, 0] < 640  # the trap
    assert not projected_people.project(far, INTRINSICS, barrel, limit)[1][0]


def test_a_person_at_the_border():
    points2d = np.array([[600.0, 100], [700, 300], [-1e6, 0], [610, 110]])
    points3d = np.ones((4, 3))
    is_seen = np.array([True, True, False, True])
    validity = np.array([True, True, False, True])
    person = projected_people.person_seen(points3d, validity, points2d, is_seen, 640, 480)
    assert person.validity2d.tolist() == [True, False, False, True]
    # 1.1 x the joints' box, (595, 90) to (705, 310), cut to the picture.
    np.testing.assert_allclose(person.box, [595, 90, 44.5, 220], rtol=1e-6)
    assert not person.points3d[2].any() and person.validity3d.tolist() == validity.tolist()


def test_boxes_are_united_with_the_mask():
    box = np.array([10, 20, 30, 40], np.float32)
    assert projected_people.united_box(box, None, 64, 80).tolist() == [10, 20, 30, 40]
    mask_box = np.array([15, 5, 20, 70], np.float32)
    assert projected_people.united_box(box, mask_box, 64, 80).tolist() == [10, 5, 30, 70]
    wide = np.array([-3, 30, 90, 10], np.float32)
    assert projected_people.united_box(box, wide, 64, 80).tolist() == [-0.5, 20, 64, 40]


@pytest.mark.parametrize("offset", [[1000.0, 0], [0, -900.0]])
def test_nobody_in_the_picture(offset):
    points2d = np.array([[100.0, 100], [200, 300]]) + offset
    seen = np.array([True, True])
    assert projected_people.person_seen(np.ones((2, 3)), seen, points2d, seen, 640, 480) is None


def test_shards():
    shards = projected_people.shards_of(list(range(10)), 4, seed=1)
    assert [len(shard) for shard in shards] == [4, 4, 2]
    assert sorted(sum(shards, [])) == list(range(10))
    assert shards == projected_people.shards_of(list(range(10)), 4, seed=1)
    assert shards != projected_people.shards_of(list(range(10)), 4, seed=2)
    assert projected_people.shards_of([], 4, seed=1) == []
