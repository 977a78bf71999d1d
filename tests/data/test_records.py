import dataclasses

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.data import records

P = 5


def make_person(i):
    validity = np.arange(P) != i
    points = np.where(validity[:, None], np.arange(3 * P).reshape(P, 3) + 100.0 * i, np.nan)
    return records.Person(
        np.array([i, 2, 3, 4.0]), points, validity, points[:, :2], validity, b"png" * i, 0.25 * i
    )


def make_record(n_people=2, **kwargs):
    people = [make_person(i) for i in range(n_people)]
    record = records.Record(b"image", 10, 20, "id-ä", "toy", np.diag([9, 8, 1.0]), people=people)
    return dataclasses.replace(record, **kwargs)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("n_people", [0, 1, 3])
def test_round_trip(n_people, mapped):
    serialized = records.encode_record(make_record(n_people))
    if mapped:
        dataset = tf.data.Dataset.from_tensors(serialized)
        parsed = next(iter(dataset.map(lambda s: records.parse_record(s, P))))
    else:
        parsed = records.parse_record(serialized, P)
    assert parsed["image_bytes"] == b"image"
    assert (int(parsed["height"]), int(parsed["width"])) == (10, 20)
    assert parsed["image_id"].numpy().decode() == "id-ä"
    np.testing.assert_array_equal(parsed["intrinsics"], np.diag([9, 8, 1]))
    assert parsed["points3d"].shape == (n_people, P, 3)
    assert parsed["masks"].shape == (n_people,)
    for i in range(n_people):
        person = make_person(i)
        expected = np.where(person.validity3d[:, None], person.points3d, 0)
        np.testing.assert_array_equal(parsed["points3d"][i], expected)
        np.testing.assert_array_equal(parsed["validity2d"][i], person.validity2d)
        np.testing.assert_array_equal(parsed["boxes"][i], person.box)
        assert parsed["masks"][i] == person.mask
        assert float(parsed["occlusions"][i]) == 0.25 * i


def test_person_batch_picks_people():
    serialized = tf.constant([records.encode_record(make_record(n)) for n in (3, 1, 2)])
    index = tf.constant([2, 0, 1])
    parsed = records.parse_person_batch(serialized, index, P)
    for i, person_index in enumerate(index.numpy()):
        person = make_person(person_index)
        expected = np.where(person.validity3d[:, None], person.points3d, 0)
        np.testing.assert_array_equal(parsed["points3d"][i], expected)
        np.testing.assert_array_equal(parsed["box"][i], person.box)
    empty = records.parse_person_batch(tf.zeros([0], tf.string), tf.zeros([0], tf.int32), P)
    assert empty["points2d"].shape == (0, P, 2)


def test_usable_people_are_those_with_a_valid_point():
    record = make_record(3)
    record.people[1].validity2d[:] = False
    serialized = [records.encode_record(r) for r in (make_record(0), record, make_record(1))]
    found = records.parse_usable_people(tf.constant(serialized), "kp2d", P)
    np.testing.assert_array_equal(found[0], [1, 1, 2])
    np.testing.assert_array_equal(found[1], [0, 2, 0])
    found = records.parse_usable_people(tf.zeros([0], tf.string), "kp3d", P)
    assert found[0].shape == (0,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intrinsics": np.diag([-9, 8, 1.0])}, ["id-ä", "positive", "-9"]),
        ({"intrinsics": np.diag([np.nan, 8, 1.0])}, ["intrinsics", "finite"]),
        ({"distortion_coeffs": np.zeros(5)}, ["distortion_coeffs", "(12,)", "(5,)"]),
        ({"extrinsics": np.eye(3)}, ["extrinsics", "(4, 4)"]),
    ],
)
def test_wrong_cameras_are_refused(changes, words):
    with pytest.raises(ValueError) as error:
        records.encode_record(make_record(**changes))
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"box": np.array([0, 0, 0, 5.0])}, ["people[1].box", "no area"]),
        ({"points3d": np.zeros((P + 1, 3))}, ["people[1].points3d", "(6, 3)", "(5, 3)"]),
        ({"points2d": np.full((P, 2), np.nan)}, ["people[1].points2d", "finite", "joint 0"]),
    ],
)
def test_wrong_people_are_refused(changes, words):
    record = make_record(2)
    record.people[1] = dataclasses.replace(record.people[1], **changes)
    with pytest.raises(ValueError) as error:
        records.encode_record(record)
    assert all(word in str(error.value) for word in words)


def make_body(i):
    numbers = np.arange(97, dtype=np.float32) + 1000 * i
    return records.BodyParameters(
        numbers[:72].reshape(24, 3), numbers[72:82], numbers[82:85], numbers[85:].reshape(3, 4)
    )


def make_surface(i, n):
    weights = np.random.default_rng(i).dirichlet([1, 1, 1], n).astype(np.float32)
    ids = np.arange(3 * n).reshape(n, 3) + 10 * i
    return records.SurfacePoints(ids, weights, np.arange(2.0 * n).reshape(n, 2) - i)


def make_rich_records():
    """Records whose people have, in turn, nothing, a body, surface points, and both."""
    first = make_record(3)
    first.people[1].body, first.people[2].surface = make_body(1), make_surface(2, 4)
    second = make_record(2)
    second.people[0].surface, second.people[1].surface = make_surface(0, 2), make_surface(1, 3)
    second.people[1].body = make_body(5)
    return tf.constant([records.encode_record(r) for r in (first, make_record(0), second)])


def test_bodies_and_surface_points_round_trip():
    serialized = make_rich_records()
    parsed = records.parse_record(serialized[0], P)
    np.testing.assert_array_equal(parsed["has_body"], [False, True, False])
    np.testing.assert_array_equal(parsed["pose_rotvecs"][1], make_body(1).pose_rotvecs)
    np.testing.assert_array_equal(parsed["camera_from_body"][1], make_body(1).camera_from_body)
    np.testing.assert_array_equal(parsed["shape_betas"][0], np.zeros(10))
    np.testing.assert_array_equal(parsed["surface_counts"], [0, 0, 4])
    np.testing.assert_array_equal(parsed["surface_ids"], make_surface(2, 4).vertex_ids)
    bare = records.parse_record(serialized[1], P)
    assert bare["has_body"].shape == (0,) and bare["surface_weights"].shape == (0, 3)


def test_person_batches_hold_bodies_or_surface_points():
    serialized = make_rich_records()
    found = records.parse_usable_people(serialized, "param", P)
    np.testing.assert_array_equal(found[0], [0, 2])
    np.testing.assert_array_equal(found[1], [1, 1])
    parsed = records.parse_person_batch(tf.gather(serialized, found[0]), found[1], P, "param")
    for name in ("pose_rotvecs", "shape_betas", "translation", "camera_from_body"):
        expected = [getattr(make_body(i), name) for i in (1, 5)]
        np.testing.assert_array_equal(parsed[name], expected)

    found = records.parse_usable_people(serialized, "dense", P)
    np.testing.assert_array_equal(found[0], [0, 2, 2])
    np.testing.assert_array_equal(found[1], [2, 0, 1])
    parsed = records.parse_person_batch(tf.gather(serialized, found[0]), found[1], P, "dense")
    for row, surface in enumerate([make_surface(2, 4), make_surface(0, 2), make_surface(1, 3)]):
        np.testing.assert_array_equal(parsed["surface_ids"][row], surface.vertex_ids)
        np.testing.assert_array_equal(parsed["surface_weights"][row], surface.weights)
        np.testing.assert_array_equal(parsed["surface_points2d"][row], surface.points2d)


@pytest.mark.parametrize("kind", ["param", "dense"])
def test_batches_without_anybody_have_no_bodies_and_no_surface(kind):
    found = records.parse_usable_people(make_rich_records()[1:2], kind, P)
    parsed = records.parse_person_batch(tf.zeros([0], tf.string), found[1], P, kind)
    name = {"param": "pose_rotvecs", "dense": "surface_ids"}[kind]
    assert parsed[name].shape[0] == 0 == found[0].shape[0]


def test_mask_batches_pick_people_of_records_with_and_without_masks():
    first, second = make_record(3), make_record(2)
    first.people[2].mask_box = np.array([1, 2, 3, 4.5])
    for person in second.people:
        person.mask = None
    serialized = tf.constant([records.encode_record(r) for r in (first, second, first, first)])
    masks, boxes = records.parse_mask_batch(serialized, tf.constant([2, 1, 0, 1]))
    assert masks.numpy().tolist() == [b"pngpng", b"", b"", b"png"]
    whole = [-0.5, -0.5, 20, 10]
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4.5], [0, 0, 0, 0], whole, whole])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": np.full((2, 3), 0.4)}, ["people[0].surface", "add up to 1", "0.2"]),
        ({"vertex_ids": np.array([[0, 1, -2], [0, 1, 2]])}, ["people[0].surface", "negative"]),
        ({"points2d": np.full((2, 2), np.nan)}, ["people[0].surface.points2d", "finite"]),
        ({"vertex_ids": np.zeros((3, 3))}, ["people[0].surface.vertex_ids", "(2, 3)"]),
    ],
)
def test_wrong_surface_points_are_refused(changes, words):
    record = make_record(1)
    record.people[0].surface = dataclasses.replace(make_surface(0, 2), **changes)
    with pytest.raises(ValueError) as error:
        records.encode_record(record)
    assert all(word in str(error.value) for word in words)


def test_wrong_bodies_are_refused():
    record = make_record(1)
    record.people[0].body = dataclasses.replace(make_body(0), shape_betas=np.zeros(16))
    with pytest.raises(ValueError, match=r"people\[0\]\.body\.shape_betas.*\(10,\)"):
        records.encode_record(record)


def test_masks_that_training_would_cut_are_refused():
    record = make_record(1)
    record.people[0].mask = cv2.imencode(".png", np.ones((300, 20), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match=r"people\[0\]\.mask has 20 x 300 px.*encode_mask"):
        records.encode_record(record)


def test_masks_of_the_first_schema_have_no_place_and_are_left_out():
    example = tf.train.Example.FromString(records.encode_record(make_record(2)))
    del example.features.feature["people/mask_boxes"]
    masks, boxes = records.parse_mask_batch(
        tf.constant([example.SerializeToString()]), tf.constant([1])
    )
    assert masks.numpy().tolist() == [b""] and not boxes.numpy().any()


def make_image_records():
    """Three people of whom two have an area; nobody, but a crowd; one person."""
    first, second = make_record(3), make_record(0)
    first.people[0].area, first.people[2].area = 7.5, 9.0
    second.crowd_boxes = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
    return [first, second, make_record(1)]


def test_image_batches_hold_all_people_in_slots():
    serialized = tf.constant([records.encode_record(r) for r in make_image_records()])
    parsed = records.parse_image_batch(serialized, P, 2, with_masks=True)
    np.testing.assert_array_equal(parsed["image_size"], [[10, 20]] * 3)
    np.testing.assert_array_equal(parsed["person_validity"], [[1, 1], [0, 0], [1, 0]])
    np.testing.assert_array_equal(parsed["areas"], [[7.5, 0], [0, 0], [0, 0]])
    for i, j in ((0, 0), (0, 1), (2, 0)):
        person = make_person(j)
        expected = np.where(person.validity2d[:, None], person.points2d, 0)
        np.testing.assert_array_equal(parsed["points2d"][i, j], expected)
        np.testing.assert_array_equal(parsed["validity2d"][i, j], person.validity2d)
        np.testing.assert_array_equal(parsed["boxes"][i, j], person.box)
        assert parsed["masks"][i, j] == person.mask
    np.testing.assert_array_equal(parsed["mask_boxes"][0], [[-0.5, -0.5, 20, 10]] * 2)
    for name in ("boxes", "points2d", "validity2d", "mask_boxes"):
        assert not np.any(parsed[name][1]) and not np.any(parsed[name][2, 1]), name
    assert np.all(parsed["masks"][1] == b"")


@pytest.mark.parametrize("with_masks", [False, True])
def test_image_batches_parse_inside_a_graph_and_may_be_empty(with_masks):
    def parse(batch):
        return records.parse_image_batch(batch, P, 4, with_masks=with_masks)

    serialized = tf.constant([records.encode_record(r) for r in make_image_records()])
    (mapped,) = tf.data.Dataset.from_tensor_slices(serialized).batch(3).map(parse)
    eager = parse(serialized)
    assert ("masks" in eager) == with_masks
    for name, values in eager.items():
        np.testing.assert_array_equal(mapped[name], values, err_msg=name)
    empty = parse(tf.zeros([0], tf.string))
    assert {n: tuple(t.shape) for n, t in empty.items()} == {
        n: (0, *t.shape[1:]) for n, t in eager.items()
    }


def test_crowds_come_out_in_slots_and_are_counted():
    serialized = tf.constant([records.encode_record(r) for r in make_image_records()])
    boxes, validity = records.parse_crowd_batch(serialized, 1)
    np.testing.assert_array_equal(boxes[:, 0], [[0] * 4, [1, 2, 3, 4], [0] * 4])
    np.testing.assert_array_equal(validity, [[0], [1], [0]])
    counts = records.count_in_images(serialized)
    np.testing.assert_array_equal(counts, [[3, 0], [0, 2], [1, 0]])
    assert records.count_in_images(tf.zeros([0], tf.string)).shape == (0, 2)


def test_single_records_hold_areas_and_crowds():
    first, second, third = (
        records.parse_record(records.encode_record(r), P) for r in make_image_records()
    )
    np.testing.assert_array_equal(first["areas"], [7.5, 0, 9])
    np.testing.assert_array_equal(second["crowd_boxes"], [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert third["areas"].shape == (0,) and third["crowd_boxes"].shape == (0, 4)


@pytest.mark.parametrize("area", [0.0, -3.0, np.nan, np.inf])
def test_impossible_areas_are_refused(area):
    record = make_record(2)
    record.people[1].area = area
    with pytest.raises(ValueError, match=r"id-ä: people\[1\].area = .*positive.*None"):
        records.encode_record(record)


@pytest.mark.parametrize("box", [[1, 2, 0, 4], [1, np.nan, 3, 4]])
def test_impossible_crowds_are_refused(box):
    with pytest.raises(ValueError, match=r"id-ä: crowd_boxes\[1\]"):
        records.encode_record(make_record(crowd_boxes=np.array([[1, 2, 3, 4], box])))
