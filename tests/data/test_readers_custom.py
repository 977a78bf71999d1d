import json

import cv2
import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.data import pipeline, preparation, records
from metrabs_like.data.readers import custom
from tests.data import custom_folder


def read(folder, **kwargs):
    info, tasks = custom.plan(str(folder), **kwargs)
    return info, [item for i, task in enumerate(tasks) for item in task(i)]


def refuse(tmp_path, words, **kwargs):
    custom_folder.write_folder(tmp_path, **kwargs)
    with pytest.raises(ValueError, match=words):
        read(tmp_path)


def test_folder_written_by_hand(tmp_path):
    custom_folder.write_folder(tmp_path, n_images=3)
    info, items = read(tmp_path, images_per_shard=2, name="mine")
    assert info.kind == "kp3d" and info.name == "mine"
    assert sorted(item.image_id for item in items) == [f"images/{c}.png" for c in "abc"]
    record, person = items[0], items[0].people[0]
    assert (record.height, record.width) == (120, 160)
    np.testing.assert_allclose(record.distortion_coeffs, [-0.1, 0.02, 0.001] + [0] * 9)
    np.testing.assert_array_equal(person.validity3d, [True, True, True, False])
    np.testing.assert_array_equal(person.validity2d, [True] * 4)
    np.testing.assert_allclose(person.points3d[1], [0.1, -0.3, 4.0])
    zero = np.zeros(3)
    k, d = np.float64(record.intrinsics), np.float64(record.distortion_coeffs)
    hand = cv2.projectPoints(np.array([[0.6, -0.2, 3.9]]), zero, zero, k, d)[0].ravel()
    np.testing.assert_allclose(person.points2d[2:], [hand, [60.0, 70.5]], atol=1e-4)
    low, high = person.points2d.min(axis=0), person.points2d.max(axis=0)
    size = high - low
    np.testing.assert_allclose(person.box, [*(low - 0.1 * size), *(1.2 * size)], atol=1e-3)


def test_world_frame_is_turned_into_the_camera(tmp_path):
    rotation = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    extrinsics = np.eye(4)
    extrinsics[:3, :3], extrinsics[:3, 3] = rotation, [0.1, 0.2, 0.3]
    in_camera = np.array([0.1, 0.2, 4.0])
    in_world = rotation.T @ (in_camera - extrinsics[:3, 3])
    custom_folder.write_folder(
        tmp_path,
        changes={"frame": "world", "extrinsics": extrinsics.tolist()},
        person={"points3d_m": {"hip": in_world.tolist()}, "points2d_px": None},
    )
    record = read(tmp_path)[1][0]
    np.testing.assert_allclose(record.people[0].points3d[0], in_camera, atol=1e-6)
    np.testing.assert_allclose(record.extrinsics, extrinsics)


def test_2d_only_with_fov_and_box(tmp_path):
    custom_folder.write_folder(
        tmp_path,
        changes={"intrinsics": None, "fov_degrees": 60, "distortion": None},
        person={"points3d_m": {}, "box_px": [10, 20, 60, 80]},
    )
    info, (record,) = read(tmp_path)
    focal = 160 / (2 * np.tan(np.radians(30)))
    np.testing.assert_allclose(record.intrinsics[0], [focal, 0, 79.5], rtol=1e-6)
    np.testing.assert_array_equal(record.people[0].box, [10, 20, 60, 80])
    assert not record.people[0].validity3d.any()
    lines = (tmp_path / "annotations.jsonl").read_text().replace('"points3d_m": {}, ', "")
    (tmp_path / "annotations.jsonl").write_text(lines)
    assert read(tmp_path)[0].kind == "kp2d"


def test_prepared_and_read_by_the_pipeline(tmp_path):
    custom_folder.write_folder(tmp_path / "source", n_images=2)
    info, tasks = custom.plan(str(tmp_path / "source"))
    out = str(tmp_path / "out")
    preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    config = pipeline.PipelineConfig(proc_side=32)
    skeleton = skeletons.load(tmp_path / "source" / "skeleton.json")
    dataset = pipeline.make_eval_dataset(out, "kp3d", config, skeleton=skeleton, batch_size=4)
    (batch,) = dataset
    assert batch["kp3d"]["window"].shape[0] == 2


def test_people_may_be_absent(tmp_path):
    custom_folder.write_folder(tmp_path, changes={"people": None})
    assert read(tmp_path)[1][0].people == []


def test_unreadable_images_are_skipped(tmp_path):
    custom_folder.write_folder(tmp_path, image=b"\x89PNG\r\n\x1a\n123")
    (item,) = read(tmp_path)[1]
    assert item == records.SkippedImage("images/a.png", item.reason)
    assert "truncated" in item.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "../a.png"}, "line 1: .*leaves the source folder"),
        ({"image": 7}, 'line 1 must be an object with "image"'),
        ({"intrinsic": 1}, "unknown key 'intrinsic'; known are image, intrinsics"),
        ({"intrinsics": [[-200, 0, 1], [0, 200, 1], [0, 0, 1]]}, "focal lengths -200.*positive"),
        ({"intrinsics": [[200, 0, float("nan")], [0, 1, 1], [0, 0, 1]]}, "intrinsics.*finite"),
        ({"intrinsics": [[200, 0, 1], [0, 200, 1], [0, 1, 1]]}, "must have the form"),
        ({"intrinsics": [200, 200, 1, 1]}, "intrinsics = .*3 x 3 finite numbers"),
        ({"intrinsics": None}, "either intrinsics .* or fov_degrees"),
        ({"intrinsics": None, "fov_degrees": 0.9}, "fov_degrees = 0.9 must be between"),
        ({"distortion": [0.1] * 14}, "distortion has 14 numbers"),
        ({"frame": "world"}, "needs extrinsics"),
        ({"frame": "up"}, "frame = 'up'"),
        ({"extrinsics": (2 * np.eye(4)).tolist()}, "extrinsics .* must be a rotation"),
        ({"people": {}}, "people must be a list"),
        ({"people": [[]]}, r"people\[0\] must be an object"),
    ],
)
def test_wrong_lines_are_refused(tmp_path, changes, words):
    refuse(tmp_path, words, changes=changes)


def scaled(factor):
    points = custom_folder.PERSON["points3d_m"]
    return {k: v and [factor * x for x in v] for k, v in points.items()}


@pytest.mark.parametrize(
    ("person", "words"),
    [
        ({"points3d_m": scaled(1000)}, r"line 1: people\[0\].points3d_m: the bone .*by 1000"),
        ({"points3d_m": {"nek": [0, 0, 1]}}, "points3d_m: joint name 'nek'.*neck"),
        ({"points3d_m": {"neck": [0, 0]}}, "points3d_m.neck = .*3 finite numbers"),
        ({"points3d_m": {"neck": [0, 0, -4]}}, "depth of -4 m.*extrinsics"),
        ({"points3d_m": [[0, 0, 1]]}, "joint name to coordinates"),
        ({"points3d_m": {}, "points2d_px": {}}, "has no point"),
        ({"points2d_px": {"neck": [3000, 60]}}, "projects .* px away from points2d_px"),
        ({"box_px": [170, 0, 20, 20]}, "box_px = .* outside the image of 160 x 120"),
        ({"box_px": [10, 0, 0, 20]}, "has no area"),
        ({"joints": {}}, r"people\[0\]: unknown key 'joints'"),
    ],
)
def test_wrong_people_are_refused(tmp_path, person, words):
    refuse(tmp_path, words, person=person)


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="skeleton.json"):
        custom.plan(str(tmp_path))
    custom_folder.write_folder(tmp_path)
    with pytest.raises(ValueError, match="absent.jsonl cannot be read.*own_data.md"):
        custom.plan(str(tmp_path), annotations="absent.jsonl")
    (tmp_path / "annotations.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="has no line"):
        custom.plan(str(tmp_path))
    (tmp_path / "annotations.jsonl").write_text(json.dumps(custom_folder.LINE) + ",\n")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        read(tmp_path)


def test_lines_that_are_too_deep_or_too_long(tmp_path, monkeypatch):
    custom_folder.write_folder(tmp_path)
    path = tmp_path / "annotations.jsonl"
    honest = path.read_text()
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(ValueError, match="line 1 is not JSON .*nested more than 50 deep"):
        read(tmp_path)
    path.write_text(honest.splitlines()[0] + "\n" + " " * 9000 + "\n")
    monkeypatch.setattr(custom, "MAX_LINE_BYTES", 8000)
    with pytest.raises(ValueError, match="line 2 has more than 8000 bytes"):
        read(tmp_path)
