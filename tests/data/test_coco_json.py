import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metrabs_like.data import coco_json
from metrabs_like.metrics import coco_ap
from metrabs_like.skeletons import COCO_17
from tests.metrics import people


@pytest.fixture
def files(rng, tmp_path):
    """`(images, detections, paths)` of a set of numbered images."""
    images, detections = people.make_set(rng, ids=[f"{n:012d}" for n in range(1, 7)])
    paths = str(tmp_path / "truth.json"), str(tmp_path / "results.json")
    coco_json.save_ground_truth(paths[0], images, COCO_17)
    coco_json.save_results(paths[1], detections)
    return images, detections, paths


def official(paths, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(paths[0])
        evaluation = COCOeval(coco, coco.loadRes(paths[1]), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def test_the_official_tool_reads_the_files(files):
    """Its numbers are those of the memory and those of our reading."""
    images, detections, paths = files
    memory = coco_ap.evaluate_people(images, detections, COCO_17)
    for kind, prefix in (("bbox", "box"), ("keypoints", "keypoint")):
        stats = official(paths, kind)
        read = coco_json.evaluate_files(*paths, kind)
        assert 0 < stats[0] < 1
        for name, place in (("ap", 0), ("ap50", 1), ("ap75", 2)):
            assert memory[f"{prefix}_{name}"] == pytest.approx(stats[place], abs=1e-12)
            assert read[name] == pytest.approx(stats[place], abs=1e-12)


def test_results_are_rounded_and_numbered(files):
    with open(files[2][1]) as file:
        rows = json.load(file)
    assert {row["image_id"] for row in rows} == set(range(1, 7))
    for row in rows:
        numbers = [*row["bbox"], row["score"], *row["keypoints"]]
        np.testing.assert_allclose(numbers, np.round(numbers, 2), atol=1e-12)
        assert set(row["keypoints"][2::3]) <= {0, 1}


def test_no_temporary_file_stays(files, tmp_path):
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "truth.json"]


def test_broken_content_leaves_the_file_as_it_was(files):
    _, detections, paths = files
    with open(paths[1]) as file:
        before = file.read()
    next(iter(detections.values()))["boxes"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"boxes\[0\]"):
        coco_json.save_results(paths[1], detections)
    with open(paths[1]) as file:
        assert file.read() == before


def test_files_that_do_not_fit_are_named(files, tmp_path):
    truth, results = files[2]
    with pytest.raises(ValueError, match="absent.json does not exist"):
        coco_json.evaluate_files(truth, str(tmp_path / "absent.json"), "bbox")
    (tmp_path / "object.json").write_text("{}")
    with pytest.raises(ValueError, match=r"truth.json and .*object.json: .*no list of detections"):
        coco_json.evaluate_files(truth, str(tmp_path / "object.json"), "bbox")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json"):
        coco_json.evaluate_files(str(tmp_path / "broken.json"), results, "bbox")
    with open(truth) as file:
        content = json.load(file)
    del content["categories"]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="truth.json.*lacks the lists categories"):
        coco_json.evaluate_files(truth, results, "keypoints")
    (tmp_path / "truth.json").write_text(json.dumps({**content, "categories": [], "images": []}))
    with pytest.raises(ValueError, match="category 'person'"):
        coco_json.evaluate_files(truth, results, "keypoints")


def test_files_with_nan_are_named(files, tmp_path):
    truth, results = files[2]
    with open(results) as file:
        rows = json.load(file)
    rows[2]["bbox"][1] = float("nan")
    (tmp_path / "results.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"results\[2\]: bbox = .*nan.*must be 4 finite numbers"):
        coco_json.evaluate_files(truth, results, "bbox")


def test_places_that_cannot_be_written_are_named(files, tmp_path):
    images, detections, _ = files
    with pytest.raises(ValueError, match="absent/results.json cannot be written"):
        coco_json.save_results(str(tmp_path / "absent" / "results.json"), detections)
    with pytest.raises(ValueError, match="cannot be written"):
        coco_json.save_ground_truth(str(tmp_path), images, COCO_17)
