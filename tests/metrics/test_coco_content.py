import numpy as np
import pytest

from metrabs_like.metrics import coco_content
from metrabs_like.skeletons import COCO_17, Skeleton

LINE = Skeleton("line", ("a", "b"), ((0, 1),))


def image(**changes):
    fields = {
        "image_id": "12",
        "image_size": (100, 80),
        "boxes": [[10, 20, 30, 40], [1, 2, 3, 4]],
        "joints2d": [[[1, 2], [np.nan, 4]], [[5, 6], [7, 8]]],
        "joint_validity": [[True, False], [True, True]],
    }
    return {**fields, **changes}


def found(n=1, **changes):
    fields = {
        "boxes": np.full((n, 4), 1.234567),
        "scores": np.full(n, 0.567),
        "joints2d": np.full((n, 2, 2), 7.891),
        "joint_scores": np.tile([[0.1, 0.11]], [n, 1]),
    }
    return {**fields, **changes}


def test_annotations_are_in_the_official_form():
    content = coco_content.ground_truth_content([image(areas=[0, 77.0])], LINE)
    assert content["images"] == [{"id": 12, "file_name": "12", "height": 100, "width": 80}]
    first, second = content["annotations"]
    assert (first["id"], second["id"]) == (1, 2) and first["image_id"] == 12
    assert first["bbox"] == [10, 20, 30, 40]
    assert first["area"] == pytest.approx(0.53 * 1200) and second["area"] == 77
    assert first["keypoints"] == [1, 2, 2, 0, 0, 0] and first["num_keypoints"] == 1
    assert first["iscrowd"] == 0
    (person,) = content["categories"]
    assert person["name"] == "person" and person["keypoints"] == ["a", "b"]
    assert person["skeleton"] == [[1, 2]]


def test_crowds_are_annotations_without_joints():
    rows = coco_content.ground_truth_content([image(crowd_boxes=[[5, 6, 7, 8]])], LINE)
    crowd = rows["annotations"][2]
    assert (crowd["iscrowd"], crowd["num_keypoints"], crowd["area"]) == (1, 0, 56)
    assert crowd["bbox"] == [5, 6, 7, 8] and crowd["keypoints"] == [0] * 6


def test_the_joints_of_coco_have_their_official_names():
    nobody = image(boxes=[], joints2d=np.zeros((0, 17, 2)), joint_validity=[])
    content = coco_content.ground_truth_content([nobody], COCO_17)
    assert content["categories"][0]["keypoints"][:2] == ["nose", "left_eye"]
    assert content["annotations"] == []


def test_results_have_two_decimals_and_flags_of_shown_joints():
    (row,) = coco_content.results_content({b"0012": found()})
    assert row == {
        "image_id": 12,
        "category_id": 1,
        "bbox": [1.23] * 4,
        "score": 0.57,
        "keypoints": [7.89, 7.89, 0, 7.89, 7.89, 1],
    }
    boxes = {name: found()[name] for name in ("boxes", "scores")}
    (row,) = coco_content.results_content({"a": boxes})
    assert sorted(row) == ["bbox", "category_id", "image_id", "score"] and row["image_id"] == "a"


def test_nothing_is_found_in_some_images():
    empty = {"boxes": [], "scores": [], "joints2d": np.zeros((0, 2, 2)), "joint_scores": []}
    rows = coco_content.results_content({1: empty, 2: found(), 3: {"boxes": [], "scores": []}})
    assert [row["image_id"] for row in rows] == [2]
    assert coco_content.results_content({}) == []
    assert coco_content.results_content({4: found(0)}) == []


def test_ids_are_integers_if_all_are_digits():
    assert coco_content.json_ids(["007", b"12", 3]) == [7, 12, 3]
    assert coco_content.json_ids(["007", b"1-2"]) == ["007", "1-2"]
    assert coco_content.json_ids(["²", "3"]) == ["²", "3"]
    assert coco_content.json_ids([]) == []


@pytest.mark.parametrize("ids", [["1", "2", "01"], ["a", "b", b"a"]])
def test_ids_that_come_twice_are_named(ids):
    with pytest.raises(ValueError, match="image id (1|'a') comes twice"):
        coco_content.ground_truth_content([image(image_id=i) for i in ids], LINE)
    with pytest.raises(ValueError, match="image id (1|'a') comes twice"):
        coco_content.results_content({i: found() for i in ids})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[1, 2, 3, 4], [1, np.nan, 3, 4]]}, r"image 12: boxes\[1\] = \[1.0, nan"),
        ({"boxes": [[1, 2, 3]]}, r"boxes has shape \(1, 3\)"),
        ({"joints2d": np.full((2, 2, 2), np.inf)}, r"joints2d\[0\].*not finite"),
        ({"crowd_boxes": [[1, 2, 3, np.nan]]}, r"crowd_boxes\[0\]"),
    ],
)
def test_broken_people_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        coco_content.ground_truth_content([image(**changes)], LINE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [[1, np.nan, 3, 4]]}, r"image 5: boxes\[0\] = .*is not finite"),
        ({"scores": [np.nan]}, r"scores\[0\]"),
        ({"joints2d": np.full((1, 2, 2), np.nan)}, r"joints2d\[0\]"),
        ({"scores": [0.5, 0.6]}, "numbers of detections differ|joint_scores has shape"),
        ({"joints2d": np.zeros((1, 3, 2))}, r"joints2d has shape \(1, 3, 2\)"),
    ],
)
def test_broken_detections_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        coco_content.results_content({5: found(**changes)})


def test_batches_are_split_into_images():
    batch = {
        "image_id": np.array([b"a", b"b"]),
        "image_size": np.array([[10, 20], [30, 40]]),
        "boxes": np.arange(16.0).reshape(2, 2, 4),
        "joints2d": np.arange(16.0).reshape(2, 2, 2, 2),
        "joint_validity": np.ones((2, 2, 2), bool),
        "person_validity": np.array([[True, False], [False, False]]),
        "areas": np.array([[5.0, 0], [0, 0]]),
        "crowd_boxes": np.arange(8.0).reshape(2, 1, 4),
        "crowd_validity": np.array([[False], [True]]),
        "window": None,
    }
    first, second = coco_content.images_of_batch(batch)
    np.testing.assert_array_equal(first["boxes"], [[0, 1, 2, 3]])
    assert first["crowd_boxes"].shape == (0, 4) and second["boxes"].shape == (0, 4)
    content = coco_content.ground_truth_content([first, second], LINE)
    assert [row["image_id"] for row in content["annotations"]] == ["a", "b"]
    assert [row["iscrowd"] for row in content["annotations"]] == [0, 1]
    assert content["annotations"][0]["area"] == 5
    decoded = {"boxes": np.zeros((2, 3, 4)), "scores": np.ones((2, 3)), "mask_logits": None}
    split = coco_content.detections_of_batch(batch["image_id"], decoded)
    assert list(split) == ["a", "b"] and split["b"]["boxes"].shape == (3, 4)
    assert [row["image_id"] for row in coco_content.results_content(split)] == ["a"] * 3 + ["b"] * 3
