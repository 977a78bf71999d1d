import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metrabs_like.metrics import coco_ap
from metrabs_like.metrics.coco_content import ground_truth_content, results_content
from metrabs_like.skeletons import COCO_17, H36M_17, Skeleton
from tests.metrics import people

OFFICIAL = {  # places in COCOeval.stats
    "bbox": {"ap": 0, "ap50": 1, "ap75": 2, "ap_small": 3, "ap_medium": 4, "ap_large": 5, "ar": 8},
    "keypoints": {"ap": 0, "ap50": 1, "ap75": 2, "ap_medium": 3, "ap_large": 4, "ar": 5},
}
LINE = Skeleton("line", ("a", "b"), ((0, 1),))


def official(truth, results, kind, tmp_path, sigmas=None):
    """The numbers of the official tool, from files alone."""
    paths = [str(tmp_path / name) for name in ("truth.json", "results.json")]
    for path, content in zip(paths, (truth, results), strict=True):
        with open(path, "w") as file:
            json.dump(content, file)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(paths[0])
        evaluation = COCOeval(coco, coco.loadRes(paths[1]), kind)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(evaluation.stats < 0, np.nan, evaluation.stats)  # -1 is nobody to be found
    return {name: stats[place] for name, place in OFFICIAL[kind].items()}


@pytest.mark.parametrize("ids", [range(100, 106), ["b", "a", "c", "e", "d", "007"]])
@pytest.mark.parametrize("kind", coco_ap.KINDS)
def test_numbers_are_those_of_the_official_tool(rng, tmp_path, kind, ids):
    images, detections = people.make_set(rng, ids=ids)
    truth, results = ground_truth_content(images, COCO_17), results_content(detections)
    before = copy.deepcopy((truth, results))
    found = coco_ap.average_precision(truth, results, kind)
    assert (truth, results) == before
    expected = official(truth, results, kind, tmp_path)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)
    assert 0.1 < found["ap"] < 0.9 and found["ap50"] > found["ap75"]


def test_numbers_of_boxes_and_keypoints_together(rng, tmp_path):
    images, detections = people.make_set(rng)
    together = coco_ap.evaluate_people(images, detections, COCO_17)
    truth, results = ground_truth_content(images, COCO_17), results_content(detections)
    for kind, prefix in (("bbox", "box"), ("keypoints", "keypoint")):
        for name, value in coco_ap.average_precision(truth, results, kind).items():
            np.testing.assert_equal(together.pop(f"{prefix}_{name}"), value)
    assert not together


def one_person(**changes):
    image = {
        "image_id": 1,
        "image_size": (100, 100),
        "boxes": [[10, 10, 40, 40]],
        "joints2d": [[[20, 20], [40, 40]]],
        "joint_validity": [[True, True]],
        "areas": [1600],
    }
    return {**image, **changes}


def detection(boxes, joints, scores=(0.9,)):
    shape = np.shape(joints)[:2]
    return {
        1: {"boxes": boxes, "scores": scores, "joints2d": joints, "joint_scores": np.ones(shape)}
    }


def test_numbers_by_hand():
    # Overlap 40 x 30 / (40 x 40) = 0.75: found at 0.5, 0.55, ..., 0.75, 6 of 10 overlaps.
    # Both joints 8 px off: OKS exp(-64 / (2 * 1600 * (2 * 0.1)^2)) = exp(-0.5) = 0.607: 3 of 10.
    found = coco_ap.evaluate_people(
        [one_person()],
        detection([[10, 10, 40, 30]], [[[28, 20], [40, 32]]]),
        LINE,
        sigmas=[0.1, 0.1],
    )
    assert found["box_ap"] == pytest.approx(0.6) and found["box_ap75"] == pytest.approx(1)
    assert found["keypoint_ap"] == pytest.approx(0.3) and found["keypoint_ap75"] == 0
    assert found["box_recall50"] == found["keypoint_recall50"] == 1
    assert found["box_ar"] == pytest.approx(0.6)
    assert math.isnan(found["box_ap_small"]) and math.isnan(found["keypoint_ap_large"])


def test_joints_without_a_label_do_not_count():
    image = one_person(joint_validity=[[True, False]], joints2d=[[[20, 20], [np.nan, 5]]])
    found = coco_ap.evaluate_people(
        [image], detection([[10, 10, 40, 40]], [[[20, 20], [90, 90]]]), LINE, sigmas=[0.1, 0.1]
    )
    assert found["keypoint_ap"] == pytest.approx(1)


def test_a_false_detection_of_a_higher_score_halves_the_precision():
    boxes = [[10, 10, 40, 40], [60, 60, 30, 30]]
    for score, expected in ((0.95, 0.5), (0.1, 1.0)):
        found = coco_ap.evaluate_people(
            [one_person()],
            {1: {"boxes": boxes, "scores": [0.9, score]}},
            LINE,
        )
        assert found["box_ap50"] == pytest.approx(expected)
        assert "keypoint_ap" not in found


def test_detections_in_crowds_are_ignored():
    boxes = [[60, 60, 30, 30], [62, 60, 30, 30], [10, 10, 40, 40]]
    detections = {1: {"boxes": boxes, "scores": [0.9, 0.8, 0.7]}}
    crowded = one_person(crowd_boxes=[[50, 50, 50, 50]])
    assert coco_ap.evaluate_people([crowded], detections, LINE)["box_ap50"] == pytest.approx(1)
    counted = coco_ap.evaluate_people([one_person()], detections, LINE)
    assert counted["box_ap50"] == pytest.approx(1 / 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("detections", [{}, {1: {"boxes": [], "scores": []}}])
def test_no_detections_are_an_ap_of_0(detections):
    found = coco_ap.evaluate_people([one_person()], detections, LINE, sigmas=[0.1, 0.1])
    assert found["box_ap"] == found["box_recall50"] == found["keypoint_ap"] == 0


def test_nobody_to_find_is_nan_with_a_word():
    nobody = one_person(boxes=[], joints2d=np.zeros((0, 2, 2)), joint_validity=[], areas=[])
    found_box = detection([[10, 10, 40, 30]], [[[28, 20], [40, 32]]])
    for detections in (found_box, {}):
        with pytest.warns(UserWarning, match="no person .*is annotated in 1 images"):
            found = coco_ap.evaluate_people([nobody], detections, LINE, sigmas=[0.1, 0.1])
        assert all(math.isnan(value) for value in found.values())
    with pytest.warns(UserWarning, match="no person .*is annotated in 0 images"):
        assert math.isnan(coco_ap.evaluate_people([], {}, COCO_17)["box_ap"])


def test_keypoints_all_unlabelled_are_nan_with_a_word_and_boxes_count():
    image = one_person(joint_validity=[[False, False]])
    with pytest.warns(UserWarning, match="no person with a labelled joint .*1 annotations"):
        found = coco_ap.evaluate_people(
            [image], detection([[10, 10, 40, 40]], [[[20, 20], [40, 40]]]), LINE, sigmas=[0.1] * 2
        )
    assert math.isnan(found["keypoint_ap"]) and found["box_ap"] == pytest.approx(1)


@pytest.mark.parametrize("kind", coco_ap.KINDS)
def test_an_annotation_with_id_0_counts(rng, kind):
    """The official tool takes its matches for none."""
    images, detections = people.make_set(rng)
    truth, results = ground_truth_content(images, COCO_17), results_content(detections)
    expected = coco_ap.average_precision(truth, results, kind)
    for row in truth["annotations"]:
        row["id"] -= 1
    np.testing.assert_equal(coco_ap.average_precision(truth, results, kind), expected)


def test_other_categories_have_no_influence(rng):
    images, detections = people.make_set(rng)
    truth, results = ground_truth_content(images, COCO_17), results_content(detections)
    expected = coco_ap.average_precision(truth, results, "keypoints")
    truth["categories"].insert(0, {"id": 18, "name": "dog"})
    truth["annotations"].append({"id": 999, "image_id": 100, "category_id": 18})
    results.append({"image_id": 100, "category_id": 18, "score": 1.0, "bbox": [0, 0, 9, 9]})
    found = coco_ap.average_precision(truth, results, "keypoints")
    np.testing.assert_equal(found, expected)


def test_keypoint_results_without_boxes_are_those_of_the_official_tool(rng, tmp_path):
    images, detections = people.make_set(rng)
    truth, results = ground_truth_content(images, COCO_17), results_content(detections)
    for row in results:
        del row["bbox"]
    found = coco_ap.average_precision(truth, results, "keypoints")
    for name, value in official(truth, results, "keypoints", tmp_path).items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)


def test_other_joint_sets_need_sigmas(rng, tmp_path):
    images, detections = people.make_set(rng, skeleton=H36M_17)
    with pytest.raises(ValueError, match="sigmas is missing: COCO defines them for its 17 joints"):
        coco_ap.evaluate_people(images, detections, H36M_17)
    with pytest.raises(ValueError, match="pass 17 positive numbers"):
        coco_ap.evaluate_people(images, detections, H36M_17, sigmas=[0.1] * 16 + [0])
    sigmas = rng.uniform(0.03, 0.1, 17)
    found = coco_ap.evaluate_people(images, detections, H36M_17, sigmas=sigmas)
    truth, results = ground_truth_content(images, H36M_17), results_content(detections)
    expected = official(truth, results, "keypoints", tmp_path, sigmas)
    assert found["keypoint_ap"] == pytest.approx(expected["ap"], abs=1e-12)


def test_sigmas_are_the_official_ones():
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(coco_ap.COCO_SIGMAS, Params("keypoints").kpt_oks_sigmas)


def test_wrong_calls_are_named(rng):
    images, detections = people.make_set(rng)
    truth = ground_truth_content(images, COCO_17)
    with pytest.raises(ValueError, match="kind = 'segm'"):
        coco_ap.average_precision(truth, [], "segm")
    del truth["categories"][0]["keypoints"]
    with pytest.raises(ValueError, match="'person' has no list of keypoints"):
        coco_ap.average_precision(truth, [], "keypoints")
    with pytest.raises(ValueError, match="2 images that do not exist: 100, 101; there are 4"):
        coco_ap.evaluate_people(images[2:], detections, COCO_17)


def test_the_tool_prints_nothing(rng, capsys):
    images, detections = people.make_set(rng)
    coco_ap.evaluate_people(images, detections, COCO_17)
    assert capsys.readouterr().out == ""
