"""AGORA: rendered pictures of scans with SMPL joints, body parameters, masks and occlusion.

Conventions: see `agora_rows` (joints), `agora_cameras` (cameras and fits) and `agora_masks`. The
box is that of the projected joints, 1.1 times as large, united with the mask's and cut to the
picture. Both releases are read, 3840 x 2160 and 1280 x 720; where both are there the large one is
taken. Pictures are stored as JPEG. AGORA's fits are made with gendered models;
the records do not keep the gender.
"""

import collections
import dataclasses
import functools
import os
import re
from collections.abc import Iterator

import numpy as np
import tqdm

from metrabs_like.data import image_files, records, reencoding
from metrabs_like.data.readers import (
    agora_cameras,
    agora_masks,
    agora_rows,
    body_fits,
    projected_people,
)
from metrabs_like.data.safe_loading import load_pickle
from metrabs_like.skeletons import SMPL_24

EXPECTED = 5264
"""Examples in the original's training log."""

SPLITS = ("train", "validation")
MAX_OCCLUSION_PERCENT = 75
"""People who are hidden more than this are left out (PosePile)."""

_LICENCE = "AGORA: for non-commercial research only; see agora.is.tue.mpg.de."
_SIZES = ((agora_cameras.WIDTH, agora_cameras.HEIGHT), (1280, 720))


def plan(
    source_dir: str,
    *,
    split: str = "train",
    fits: bool = True,
    body_model: str = "smpl",
    jpeg_quality: int = reencoding.JPEG_QUALITY,
    images_per_shard: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of AGORA.

    Args:
      source_dir: folder with `SMPL/`, the pictures' folders (`train_0/` ..., `validation/`), the
        masks' (`train_masks.../`) and the fits' as the tables name them.
      split: "train" or "validation".
      fits: read the SMPL fits too; those that are missing or damaged are counted.
      body_model: whose parameters they are: "smpl" or "procedural".
      jpeg_quality: of the stored pictures, 1 to 100.
      images_per_shard: pictures per shard.
      seed: shuffles the pictures over the shards.
      progress: show a bar over the tables' rows.

    Returns:
      `(info, tasks)` for `preparation.write_dataset`. The kind is "param" if any person has body
      parameters, else "kp3d". `info.dropped` counts people, bodies and pictures left out.

    Raises:
      ValueError: if tables or pictures are missing, a table is not what it should be, or a path
        leaves the source folder.
    """
    if split not in SPLITS:
        raise ValueError(f"split = {split!r} is unknown; choose one of {', '.join(SPLITS)}.")
    described = body_fits.described_model(body_model)
    selection = agora_rows.Selection(MAX_OCCLUSION_PERCENT / 100, fits)
    dropped = collections.Counter()
    pictures = _pictures(source_dir, split, selection, dropped, progress)
    has_bodies = any(person.body is not None for picture in pictures for person in picture.people)
    source = {
        "reader": "agora3",
        "split": split,
        "fits": fits,
        "jpeg_quality": jpeg_quality,
        "images_per_shard": images_per_shard,
        "seed": seed,
    }
    info = records.DatasetInfo(
        name=f"agora3_{split}",
        kind="param" if has_bodies else "kp3d",
        skeleton=SMPL_24.to_dict(),
        licence=_LICENCE,
        source=source,
        body_model=described if has_bodies else {},
        expected=EXPECTED if split == "train" else 0,
        dropped=dict(+dropped),
    )
    folders = agora_masks.mask_folders(source_dir, split)
    read = functools.partial(_read_shard, source_dir, folders, jpeg_quality)
    shards = projected_people.shards_of(pictures, images_per_shard, seed)
    return info, [functools.partial(read, shard) for shard in shards]


def _pictures(source_dir, split, selection, dropped, progress):
    """Reads all tables of a split."""
    tables, paths = _tables(source_dir, split), _picture_paths(source_dir, split)
    pictures = []
    with tqdm.tqdm(unit=" examples", desc="AGORA", disable=not progress) as bar:
        for table in tables:
            frame = load_pickle(image_files.confined_path(source_dir, table))
            agora_rows.check_columns(frame, table)
            for i in range(len(frame["imgPath"])):
                path = agora_rows.checked_text(frame["imgPath"][i], f"{table}: imgPath")
                name = agora_rows.picture_name(os.path.basename(path))
                if name not in paths:
                    dropped["pictures: the file is missing"] += 1
                    continue
                picture = agora_rows.read_row(frame, i, paths[name], source_dir, selection, dropped)
                bar.update(picture.n_people)
                if picture.people:
                    pictures.append(picture)
                else:
                    dropped["pictures: nobody is kept"] += 1
    if not pictures:
        raise ValueError(f"source_dir = {source_dir}: nobody is kept ({dict(dropped)}).")
    return pictures


def _tables(source_dir, split):
    """The dataframes of a split, relative to the source folder."""
    folder = os.path.join(source_dir, "SMPL")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    found = [f"SMPL/{name}" for name in names if re.fullmatch(rf"{split}_\d+_withjv\.pkl", name)]
    if not found:
        raise ValueError(
            f"source_dir = {source_dir}: there is no SMPL/{split}_<k>_withjv.pkl in it; name the "
            "folder that holds AGORA's SMPL/, and download the tables with joints."
        )
    return found


def _picture_paths(source_dir, split):
    """The pictures of a split: name without size and extension -> path; large ones win."""
    folders = sorted(os.listdir(source_dir)) if os.path.isdir(source_dir) else []
    folders = [name for name in folders if re.fullmatch(rf"{split}(_\d+)?", name)]
    paths = {}
    for folder in folders:
        path = os.path.join(source_dir, folder)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            if name.lower().endswith((".png", ".jpg")):
                key = agora_rows.picture_name(name)
                if key not in paths or agora_rows.SMALL_SUFFIX not in name:
                    paths[key] = f"{folder}/{name}"
    if not paths:
        raise ValueError(
            f"source_dir = {source_dir}: there are no pictures in folders {split}_<k>/ or {split}/."
        )
    return paths


def _read_shard(
    source_dir, mask_folders, jpeg_quality, pictures, shard_index
) -> Iterator[records.Record | records.SkippedImage]:
    """Yields the records of one shard."""
    del shard_index
    for picture in pictures:
        try:
            yield _record(source_dir, mask_folders, jpeg_quality, picture)
        except image_files.UnusableImage as reason:
            yield records.SkippedImage(picture.path, str(reason))


def _record(source_dir, mask_folders, jpeg_quality, picture):
    path = image_files.confined_path(source_dir, picture.path)
    image_bytes, header = reencoding.read_as_jpeg(path, jpeg_quality)
    if (header.width, header.height) not in _SIZES:
        raise image_files.UnusableImage(
            f"has {header.width} x {header.height} px; AGORA's have 3840 x 2160 or 1280 x 720"
        )
    found = agora_masks.read_visible_masks(
        source_dir, mask_folders, picture.name, picture.n_people, header.width
    )
    scale = np.float32(header.width / agora_cameras.WIDTH)
    people = []
    for person, number in zip(picture.people, picture.numbers, strict=True):
        mask, mask_box = found[number]
        people.append(
            dataclasses.replace(
                person,
                box=projected_people.united_box(
                    person.box * scale, mask_box, header.width, header.height
                ),
                points2d=person.points2d * scale,
                mask=mask,
                mask_box=mask_box,
            )
        )
    return records.Record(
        image_bytes=image_bytes,
        height=header.height,
        width=header.width,
        image_id=picture.path,
        dataset="agora3",
        intrinsics=picture.view.intrinsics(header.width, header.height).astype(np.float32),
        extrinsics=picture.view.camera_from_world().astype(np.float32),
        people=people,
    )
