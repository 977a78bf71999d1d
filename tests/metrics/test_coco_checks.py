import copy

import numpy as np
import pytest

from metrabs_like.metrics import coco_ap
from metrabs_like.metrics.coco_content import ground_truth_content, results_content
from metrabs_like.skeletons import COCO_17
from tests.metrics import people


@pytest.fixture
def contents(rng):
    images, detections = people.make_set(rng)
    return ground_truth_content(images, COCO_17), results_content(detections)


def evaluate(contents, kind="keypoints"):
    return coco_ap.average_precision(*contents, kind)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("categories"), "lacks the lists categories.*says -1"),
        (lambda t: t.update(categories=[]), "does not hold one category 'person'.*says -1"),
        (
            lambda t: t.update(categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]),
            "does not hold one category 'person'",
        ),
        (lambda t: t.pop("images"), "lacks the lists images"),
        (lambda t: t.update(annotations=None), "lacks the lists annotations"),
        (lambda t: t["images"].append(t["images"][0]), "images: the id 100 comes twice"),
        (lambda t: t["images"].append({}), r"images\[6\] lacks id"),
        (lambda t: t["annotations"][1].update(id=1), r"annotations\[1\]: its id 1 comes twice"),
        (lambda t: t["annotations"][1].pop("id"), r"annotations\[1\] lacks id"),
        (lambda t: t["annotations"].append(5), r"annotations\[\d+\] lacks image_id"),
        (
            lambda t: t["annotations"][2].update(image_id=7),
            r"annotations\[2\]: image_id = 7 is not among the 6 images",
        ),
        (lambda t: t["annotations"][2].update(image_id=[7]), r"annotations\[2\] lacks image_id"),
        (lambda t: t["annotations"][2].update(category_id=3), "category_id = 3 is not among"),
        (
            lambda t: t["annotations"][0].update(bbox=[1, float("nan"), 3, 4]),
            r"annotations\[0\]: bbox = \[1, nan, 3, 4\] must be 4 finite numbers",
        ),
        (lambda t: t["annotations"][0].pop("area"), r"annotations\[0\]: area = None"),
        (lambda t: t["annotations"][0].update(keypoints=[1, 2, 2]), "must be 51 finite numbers"),
    ],
)
def test_broken_ground_truth_is_named(contents, edit, message):
    edit(contents[0])
    with pytest.raises(ValueError, match=message):
        evaluate(contents)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda r: r[3].update(image_id="100"),
            r"results\[3\]: image_id = '100' is not among.*texts in one and numbers in the other",
        ),
        (lambda r: r[3].update(bbox=[1, 2, float("inf"), 4]), r"results\[3\]: bbox = .*4 finite"),
        (lambda r: r[3].update(score=float("nan")), r"results\[3\]: score = nan must be 1 finite"),
        (lambda r: r[3].update(score="0.5"), r"results\[3\]: score = 0.5 must be 1 finite number"),
        (lambda r: r[3].update(keypoints=None), r"results\[3\]: keypoints = None"),
        (lambda r: r[3].update(category_id=9), "category_id = 9 is not among the categories"),
        (lambda r: r[3].pop("image_id"), r"results\[3\] lacks image_id"),
        (lambda r: r.insert(0, "text"), r"results\[0\] lacks image_id"),
    ],
)
def test_broken_results_are_named(contents, edit, message):
    edit(contents[1])
    with pytest.raises(ValueError, match=message):
        evaluate(contents)


def test_results_must_be_a_list(contents):
    with pytest.raises(ValueError, match="results are no list of detections but a dict"):
        coco_ap.average_precision(contents[0], {"results": contents[1]}, "bbox")


def test_boxes_need_no_keypoints(contents):
    expected = evaluate(contents, "bbox")
    for row in contents[0]["annotations"] + contents[1]:
        del row["keypoints"]
    np.testing.assert_equal(evaluate(contents, "bbox"), expected)


def test_fields_that_may_be_absent(contents):
    """Numbers of keypoints are counted anew, and who is not said to be a crowd is none."""
    expected = evaluate(contents)
    changed = copy.deepcopy(contents)
    for row in changed[0]["annotations"]:
        del row["num_keypoints"]
        if not row["iscrowd"]:
            del row["iscrowd"]
    np.testing.assert_equal(evaluate(changed), expected)


def test_a_single_category_of_another_name_is_taken(contents):
    expected = evaluate(contents, "bbox")
    contents[0]["categories"][0]["name"] = "human"
    np.testing.assert_equal(evaluate(contents, "bbox"), expected)


def test_ids_of_texts_and_numbers_mix(contents):
    expected = evaluate(contents)
    for row in [*contents[0]["annotations"], *contents[1]]:
        row["image_id"] = "x" if row["image_id"] == 105 else row["image_id"]
    contents[0]["images"][5]["id"] = "x"
    np.testing.assert_equal(evaluate(contents), expected)
