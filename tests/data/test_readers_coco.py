import json
import os

import cv2
import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.data import pipeline, preparation, records
from metrabs_like.data.readers import coco

REAL = os.path.join(os.path.dirname(__file__), "../../../shared/data/coco")


def annotation(image_id, number, *, n_labelled=10, iscrowd=0, bbox=(5, 6, 30, 20)):
    keypoints = np.zeros((17, 3), int)
    keypoints[:n_labelled] = [[10 + i, 12, 1 + i % 2] for i in range(n_labelled)]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": list(bbox),
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": n_labelled,
        "area": 600,
        "iscrowd": iscrowd,
    }


@pytest.fixture
def folder(tmp_path):
    """Four pictures: two people and a crowd; a truncated file; nobody; another size."""
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    content = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    images = []
    for i in range(1, 5):
        data = content[:-40] if i == 2 else content
        (tmp_path / "val2017" / f"{i:012d}.jpg").write_bytes(data)
        width = 61 if i == 4 else 60
        images.append({"id": i, "file_name": f"{i:012d}.jpg", "width": width, "height": 40})
    annotations = [
        annotation(1, 1),
        annotation(1, 2, n_labelled=5),
        annotation(1, 3, n_labelled=2),
        annotation(1, 4, iscrowd=1),
        annotation(2, 5),
        annotation(3, 6, bbox=(5, 6, 0, 20)),
        annotation(4, 7),
    ]
    categories = [{"id": 1, "name": "person"}]
    dataset = {"images": images, "annotations": annotations, "categories": categories}
    path = tmp_path / "annotations" / "person_keypoints_val2017.json"
    path.write_text(json.dumps(dataset))
    return tmp_path


def test_people_and_skipped_images(folder):
    info, tasks = coco.plan(str(folder))
    assert info.kind == "kp2d" and info.name == "coco_val2017"
    items = {getattr(i, "image_id", None) or i.name: i for i in tasks[0](0)}
    assert sorted(items) == [f"val2017/{i:012d}.jpg" for i in (1, 2, 4)]
    record = items["val2017/000000000001.jpg"]
    assert len(record.people) == 2
    person = record.people[0]
    np.testing.assert_array_equal(person.validity2d, np.arange(17) < 10)
    np.testing.assert_array_equal(person.points2d[3], [13, 12])
    np.testing.assert_array_equal(person.box, [5, 6, 30, 20])
    assert not person.validity3d.any()
    focal = 60 / (2 * np.tan(np.radians(55 / 2)))
    np.testing.assert_allclose(record.intrinsics[0], [focal, 0, 29.5], rtol=1e-6)
    assert "truncated" in items["val2017/000000000002.jpg"].reason
    assert "60 x 40 px, its annotation says 61 x 40" in items["val2017/000000000004.jpg"].reason


def test_wrong_folders_are_refused(folder):
    with pytest.raises(ValueError, match="0 annotation files match"):
        coco.plan(str(folder / "val2017"))
    with pytest.raises(ValueError, match="name one of its"):
        coco.plan(str(folder), annotations="absent.json")
    broken = folder / "annotations" / "person_keypoints_val2017.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match="no COCO keypoint file"):
        coco.plan(str(folder))


def test_people_supervise_the_coco_points_of_a_union_alone(folder, tmp_path):
    info, tasks = coco.plan(str(folder))
    out = str(tmp_path / "out")
    preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    union = skeletons.get("smpl_24+coco_17")
    batches = pipeline.make_eval_dataset(
        out, "kp2d", pipeline.PipelineConfig(proc_side=64), skeleton=union, batch_size=2
    )
    (batch,) = batches.as_numpy_iterator()
    validity, points = batch["kp2d"]["point_validity"], batch["kp2d"]["coords2d_true"]
    expected = [[index >= 24 and index - 24 < n for index in range(41)] for n in (10, 5)]
    np.testing.assert_array_equal(validity, expected)
    assert points[validity].all() and not points[~validity].any()


@pytest.mark.skipif(not os.path.isdir(REAL), reason="needs ../shared/data/coco")
def test_real_pictures(tmp_path):
    info, tasks = coco.plan(REAL, images_per_shard=20)
    info = preparation.write_dataset(tasks, str(tmp_path), info, n_processes=1, progress=False)
    assert info.counts["n_images"] == 24 and info.counts["n_skipped"] == 0
    assert info.counts["n_people_2d"] == info.counts["n_people"] == 52
    assert records.DatasetInfo.load(str(tmp_path)).skeleton["name"] == "coco_17"
    config = pipeline.PipelineConfig(proc_side=64)
    dataset = pipeline.make_eval_dataset(
        str(tmp_path), "kp2d", config, skeleton=skeletons.COCO_17, batch_size=26
    )
    for batch in dataset:
        points = batch["kp2d"]["coords2d_true"].numpy()[batch["kp2d"]["point_validity"]]
        # Annotated joints lie in their box, hence in the crop, but for annotators' slips.
        assert np.mean((points > -3) & (points < 67)) > 0.98
        assert np.ptp(batch["kp2d"]["window"].numpy()) > 200
