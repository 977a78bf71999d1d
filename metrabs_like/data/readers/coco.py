"""COCO keypoints and masks: 2D supervision from `person_keypoints_*.json`.

Conventions: see `coco_annotations` (pixels, boxes) and `coco_pictures` (the assumed camera). The
releases of 2014 and 2017 are read alike; masks are those of `segmentation`, polygons or run-length
codes.
"""

import collections
import os

import numpy as np

from metrabs_like.data import records
from metrabs_like.data.readers import coco_annotations, coco_pictures, coco_selection
from metrabs_like.skeletons import COCO_17

EXPECTED = {"train2014": 38592}
"""Examples per folder in the original's training log, with the selection "posepile"."""

_LICENCE = "COCO annotations CC BY 4.0; every picture has its own Flickr licence."


def plan(
    source_dir: str,
    *,
    annotations: str = "",
    min_joints: int = 4,
    selection: str = "all",
    with_empty: bool = False,
    max_images: int = 0,
    images_per_shard: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of a COCO keypoint folder.

    Args:
      source_dir: folder with `annotations/` and the picture folders (`train2017/` ...).
      annotations: file in `annotations/`; empty takes the only `person_keypoints_*.json` there.
      min_joints: people with fewer labelled joints are left out (selection "all").
      selection: "all"; "posepile": the rules of `coco_selection.posepile_people`; or "detector":
        everybody with a box, also people without joints, and the regions of crowds; image ids are
        then COCO's numbers, by which its evaluation compares.
      with_empty: keep pictures without any person row too, as records without people; they serve
        as backgrounds, and a detector learns and is measured on them.
      max_images: pictures at most, drawn by `seed`; a larger number keeps these and adds others. 0
        takes all.
      images_per_shard: pictures per shard.
      seed: shuffles the pictures over the shards.
      progress: show a bar over the annotation rows.

    Returns:
      `(info, tasks)` for `preparation.write_dataset`. Pictures with people none of whom is usable
      are left out; crowd regions are not people (a detector's pictures may have nothing else).
      `info.dropped` counts by reason.

    Raises:
      ValueError: if the annotation file is missing, or there are several, or it is broken; or for
        an unknown selection or a negative `max_images`.
    """
    coco_selection.check_selection(selection)
    path = coco_annotations.find(source_dir, annotations, "person_keypoints_")
    dropped = collections.Counter()
    images = coco_annotations.load(path, dropped, progress=progress)
    kept = _kept(images, selection, min_joints, with_empty, dropped)
    dropped["images: without a usable person"] += len(images) - len(kept)
    drawn = _drawn(kept, max_images, seed)
    dropped["images: more than max_images"] += len(kept) - len(drawn)
    folder = os.path.basename(path).removesuffix(".json").removeprefix("person_keypoints_")
    source = {
        "reader": "coco",
        "annotations": os.path.basename(path),
        "min_joints": min_joints,
        "selection": selection,
        "with_empty": with_empty,
        "images_per_shard": images_per_shard,
        "seed": seed,
        "fov_degrees": coco_pictures.DEFAULT_FOV_DEGREES,
    }
    if len(drawn) < len(kept):  # else these are the same data as without a limit
        source["max_images"] = max_images
    info = records.DatasetInfo(
        name=f"coco_{folder}",
        kind="kp2d",
        skeleton=COCO_17.to_dict(),
        licence=_LICENCE,
        source=source,
        expected=EXPECTED.get(folder, 0) if selection == "posepile" else 0,
        dropped=dict(+dropped),
    )
    options = {"images_per_shard": images_per_shard, "seed": seed}
    options["ids_are_numbers"] = selection == "detector"
    tasks = coco_pictures.shard_tasks(source_dir, folder, "coco", drawn, **options)
    return info, tasks


def _kept(images, selection, min_joints, with_empty, dropped):
    """The images to store, with the people and crowds to store."""
    is_detector = selection == "detector"
    for image in images:
        image.people = _selected(image.people, selection, min_joints, dropped)
        image.crowd_boxes = image.crowd_boxes if is_detector else []
    if is_detector:
        del dropped[coco_annotations.CROWDS]
    return [
        image
        for image in images
        if image.people or image.crowd_boxes or (with_empty and image.is_empty)
    ]


def _drawn(images, max_images, seed):
    """At most `max_images` of the images, in their order."""
    if max_images < 0:
        raise ValueError(f"max_images = {max_images} must be at least 1, or 0 for all pictures.")
    if not 0 < max_images < len(images):
        return images
    order = np.random.default_rng([seed, 1]).permutation(len(images))
    return [images[i] for i in sorted(order[:max_images])]


def _selected(people, selection, min_joints, dropped):
    if selection == "posepile":
        return coco_selection.posepile_people(people, dropped)
    if selection == "detector":
        return coco_selection.detector_people(people, dropped)
    return coco_selection.with_min_joints(people, min_joints, dropped)
