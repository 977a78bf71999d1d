import collections
import glob
import json
import os

import cv2
import numpy as np
import pytest

from metrabs_like import skeletons
from metrabs_like.data import coco_json, masks, pipeline, preparation, records, whole_images
from metrabs_like.data.readers import coco, coco_annotations, coco_selection
from metrabs_like.metrics import coco_content
from tests.native import coco as native
from tests.native import scene

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


def read_all(folder, **options):
    info, tasks = coco.plan(str(folder), **options)
    items = [item for task in tasks for item in task(0)]
    return info, {getattr(i, "image_id", None) or i.name: i for i in items}


def change(folder, edit):
    """Rewrites the only annotation file of a folder."""
    (path,) = (folder / "annotations").iterdir()
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("pictures", ["val2017", "train2014"])
@pytest.mark.parametrize("rle", [True, False])
def test_a_native_folder_is_read_as_it_was_written(tmp_path, pictures, rle):
    made = scene.people(2, 5, n_people=2, image_side=256)
    content = native.write(tmp_path, made, pictures=pictures, rle=rle)
    info, items = read_all(tmp_path)
    assert info.name == f"coco_{pictures}" and info.dropped == {}
    assert info.expected == 0  # the log's count is that of another selection
    expected = coco.plan(str(tmp_path), selection="posepile")[0].expected
    assert expected == (38592 if pictures == "train2014" else 0)
    assert len(items) == 2
    for image, record in zip(content["images"], made, strict=True):
        read = items[f"{pictures}/{image['file_name']}"]
        assert read.image_bytes == record.image_bytes
        assert len(read.people) == len(record.people)
        rows = [r for r in content["annotations"] if r["image_id"] == image["id"]]
        for person, row, truth in zip(read.people, rows, record.people, strict=True):
            expected = np.reshape(row["keypoints"], (17, 3))
            np.testing.assert_array_equal(person.points2d, expected[:, :2])
            np.testing.assert_array_equal(person.validity2d, expected[:, 2] > 0)
            np.testing.assert_array_equal(person.box, row["bbox"])
            mask = masks.decode_mask(person.mask, person.mask_box, read.width, read.height) > 127
            true_mask = scene.whole_mask(record, truth) > 0
            if rle:
                np.testing.assert_array_equal(mask, true_mask)
            else:  # the polygon runs through the middle of the border's pixels
                shared, both = (mask & true_mask).sum(), (mask | true_mask).sum()
                assert shared / both > 0.85


@pytest.mark.parametrize("far", [float("nan"), 1e30, 1e7, -1e6, "x", [[1]], None, 10**400])
def test_a_segmentation_that_cannot_be_read_costs_the_mask_alone(folder, tmp_path, far):
    change(folder, lambda c: c["annotations"][0].update(segmentation=[[5, 5, 30, 5, 30, 30]]))
    change(folder, lambda c: c["annotations"][1].update(segmentation=[[5, 5, 30, 5, far, 30]]))
    info, tasks = coco.plan(str(folder))
    out = str(tmp_path / "out")
    info = preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    assert (info.counts["n_people"], info.counts["n_people_mask"]) == (2, 1)


def test_dropped_people_are_counted_by_reason(folder):
    def edit(content):
        rows = content["annotations"]
        rows.append(annotation(99, 8))  # no such image
        rows.append({**annotation(1, 9), "category_id": 18})
        rows.append({**annotation(1, 10), "bbox": [1, float("nan"), 3, 4]})
        rows.append({"id": 11, "image_id": 1, "category_id": 1})
        content["images"].append(content["images"][0])

    change(folder, edit)
    info, items = read_all(folder)
    assert info.dropped == {
        "images: listed twice": 1,
        "images: without a usable person": 1,
        "people: bbox or keypoints are not finite": 1,
        "people: box smaller than 8 px": 1,
        "people: crowd regions": 1,
        "people: fewer than 4 labelled joints": 1,
        "people: of another category": 1,
        "people: their image is not listed": 1,
        "people: without bbox or 17 keypoints": 1,
    }
    assert len(items) == 3


def test_malformed_rows_are_dropped_and_counted(folder):
    good = annotation(1, 8)
    none = [{**good, "keypoints": bad} for bad in (5, "x" * 51, {"a": 1}, [[1]] * 51, ["1"] * 51)]
    none += [{**good, "bbox": bad} for bad in (None, [[1], [2], [3], [4]], [1, 2, 3, 10**400])]
    far = [{**good, "bbox": bad} for bad in ([0, 0, 1e30, 5], [-61, 0, 70, 30], [0, 0, 121, 20])]
    far += [{**good, "keypoints": [*good["keypoints"][:-3], bad, 0, 0]} for bad in (1e30, -1e9)]
    unlisted = ["text", 5, None, [], {}, {**good, "image_id": []}, {**good, "image_id": 1.5}]
    unlisted += [{**good, "image_id": i} for i in (10, 11, 12, 13)]

    def edit(content):
        content["annotations"] += [*none, *far, *unlisted]
        for i, change in enumerate(
            [{"file_name": "a\0.jpg"}, {"file_name": "\ud800.jpg"}, {"width": 0}, {"height": 10**9}]
        ):
            content["images"].append({**content["images"][0], "id": 10 + i, **change})

    before = collections.Counter(read_all(folder)[0].dropped)
    change(folder, edit)
    info, items = read_all(folder)
    assert collections.Counter(info.dropped) - before == {
        "images: no such file name or size can be": 4,
        "people: their image is not listed": len(unlisted),
        "people: without bbox or 17 keypoints": len(none),
        "people: bbox or keypoints far outside the picture": len(far),
    }
    assert len(items["val2017/000000000001.jpg"].people) == 2


def test_an_annotation_listed_twice_is_one_person(folder):
    def edit(content):
        rows = content["annotations"]
        unnumbered = annotation(1, 0, n_labelled=6)
        del unnumbered["id"]
        rows += [rows[0], {**rows[1], "bbox": [7, 6, 30, 20]}, rows[3]]  # the last is a crowd
        rows += [{**annotation(1, 20), "bbox": None}, annotation(1, 20)]  # the first is unusable
        rows += [annotation(3, 1), unnumbered, unnumbered, {**unnumbered, "id": []}]

    before = collections.Counter(read_all(folder)[0].dropped)
    change(folder, edit)
    info, items = read_all(folder)
    assert collections.Counter(info.dropped) - before == {
        "people: listed twice": 3,
        "people: without bbox or 17 keypoints": 1,
    }
    people = items["val2017/000000000001.jpg"].people
    assert [p.validity2d.sum() for p in people] == [10, 5, 10, 6, 6, 6]
    np.testing.assert_array_equal([p.box[0] for p in people], 5)
    assert len(items["val2017/000000000003.jpg"].people) == 1  # the same number, another picture


def test_people_may_reach_beyond_the_picture(folder):
    change(folder, lambda c: c["annotations"][0].update(bbox=[-60, -60, 180, 180]))
    _, items = read_all(folder)
    assert items["val2017/000000000001.jpg"].people[0].box.tolist() == [-60, -60, 180, 180]


def test_empty_pictures_are_kept_on_demand(folder):
    change(folder, lambda content: content["annotations"].pop(5))  # the box without area, image 3
    info, items = read_all(folder)
    assert "val2017/000000000003.jpg" not in items
    info, items = read_all(folder, with_empty=True)
    assert items["val2017/000000000003.jpg"].people == []
    assert "images: without a usable person" not in info.dropped
    # A picture whose only person is unusable is no background.
    change(folder, lambda content: content["annotations"].append(annotation(3, 6, iscrowd=1)))
    assert "val2017/000000000003.jpg" not in read_all(folder, with_empty=True)[1]


def test_a_detector_gets_everybody_crowds_areas_and_numbers(folder, tmp_path):
    def edit(content):
        rows = content["annotations"]
        rows[2]["keypoints"] = [0] * 51
        rows[1]["area"] = float("nan")
        rows.append(annotation(3, 8, iscrowd=1, bbox=(1, 2, 9, 8)))  # nothing but a crowd
        rows += [annotation(3, 9 + i, iscrowd=1) for i in range(3)]
        rows[-1]["bbox"], rows[-2]["bbox"], rows[-3]["bbox"] = None, [1, 2, 0, 5], [1e9, 0, 1, 1]

    change(folder, edit)
    info, items = read_all(folder, selection="detector", with_empty=True)
    assert info.source["selection"] == "detector"
    assert info.dropped == {
        "people: bbox or keypoints far outside the picture": 1,
        "people: box without area": 1,
        "people: crowd regions without a box": 2,
    }
    record = items["1"]
    assert [p.validity2d.sum() for p in record.people] == [10, 5, 0]
    assert [p.area for p in record.people] == [600, None, 600]
    np.testing.assert_array_equal(record.crowd_boxes, [[5, 6, 30, 20]])
    only_crowd = items["3"]
    assert only_crowd.people == []
    np.testing.assert_array_equal(only_crowd.crowd_boxes, [[1, 2, 9, 8]])
    assert sorted(items) == ["1", "3", "val2017/000000000002.jpg", "val2017/000000000004.jpg"]
    other = read_all(folder)[1]["val2017/000000000001.jpg"]
    assert len(other.crowd_boxes) == 0 and len(other.people) == 2
    # It survives writing, with the joints of people who have none.
    info, tasks = coco.plan(str(folder), selection="detector")
    out = str(tmp_path / "out")
    info = preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    assert (info.counts["n_images"], info.counts["n_people"]) == (2, 3)


def test_the_file_names_of_2014_are_found(folder):
    pictures = folder / "train2014"
    (folder / "val2017").rename(pictures)
    (folder / "annotations" / "person_keypoints_val2017.json").rename(
        folder / "annotations" / "person_keypoints_train2014.json"
    )
    for path in list(pictures.iterdir()):
        path.rename(pictures / f"COCO_train2014_{path.name}")
    _, items = read_all(folder)
    assert len(items["train2014/COCO_train2014_000000000001.jpg"].people) == 2


def test_a_limit_draws_pictures_and_a_larger_one_adds_to_them(tmp_path):
    native.write(tmp_path, scene.people(7, 5, image_side=64))
    all_info, all_items = read_all(tmp_path)
    drawn = []
    for n in (1, 3, 6):
        info, items = read_all(tmp_path, max_images=n, images_per_shard=2)
        assert len(items) == n and info.source["max_images"] == n
        assert info.dropped["images: more than max_images"] == len(all_items) - n
        drawn.append(set(items))
    assert drawn[0] < drawn[1] < drawn[2] < set(all_items)
    assert sorted(drawn[1]) != sorted(all_items)[:3]
    other = {frozenset(read_all(tmp_path, max_images=3, seed=s)[1]) for s in range(1, 6)}
    assert len(other) > 1
    # A limit that leaves nothing out is the same data set: a run without it may go on with it.
    info, _ = read_all(tmp_path, max_images=7)
    assert info.identity == all_info.identity and info.dropped == all_info.dropped
    with pytest.raises(ValueError, match="max_images = -1"):
        coco.plan(str(tmp_path), max_images=-1)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.pop("categories"), "categories"),
        (lambda c: c.pop("annotations"), "annotations"),
        (lambda c: c.update(images=5), "no COCO keypoint file"),
        (lambda c: c.update(categories=5), "no COCO keypoint file"),
        (lambda c: c["images"].append("text"), "lacks file_name"),
        (lambda c: c["images"][0].update(width=float("inf")), "lacks file_name"),
        (lambda c: c.update(categories=[{"id": 3, "name": "dog"}]), "one category 'person'"),
        (lambda c: c["categories"][0].update(keypoints=["paw"]), "COCO's 17"),
        (lambda c: c["images"][0].pop("width"), "lacks file_name, id, width or height"),
    ],
)
def test_broken_annotation_files_are_refused(folder, edit, message):
    change(folder, edit)
    with pytest.raises(ValueError, match=message):
        coco.plan(str(folder))


def test_pictures_outside_the_folder_are_refused(folder):
    change(folder, lambda c: c["images"][0].update(file_name="../../etc/passwd.jpg"))
    _, tasks = coco.plan(str(folder))
    with pytest.raises(ValueError, match="leaves the source folder"):
        list(tasks[0](0))


@pytest.mark.parametrize(
    "content", ["5", '"text"', "[]", '["images", "annotations", "categories"]']
)
def test_files_of_another_form_are_refused(folder, content):
    (path,) = (folder / "annotations").iterdir()
    path.write_text(content)
    with pytest.raises(ValueError, match="no COCO keypoint file"):
        coco.plan(str(folder))


def test_annotations_outside_the_folder_are_refused(folder):
    (path,) = (folder / "annotations").iterdir()
    path.rename(folder.parent / "outside.json")
    for name in (str(folder.parent / "outside.json"), "../../outside.json"):
        with pytest.raises(ValueError, match="leaves the source folder"):
            coco.plan(str(folder), annotations=name)
    path.symlink_to(folder.parent / "outside.json")
    with pytest.raises(ValueError, match="leaves the source folder"):
        coco.plan(str(folder))
    path.unlink()
    (folder / "annotations").rename(folder.parent / "elsewhere")
    (folder / "annotations").symlink_to(folder.parent / "elsewhere")
    (folder.parent / "outside.json").rename(folder.parent / "elsewhere" / path.name)
    with pytest.raises(ValueError, match="leaves the source folder"):
        coco.plan(str(folder))


def test_an_unknown_selection_is_refused(folder):
    with pytest.raises(ValueError, match="selection = 'some'"):
        coco.plan(str(folder), selection="some")


@pytest.mark.skipif(not os.path.isdir(REAL), reason="needs ../shared/data/coco")
def test_real_pictures_for_a_detector_suit_the_official_files(tmp_path):
    """Our ground truth of the records, and COCO's own file, give detections the same numbers."""
    info, tasks = coco.plan(REAL, selection="detector", with_empty=True)
    info = preparation.write_dataset(tasks, str(tmp_path), info, n_processes=1, progress=False)
    assert info.counts["n_images"] == 50 and info.counts["n_people"] == 96
    config = whole_images.WholeImageConfig(proc_side=64)
    batches = whole_images.make_eval_dataset(
        str(tmp_path), "kp2d", config, skeleton=skeletons.COCO_17, batch_size=16
    )
    images = [i for batch in batches for i in coco_content.images_of_batch(batch["kp2d"])]
    assert sum(len(image["crowd_boxes"]) for image in images) == 3
    rng = np.random.default_rng(0)
    detections = {}
    for image in images:
        n = len(image["boxes"])
        detections[image["image_id"]] = {
            "boxes": image["boxes"] + rng.normal(0, 6, (n, 4)),
            "scores": rng.uniform(size=n),
            "joints2d": image["joints2d"] + rng.normal(0, 3, (n, 17, 2)),
            "joint_scores": np.ones((n, 17)),
        }
    truth = str(tmp_path / "truth.json")
    coco_json.save_ground_truth(truth, images, skeletons.COCO_17)
    coco_json.save_results(str(tmp_path / "results.json"), detections)
    (own,) = glob.glob(os.path.join(REAL, "annotations", "*.json"))
    for kind in ("bbox", "keypoints"):
        ours, theirs = (
            coco_json.evaluate_files(path, str(tmp_path / "results.json"), kind)
            for path in (truth, own)
        )
        assert ours["ap"] == pytest.approx(theirs["ap"], abs=1e-3) and 0.1 < ours["ap"] < 0.95


def coco_person(visibility, *, low=(0, 0), high=(200, 100)):
    """A person whose joints lie on a diagonal between two corners, as far as labelled."""
    keypoints = np.zeros((17, 3), np.float32)
    labelled = np.flatnonzero(visibility)
    share = np.linspace(0, 1, len(labelled))[:, np.newaxis]
    keypoints[labelled, :2] = np.asarray(low) * (1 - share) + np.asarray(high) * share
    keypoints[:, 2] = visibility
    return coco_annotations.CocoPerson(np.array([0, 0, 9, 9], np.float32), keypoints)


def limbs_first(n_visible, n_hidden):
    """v of the joints: first the last ones (limbs), `n_visible` of them visible."""
    return np.array([2] * n_visible + [1] * n_hidden + [0] * (17 - n_visible - n_hidden))[::-1]


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (coco_person(limbs_first(6, 3)), None),
        (coco_person(limbs_first(5, 4)), "too few joints visible or labelled"),
        (coco_person(limbs_first(6, 2)), "too few joints visible or labelled"),
        # 1.25 * 160 = 200 px along the longer side.
        (coco_person(limbs_first(9, 0), high=(20, 160)), None),
        (coco_person(limbs_first(9, 0), high=(159, 20)), "box smaller than 200 px"),
        # Nose, eyes, ears, shoulders, elbows, wrists: four limb joints.
        (coco_person(limbs_first(11, 0)[::-1]), "fewer than 7 limb joints labelled"),
        (coco_person(limbs_first(14, 0)[::-1]), None),
    ],
)
def test_the_rules_of_posepile_for_one_person(person, reason):
    dropped = collections.Counter()
    kept = coco_selection.posepile_people([person], dropped)
    assert (kept == [person]) if reason is None else not kept
    assert dict(+dropped) == ({} if reason is None else {f"people: {reason}": 1})


def test_the_box_of_posepile_is_that_of_the_joints():
    person = coco_person(limbs_first(9, 0), low=(100, 50), high=(300, 130))
    (kept,) = coco_selection.posepile_people([person], collections.Counter())
    np.testing.assert_allclose(kept.box, [75, 40, 250, 100])


def test_posepile_wants_people_apart():
    seen = limbs_first(17, 0)
    one, near = coco_person(seen), coco_person(seen, low=(150, 0), high=(350, 100))
    # Boxes 250 x 125 at x = -25 and 125: they share 100 px, 100/400 of their union.
    dropped = collections.Counter()
    assert not coco_selection.posepile_people([one, near], dropped)
    assert dropped["people: overlapping others"] == 2
    far = coco_person(seen, low=(210, 0), high=(410, 100))  # 40/460 < 0.1
    assert len(coco_selection.posepile_people([one, far], collections.Counter())) == 2
    apart = coco_person(seen, low=(180, 0), high=(380, 100))  # 70/430: 0.16
    assert not coco_selection.posepile_people([one, apart], collections.Counter())
    # Somebody who is not well visible does not count as a neighbour.
    hidden = coco_person(limbs_first(2, 9))
    assert coco_selection.posepile_people([one, hidden], collections.Counter()) == [one]


def test_the_selection_is_applied_by_the_reader(tmp_path):
    made = scene.people(3, 5, image_side=320)
    native.write(tmp_path, made)
    info, items = read_all(tmp_path, selection="posepile")
    kept = [p for item in items.values() for p in item.people]
    assert kept and info.source["selection"] == "posepile"
    for person in kept:
        joints = person.points2d[person.validity2d]
        np.testing.assert_allclose(person.box[2:], 1.25 * np.ptp(joints, axis=0), rtol=1e-5)
    n_dropped = sum(n for reason, n in info.dropped.items() if reason.startswith("people"))
    assert len(kept) + n_dropped == 3


@pytest.mark.skipif(not os.path.isdir(REAL), reason="needs ../shared/data/coco")
def test_real_pictures(tmp_path):
    info, tasks = coco.plan(REAL, images_per_shard=20)
    people = [p for task in tasks for record in task(0) for p in record.people]
    off = np.array([p.mask_box - p.box + [0.5, 0.5, 0, 0] for p in people])
    # The masks fill the annotated boxes, but for a few that annotators drew apart.
    assert np.median(np.abs(off).max(axis=-1)) < 1 and np.mean(np.abs(off) < 2) > 0.95
    info = preparation.write_dataset(tasks, str(tmp_path), info, n_processes=1, progress=False)
    assert info.counts["n_images"] == 24 and info.counts["n_skipped"] == 0
    assert info.counts["n_people_2d"] == info.counts["n_people"] == 52
    assert info.dropped["people: crowd regions"] == 3
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
