import json

import numpy as np
import pytest

from metrabs_like.data import masks, preparation
from metrabs_like.data.readers import densepose_coco
from metrabs_like.data.readers.densepose_charts import CHART_NAMES
from metrabs_like.data.synthetic.body_model import camera_points, procedural_body
from tests.native import charts, scene
from tests.native import coco as native_coco
from tests.native import densepose as native

UV_PROCESSED = "UV_data/UV_Processed.mat"


@pytest.fixture(scope="module")
def made():
    return scene.people(2, 21, image_side=256)


@pytest.fixture
def folder(tmp_path, made):
    """Two pictures with a person each; only the first has marked points, five of them."""
    native_coco.write(tmp_path, made, pictures="train2014", name="densepose_coco_2014_train.json")
    charts.write_uv_processed(tmp_path / UV_PROCESSED, *charts.toy_charts())
    change(tmp_path, bbox=[10.4, 19.6, 100.6, 150.4], **dense_fields())
    return tmp_path


def dense_fields(**changes):
    return {
        "dp_x": [0, 255, 51, 102, 10],
        "dp_y": [0, 255, 51, 204, 20],
        "dp_I": [1.0, 2.0, 24.0, 3.0, 3.0],
        "dp_U": [0.4, 0.4, 0.4, 0.0, 1.0],
        "dp_V": [0.1, 0.1, 0.1, 0.0, 1.0],
        "dp_masks": [[]] * 14,
        **changes,
    }


def change(folder, row=0, **fields):
    """Changes an annotation row; None removes a field."""
    (path,) = (folder / "annotations").iterdir()
    content = json.loads(path.read_text())
    content["annotations"][row] |= fields
    for name in [name for name, value in fields.items() if value is None]:
        del content["annotations"][row][name]
    path.write_text(json.dumps(content))


def read_all(folder, **options):
    info, tasks = densepose_coco.plan(str(folder), **options)
    return info, [record for task in tasks for record in task(0)]


def test_points_by_hand(folder):
    info, (record,) = read_all(folder)
    assert (info.name, info.kind, info.expected) == ("densepose_coco_train", "dense", 0)
    assert info.body_model == {"name": "smpl", "n_vertices": 6890}
    assert info.dropped == {"people: without DensePose": 1, "images: without a usable person": 1}
    (person,) = record.people
    # The rounded box is (10, 20, 101, 150); 255 is its far edge.
    expected = np.array([0, 255, 51, 102, 10]) * 101 / 255 + 10
    np.testing.assert_allclose(person.surface.points2d[:, 0], expected, rtol=1e-6)
    expected = np.array([0, 255, 51, 204, 20]) * 150 / 255 + 20
    np.testing.assert_allclose(person.surface.points2d[:, 1], expected, rtol=1e-6)
    # See test_readers_densepose_charts: of 16 vertices a part, 17, 21 and 22 in part 2.
    for point, part in enumerate((1, 2, 24)):
        ids, weights = person.surface.vertex_ids[point], person.surface.weights[point]
        found = dict(zip((ids - 16 * (part - 1)).tolist(), weights.tolist(), strict=True))
        assert found == {1: pytest.approx(0.7), 5: pytest.approx(0.1), 6: pytest.approx(0.2)}
    corners = person.surface.vertex_ids[[3, 4], person.surface.weights[3:].argmax(axis=-1)]
    np.testing.assert_array_equal(corners, [32, 47])


def test_keypoints_boxes_and_masks_are_those_of_coco(folder, made):
    _, (record,) = read_all(folder)
    (path,) = (folder / "annotations").iterdir()
    row = json.loads(path.read_text())["annotations"][0]
    (person,) = record.people
    keypoints = np.reshape(row["keypoints"], (17, 3))
    np.testing.assert_array_equal(person.points2d, keypoints[:, :2])
    np.testing.assert_array_equal(person.validity2d, keypoints[:, 2] > 0)
    np.testing.assert_allclose(person.box, [10.4, 19.6, 100.6, 150.4], rtol=1e-6)
    assert record.image_id == "train2014/COCO_train2014_000000000001.jpg"
    mask = masks.decode_mask(person.mask, person.mask_box, record.width, record.height) > 127
    true_mask = scene.whole_mask(made[0], made[0].people[0]) > 0
    assert (mask & true_mask).sum() / (mask | true_mask).sum() > 0.85


def test_unusable_points_are_dropped_and_counted(folder):
    fields = dense_fields(
        dp_I=[0, 25, 2.5, 3, 24],
        dp_U=[0.5, 0.5, 0.5, 1.2, 0.5],
        dp_V=[0.5, 0.5, 0.5, 0.5, 0.5],
    )
    change(folder, **fields)
    info, (record,) = read_all(folder)
    assert info.dropped["points: part outside 1..24"] == 3
    assert info.dropped["points: U or V outside 0..1"] == 1
    (person,) = record.people
    assert person.surface.points2d.shape == (1, 2)
    assert (person.surface.vertex_ids >= 23 * 16).all()
    change(folder, **dense_fields(dp_V=[float("nan"), -0.1, 0.5, 0.5, 0.5], dp_x=[1, 2, 300, 4, 5]))
    info, (record,) = read_all(folder)
    assert info.dropped["points: U or V outside 0..1"] == 2
    assert info.dropped["points: outside the box"] == 1
    assert len(record.people[0].surface.weights) == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dp_U": [0.5]}, "dp lists of unequal length"),
        ({"dp_x": ["a", 1, 2, 3, 4]}, "dp_x, dp_y, dp_I, dp_U or dp_V is no list of numbers"),
        ({"dp_y": [[1]] * 5}, "dp_x, dp_y, dp_I, dp_U or dp_V is no list of numbers"),
        ({"dp_U": [10**400] * 5}, "dp_x, dp_y, dp_I, dp_U or dp_V is no list of numbers"),
        ({"dp_x": [float("nan")] * 5}, "without a usable DensePose point"),
        ({"bbox": [10, 10, 1e30, 40]}, "bbox or keypoints far outside the picture"),
        ({"dp_V": None}, "dp_x, dp_y, dp_I, dp_U or dp_V is no list"),
        ({"dp_I": 7}, "dp_x, dp_y, dp_I, dp_U or dp_V is no list"),
        ({"dp_I": [0] * 5}, "without a usable DensePose point"),
        ({name: [] for name in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")}, "without a usable"),
        ({"dp_masks": None}, "without DensePose"),
        ({"bbox": [10, 10, 0.3, 40]}, "box without area"),
        ({"iscrowd": 1}, "crowd regions"),
    ],
)
def test_people_without_usable_points_are_counted(folder, fields, reason):
    change(folder, **fields)
    info, records = read_all(folder)
    assert not records
    assert any(name.startswith(f"people: {reason}") for name in info.dropped)


def test_the_selection_of_posepile(folder):
    info, (record,) = read_all(folder, selection="posepile")
    assert info.expected == 29586
    assert len(record.people) == 1
    keypoints = np.zeros((17, 3), int)
    keypoints[:8] = [50, 60, 2]
    change(folder, keypoints=keypoints.ravel().tolist())
    info, records = read_all(folder, selection="posepile")
    assert not records and info.dropped["people: too few joints visible or labelled"] == 1
    keypoints[8] = [50, 60, 1]  # half of them, but of the limbs only both elbows
    change(folder, keypoints=keypoints.ravel().tolist())
    info, records = read_all(folder, selection="posepile")
    assert not records and info.dropped["people: fewer than 7 limb joints labelled"] == 1
    assert len(read_all(folder)[1]) == 1
    with pytest.raises(ValueError, match="selection = 'most'"):
        densepose_coco.plan(str(folder), selection="most")


def test_charts_elsewhere_and_of_another_mesh(folder, tmp_path):
    (folder / UV_PROCESSED).rename(tmp_path / "elsewhere.mat")
    with pytest.raises(ValueError, match="UV_Processed.mat is missing"):
        densepose_coco.plan(str(folder))
    options = {"uv_processed": str(tmp_path / "elsewhere.mat"), "body_model": "procedural"}
    info, records = read_all(folder, **options)
    assert info.body_model == {"name": "procedural", "n_vertices": 24 * 16} and records
    with pytest.raises(ValueError, match="body_model = 'other'"):
        densepose_coco.plan(str(folder), body_model="other")
    parts, vertices, uv = charts.toy_charts()
    charts.write_uv_processed(tmp_path / "elsewhere.mat", parts, vertices + 6890, uv)
    with pytest.raises(ValueError, match="SMPL has 6890.*--body_model"):
        densepose_coco.plan(str(folder), uv_processed=str(tmp_path / "elsewhere.mat"))


def test_other_charts_are_another_data_set(folder, tmp_path):
    info, tasks = densepose_coco.plan(str(folder))
    out = str(tmp_path / "out")
    preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    parts, vertices, uv = charts.toy_charts()
    charts.write_uv_processed(folder / UV_PROCESSED, parts, vertices + 1, uv)
    info, tasks = densepose_coco.plan(str(folder))
    with pytest.raises(ValueError, match="its source is .*uv_processed_sha256"):
        preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)


def test_charts_outside_the_folder_must_be_named(folder, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (folder / "annotations").rename(source / "annotations")
    (source / "UV_data").symlink_to(folder / "UV_data")
    with pytest.raises(ValueError, match="leaves the source folder"):
        densepose_coco.plan(str(source))
    densepose_coco.plan(str(source), uv_processed=str(source / UV_PROCESSED))


def test_other_splits_have_the_pictures_of_val(tmp_path, made):
    native_coco.write(
        tmp_path, made, pictures="val2014", name="densepose_coco_2014_valminusminival.json"
    )
    charts.write_uv_processed(tmp_path / UV_PROCESSED, *charts.toy_charts())
    change(tmp_path, **dense_fields())
    info, (record,) = read_all(tmp_path)
    assert record.image_id == "val2014/COCO_val2014_000000000001.jpg"
    assert info.name == "densepose_coco_valminusminival" and info.expected == 0


def test_marked_points_of_synthetic_people_come_back(tmp_path, made):
    content, truth = native.write(tmp_path, made, n_points=60)
    info, records = read_all(tmp_path, body_model="procedural")
    body = procedural_body()
    assert info.body_model == {"name": "procedural", "n_vertices": body.n_vertices}
    assert info.dropped == {}
    records = {record.image_id: record for record in records}
    for image, record, expected in zip(content["images"], made, truth, strict=True):
        (person,) = records[f"train2014/{image['file_name']}"].people
        surface = person.surface
        assert len(surface.weights) == len(expected.weights) > 30
        np.testing.assert_array_equal(surface.vertex_ids, expected.vertex_ids)
        np.testing.assert_allclose(surface.weights, expected.weights, atol=1e-4)
        np.testing.assert_allclose(surface.points2d, expected.points2d, atol=1e-3)
        # And they are what they claim to be: these points of the posed body, seen by the camera.
        vertices, _ = camera_points(record.people[0].body)
        points = (surface.weights[..., np.newaxis] * vertices[surface.vertex_ids]).sum(axis=1)
        seen = scene.pixels(points, record.intrinsics)
        np.testing.assert_allclose(seen, surface.points2d, atol=0.02)


def test_the_parts_of_synthetic_people_are_on_the_named_side(tmp_path, made):
    content, truth = native.write(tmp_path, made)
    template = procedural_body().v_template
    n_sided = 0
    for row, surface in zip(content["annotations"], truth, strict=True):
        x = (surface.weights * template[surface.vertex_ids, 0]).sum(axis=-1)
        for part, place in zip(row["dp_I"], x, strict=True):
            name = CHART_NAMES[int(part) - 1]
            if name.startswith(("left", "right")):
                n_sided += 1
                assert (place > 0) == name.startswith("left")  # x to the person's left
        assert len(row["dp_masks"]) == 14 and any(row["dp_masks"])
    assert n_sided > 50


def test_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="0 annotation files match"):
        densepose_coco.plan(str(tmp_path))


def test_prepared_by_processes(folder, tmp_path):
    info, tasks = densepose_coco.plan(str(folder), progress=True)
    out = str(tmp_path / "out")
    info = preparation.write_dataset(tasks, out, info, n_processes=2, progress=False)
    assert info.counts["n_people_dense"] == info.counts["n_people"] == 1
