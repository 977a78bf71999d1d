import dataclasses

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
