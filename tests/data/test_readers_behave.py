import json
import pickle

import cv2
import numpy as np
import pytest

from metrabs_like.data import masks, preparation
from metrabs_like.data.people import SkippedImage
from metrabs_like.data.readers import behave, counted_fits
from metrabs_like.skeletons import BODY_25
from tests.data import hostile
from tests.native import behave as native
from tests.native import fits, scene

IS_KNOWN = np.array([name in native.KNOWN for name in BODY_25.joint_names])
OBJECT = (200, 100, 60, 60)


@pytest.fixture(scope="module")
def made():
    return scene.people(2, 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, made):
    """A sequence of two frames and three Kinects, read back: `(info, records by name, joints)`."""
    folder = tmp_path_factory.mktemp("behave")
    joints = native.write(folder, made, object_box=OBJECT)
    return *read(folder), joints


def read(folder, **options):
    info, tasks = behave.plan(str(folder), **{"body_model": "procedural", **options})
    items = [item for i, task in enumerate(tasks) for item in task(i)]
    return info, {getattr(i, "image_id", None) or i.name: i for i in items}


def picture_name(frame, kinect, sequence=native.SEQUENCE):
    return f"sequences/{sequence}/t{frame + 1:04d}.000/k{kinect}.color.jpg"


EACH = pytest.mark.parametrize(("frame", "kinect"), [(f, k) for f in range(2) for k in range(3)])


def test_what_is_read(whole):
    info, items, _ = whole
    assert (info.name, info.kind, info.expected) == ("behave_train", "param", 37736)
    assert info.skeleton["joint_names"] == list(BODY_25.joint_names)
    assert info.body_model["name"] == "procedural" and info.dropped == {}
    assert sorted(items) == [picture_name(f, k) for f in range(2) for k in range(3)]


@EACH
def test_cameras_joints_and_bodies(whole, made, frame, kinect):
    _, items, joints = whole
    record = items[picture_name(frame, kinect)]
    intrinsics, lens = native.camera(made, kinect)
    np.testing.assert_allclose(record.intrinsics, intrinsics, rtol=1e-6)
    np.testing.assert_allclose(record.distortion_coeffs[:8], lens, rtol=1e-6)
    assert not record.distortion_coeffs[8:].any() and record.distortion_coeffs[5:8].all()
    world = native.to_world(joints[frame][0])
    seen = record.extrinsics[:3, :3] @ world + record.extrinsics[:3, 3]
    np.testing.assert_allclose(seen, joints[frame][0], atol=1e-5)
    (person,) = record.people
    np.testing.assert_array_equal(person.validity3d, IS_KNOWN)
    np.testing.assert_allclose(person.points3d[IS_KNOWN], joints[frame][IS_KNOWN], atol=1e-5)
    pixels = scene.pixels(joints[frame][IS_KNOWN], intrinsics, lens)
    np.testing.assert_allclose(person.points2d[IS_KNOWN], pixels, atol=1e-2)
    assert not person.validity2d[~IS_KNOWN].any()
    # The fit has no hands; all else is where the person was rendered.
    _, posed = fits.camera_points(person.body)
    _, true = fits.camera_points(made[frame].people[0].body)
    np.testing.assert_allclose(posed[:22], true[:22], atol=1e-5)
    assert not person.body.pose_rotvecs[22:].any()


@EACH
def test_pictures_masks_and_occlusion(whole, made, frame, kinect):
    record = whole[1][picture_name(frame, kinect)]
    intrinsics, lens = native.camera(made, kinect)
    size = {"width": native.WIDTH, "height": native.HEIGHT}
    shown = scene.photographed(made[frame], intrinsics, lens, **size)
    visible = scene.mask_as_seen(made[frame], made[frame].people[0], intrinsics, lens, **size) > 0
    x, y, width, height = OBJECT
    shown[y : y + height, x : x + width] = (160, 90, 20)
    visible[y : y + height, x : x + width] = False
    picture = cv2.imdecode(np.frombuffer(record.image_bytes, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(picture[..., ::-1].astype(int) - shown).mean() < 2
    (person,) = record.people
    mask = masks.decode_mask(person.mask, person.mask_box, record.width, record.height) > 127
    assert np.count_nonzero(mask & visible) / np.count_nonzero(mask | visible) > 0.93
    points = person.points2d[person.validity2d]
    is_hidden = np.all((points > (x - 0.5, y - 0.5)) & (points < (x + 59.5, y + 59.5)), axis=-1)
    assert is_hidden.any() and person.occlusion == pytest.approx(is_hidden.mean(), abs=0.06)
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, 0.55 * (high - low)
    low = np.maximum(middle - half, -0.5)
    high = np.minimum(middle + half, [native.WIDTH - 0.5, native.HEIGHT - 0.5])
    assert person.mask_box[1] < low[1]  # the head is above the joints
    low = np.minimum(low, person.mask_box[:2])
    high = np.maximum(high, person.mask_box[:2] + person.mask_box[2:])
    np.testing.assert_allclose(person.box, [*low, *(high - low)], atol=1e-2)


def test_splits_and_missing_sequences(tmp_path, made):
    native.write(tmp_path, made[:1], sequence="Date01_Sub01_a", n_kinects=1)
    native.write(tmp_path, made[1:], sequence="Date03_Sub02_b", n_kinects=1, split="test")
    _, items = read(tmp_path)
    assert list(items) == [picture_name(0, 0, "Date01_Sub01_a")]
    info, items = read(tmp_path, split="test")
    assert list(items) == [picture_name(0, 0, "Date03_Sub02_b")]
    assert (info.name, info.expected) == ("behave_test", 0)
    lists = json.loads((tmp_path / "split.json").read_text())
    lists["train"].append("Date02_Sub02_absent")
    (tmp_path / "split.json").write_text(json.dumps(lists))
    assert read(tmp_path)[0].dropped == {"sequences: missing": 1}
    with pytest.raises(ValueError, match="split = 'val' is unknown"):
        read(tmp_path, split="val")


def test_kinects_default_to_three(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=4)
    native.write_info(tmp_path, kinects=[1, 3])
    assert sorted(read(tmp_path)[1]) == [picture_name(0, 1), picture_name(0, 3)]
    native.write_info(tmp_path, kinects=None)
    assert sorted(read(tmp_path)[1]) == [picture_name(0, k) for k in range(3)]


def test_scores_decide_which_joints_are_known(tmp_path, made):
    joints = native.write(tmp_path, made[:1], n_kinects=1)[0]
    scores = np.where(IS_KNOWN, 0.8, 0.0)
    scores[BODY_25.index("rwri")] = 0.29
    rows = np.concatenate([np.nan_to_num(native.to_world(joints)), scores[:, np.newaxis]], axis=1)
    rows[BODY_25.index("nose"), 0] = np.nan
    native.write_joints(native.frame_folder(tmp_path, 0), rows)
    (person,) = read(tmp_path)[1][picture_name(0, 0)].people
    expected = IS_KNOWN.copy()
    expected[[BODY_25.index("rwri"), BODY_25.index("nose")]] = False
    np.testing.assert_array_equal(person.validity3d, expected)
    (person,) = read(tmp_path, min_score=0.2)[1][picture_name(0, 0)].people
    assert person.validity3d[BODY_25.index("rwri")]


def test_what_is_missing_is_counted(tmp_path, made):
    joints = native.write(tmp_path, [*made, *made], n_kinects=2)
    frames = [native.frame_folder(tmp_path, i) for i in range(4)]
    (frames[0] / "person" / "person_J3d.json").unlink()
    (frames[1] / "person" / "fit02" / "person_fit.pkl").unlink()
    (frames[1] / "k1.color.jpg").unlink()
    (frames[1] / "k0.person_mask.jpg").unlink()
    rows = np.concatenate([native.to_world(joints[2]) * 1000, np.ones((25, 1))], axis=1)
    native.write_joints(frames[2], np.nan_to_num(rows))
    behind = joints[3] * [1, 1, -1]
    rows = np.concatenate([native.to_world(behind), IS_KNOWN[:, np.newaxis]], axis=1)
    native.write_joints(frames[3], np.nan_to_num(rows))
    info, items = read(tmp_path)
    assert info.dropped == {
        "frames: without 3D joints": 1,
        "bodies: the fit's file is missing": 1,
        "pictures: the file is missing": 1,
        "frames: implausible bones": 1,
        "pictures: the person is outside": 2,
    }
    assert info.kind == "kp3d" and list(items) == [picture_name(1, 0)]
    (person,) = items[picture_name(1, 0)].people
    assert person.body is None and person.mask is None and person.occlusion == 0


def test_fits_can_be_left_out(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=1)
    info, items = read(tmp_path, fits=False)
    assert info.kind == "kp3d" and info.body_model == {}
    assert next(iter(items.values())).people[0].body is None


def test_masks_may_be_png(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=1)
    path = native.frame_folder(tmp_path, 0) / "k0.person_mask.jpg"
    cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)))
    path.unlink()
    assert next(iter(read(tmp_path)[1].values())).people[0].mask is not None


def test_damaged_pictures_are_skipped_with_the_reason(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=3)
    frame = native.frame_folder(tmp_path, 0)
    path = frame / "k0.color.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    cv2.imwrite(str(frame / "k1.color.jpg"), np.zeros((30, 40, 3), np.uint8))
    (frame / "k2.person_mask.jpg").write_bytes(b"hello")
    _, items = read(tmp_path)
    assert all(isinstance(item, SkippedImage) for item in items.values())
    assert "truncated or corrupt" in items[picture_name(0, 0)].reason
    assert "has 40 x 30 px, its calibration says 512 x 384" in items[picture_name(0, 1)].reason
    assert "has the mask" in items[picture_name(0, 2)].reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(config={"rotation": [1.0] * 9}), "is no rotation matrix"),
        (dict(config={"rotation": [1.0, 0, 0, 0, 1, 0, 0, 0, -1]}), "is no rotation matrix"),
        (dict(config={"rotation": [1.0] * 4}), "rotation = .* must be 9 finite numbers"),
        (dict(config={"translation": [1, 2, float("nan")]}), "translation = .* finite"),
        (dict(color={"fx": -3.0}), "is no camera"),
        (dict(color={"k6": None}), "k6 = None must be 1 finite"),
        (dict(color={"width": "x"}), "width = x must be"),
    ],
)
def test_bad_calibrations_are_refused(tmp_path, made, change, reason):
    native.write(tmp_path, made[:1], n_kinects=1)
    native.write_camera(tmp_path, made[:1], 0, **change)
    with pytest.raises(ValueError, match=reason):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": "../../../outside"}, "leaves the source folder"),
        ({"intrinsic": "/etc"}, "leaves the source folder|does not exist"),
        ({"config": None}, "config = None is no path"),
        ({"kinects": "012"}, "kinects = 012"),
        ({"config": "../../calibs/absent"}, "does not exist"),
    ],
)
def test_bad_infos_are_refused(tmp_path, made, change, reason):
    native.write(tmp_path, made[:1], n_kinects=1)
    native.write_info(tmp_path, n_kinects=1, **change)
    with pytest.raises(ValueError, match=reason):
        read(tmp_path)


def test_wrong_sources_are_refused(tmp_path, made):
    with pytest.raises(ValueError, match=r"split\.json does not exist"):
        read(tmp_path)
    path = tmp_path / "split.json"
    path.write_text('{"test": []}')
    with pytest.raises(ValueError, match="no list 'train'"):
        read(tmp_path)
    for name in ("../outside", "..", "/etc", "a/b"):
        path.write_text(json.dumps({"train": [name]}))
        with pytest.raises(ValueError, match="no plain folder name"):
            read(tmp_path)
    path.write_text('{"train": ["Date01_absent"]}')
    with pytest.raises(ValueError, match="there is no sequence of the split 'train'"):
        read(tmp_path)
    path.write_text('{"train": []}')
    native.write(tmp_path, made[:1], n_kinects=1)
    (native.frame_folder(tmp_path, 0) / "person" / "person_J3d.json").unlink()
    with pytest.raises(ValueError, match="nobody is kept"):
        read(tmp_path)


def test_one_damaged_annotation_costs_its_frame_alone(tmp_path, made):
    native.write(tmp_path, [*made, made[0]], n_kinects=1)
    joints = native.frame_folder(tmp_path, 0) / "person" / "person_J3d.json"
    fit = native.frame_folder(tmp_path, 1) / "person" / "fit02" / "person_fit.pkl"
    whole = fit.read_bytes()
    reason = "frames: the file of 3D joints cannot be read; copy it again"
    for content in ('{"body_joints3d": [1, 2]}', "{", "[]"):
        joints.write_text(content)
        info, items = read(tmp_path)
        assert info.dropped == {reason: 1}
        assert sorted(items) == [picture_name(1, 0), picture_name(2, 0)]
    hostile.TRACES.clear()
    for content in (hostile.RUNNING["in_dict"][0], whole[:-30], b"", pickle.dumps({"pose": [1]})):
        fit.write_bytes(content)
        info, items = read(tmp_path)
        assert info.dropped == {reason: 1, counted_fits.UNREADABLE: 1}
        assert items[picture_name(1, 0)].people[0].body is None
        assert items[picture_name(2, 0)].people[0].body is not None
    assert not hostile.TRACES and "--nofits" in counted_fits.UNREADABLE
    assert reason in read(tmp_path, fits=False)[0].dropped


def mask_with(path, where, value):
    """Changes a mask, in a form that keeps every value."""
    mask = cv2.imread(str(path), 0)
    mask[where] = value
    path.unlink()
    cv2.imwrite(str(path.with_suffix(".png")), mask)


def test_only_bright_pixels_are_the_person(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=1)
    before = read(tmp_path)[1][picture_name(0, 0)].people[0].mask_box
    path = native.frame_folder(tmp_path, 0) / "k0.person_mask.jpg"
    mask_with(path, (slice(0, 9), slice(0, 9)), 120)
    np.testing.assert_array_equal(read(tmp_path)[1][picture_name(0, 0)].people[0].mask_box, before)
    mask_with(path.with_suffix(".png"), (slice(0, 9), slice(0, 9)), 130)
    mask_box = read(tmp_path)[1][picture_name(0, 0)].people[0].mask_box
    np.testing.assert_array_equal(mask_box[:2], [-0.5, -0.5])


def test_where_the_person_is_seen_the_object_hides_nothing(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=1, object_box=OBJECT)
    frame = native.frame_folder(tmp_path, 0)
    assert read(tmp_path)[1][picture_name(0, 0)].people[0].occlusion > 0
    mask_with(frame / "k0.obj_rend_mask.jpg", slice(None), 255)
    mask_with(frame / "k0.person_mask.jpg", slice(None), 255)
    assert read(tmp_path)[1][picture_name(0, 0)].people[0].occlusion == 0


def test_joints_at_the_very_border(tmp_path, made):
    native.write(tmp_path, made[:1], n_kinects=1, object_box=OBJECT)
    _, (task,) = behave.plan(str(tmp_path), body_model="procedural")
    person = task.args[-1][0].person
    corner = np.nextafter([native.WIDTH - 0.5, native.HEIGHT - 0.5], 0).astype(np.float32)
    assert corner.tolist() == [native.WIDTH - 0.5, native.HEIGHT - 0.5]
    person.points2d[np.flatnonzero(person.validity2d)[0]] = corner
    (record,) = task(0)
    assert record.people[0].mask is not None


def test_frames_outside_of_the_folder_are_refused(tmp_path, made):
    source = tmp_path / "source"
    native.write(source, made[:1], n_kinects=1)
    frame = native.frame_folder(source, 0)
    frame.rename(tmp_path / "outside")
    frame.symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leaves the source folder"):
        read(source)


@pytest.mark.parametrize(
    "name",
    [
        "split.json",
        "calibs/Date01/config/0/config.json",
        "calibs/intrinsics/0/calibration.json",
        f"sequences/{native.SEQUENCE}/info.json",
        f"sequences/{native.SEQUENCE}/t0001.000/person/person_J3d.json",
        f"sequences/{native.SEQUENCE}/t0001.000/person/fit02/person_fit.pkl",
    ],
)
def test_files_outside_of_the_folder_are_refused(tmp_path, made, name):
    source = tmp_path / "source"
    native.write(source, made[:1], n_kinects=1)
    (source / name).rename(tmp_path / "outside")
    (source / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leaves the source folder"):
        read(source)


def test_it_can_be_prepared(tmp_path, made, capfd):
    native.write(tmp_path / "behave", made)
    info, tasks = behave.plan(
        str(tmp_path / "behave"), body_model="procedural", images_per_shard=4, progress=True
    )
    assert "examples/s" in capfd.readouterr().err
    out = str(tmp_path / "out")
    info = preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    assert [shard["n_images"] for shard in info.shards] == [4, 2]
    assert info.counts["n_people_param"] == info.counts["n_people_3d"] == 6
