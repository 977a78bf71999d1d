import dataclasses

import cv2
import numpy as np
import pytest
import scipy.io

from metrabs_like.data import preparation
from metrabs_like.data.people import SkippedImage
from metrabs_like.data.readers import mads, mads_files
from metrabs_like.skeletons import MADS_19
from tests.native import mads as native
from tests.native import scene

ABSENT_IN_15 = [MADS_19.index(name) for name in ("ltoe", "rtoe", "lhan", "rhan")]


@pytest.fixture(scope="module")
def made():
    return scene.people(3, 11, image_side=256)


def read_all(folder, **options):
    info, tasks = mads.plan(str(folder), **options)
    return info, [list(task(i)) for i, task in enumerate(tasks)]


def decoded(record):
    return cv2.imdecode(np.frombuffer(record.image_bytes, np.uint8), cv2.IMREAD_COLOR)


def test_a_clip_is_read_as_it_was_written(tmp_path, made):
    poses = native.write(tmp_path, made, n_hold=2)
    info, shards = read_all(tmp_path)
    assert (info.name, info.kind, info.expected) == ("mads", "kp3d", 32649)
    assert info.skeleton["joint_names"] == list(MADS_19.joint_names)
    # Three pictures, each shown twice, in three cameras; the second of each shows nothing new.
    assert info.dropped == {"frames: moved too little": 9}
    assert [len(shard) for shard in shards] == [3, 3, 3]
    for number, shard in enumerate(shards):
        intrinsics, kc = native.camera(made, number)
        for i, record in enumerate(shard):
            video = f"multi_view_data/Taichi/Taichi_S1_C{number}.avi"
            assert record.image_id == f"{video}#{2 * i:06d}"
            assert (record.width, record.height) == (native.WIDTH, native.HEIGHT)
            np.testing.assert_allclose(record.intrinsics, intrinsics, rtol=1e-6)
            np.testing.assert_allclose(record.distortion_coeffs[:5], kc, rtol=1e-6)
            assert not record.distortion_coeffs[5:].any()
            (person,) = record.people
            np.testing.assert_allclose(person.points3d, poses[i], atol=1e-5)
            expected = scene.pixels(poses[i], intrinsics, kc)
            np.testing.assert_allclose(person.points2d, expected, atol=1e-2)
            assert person.validity3d.all() and person.validity2d.all()


def test_the_picture_is_that_of_the_frame(tmp_path, made):
    native.write(tmp_path, made)
    _, shards = read_all(tmp_path)
    for number, shard in enumerate(shards):
        intrinsics, kc = native.camera(made, number)
        for truth, record in zip(made, shard, strict=True):
            size = {"width": native.WIDTH, "height": native.HEIGHT}
            picture = scene.photographed(truth, intrinsics, kc, **size)[..., ::-1]
            difference = np.abs(decoded(record).astype(int) - picture)
            assert difference.mean() < 6  # MJPEG, then JPEG
            person = truth.people[0]
            mask = scene.mask_as_seen(truth, person, intrinsics, kc, **size)
            x, y, width, height = record.people[0].box
            inside = mask[int(y) : int(y + height) + 1, int(x) : int(x + width) + 1]
            assert np.count_nonzero(inside) > 0.95 * np.count_nonzero(mask)


def test_extrinsics_are_those_of_the_calibration(tmp_path, made):
    native.write(tmp_path, made[:1])
    _, ((record,), *_) = read_all(tmp_path)
    rotation = cv2.Rodrigues(native.OM_EXT)[0]
    np.testing.assert_allclose(record.extrinsics[:3, :3], rotation, atol=1e-6)
    np.testing.assert_allclose(record.extrinsics[:3, 3], native.T_EXT_MM / 1000, rtol=1e-6)
    # x = R X + t, by hand for the origin and one axis.
    path = str(tmp_path / "multi_view_data" / "Taichi" / "Calib_Cam0.mat")
    camera = mads_files.load_calibration(path)
    np.testing.assert_allclose(camera.world_to_camera(np.zeros(3)), [0.12, 0.95, 4.1])
    moved = camera.world_to_camera(np.array([1.0, 0, 0]))
    np.testing.assert_allclose(moved, rotation[:, 0] + [0.12, 0.95, 4.1])


def test_the_box_is_that_of_the_joints_widened_and_cut(tmp_path, made):
    poses = native.write(tmp_path, made[:1])
    _, ((record,), *_) = read_all(tmp_path)
    points = scene.pixels(poses[0], *native.camera(made[:1], 0))
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    half = 1.25 * np.ptp(points, axis=0) / 2
    low = np.maximum(middle - half, -0.5)
    high = np.minimum(middle + half, [native.WIDTH - 0.5, native.HEIGHT - 0.5])
    np.testing.assert_allclose(record.people[0].box, [*low, *(high - low)], atol=0.02)


def test_joints_outside_the_picture_have_no_2d_point(tmp_path, made):
    poses = native.write(tmp_path, made[:1])
    intrinsics, kc = native.camera(made[:1], 0)
    # Shifted until the middle of the person is on the right border.
    middle = scene.pixels(poses[0, :1], intrinsics, kc)[0, 0]
    poses[0, :, 0] += (native.WIDTH - middle) * poses[0, 0, 2] / intrinsics[0, 0]
    native.write_ground_truth(tmp_path, native.to_world_mm(poses))
    _, ((record,), *_) = read_all(tmp_path)
    (person,) = record.people
    x = scene.pixels(poses[0], intrinsics, kc)[:, 0]
    np.testing.assert_array_equal(person.validity2d, x < native.WIDTH - 0.5)
    assert person.validity3d.all() and 0 < np.count_nonzero(person.validity2d) < 19
    np.testing.assert_allclose(person.box[0] + person.box[2], native.WIDTH - 0.5, atol=1e-3)


def test_clips_of_15_joints_leave_toes_and_hands_unknown(tmp_path, made):
    poses = native.write(tmp_path, made[:2], n_joints=15)
    _, shards = read_all(tmp_path)
    present = np.setdiff1d(np.arange(19), ABSENT_IN_15)
    for pose, record in zip(poses, shards[0], strict=True):
        (person,) = record.people
        assert not person.validity3d[ABSENT_IN_15].any() and person.validity3d[present].all()
        assert not person.validity2d[ABSENT_IN_15].any()
        np.testing.assert_allclose(person.points3d[present], pose[present], atol=1e-5)
        assert np.isfinite(person.points3d).all() and np.isfinite(person.points2d).all()


def test_missing_joints_and_frames(tmp_path, made):
    poses = native.write(tmp_path, made)
    world_mm = native.to_world_mm(poses)
    world_mm[0, 4] = np.nan
    world_mm[1, 7, 2] = np.nan  # one coordinate: the joint is unknown
    world_mm[2] = np.nan
    native.write_ground_truth(tmp_path, world_mm)
    info, shards = read_all(tmp_path)
    assert info.dropped == {"frames: no joint known": 3}
    for joint, record in zip((4, 7), shards[0], strict=True):
        (person,) = record.people
        np.testing.assert_array_equal(np.flatnonzero(~person.validity3d), [joint])
        np.testing.assert_array_equal(np.flatnonzero(~person.validity2d), [joint])


def test_an_empty_cell_is_a_frame_without_joints(tmp_path, made):
    poses = native.write(tmp_path, made)
    native.write_ground_truth(tmp_path, [np.zeros((0, 0)), *native.to_world_mm(poses[1:])])
    info, shards = read_all(tmp_path)
    assert info.dropped == {"frames: no joint known": 3}
    assert [r.image_id[-6:] for r in shards[0]] == ["000001", "000002"]


def test_shards_are_parts_of_a_clip(tmp_path, made):
    native.write(tmp_path, made)
    info, shards = read_all(tmp_path, images_per_shard=2)
    assert [len(shard) for shard in shards] == [2, 1] * 3
    whole = [r for shard in read_all(tmp_path)[1] for r in shard]
    for a, b in zip(whole, (r for shard in shards for r in shard), strict=True):
        assert a.image_id == b.image_id and a.image_bytes == b.image_bytes


def test_the_shorter_of_video_and_ground_truth_counts(tmp_path, made):
    poses = native.write(tmp_path, made)
    world_mm = native.to_world_mm(poses)
    native.write_ground_truth(tmp_path, [*world_mm, *(world_mm + 500)])
    info, shards = read_all(tmp_path)
    assert info.dropped == {"frames: video and ground truth differ in length": 9}
    assert [len(shard) for shard in shards] == [3, 3, 3]
    native.write_ground_truth(tmp_path, world_mm[:1])
    info, shards = read_all(tmp_path)
    assert info.dropped == {"frames: video and ground truth differ in length": 6}
    assert [len(shard) for shard in shards] == [1, 1, 1]


def test_people_outside_the_picture_are_dropped(tmp_path, made):
    poses = native.write(tmp_path, made)
    poses[0, :, 0] += 30  # m
    poses[1, :, 2] -= 30  # behind the camera
    native.write_ground_truth(tmp_path, native.to_world_mm(poses))
    info, shards = read_all(tmp_path)
    assert info.dropped == {"frames: person outside the picture": 6}
    assert [len(shard) for shard in shards] == [1, 1, 1]


def test_an_implausible_frame_is_dropped_and_a_wrong_unit_refused(tmp_path, made):
    world_mm = native.to_world_mm(native.write(tmp_path, made))
    one_bad = world_mm.copy()
    one_bad[1, 12] += 5000
    native.write_ground_truth(tmp_path, one_bad)
    assert read_all(tmp_path)[0].dropped == {"frames: implausible bones": 3}
    native.write_ground_truth(tmp_path, world_mm * 1000)
    with pytest.raises(ValueError, match="Taichi_S1_GT.mat: frame .*millimetres"):
        mads.plan(str(tmp_path))


def test_damaged_videos_are_skipped_and_named(tmp_path, made):
    native.write(tmp_path, made)
    folder = tmp_path / "multi_view_data" / "Taichi"
    (folder / "Taichi_S1_C0.avi").write_bytes(b"nothing")
    content = (folder / "Taichi_S1_C1.avi").read_bytes()
    second = content.index(b"\xff\xd8\xff", content.index(b"\xff\xd8\xff") + 1)
    (folder / "Taichi_S1_C1.avi").write_bytes(content[: second + 40])
    (folder / "Taichi_S1_C2.avi").unlink()
    info, (unreadable, truncated) = read_all(tmp_path)
    assert info.dropped == {"videos: missing": 1}
    assert unreadable == [
        SkippedImage("multi_view_data/Taichi/Taichi_S1_C0.avi", unreadable[0].reason)
    ]
    assert "cannot be opened as a video" in unreadable[0].reason
    assert truncated[0].people
    assert [item.name[-6:] for item in truncated[1:]] == ["000001", "000002"]
    assert all("truncated" in item.reason for item in truncated[1:])


def test_videos_without_ground_truth_are_counted(tmp_path, made):
    native.write(tmp_path, made[:1])
    native.write(tmp_path, made[:1], clip="Taichi_S2")
    folder = tmp_path / "multi_view_data" / "Taichi"
    (folder / "Taichi_S2_GT.mat").unlink()
    (folder / "notes.avi").write_bytes(b"")
    info, shards = read_all(tmp_path)
    assert info.dropped == {"videos: without ground truth": 3} and len(shards) == 3


def test_lists_of_files_are_no_videos(tmp_path, made):
    native.write(tmp_path / "source", made[:1])
    video = tmp_path / "source" / "multi_view_data" / "Taichi" / "Taichi_S1_C0.avi"
    video.rename(tmp_path / "outside.avi")
    (video.parent / "link.avi").symlink_to(tmp_path / "outside.avi")
    video.write_text("ffconcat version 1.0\nfile link.avi\n")
    _, (first, *_) = read_all(tmp_path / "source")
    assert isinstance(first[0], SkippedImage) and "as an AVI file does" in first[0].reason
    video.unlink()
    video.symlink_to(tmp_path / "outside.avi")
    with pytest.raises(ValueError, match="leaves the source folder"):
        mads.plan(str(tmp_path / "source"))


def test_frames_are_100_mm_apart(tmp_path, made):
    poses = native.write(tmp_path, made)
    steps = np.arange(3)[:, np.newaxis, np.newaxis] * [0.07, 0, 0]
    native.write_ground_truth(tmp_path, native.to_world_mm(poses[:1] + steps))
    info, shards = read_all(tmp_path)
    assert [record.image_id[-6:] for record in shards[0]] == ["000000", "000002"]
    assert info.dropped == {"frames: moved too little": 3}


def test_folders_without_clips_are_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "multi_view_data", tmp_path / "multi_view_data" / "Kata"):
        folder.mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="there is no multi_view_data/<Action>/<Clip>_GT.mat"):
            mads.plan(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"om_ext": None}, "om_ext"),
        ({"T_ext": np.array([1.0, 2.0])}, "T_ext"),
        ({"T_ext": np.array([1.0, 2.0, np.nan])}, "T_ext .*not finite"),
        ({"kc": np.zeros(8)}, "kc has 8 numbers"),
        ({"KK": np.zeros((3, 3))}, "no camera matrix"),
        ({"KK": None, "fc": None}, "fc"),
    ],
)
def test_wrong_calibrations_are_refused(tmp_path, made, changes, message):
    native.write(tmp_path, made[:1])
    native.write_calibration(tmp_path, made[:1], 1, **changes)
    with pytest.raises(ValueError, match=f"Calib_Cam1.mat: .*{message}"):
        mads.plan(str(tmp_path))


def test_the_camera_matrix_may_be_given_in_parts(tmp_path, made):
    native.write(tmp_path, made[:1])
    whole = read_all(tmp_path)[1][1][0]
    native.write_calibration(tmp_path, made[:1], 1, KK=None)
    parts = read_all(tmp_path)[1][1][0]
    np.testing.assert_allclose(parts.intrinsics, whole.intrinsics, rtol=1e-6)


def test_a_missing_calibration_is_refused(tmp_path, made):
    native.write(tmp_path, made[:1])
    (tmp_path / "multi_view_data" / "Taichi" / "Calib_Cam2.mat").unlink()
    with pytest.raises(ValueError, match="Calib_Cam2.mat is missing"):
        mads.plan(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pose": np.zeros(3)}, "no GTpose2"),
        ({"GTpose2": np.zeros((4, 5))}, "shape"),
        ({"GTpose2": np.array([["a"], ["bc"]], object)}, "GTpose2{1}"),
    ],
)
def test_wrong_ground_truth_is_refused(tmp_path, made, content, message):
    native.write(tmp_path, made[:1])
    path = tmp_path / "multi_view_data" / "Taichi" / "Taichi_S1_GT.mat"
    scipy.io.savemat(path, content)
    with pytest.raises(ValueError, match=message):
        mads.plan(str(tmp_path))
    path.write_bytes(b"not a file of MATLAB at all" * 40)
    with pytest.raises(ValueError, match="Taichi_S1_GT.mat"):
        mads.plan(str(tmp_path))


def test_prepared_and_counted(tmp_path, made):
    native.write(tmp_path / "in", made, action="Kata", clip="Kata_P3")
    info, tasks = mads.plan(str(tmp_path / "in"), progress=True)
    out = str(tmp_path / "out")
    info = preparation.write_dataset(tasks, out, info, n_processes=1, progress=False)
    assert info.counts["n_images"] == info.counts["n_people_3d"] == 9
    again = dataclasses.replace(info, counts={}, shards=[])
    assert preparation.write_dataset(tasks, out, again, progress=False).shards == info.shards
