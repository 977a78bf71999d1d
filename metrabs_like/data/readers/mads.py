"""MADS (martial arts, dancing, sports): 3D joints of one person seen by three calibrated cameras.

`multi_view_data` is read, as videos with ground truth and Bouguet's calibration. `depth_data` is
left out: its frames must be rectified with index tables whose rectified camera no public
description states, so that its projections could not be checked.

Conventions: frames are counted from 0 and stored as JPEG (quality 95). A frame is kept when some
joint moved 100 mm since the last kept frame of the clip (PosePile's rule), for all cameras alike.
The box is that of the projected joints, 1.25 times as large, cut to the picture. 2D points are
projections of the 3D ones, valid inside the picture.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import re
from collections.abc import Iterator

import cv2
import numpy as np
import tqdm

from metrabs_like.data import image_files, plausibility, records, videos
from metrabs_like.data.readers import mads_files
from metrabs_like.data.readers.pose_sampling import MIN_MOTION_M, moving_frames
from metrabs_like.skeletons import MADS_19

EXPECTED = 32649
"""Examples in the original's training log."""

N_CAMERAS = 3
BOX_FACTOR = 1.25
JPEG_QUALITY = 95
_MIN_DEPTH_M = 0.1
_MIN_BOX_SIDE_PX = 8.0
_LICENCE = "MADS: for research only; ask its authors (Zhang et al. 2017) for other uses."


@dataclasses.dataclass(frozen=True)
class _View:
    """Kept frames of one clip in one camera."""

    video: str
    camera: mads_files.Calibration
    numbers: list[int]
    people: list[records.Person]


def plan(
    source_dir: str,
    *,
    min_motion_m: float = MIN_MOTION_M,
    images_per_shard: int = 500,
    progress: bool = False,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of MADS.

    Args:
      source_dir: folder with `multi_view_data/<Action>/`.
      min_motion_m: a frame is kept when some joint moved as far since the last kept one; 0 keeps
        every frame.
      images_per_shard: frames per shard at most; a shard is a part of one clip and camera.
      progress: show a bar over the clips (frames/s).

    Returns:
      `(info, tasks)` for `preparation.write_dataset`; `info.dropped` counts videos and frames of
      all cameras by reason.

    Raises:
      ValueError: if there is no clip, a calibration is missing, or a file is of another form; if
        most of a clip's people are not the size of people.
    """
    dropped = collections.Counter()
    tasks = []
    with tqdm.tqdm(unit=" frames", desc="MADS", disable=not progress) as bar:
        for ground_truth in _ground_truth_files(source_dir, dropped):
            tasks += _clip_tasks(
                source_dir, ground_truth, min_motion_m, images_per_shard, dropped, bar
            )
    source = {
        "reader": "mads",
        "part": "multi_view_data",
        "min_motion_m": min_motion_m,
        "images_per_shard": images_per_shard,
    }
    info = records.DatasetInfo(
        name="mads",
        kind="kp3d",
        skeleton=MADS_19.to_dict(),
        licence=_LICENCE,
        source=source,
        expected=EXPECTED,
        dropped=dict(+dropped),
    )
    return info, tasks


def _ground_truth_files(source_dir, dropped):
    """Paths `multi_view_data/<Action>/<Clip>_GT.mat`, relative to the source folder."""
    part = "multi_view_data"
    root = os.path.join(source_dir, part)
    actions = sorted(os.listdir(root)) if os.path.isdir(root) else []
    files = [
        f"{part}/{action}/{name}"
        for action in actions
        if os.path.isdir(os.path.join(root, action))
        for name in sorted(os.listdir(os.path.join(root, action)))
    ]
    found = [name for name in files if name.endswith("_GT.mat")]
    if not found:
        raise ValueError(
            f"source_dir = {source_dir}: there is no {part}/<Action>/<Clip>_GT.mat in it; name the "
            f"folder that holds MADS' {part}."
        )
    clips = {name.removesuffix("_GT.mat") for name in found}
    videos_of = [re.fullmatch(r"(.*)_C\d+\.avi", name) for name in files]
    dropped["videos: without ground truth"] += sum(
        video is not None and video[1] not in clips for video in videos_of
    )
    return found


def _clip_tasks(source_dir, ground_truth, min_motion_m, images_per_shard, dropped, bar):
    """The tasks of one clip, camera by camera."""
    poses = mads_files.load_poses(image_files.confined_path(source_dir, ground_truth))
    is_annotated = np.isfinite(poses).all(axis=-1).any(axis=-1)
    moving = moving_frames(poses, min_motion_m)
    kept = _plausible_frames(poses, moving, ground_truth)
    folder = os.path.dirname(ground_truth)
    tasks = []
    for camera_number in range(N_CAMERAS):
        video = f"{ground_truth.removesuffix('_GT.mat')}_C{camera_number}.avi"
        path = image_files.confined_path(source_dir, video)
        if not os.path.exists(path):
            dropped["videos: missing"] += 1
            continue
        calibration = f"{folder}/Calib_Cam{camera_number}.mat"
        camera = mads_files.load_calibration(image_files.confined_path(source_dir, calibration))
        try:
            header = videos.read_header(path)
        except image_files.UnusableImage as reason:
            tasks.append(functools.partial(_skip, video, str(reason)))
            continue
        n_frames = min(header.n_frames, len(poses))
        dropped["frames: video and ground truth differ in length"] += abs(
            header.n_frames - len(poses)
        )
        dropped["frames: no joint known"] += int(np.count_nonzero(~is_annotated[:n_frames]))
        numbers = [i for i in kept if i < n_frames]
        n_moving = sum(i < n_frames for i in moving)
        n_annotated = int(np.count_nonzero(is_annotated[:n_frames]))
        dropped["frames: moved too little"] += n_annotated - n_moving
        dropped["frames: implausible bones"] += n_moving - len(numbers)
        view = _seen(_View(video, camera, numbers, []), poses, header, dropped)
        tasks += _parts(source_dir, view, images_per_shard)
        bar.update(n_frames)
    return tasks


def _plausible_frames(poses, kept, ground_truth):
    """Leaves out frames with impossible bones; where they are the rule, the unit is wrong."""
    good, error = [], None
    for index in kept:
        validity = np.isfinite(poses[index]).all(axis=-1)
        try:
            plausibility.check_person_size(
                poses[index], validity, MADS_19, f"{ground_truth}: frame {index}"
            )
            good.append(index)
        except ValueError as found:
            error = found
    if len(good) < len(kept) / 2:
        raise error
    return good


def _seen(view, poses, header, dropped):
    """The frames of a view in which the person is in the picture, with the people."""
    numbers, people = [], []
    for number in view.numbers:
        person = _person(poses[number], view.camera, header.width, header.height)
        if person is None:
            dropped["frames: person outside the picture"] += 1
        else:
            numbers.append(number)
            people.append(person)
    return dataclasses.replace(view, numbers=numbers, people=people)


def _person(pose, camera, width, height) -> records.Person | None:
    """The person of one frame in one camera; None if they are not in the picture."""
    validity3d = np.isfinite(pose).all(axis=-1)
    points3d = np.where(validity3d[:, np.newaxis], camera.world_to_camera(pose), 0.0)
    is_in_front = validity3d & (points3d[:, 2] > _MIN_DEPTH_M)
    points2d = np.zeros((len(pose), 2))
    points2d[is_in_front] = camera.camera_to_image(points3d[is_in_front])
    size = np.array([width, height])
    validity2d = is_in_front & ((points2d > -0.5) & (points2d < size - 0.5)).all(axis=-1)
    if not validity2d.any():
        return None
    low, high = points2d[is_in_front].min(axis=0), points2d[is_in_front].max(axis=0)
    middle, half = (low + high) / 2, BOX_FACTOR * (high - low) / 2
    low, high = np.maximum(middle - half, -0.5), np.minimum(middle + half, size - 0.5)
    if (high - low).min() < 1 or (high - low).max() < _MIN_BOX_SIDE_PX:
        return None
    return records.Person(
        box=np.concatenate([low, high - low]).astype(np.float32),
        points3d=points3d.astype(np.float32),
        validity3d=validity3d,
        points2d=points2d.astype(np.float32),
        validity2d=validity2d,
    )


def _parts(source_dir, view, images_per_shard):
    """Tasks of at most so many frames each."""
    tasks = []
    for i in range(0, len(view.numbers), images_per_shard):
        chosen = slice(i, i + images_per_shard)
        part = dataclasses.replace(view, numbers=view.numbers[chosen], people=view.people[chosen])
        tasks.append(functools.partial(_read_part, source_dir, part))
    return tasks


def _skip(name, reason, shard_index) -> Iterator[records.SkippedImage]:
    """The task of a video that cannot be read at all."""
    del shard_index
    yield records.SkippedImage(name, reason)


def _read_part(source_dir, view, shard_index) -> Iterator[records.Record | records.SkippedImage]:
    """Yields the records of one shard; the video is opened once and read in order."""
    del shard_index
    path = image_files.confined_path(source_dir, view.video)
    frames = videos.read_frames(path, view.numbers)
    for (number, picture), person in zip(frames, view.people, strict=True):
        name = f"{view.video}#{number:06d}"
        if picture is None:
            yield records.SkippedImage(
                name, "cannot be read (the video is truncated or damaged); copy it again"
            )
            continue
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        yield records.Record(
            image_bytes=cv2.imencode(".jpg", picture, options)[1].tobytes(),
            height=picture.shape[0],
            width=picture.shape[1],
            image_id=name,
            dataset="mads",
            intrinsics=view.camera.intrinsics.astype(np.float32),
            distortion_coeffs=view.camera.distortion_coeffs.astype(np.float32),
            extrinsics=view.camera.extrinsics.astype(np.float32),
            people=[person],
        )
