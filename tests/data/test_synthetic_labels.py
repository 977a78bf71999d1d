"""Body parameters and surface points of synthetic people: exact, visible, and free of effect."""

import dataclasses

import cv2
import numpy as np
import pytest

from metrabs_like.data import preparation, records
from metrabs_like.data.masks import decode_mask
from metrabs_like.data.readers import synthetic as reader
from metrabs_like.data.synthetic import SyntheticConfig, generate_image
from metrabs_like.data.synthetic.body_model import procedural_body
from metrabs_like.geometry import smpl

MODEL = procedural_body()
LABELS = {"with_body_parameters": True, "n_surface_points": 60}


def images(count, **fields):
    config = SyntheticConfig(n_images=2**30, **fields)
    return [generate_image(config, index) for index in range(count)]


@pytest.fixture(scope="module")
def labelled():
    return images(25, max_people=3, with_masks=True, occluder_fraction=0.5, **LABELS)


def in_camera(person, points):
    rotation, shift = person.body.camera_from_body[:, :3], person.body.camera_from_body[:, 3]
    return points @ rotation.T + shift


def posed(person):
    body = person.body
    return smpl.pose_body(
        MODEL, body.pose_rotvecs[None], body.shape_betas[None], body.translation[None]
    )


def projected(record, points):
    pixels, _ = cv2.projectPoints(
        points.astype(np.float64),
        np.zeros(3),
        np.zeros(3),
        record.intrinsics.astype(np.float64),
        record.distortion_coeffs.astype(np.float64),
    )
    return pixels[:, 0]


def surface_in_camera(person):
    vertices = in_camera(person, posed(person).vertices[0].numpy())
    corners = vertices[person.surface.vertex_ids]
    return (corners * person.surface.weights[..., np.newaxis]).sum(axis=1), vertices


def test_body_parameters_give_the_annotated_joints(labelled):
    errors = []
    for record in labelled:
        for person in record.people:
            joints = in_camera(person, posed(person).joints[0].numpy())
            errors.append(np.linalg.norm(joints - person.points3d[:24], axis=-1))
    assert len(errors) > 30
    assert np.mean(errors) < 1e-4 and np.max(errors) < 2e-3


def test_cameras_keep_right_handed_axes(labelled):
    for record in labelled:
        for person in record.people:
            rotation = person.body.camera_from_body[:, :3].astype(np.float64)
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
            assert np.linalg.det(rotation) > 0


def test_surface_points_are_the_distorted_projections_of_the_posed_body(labelled):
    n_distorted = 0
    for record in labelled:
        n_distorted += bool(record.distortion_coeffs.any() and record.people)
        for person in record.people:
            points, _ = surface_in_camera(person)
            np.testing.assert_allclose(
                projected(record, points), person.surface.points2d, atol=2e-2
            )
            np.testing.assert_allclose(person.surface.weights.sum(axis=1), 1.0, atol=1e-6)
            assert person.surface.weights.min() >= 0
    assert n_distorted > 5


def test_surface_points_fall_on_the_visible_person(labelled):
    inside, counts = [], []
    for record in labelled:
        for person in record.people:
            mask = decode_mask(person.mask, person.mask_box, record.width, record.height)
            # a pixel of the image is four of the canvas: its mask may miss a seen quarter
            mask = cv2.dilate(mask, np.ones((3, 3), np.uint8))
            column, row = np.rint(person.surface.points2d).astype(int).T
            assert min(column.min(), row.min()) >= 0 and max(column.max(), row.max()) <= 127
            inside.extend(mask[row, column] > 0)
            counts.append(len(column))
    assert np.all(inside) and max(counts) == 60 and np.mean(counts) > 55


def first_surface(point, triangles):
    """Distance from a point back to where its line of sight first meets a triangle, m."""
    a, first, second = triangles[:, 0], *(triangles[:, i] - triangles[:, 0] for i in (1, 2))
    normal = np.cross(first, second)
    slope = normal @ point
    usable = np.abs(slope) > 1e-12
    share = np.where(usable, (normal * a).sum(axis=-1) / np.where(usable, slope, 1.0), np.inf)
    at = np.where(usable, share, 0.0)[:, np.newaxis] * point - a
    gram = [(x * y).sum(-1) for x, y in ((first, first), (first, second), (second, second))]
    along = [(at * x).sum(-1) for x in (first, second)]
    determinant = gram[0] * gram[2] - gram[1] ** 2
    u = (gram[2] * along[0] - gram[1] * along[1]) / determinant
    v = (gram[0] * along[1] - gram[1] * along[0]) / determinant
    hit = usable & (share > 0) & (u >= 0) & (v >= 0) & (u + v <= 1)
    return (1 - min(share[hit].min(initial=1.0), 1.0)) * np.linalg.norm(point)


def test_surface_points_are_not_behind_other_parts(labelled):
    """By brute force: rays through all triangles. Of points drawn blindly half are behind."""
    distances, blind = [], []
    rng = np.random.default_rng(0)
    for record in labelled[:12]:
        for person in record.people:
            points, vertices = surface_in_camera(person)
            triangles = vertices[MODEL.faces]
            distances.extend(first_surface(point, triangles) for point in points[:20])
            anywhere = triangles[rng.integers(0, len(triangles), 5)].mean(axis=1)
            blind.extend(first_surface(point, triangles) for point in anywhere)
    assert np.mean(np.array(distances) > 0.03) < 0.02 and max(distances) < 0.1
    assert np.mean(np.array(blind) > 0.03) > 0.3


def without_labels(record):
    people = [dataclasses.replace(p, body=None, surface=None) for p in record.people]
    return records.encode_record(dataclasses.replace(record, people=people))


def test_labels_change_nothing_else():
    plain = images(6, max_people=3)
    for labels in (LABELS, {"with_body_parameters": True}, {"n_surface_points": 3}):
        for record, reference in zip(images(6, max_people=3, **labels), plain, strict=True):
            assert without_labels(record) == records.encode_record(reference)
            for person in record.people:
                assert (person.body is not None) == ("with_body_parameters" in labels)
                assert (person.surface is not None) == ("n_surface_points" in labels)
    assert all(p.body is None and p.surface is None for r in plain for p in r.people)


def test_labels_repeat(labelled):
    again = images(2, max_people=3, with_masks=True, occluder_fraction=0.5, **LABELS)
    for record, reference in zip(again, labelled[:2], strict=True):
        assert records.encode_record(record) == records.encode_record(reference)


def test_large_images_with_the_finer_mesh():
    for record in images(4, image_side=256, **LABELS):
        for person in record.people:
            joints = in_camera(person, posed(person).joints[0].numpy())
            np.testing.assert_allclose(joints, person.points3d[:24], atol=2e-3)
            assert len(person.surface.points2d) > 20


@pytest.mark.parametrize("value", [-1, 10001, 2.5])
def test_the_number_of_surface_points_is_checked(value):
    with pytest.raises(ValueError, match=f"SyntheticConfig.n_surface_points is {value}"):
        SyntheticConfig(n_surface_points=value)


def test_data_sets_name_the_body_model():
    plain, _ = reader.plan(SyntheticConfig())
    assert plain.body_model == {}
    # a set that was begun before these settings existed can be continued
    assert not {"with_body_parameters", "n_surface_points"} & set(plain.source)
    for labels in ({"with_body_parameters": True}, {"n_surface_points": 5}):
        info, _ = reader.plan(SyntheticConfig(**labels))
        assert info.kind == "kp3d"
        assert info.body_model == {"name": "procedural", "n_vertices": MODEL.n_vertices}
        assert labels.items() <= info.source.items()


def test_written_sets_count_people_with_labels(tmp_path):
    config = SyntheticConfig(n_images=3, images_per_shard=3, image_side=64, **LABELS)
    info, tasks = reader.plan(config)
    written = preparation.write_dataset(tasks, str(tmp_path), info, n_processes=1, progress=False)
    assert written.counts["n_people"] == written.counts["n_people_param"] == 3
    assert written.counts["n_people_dense"] == 3


def test_hidden_people_of_crowds_become_regions():
    plain = images(12, max_people=6)
    regions = images(12, max_people=6, min_visible_share=0.6)
    n_hidden = 0
    for record, reference in zip(regions, plain, strict=True):
        assert record.image_bytes == reference.image_bytes
        hidden = [p.box for p in reference.people if 1 - p.occlusion < 0.6]
        shown = [p.box for p in reference.people if 1 - p.occlusion >= 0.6]
        np.testing.assert_array_equal(record.crowd_boxes, np.reshape(hidden, (-1, 4)))
        np.testing.assert_array_equal([p.box for p in record.people], shown)
        assert len(reference.crowd_boxes) == 0
        n_hidden += len(hidden)
    assert n_hidden > 1


def test_a_set_begun_without_the_setting_can_be_continued():
    identities = [
        reader.plan(SyntheticConfig(n_images=2, min_visible_share=share))[0].source
        for share in (0.0, 0.2)
    ]
    assert "min_visible_share" not in identities[0] and identities[1]["min_visible_share"] == 0.2
