import dataclasses

import cv2
import numpy as np
import pytest

from metrabs_like.data.synthetic.body_model import camera_points
from tests.data.toy import draw_spots
from tests.native import scene

RATIONAL = [0.5, -2.3, 0.0006, -0.0003, 1.4, 0.4, -2.1, 1.3]
LENSES = {"none": None, "five": [-0.2, 0.08, 0.001, -0.002, 0.01], "eight": RATIONAL}


def brightest_near(picture, point, reach=4):
    """The middle of what is brighter than the grey around, near a pixel."""
    x, y = np.rint(point).astype(int)
    patch = picture[y - reach : y + reach + 1, x - reach : x + reach + 1].mean(axis=-1)
    weight = np.maximum(patch - 60.0, 0.0)
    rows, columns = np.mgrid[y - reach : y + reach + 1, x - reach : x + reach + 1]
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("lens", LENSES)
def test_a_spot_at_a_joint_is_seen_where_the_joint_projects(lens):
    (record,) = scene.people(1, 3)
    person = record.people[0]
    points = scene.joints(person, ("lwri", "rwri", "lank", "head", "nose"))
    spots = draw_spots(scene.pixels(points, record.intrinsics), 512, 512, 2.5)
    encoded = cv2.imencode(".png", spots)[1].tobytes()
    record = dataclasses.replace(record, image_bytes=encoded)
    focal = 1.2 * record.intrinsics[0, 0]
    intrinsics = [[focal, 3.0, 330.2], [0, 1.02 * focal, 250.7], [0, 0, 1]]
    picture = scene.photographed(record, intrinsics, LENSES[lens], width=640, height=480)
    assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8
    seen = scene.pixels(points, intrinsics, LENSES[lens])
    seen = seen[((seen > 6) & (seen < (633, 473))).all(axis=-1)]
    assert len(seen) >= 2
    for point in seen:
        np.testing.assert_allclose(brightest_near(picture, point), point, atol=0.25)


def test_people_are_whole_and_masked():
    for record in scene.people(3, 0):
        person = record.people[0]
        assert not record.distortion_coeffs.any() and person.mask
        inside = (person.points2d > 0) & (person.points2d < scene.IMAGE_SIDE)
        assert inside.all()
        expected = scene.pixels(person.points3d, record.intrinsics)
        np.testing.assert_allclose(person.points2d, expected, atol=1e-3)


def test_the_body_model_is_where_the_person_is():
    for record in scene.people(2, 4):
        person = record.people[0]
        vertices, _ = camera_points(person.body)
        seen = np.rint(scene.pixels(vertices, record.intrinsics)).astype(int)
        near = cv2.dilate(scene.whole_mask(record, person), np.ones((9, 9), np.uint8))
        assert (near[seen[:, 1], seen[:, 0]] > 0).mean() > 0.95


def test_the_mask_follows_the_picture():
    (record,) = scene.people(1, 1)
    person = record.people[0]
    own = scene.mask_as_seen(record, person, record.intrinsics, width=512, height=512)
    np.testing.assert_array_equal(own, scene.whole_mask(record, person))
    half = np.diag([0.5, 0.5, 1]) @ record.intrinsics
    seen = scene.mask_as_seen(record, person, half, LENSES["five"], width=256, height=256)
    assert set(np.unique(seen)) == {0, 255}
    ratio = np.count_nonzero(seen) / np.count_nonzero(own)
    assert 0.15 < ratio < 0.3
    for x, y in scene.pixels(scene.joints(person, ("pelv", "thor")), half, LENSES["five"]):
        assert seen[round(y), round(x)] == 255


def test_grey_where_the_source_shows_nothing_and_where_the_lens_folds():
    (record,) = scene.people(1, 2)
    wide = [[100, 0, 160], [0, 100, 120], [0, 0, 1]]
    picture = scene.photographed(record, wide, width=320, height=240)
    assert (picture[0] == scene.GREY).all() and (picture[:, 0] == scene.GREY).all()
    folding = scene.photographed(record, wide, [-0.6, 0, 0, 0, 0], width=320, height=240)
    assert (folding[0] == scene.GREY).all() and (folding != scene.GREY).any()
    distorted = dataclasses.replace(record, distortion_coeffs=np.ones(12))
    with pytest.raises(ValueError, match="lens distortion"):
        scene.photographed(distorted, wide, width=320, height=240)
