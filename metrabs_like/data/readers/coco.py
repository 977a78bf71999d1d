"""COCO keypoints: 2D supervision from `person_keypoints_*.json` (read with pycocotools).

Conventions: COCO writes integer pixel indices, which are pixel centres here too. COCO knows no
cameras: intrinsics are those of a pinhole camera with a field of view of 55 degrees along the
longer side of the image (the default of the released MeTRAbs models) and the principal point in the
middle. That is right for the 2D supervision this reader gives, up to the true field of view.
"""

import contextlib
import functools
import os
from collections.abc import Iterator

import numpy as np

from metrabs_like.data import image_files, records
from metrabs_like.data.cameras import intrinsics_from_fov
from metrabs_like.skeletons import COCO_17

DEFAULT_FOV_DEGREES = 55.0
_MIN_BOX_SIDE_PX = 8.0


def plan(
    source_dir: str,
    *,
    annotations: str = "",
    min_joints: int = 4,
    images_per_shard: int = 500,
    seed: int = 0,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of a COCO keypoint folder.

    Args:
      source_dir: folder with `annotations/` and the picture folders (`train2017/` ...).
      annotations: file in `annotations/`; empty takes the only `person_keypoints_*.json` there.
      min_joints: people with fewer labelled joints are left out.
      images_per_shard: pictures per shard.
      seed: shuffles the pictures over the shards.

    Returns:
      `(info, tasks)` for `preparation.write_dataset`. Pictures without a usable person are left
      out; crowd regions are not people.

    Raises:
      ValueError: if the annotation file is missing, or there are several, or it is broken.
    """
    path = _annotation_path(source_dir, annotations)
    images = _images_with_people(path, min_joints)
    order = np.random.default_rng(seed).permutation(len(images))
    images = [images[i] for i in order]
    shards = [images[i : i + images_per_shard] for i in range(0, len(images), images_per_shard)]
    folder = os.path.basename(path).removesuffix(".json").removeprefix("person_keypoints_")
    source = {
        "reader": "coco",
        "annotations": os.path.basename(path),
        "min_joints": min_joints,
        "images_per_shard": images_per_shard,
        "seed": seed,
        "fov_degrees": DEFAULT_FOV_DEGREES,
    }
    info = records.DatasetInfo(
        name=f"coco_{folder}",
        kind="kp2d",
        skeleton=COCO_17.to_dict(),
        licence="COCO annotations CC BY 4.0; every picture has its own Flickr licence.",
        source=source,
    )
    return info, [functools.partial(_read_shard, source_dir, folder, shard) for shard in shards]


def _annotation_path(source_dir, annotations):
    """Finds the annotation file."""
    folder = os.path.join(source_dir, "annotations")
    if annotations:
        found = [annotations] if os.path.isfile(os.path.join(folder, annotations)) else []
    else:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found = [n for n in names if n.startswith("person_keypoints_") and n.endswith(".json")]
    if len(found) != 1:
        raise ValueError(
            f"source_dir = {source_dir}: {len(found)} annotation files match in {folder} "
            f"({', '.join(found) or 'none'}); name one of its person_keypoints_*.json."
        )
    return os.path.join(folder, found[0])


def _images_with_people(path, min_joints):
    """Returns one small dict a picture: file_name, size, people (box and keypoints)."""
    from pycocotools import coco  # here, because only this reader needs it

    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as silence,
            contextlib.redirect_stdout(silence),
        ):
            annotations = coco.COCO(path)
    except (ValueError, AssertionError, KeyError) as error:
        raise ValueError(f"{path} is no COCO keypoint file ({error}); download it again.") from None
    images = []
    for image_id in sorted(annotations.getImgIds()):
        image = annotations.loadImgs([image_id])[0]
        rows = annotations.loadAnns(annotations.getAnnIds([image_id], iscrowd=False))
        people = [row for row in rows if _is_usable(row, min_joints)]
        if people:
            kept = [{"bbox": row["bbox"], "keypoints": row["keypoints"]} for row in people]
            size = {name: image[name] for name in ("file_name", "width", "height")}
            images.append({**size, "people": kept})
    return images


def _is_usable(row, min_joints):
    """Whether an annotation row is one person with enough labelled joints."""
    keypoints = row.get("keypoints", ())
    n_labelled = sum(v > 0 for v in keypoints[2::3])
    width, height = row["bbox"][2:]
    is_large = max(width, height) >= _MIN_BOX_SIDE_PX and min(width, height) > 0
    return len(keypoints) == 51 and n_labelled >= min_joints and is_large


def _read_shard(
    source_dir, folder, images, shard_index
) -> Iterator[records.Record | records.SkippedImage]:
    """Yields the records of one shard."""
    del shard_index
    for image in images:
        name = f"{folder}/{image['file_name']}"
        try:
            path = image_files.confined_path(source_dir, name)
            image_bytes, header = image_files.read_image(path)
            if (header.width, header.height) != (image["width"], image["height"]):
                raise image_files.UnusableImage(
                    f"has {header.width} x {header.height} px, its annotation says "
                    f"{image['width']} x {image['height']}"
                )
        except image_files.UnusableImage as reason:
            yield records.SkippedImage(name, str(reason))
            continue
        yield records.Record(
            image_bytes=image_bytes,
            height=header.height,
            width=header.width,
            image_id=name,
            dataset="coco",
            intrinsics=intrinsics_from_fov(DEFAULT_FOV_DEGREES, header.width, header.height),
            people=[_person(row) for row in image["people"]],
        )


def _person(row):
    keypoints = np.asarray(row["keypoints"], np.float32).reshape(-1, 3)
    return records.Person(
        box=np.asarray(row["bbox"], np.float32),
        points3d=np.zeros((len(keypoints), 3), np.float32),
        validity3d=np.zeros(len(keypoints), bool),
        points2d=keypoints[:, :2],
        validity2d=keypoints[:, 2] > 0,
    )
