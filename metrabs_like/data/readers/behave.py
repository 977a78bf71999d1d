"""BEHAVE: people who handle objects, seen by calibrated Kinects.

Conventions: 3D joints are OpenPose's 25, lifted by the data set's authors; body parameters are
their SMPL-H fits, hands left out. 2D points are projections of the 3D joints with the rational lens
model, the box is that of the projected joints, 1.1 times as large, united with the mask's and cut
to the picture. A person's occlusion is the share of their joints inside the picture that the
object's mask covers and their own does not. The frames are those of the release with one a second.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import re
from collections.abc import Iterator

import numpy as np
import tqdm

from metrabs_like.data import image_files, masks, plausibility, records, reencoding
from metrabs_like.data.readers import behave_files, body_fits, counted_fits, projected_people
from metrabs_like.skeletons import BODY_25

EXPECTED = 37736
"""Examples in the original's training log."""

SPLITS = ("train", "test")
MIN_SCORE = 0.3
"""Of a joint that counts as known, 0..1 (ours; OpenPose gives 0 where it sees nothing)."""

_LICENCE = "BEHAVE: for non-commercial research only; see its authors (Bhatnagar et al. 2022)."


@dataclasses.dataclass
class _Picture:
    """A colour picture of one Kinect with its person."""

    folder: str  # of the frame, relative to the source folder
    kinect: behave_files.Kinect
    person: records.Person

    def path(self, what: str) -> str:
        """The path of one of the Kinect's files in the frame's folder."""
        return f"{self.folder}/k{self.kinect.number}.{what}"


def plan(
    source_dir: str,
    *,
    split: str = "train",
    fits: bool = True,
    body_model: str = "smpl",
    min_score: float = MIN_SCORE,
    images_per_shard: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of BEHAVE.

    Args:
      source_dir: folder with `split.json`, `calibs/` and `sequences/`.
      split: "train" or "test".
      fits: read the SMPL-H fits too; those that are missing or damaged are counted.
      body_model: whose parameters they are: "smpl" or "procedural".
      min_score: joints with a lower score are unknown, 0..1.
      images_per_shard: pictures per shard.
      seed: shuffles the pictures over the shards.
      progress: show a bar over the pictures.

    Returns:
      `(info, tasks)` for `preparation.write_dataset`. The kind is "param" if any person has body
      parameters, else "kp3d". `info.dropped` counts sequences, frames and pictures left out.

    Raises:
      ValueError: if there is no sequence of the split, a calibration is not what it should be, or
        a path leaves the source folder.
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    described = body_fits.described_model(body_model)
    dropped = collections.Counter()
    pictures = _pictures(source_dir, split, fits, min_score, dropped, progress)
    has_bodies = any(picture.person.body is not None for picture in pictures)
    source = {
        "reader": "behave",
        "split": split,
        "fits": fits,
        "min_score": min_score,
        "images_per_shard": images_per_shard,
        "seed": seed,
    }
    info = records.DatasetInfo(
        name=f"behave_{split}",
        kind="param" if has_bodies else "kp3d",
        skeleton=BODY_25.to_dict(),
        licence=_LICENCE,
        source=source,
        body_model=described if has_bodies else {},
        expected=EXPECTED if split == "train" else 0,
        dropped=dict(+dropped),
    )
    read = functools.partial(_read_shard, source_dir)
    shards = projected_people.shards_of(pictures, images_per_shard, seed)
    return info, [functools.partial(read, shard) for shard in shards]


def _pictures(source_dir, split, fits, min_score, dropped, progress):
    """Reads the annotations of all sequences of a split."""
    cameras, pictures, n_sequences = {}, [], 0
    with tqdm.tqdm(unit=" examples", desc="BEHAVE", disable=not progress) as bar:
        for sequence in behave_files.sequences(source_dir, split):
            folder = f"sequences/{sequence}"
            if not os.path.isdir(image_files.confined_path(source_dir, folder)):
                dropped["sequences: missing"] += 1
                continue
            n_sequences += 1
            kinects = behave_files.load_kinects(source_dir, sequence, cameras)
            for frame in _frames(os.path.join(source_dir, folder)):
                found = _frame_pictures(
                    source_dir, f"{folder}/{frame}", kinects, fits, min_score, dropped
                )
                pictures += found
                bar.update(len(kinects))
    if not n_sequences:
        raise ValueError(
            f"source_dir = {source_dir}: there is no sequence of the split {split!r} in "
            "sequences/; name the folder that holds BEHAVE's split.json and sequences/."
        )
    if not pictures:
        raise ValueError(f"source_dir = {source_dir}: nobody is kept ({dict(dropped)}).")
    return pictures


def _frames(folder):
    """The frames' folders, `t0003.000`, in the order of time."""
    return sorted(name for name in os.listdir(folder) if re.fullmatch(r"t\d+\.\d+", name))


def _frame_pictures(source_dir, folder, kinects, fits, min_score, dropped):
    """The pictures of one moment in which the person is seen."""
    path = image_files.confined_path(source_dir, f"{folder}/person/person_J3d.json")
    try:
        joints = behave_files.load_joints(path, min_score)
    except (ValueError, OSError):
        dropped["frames: the file of 3D joints cannot be read; copy it again"] += 1
        return []
    if joints is None or not np.isfinite(joints).any():
        dropped["frames: without 3D joints"] += 1
        return []
    validity = np.isfinite(joints).all(axis=-1)
    try:
        plausibility.check_person_size(joints, validity, BODY_25, folder)
    except ValueError:
        dropped["frames: implausible bones"] += 1
        return []
    path = image_files.confined_path(source_dir, f"{folder}/person/fit02/person_fit.pkl")
    fit = counted_fits.load_fit(path, dropped) if fits else None
    pictures = []
    for kinect in kinects:
        person = _person(joints, validity, kinect)
        if person is None:
            dropped["pictures: the person is outside"] += 1
            continue
        person.body = None if fit is None else _body(fit, kinect)
        picture = _Picture(folder, kinect, person)
        if os.path.exists(os.path.join(source_dir, picture.path("color.jpg"))):
            pictures.append(picture)
        else:
            dropped["pictures: the file is missing"] += 1
    return pictures


def _person(joints, validity, kinect):
    """The person in one Kinect; None if they are not in its picture."""
    camera = kinect.camera_from_world
    points3d = joints @ camera[:3, :3].T + camera[:3, 3]
    points2d, is_seen = projected_people.project(
        points3d, kinect.intrinsics, kinect.distortion_coeffs, kinect.max_radius
    )
    return projected_people.person_seen(
        points3d, validity, points2d, is_seen, kinect.width, kinect.height
    )


def _body(fit, kinect):
    return records.BodyParameters(
        pose_rotvecs=fit.pose_rotvecs.astype(np.float32),
        shape_betas=fit.shape_betas.astype(np.float32),
        translation=fit.translation.astype(np.float32),
        camera_from_body=kinect.camera_from_world[:3].astype(np.float32),
    )


def _read_shard(
    source_dir, pictures, shard_index
) -> Iterator[records.Record | records.SkippedImage]:
    """Yields the records of one shard."""
    del shard_index
    for picture in pictures:
        try:
            yield _record(source_dir, picture)
        except image_files.UnusableImage as reason:
            yield records.SkippedImage(picture.path("color.jpg"), str(reason))


def _record(source_dir, picture):
    kinect, name = picture.kinect, picture.path("color.jpg")
    image_bytes, header = image_files.read_image(image_files.confined_path(source_dir, name))
    if (header.width, header.height) != (kinect.width, kinect.height):
        raise image_files.UnusableImage(
            f"has {header.width} x {header.height} px, its calibration says "
            f"{kinect.width} x {kinect.height}"
        )
    mask, mask_box, occlusion = _mask_and_occlusion(source_dir, picture)
    size = header.width, header.height
    box = projected_people.united_box(picture.person.box, mask_box, *size)
    person = dataclasses.replace(
        picture.person, box=box, mask=mask, mask_box=mask_box, occlusion=occlusion
    )
    return records.Record(
        image_bytes=image_bytes,
        height=header.height,
        width=header.width,
        image_id=name,
        dataset="behave",
        intrinsics=kinect.intrinsics.astype(np.float32),
        distortion_coeffs=kinect.distortion_coeffs.astype(np.float32),
        extrinsics=kinect.camera_from_world.astype(np.float32),
        people=[person],
    )


def _mask_and_occlusion(source_dir, picture):
    """The person's mask, and how much of them the object hides."""
    person = _read_mask(source_dir, picture, "person_mask")
    if person is None:
        return None, None, 0.0
    mask, mask_box = masks.encode_mask(person)
    thing = _read_mask(source_dir, picture, "obj_rend_mask")
    points = np.rint(picture.person.points2d[picture.person.validity2d]).astype(int)
    # Float32 rounds what is just inside the border up to it.
    points = np.clip(points, 0, [person.shape[1] - 1, person.shape[0] - 1])
    if thing is None or not len(points):
        return mask, mask_box, 0.0
    columns, rows = points.T
    is_hidden = thing[rows, columns] & ~person[rows, columns]
    return mask, mask_box, float(is_hidden.mean())


def _read_mask(source_dir, picture, what):
    """A mask, bool of the picture's size; None where there is none."""
    for extension in ("jpg", "png"):
        name = picture.path(f"{what}.{extension}")
        path = image_files.confined_path(source_dir, name)
        if os.path.exists(path):
            try:
                pixels, header = reencoding.read_pixels(path)
            except image_files.UnusableImage as reason:
                raise image_files.UnusableImage(f"has the mask {name}, which {reason}") from None
            if (header.width, header.height) != (picture.kinect.width, picture.kinect.height):
                raise image_files.UnusableImage(f"has the mask {name}, which is of another size")
            return pixels[..., 0] > 127
    return None
