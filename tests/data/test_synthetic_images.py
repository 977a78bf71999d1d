"""Synthetic images: exact labels, framing, occlusion, masks, determinism."""

import dataclasses
import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from metrabs_like.data.masks import decode_mask
from metrabs_like.data.synthetic import SyntheticConfig, generate_image, generate_shard
from metrabs_like.data.synthetic.camera import distorted_points
from metrabs_like.data.synthetic.face import face_features
from metrabs_like.data.synthetic.rendering import paint_people, sample_light
from metrabs_like.data.synthetic.scene import MIN_DEPTH_M, View, sample_scene
from metrabs_like.skeletons import get

UNION = get("smpl_24+coco_17")
MANY = 2**30
PELVIS = UNION.index("pelv_smpl")


def images(count, **fields):
    config = SyntheticConfig(n_images=MANY, **fields)
    return [generate_image(config, index) for index in range(count)]


def decoded(record):
    return cv2.imdecode(np.frombuffer(record.image_bytes, np.uint8), cv2.IMREAD_COLOR)


def decoded_mask(person):
    return decode_mask(person.mask, person.mask_box, 128, 128)


@pytest.fixture(scope="module")
def singles():
    return images(60)


@pytest.fixture(scope="module")
def groups():
    return images(40, min_people=0, max_people=5, with_masks=True, occluder_fraction=0.0, seed=3)


def test_2d_is_the_distorted_projection_of_3d(singles):
    n_distorted = 0
    for record in singles:
        n_distorted += bool(record.distortion_coeffs.any())
        for person in record.people:
            projected, _ = cv2.projectPoints(
                person.points3d.astype(np.float64),
                np.zeros(3),
                np.zeros(3),
                record.intrinsics.astype(np.float64),
                record.distortion_coeffs.astype(np.float64),
            )
            np.testing.assert_allclose(projected[:, 0], person.points2d, atol=1e-2)
            assert person.points3d[:, 2].min() >= MIN_DEPTH_M * 0.5
            assert person.validity3d.all() and person.validity2d.all()
    assert 15 < n_distorted < 45


def test_distortion_formula_against_opencv(rng):
    points = rng.uniform(-0.6, 0.6, (50, 2))
    coeffs = np.zeros(12)
    coeffs[:5] = rng.normal(0.0, 0.05, 5)
    in_space = np.concatenate([points, np.ones((50, 1))], axis=-1)
    expected, _ = cv2.projectPoints(in_space, np.zeros(3), np.zeros(3), np.eye(3), coeffs)
    np.testing.assert_allclose(distorted_points(points, coeffs), expected[:, 0], atol=1e-12)


def test_images_decode_and_records_are_complete(singles):
    for index, record in enumerate(singles):
        assert decoded(record).shape == (record.height, record.width, 3) == (128, 128, 3)
        assert record.image_id == f"0-{index:08d}" and record.dataset == "synthetic"
        rotation = record.extrinsics[:3, :3].astype(np.float64)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(rotation) > 0
        for person in record.people:
            assert person.points3d.shape == (41, 3) and person.points3d.dtype == np.float32
            assert person.points2d.shape == (41, 2) and person.mask is None


def test_people_stand_on_the_floor_of_the_world(singles):
    """World frame: y down, floor at 0; the camera is where the extrinsics say."""
    for record in singles:
        rotation, translation = record.extrinsics[:3, :3], record.extrinsics[:3, 3]
        height = (rotation.T @ translation)[1]
        assert 0.5 - 1e-5 <= height <= 2.5 + 1e-5
        for person in record.people:
            world = (person.points3d - translation) @ rotation
            assert -0.75 < world[:, 1].max() < 0.0 and world[:, 1].min() > -3.1


def test_bones_are_metric(singles):
    for record in singles:
        for person in record.people:
            thigh = np.linalg.norm(person.points3d[1] - person.points3d[4])
            assert 0.28 < thigh < 0.58


def test_boxes_contain_the_points_inside_the_image(singles):
    for record in singles:
        for person in record.people:
            x, y, width, height = person.box
            assert x >= -0.5 and y >= -0.5 and x + width <= 127.5 + 1e-3
            assert y + height <= 127.5 + 1e-3
            inside = ((person.points2d >= 0) & (person.points2d <= 127)).all(axis=-1)
            low, high = person.box[:2] - 1.5, person.box[:2] + person.box[2:] + 1.5
            within = ((person.points2d >= low) & (person.points2d <= high)).all(axis=-1)
            assert within[inside].all()


def test_framing_follows_the_config():
    config = {"truncation_fraction": 0.0, "small_fraction": 0.0, "occluder_fraction": 0.0}
    fills, distances = [], []
    for record in images(60, **config):
        (person,) = record.people
        fills.append(person.box[2:].max() / 128)
        distances.append(person.points3d[PELVIS, 2])
        assert ((person.points2d > -3) & (person.points2d < 130)).all()
    assert np.mean([0.47 < fill < 0.98 for fill in fills]) > 0.9
    assert min(distances) < 2.2 and max(distances) > 7.0


def test_truncation_cuts_people():
    cut = []
    for record in images(30, truncation_fraction=1.0):
        for person in record.people:
            outside = ((person.points2d < -0.5) | (person.points2d > 127.5)).any(axis=-1)
            cut.append(outside.any())
    assert np.mean(cut) > 0.7


def test_distances_and_yaw_follow_the_config():
    config = SyntheticConfig(
        n_images=MANY, min_distance_m=3.0, max_distance_m=4.0, frontal_fraction=1.0
    )
    for index in range(30):
        scene = sample_scene(np.random.default_rng(index), config)
        (person,) = scene.people
        assert 2.9 < np.hypot(*person.translation[[0, 2]]) < 4.1
        to_camera = -person.translation * (1, 0, 1)
        facing = person.rotation[:, 2]
        cosine = facing @ to_camera / np.linalg.norm(to_camera)
        assert cosine > np.cos(np.radians(75.5))


def test_masks_show_each_person_where_visible(groups):
    for record in groups:
        total = np.zeros((128, 128), dtype=int)
        for person in record.people:
            mask = decoded_mask(person)
            assert mask.shape == (128, 128) and set(np.unique(mask)) <= {0, 255}
            total += mask > 0
            rows, columns = np.nonzero(mask)
            x, y, width, height = person.box
            assert columns.min() >= x - 1 and columns.max() <= x + width + 1
            assert rows.min() >= y - 1 and rows.max() <= y + height + 1
        assert total.max(initial=0) <= 1


def test_masks_contain_the_visible_joints():
    kept = {"truncation_fraction": 0.0, "occluder_fraction": 0.0, "with_masks": True}
    hits = []
    for record in images(40, **kept):
        mask = cv2.dilate(decoded_mask(record.people[0]), np.ones((3, 3), np.uint8))
        columns, rows = np.rint(record.people[0].points2d).astype(int).T
        inside = (columns >= 0) & (columns < 128) & (rows >= 0) & (rows < 128)
        hits.extend(mask[rows[inside], columns[inside]] > 0)
    assert np.mean(hits) > 0.99


def test_number_of_people_and_occlusion(groups):
    counts = [len(record.people) for record in groups]
    assert min(counts) == 0 and max(counts) >= 4
    occlusions = []
    for record in groups:
        for person in record.people:
            assert 0.0 <= person.occlusion <= 1.0
        if record.people:
            nearest = min(record.people, key=lambda p: p.points3d[PELVIS, 2])
            assert nearest.occlusion == 0.0
            occlusions.extend(p.occlusion for p in record.people if p is not nearest)
    assert np.mean(np.array(occlusions) > 0.05) > 0.2


def test_occluders_hide_single_people():
    occlusions = [p.occlusion for r in images(30, occluder_fraction=1.0) for p in r.people]
    assert 0.2 < np.mean(np.array(occlusions) > 0.0) and max(occlusions) > 0.15


def test_larger_images_have_the_same_framing():
    small, large = images(3), images(3, image_side=256)
    for a, b in zip(small, large, strict=True):
        assert decoded(b).shape == (256, 256, 3)
        assert len(a.people) == len(b.people)
        assert b.intrinsics[0, 0] > 1.2 * a.intrinsics[0, 0] / 2


def turned_round(scene):
    """The same scene with the person seen from behind."""
    (person,) = scene.people
    half_turn = np.diag([-1.0, 1.0, -1.0])
    vertices = (person.vertices - person.translation) @ half_turn + person.translation
    person = dataclasses.replace(person, rotation=half_turn @ person.rotation, vertices=vertices)
    surface = scene.camera.world_to_camera(vertices)
    view = View(surface, scene.camera.camera_to_image(surface))
    return dataclasses.replace(scene, people=(person,), views=(view,))


def painted_head(scene, light):
    canvas = np.zeros((256, 256, 4), np.uint8)
    paint_people(canvas, scene, light)
    person = scene.people[0]
    head = scene.camera.world_to_camera(person.to_world(person.posed.points[24:29]))
    x, y = (scene.camera.camera_to_image(head) * 2).mean(axis=0).astype(int)
    return canvas[max(y - 8, 0) : y + 12, max(x - 10, 0) : x + 10, :3].astype(float)


def test_front_differs_from_back():
    config = SyntheticConfig(
        n_images=MANY, frontal_fraction=1.0, frontal_yaw_degrees=20.0, truncation_fraction=0.0
    )
    differences, n_front, n_back = [], 0, 0
    for index in range(12):
        rng = np.random.default_rng(index)
        scene = sample_scene(rng, config)
        light = sample_light(rng, scene.camera)
        back = turned_round(scene)
        for s, is_front in ((scene, True), (back, False)):
            person = s.people[0]
            rotation = s.camera.extrinsics[:3, :3] @ person.rotation
            place = s.camera.world_to_camera(person.translation)
            n = len(face_features(person.posed, person.outfit, rotation, place).depths)
            n_front, n_back = n_front + n * is_front, n_back + n * (not is_front)
        front_head, back_head = painted_head(scene, light), painted_head(back, light)
        if front_head.shape == back_head.shape:
            differences.append(np.abs(front_head - back_head).mean())
    assert n_front > 12 * 4 and n_back < 0.2 * n_front
    assert np.mean(differences) > 15.0


def digest(records):
    result = hashlib.sha256()
    for record in records:
        for part in (record.image_bytes, *(p.points3d.tobytes() for p in record.people)):
            result.update(part)
    return result.hexdigest()


def test_images_do_not_depend_on_the_shards():
    one = SyntheticConfig(n_images=7, images_per_shard=7, seed=5, max_people=2)
    three = dataclasses.replace(one, images_per_shard=3)
    assert (one.n_shards, three.n_shards) == (1, 3)
    whole = list(generate_shard(one, 0))
    parts = [record for shard in range(3) for record in generate_shard(three, shard)]
    assert len(whole) == len(parts) == 7
    assert digest(whole) == digest(parts)
    longer = dataclasses.replace(one, n_images=100)
    assert digest([generate_image(longer, 6)]) == digest(whole[6:])


def test_images_do_not_depend_on_the_process():
    """Another process, without TensorFlow and with another history, draws the same images."""
    program = (
        "import sys, hashlib, unittest.mock\n"
        "sys.modules['tensorflow'] = unittest.mock.MagicMock()\n"
        "from metrabs_like.data.synthetic import SyntheticConfig, generate_image\n"
        "c = SyntheticConfig(n_images=9, seed=11)\n"
        "h = hashlib.sha256()\n"
        "for i in (8, 2):\n"
        "    r = generate_image(c, i)\n"
        "    h.update(r.image_bytes + r.people[0].points3d.tobytes())\n"
        "print(h.hexdigest())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    config = SyntheticConfig(n_images=9, seed=11)
    generate_image(config, 0)
    here = digest([generate_image(config, index) for index in (8, 2)])
    assert result.stdout.split()[-1] == here


def test_seeds_and_indices_give_other_images():
    config = SyntheticConfig(n_images=9)
    other = dataclasses.replace(config, seed=1)
    digests = {digest([generate_image(c, i)]) for c in (config, other) for i in (0, 1)}
    assert len(digests) == 4


def test_left_and_right_are_balanced_in_images(singles):
    """Mean pose of the people is about its own mirror image."""
    relative = np.array(
        [p.points3d - p.points3d[PELVIS] for record in singles for p in record.people]
    )
    image = relative[:, list(UNION.mirror_indices)] * (-1, 1, 1)
    difference = (relative - image).mean(axis=0)
    error = (relative - image).std(axis=0) / np.sqrt(len(relative))
    assert (np.abs(difference) < 5.0 * error + 1e-3).all()
