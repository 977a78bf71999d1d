import pathlib
import pickle

import cv2
import numpy as np
import pandas
import pytest

from metrabs_like.data import masks, preparation
from metrabs_like.data.image_files import parse_header
from metrabs_like.data.people import SkippedImage
from metrabs_like.data.readers import (
    agora3,
    agora_rows,
    counted_fits,
)
from metrabs_like.data.safe_loading import UnsafeFile
from metrabs_like.skeletons import SMPL_24
from tests.data import hostile
from tests.native import agora as native
from tests.native import fits, scene

SMALL = native.SMALL


@pytest.fixture(scope="module")
def singles():
    return scene.people(7, 3)


@pytest.fixture(scope="module")
def pairs():
    return scene.people(2, 3, n_people=2)


@pytest.fixture(scope="module")
def all_cameras(tmp_path_factory, singles):
    """A picture of each camera of the rule, read back: `(info, records by name)`."""
    folder = tmp_path_factory.mktemp("agora")
    native.write(folder, singles, names=tuple(native.CAMERAS))
    return read(folder)


def read(folder, **options):
    info, tasks = agora3.plan(str(folder), **{"body_model": "procedural", **options})
    items = [item for i, task in enumerate(tasks) for item in task(i)]
    names = [getattr(i, "image_id", None) or i.name for i in items]
    return info, {agora_rows.picture_name(n.split("/")[-1]): i for n, i in zip(names, items)}  # noqa: B905


def decoded(record):
    return cv2.imdecode(np.frombuffer(record.image_bytes, np.uint8), cv2.IMREAD_COLOR)


def overlap(record, person, expected):
    """Intersection over union of a person's stored mask and the expected one."""
    found = masks.decode_mask(person.mask, person.mask_box, record.width, record.height) > 127
    return np.count_nonzero(found & expected) / np.count_nonzero(found | expected)


def test_what_is_read(all_cameras):
    info, items = all_cameras
    assert (info.name, info.kind, info.expected) == ("agora3_train", "param", 5264)
    assert info.skeleton["joint_names"] == list(SMPL_24.joint_names)
    assert info.body_model["name"] == "procedural" and info.dropped == {}
    assert sorted(items) == sorted(f"{begin}_{i:05d}" for i, begin in enumerate(native.CAMERAS))


@pytest.mark.parametrize("i", range(7), ids=list(native.CAMERAS))
def test_joints_cameras_and_bodies(all_cameras, singles, i):
    begin = list(native.CAMERAS)[i]
    record = all_cameras[1][f"{begin}_{i:05d}"]
    assert record.dataset == "agora3" and (record.width, record.height) == SMALL
    intrinsics = native.intrinsics(begin, *SMALL)
    np.testing.assert_allclose(record.intrinsics, intrinsics, rtol=1e-6)
    np.testing.assert_allclose(record.extrinsics, native.camera_from_world(begin), atol=1e-6)
    assert not record.distortion_coeffs.any()
    (person,) = record.people
    joints = scene.joints(singles[i].people[0], SMPL_24.joint_names)
    np.testing.assert_allclose(person.points3d, joints, atol=1e-5)
    pixels = scene.pixels(joints, intrinsics)
    np.testing.assert_allclose(person.points2d, pixels, atol=1e-2)
    inside = ((pixels > -0.5) & (pixels < np.array(SMALL) - 0.5)).all(axis=-1)
    assert person.validity3d.all()
    np.testing.assert_array_equal(person.validity2d, inside)
    # The fit, placed by the rule of the evaluation code, agrees with the joints.
    _, posed = fits.camera_points(person.body)
    np.testing.assert_allclose(posed, joints, atol=2e-3)


@pytest.mark.parametrize("i", range(7), ids=list(native.CAMERAS))
def test_pictures_boxes_and_masks(all_cameras, singles, i):
    begin = list(native.CAMERAS)[i]
    record = all_cameras[1][f"{begin}_{i:05d}"]
    assert parse_header(record.image_bytes).format == "jpeg"
    shown = scene.photographed(
        singles[i], record.intrinsics, None, width=record.width, height=record.height
    )
    difference = np.abs(decoded(record)[..., ::-1].astype(int) - shown)
    assert difference.mean() < 2 and np.percentile(difference, 99) < 30
    (person,) = record.people
    low, high = person.points2d.min(axis=0), person.points2d.max(axis=0)
    middle, half = (low + high) / 2, 0.55 * (high - low)
    low = np.maximum(middle - half, -0.5 / 3)
    high = np.minimum(middle + half, np.array(SMALL) - 0.5 / 3)
    low = np.maximum(np.minimum(low, person.mask_box[:2]), -0.5)
    high = np.maximum(high, person.mask_box[:2] + person.mask_box[2:])
    np.testing.assert_allclose(person.box, [*low, *(high - low)], atol=0.05)
    assert person.occlusion == pytest.approx(singles[i].people[0].occlusion, abs=1e-6)
    expected = native.visible_mask(singles[i], singles[i].people[0], begin) > 0
    assert overlap(record, person, expected) > 0.93


def test_the_large_release_gives_the_same_people(tmp_path, singles):
    native.write(tmp_path, singles[:1], small=False)
    _, items = read(tmp_path)
    (record,) = items.values()
    assert (record.width, record.height) == (3840, 2160)
    np.testing.assert_allclose(record.intrinsics[0], [1920, 0, 1920])
    joints = scene.joints(singles[0].people[0], SMPL_24.joint_names)
    pixels = scene.pixels(joints, record.intrinsics)
    np.testing.assert_allclose(record.people[0].points2d, pixels, atol=1e-2)
    # The masks are those of the small release.
    small = native.visible_mask(singles[0], singles[0].people[0], native.CAM00)
    expected = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_LINEAR) > 127
    assert overlap(record, record.people[0], expected) > 0.93


@pytest.mark.parametrize("folders", [("train_0", "train_0"), ("train_0", "train_1")])
def test_where_both_releases_are_the_large_one_is_taken(tmp_path, singles, folders):
    (name,) = native.write(tmp_path, singles[:1])
    native.write(tmp_path, singles[:1], small=False)
    large, small = tmp_path / f"train_0/{name}.png", tmp_path / f"train_0/{name}_1280x720.png"
    for path, folder in zip((large, small), folders, strict=True):
        (tmp_path / folder).mkdir(exist_ok=True)
        path.rename(tmp_path / folder / path.name)
    _, items = read(tmp_path)
    assert [record.width for record in items.values()] == [3840]


def test_a_camera_that_no_rule_names_needs_its_columns(tmp_path, singles):
    fixed, other = list(native.CAMERAS)[0], list(native.CAMERAS)[-1]
    for begin in (fixed, other):
        native.write(tmp_path, singles[-1:], names=(begin,), with_masks=False)
        path = tmp_path / "SMPL" / "train_0_withjv.pkl"
        pandas.read_pickle(path).drop(columns=["camX", "camYaw"]).to_pickle(path, protocol=4)
        if begin == fixed:
            assert read(tmp_path, fits=False)[1]
    with pytest.raises(ValueError, match="flowers.* has no column camX, camYaw"):
        read(tmp_path, fits=False)


def test_masks_show_what_is_visible(tmp_path, pairs):
    native.write(tmp_path, pairs)
    _, items = read(tmp_path)
    for i, record in enumerate(pairs):
        found = items[f"{native.CAM00}_{i:05d}"]
        for written, person in zip(record.people, found.people, strict=True):
            visible = native.visible_mask(record, written, native.CAM00) > 0
            assert overlap(found, person, visible) > 0.93


def test_masks_without_the_picture_of_everybody_are_whole_silhouettes(tmp_path, pairs):
    (name,) = native.write(tmp_path, pairs[:1])
    native.mask_path(tmp_path, native.CAM00, name, 0).unlink()
    native.mask_path(tmp_path, native.CAM00, name, 2).unlink()
    _, items = read(tmp_path)
    first, second = items[name].people
    whole = cv2.imread(str(native.mask_path(tmp_path, native.CAM00, name, 1)), 0) > 127
    assert overlap(items[name], first, whole) > 0.93
    assert second.mask is None and second.mask_box is None


def test_without_masks(tmp_path, singles):
    native.write(tmp_path, singles[:1], with_masks=False)
    _, items = read(tmp_path)
    (record,) = items.values()
    assert record.people[0].mask is None


def shifted(scale=1.0, offset=0.0, column=None):
    """A change of one person's numbers in the first row."""

    def change(i, values):
        first = np.array(values[0], np.float64) * scale + offset
        return [first, *values[1:]] if i == 0 else values

    return change


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"isValid": lambda i, v: [i != 0] * len(v)}, "people: marked invalid"),
        ({"occlusion": lambda i, v: [75.1 if i == 0 else 75.0]}, "people: more than 75% occluded"),
        ({"gt_joints_2d": shifted(offset=9000)}, "people: outside the picture"),
        ({"gt_joints_2d": shifted(scale=0.02)}, "people: box under 100 px"),
        ({"gt_joints_3d": shifted(scale=1000)}, "people: implausible bones"),
    ],
    ids=["invalid", "occluded", "outside", "small", "implausible"],
)
def test_people_are_dropped_and_counted(tmp_path, singles, changes, reason):
    native.write(tmp_path, singles[:2], with_masks=False, **changes)
    info, items = read(tmp_path)
    assert info.dropped == {reason: 1, "pictures: nobody is kept": 1}
    assert len(items) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gt_path_smpl": lambda i, v: ["smpl_gt/absent.obj"]}, "the fit's file is missing"),
        ({"kid": lambda i, v: [True]}, "kids, whose shape SMPL's betas do not describe"),
        ({"X": shifted(offset=150)}, "the fit lies elsewhere than the joints"),
    ],
    ids=["missing", "kid", "elsewhere"],
)
def test_bodies_are_dropped_and_counted(tmp_path, singles, changes, reason):
    native.write(tmp_path, singles[:1], with_masks=False, **changes)
    info, items = read(tmp_path)
    assert info.dropped == {f"bodies: {reason}": 1}
    assert info.kind == "kp3d" and info.body_model == {}
    (record,) = items.values()
    assert record.people[0].body is None and record.people[0].validity3d.all()


def test_fits_can_be_left_out(tmp_path, singles):
    native.write(tmp_path, singles[:1], with_masks=False)
    info, items = read(tmp_path, fits=False)
    assert info.kind == "kp3d" and info.dropped == {}
    assert next(iter(items.values())).people[0].body is None


def test_the_validation_split(tmp_path, singles):
    native.write(tmp_path, singles[:1], split="validation")
    info, items = read(tmp_path, split="validation")
    assert (info.name, info.expected) == ("agora3_validation", 0)
    assert next(iter(items.values())).people[0].mask is not None
    with pytest.raises(ValueError, match="no SMPL/train_<k>_withjv.pkl"):
        read(tmp_path)
    with pytest.raises(ValueError, match="split = 'test' is unknown"):
        read(tmp_path, split="test")


def test_unknown_joints_are_invalid(tmp_path, singles):
    def unknown(i, values):
        joints = np.array(values[0])
        joints[5] = np.nan
        return [joints]

    native.write(tmp_path, singles[:1], gt_joints_3d=unknown)
    _, items = read(tmp_path)
    (person,) = next(iter(items.values())).people
    np.testing.assert_array_equal(person.validity3d, np.arange(24) != 5)
    assert not person.validity2d[5] and not person.points3d[5].any()


def test_damaged_pictures_are_skipped_with_the_reason(tmp_path, singles):
    names = native.write(tmp_path, singles[:4])
    paths = [tmp_path / "train_0" / f"{name}_1280x720.png" for name in names]
    paths[0].write_bytes(paths[0].read_bytes()[:-2000])
    cv2.imwrite(str(paths[1]), np.zeros((20, 30, 3), np.uint8))
    mask = native.mask_path(tmp_path, native.CAM00, names[2], 1)
    mask.write_bytes(mask.read_bytes()[:60])
    paths[3].unlink()
    info, items = read(tmp_path)
    assert info.dropped == {"pictures: the file is missing": 1}
    assert "truncated or corrupt" in items[names[0]].reason
    assert "has 30 x 20 px; AGORA's have 3840 x 2160" in items[names[1]].reason
    assert "has the mask" in items[names[2]].reason and "truncated" in items[names[2]].reason
    assert all(isinstance(items[name], SkippedImage) for name in names[:3])


def test_wrong_sources_are_refused(tmp_path, singles):
    with pytest.raises(ValueError, match="no SMPL/train_<k>_withjv.pkl in it"):
        read(tmp_path / "absent")
    (name,) = native.write(tmp_path, singles[:1], with_masks=False)
    picture = tmp_path / "train_0" / f"{name}_1280x720.png"
    picture.rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no pictures in folders train_<k>"):
        read(tmp_path)
    (tmp_path / "a.png").rename(picture)
    table = tmp_path / "SMPL" / "train_0_withjv.pkl"
    table.write_bytes(pickle.dumps({"imgPath": []}))
    with pytest.raises(ValueError, match="no column gt_joints_2d"):
        read(tmp_path)
    table.write_bytes(hostile.RUNNING["reduce"][0])
    hostile.TRACES.clear()
    with pytest.raises(UnsafeFile, match="not on the allow-list"):
        read(tmp_path)
    assert not hostile.TRACES
    with pytest.raises(ValueError, match="body_model = 'other' is unknown"):
        read(tmp_path, body_model="other")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"isValid": lambda i, v: [True, True]}, "isValid has 2 people, gt_joints_3d 1"),
        ({"gt_joints_2d": lambda i, v: [np.zeros((5, 2))]}, r"has shape \(5, 2\)"),
        ({"gt_path_smpl": lambda i, v: ["../../outside.obj"]}, "leaves the source folder"),
        ({"gt_path_smpl": lambda i, v: ["/etc/passwd.obj"]}, "leaves the source folder"),
        ({"gt_joints_3d": lambda i, v: [1000 * v[0]]}, "nobody is kept"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, singles, changes, reason):
    native.write(tmp_path, singles[:1], with_masks=False, **changes)
    with pytest.raises(ValueError, match=reason):
        read(tmp_path)


def test_one_damaged_fit_costs_its_body_alone(tmp_path, pairs):
    (name,) = native.write(tmp_path, pairs[:1], with_masks=False)
    fit = tmp_path / "smpl_gt" / f"{name}_0.pkl"
    tensor = hostile.call("torch._utils._rebuild_tensor_v2", b"N")
    short = {"pose": np.zeros(71), "betas": np.zeros(10), "trans": np.zeros(3)}
    hostile.TRACES.clear()
    for content in (
        hostile.whole(b"}", hostile.text("betas"), tensor, b"s"),
        hostile.RUNNING["reduce"][0],
        pickle.dumps({"betas": np.zeros(10)}),
        pickle.dumps(short),
        b"",
    ):
        fit.write_bytes(content)
        info, items = read(tmp_path)
        assert info.kind == "param" and info.dropped == {counted_fits.UNREADABLE: 1}
        first, second = items[name].people
        assert first.body is None and first.validity3d.all() and second.body is not None
    assert not hostile.TRACES
    assert read(tmp_path, fits=False)[0].dropped == {}


@pytest.mark.parametrize("path", ["SMPL/train_0_withjv.pkl", "smpl_gt/{name}_0.pkl"])
def test_files_outside_of_the_folder_are_refused(tmp_path, singles, path):
    source = tmp_path / "source"
    (name,) = native.write(source, singles[:1], with_masks=False)
    file = source / path.format(name=name)
    file.rename(tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leaves the source folder"):
        read(source)


def test_pictures_outside_of_the_folder_are_refused(tmp_path, singles):
    source = tmp_path / "source"
    native.write(source, singles[:1], with_masks=False)
    (source / "train_0").rename(tmp_path / "outside")
    (source / "train_0").symlink_to(tmp_path / "outside")
    _, tasks = agora3.plan(str(source), body_model="procedural")
    with pytest.raises(ValueError, match="leaves the source folder"):
        list(tasks[0](0))


def test_it_can_be_prepared(tmp_path, pairs, capfd):
    native.write(tmp_path / "agora", pairs)
    info, tasks = agora3.plan(
        str(tmp_path / "agora"), body_model="procedural", images_per_shard=1, progress=True
    )
    assert "examples/s" in capfd.readouterr().err
    out = str(tmp_path / "out")
    info = preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    assert len(info.shards) == 2 and info.counts["n_images"] == 2
    assert info.counts["n_people_param"] == info.counts["n_people_3d"] == 4
    assert pathlib.Path(out, "dataset.json").exists()
