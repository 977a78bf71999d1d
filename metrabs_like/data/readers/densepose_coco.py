"""DensePose-COCO: marked points of people's surfaces, with their keypoints and masks.

Conventions: `dp_x`, `dp_y` are stretched over the person's **rounded** box with 255 as its far edge
(the authors' notebook; PosePile also cuts the box at the border of the picture first, and
detectron2 divides by 256: at most 0.4 per cent of the box apart). Surface points are barycentric on
the body model's mesh; see `densepose_charts`. Pixels, boxes and the assumed camera are COCO's.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os

import numpy as np

from metrabs_like.data import dataset_info, image_files, records
from metrabs_like.data.readers import (
    coco_annotations,
    coco_masks,
    coco_pictures,
    coco_selection,
)
from metrabs_like.data.readers.densepose_charts import N_CHARTS, N_SMPL_VERTICES, load_charts
from metrabs_like.skeletons import COCO_17

EXPECTED = 29586
"""Examples in the original's training log (train, selection "posepile")."""

BODY_MODELS = ("smpl", "procedural")
_SELECTIONS = ("all", "posepile")
_BOX_STRETCH = 255.0
_PREFIX = "densepose_coco_2014_"
_PICTURES = {"train": "train2014", "valminusminival": "val2014", "minival": "val2014"}
_LICENCE = "DensePose-COCO annotations CC BY-NC 2.0; every picture has its own Flickr licence."


@dataclasses.dataclass(frozen=True)
class DensePoints:
    """Marked points of one person.

    Attributes:
      points2d: float32 `[D, 2]`, px.
      parts: int `[D]`, 1 to 24.
      uv: float32 `[D, 2]`, chart coordinates, 0..1.
    """

    points2d: np.ndarray
    parts: np.ndarray
    uv: np.ndarray


def plan(
    source_dir: str,
    *,
    annotations: str = "",
    uv_processed: str = "",
    body_model: str = "smpl",
    selection: str = "all",
    images_per_shard: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> tuple[records.DatasetInfo, list]:
    """Plans the preparation of DensePose-COCO.

    Args:
      source_dir: folder with `annotations/` and the picture folders `train2014/`, `val2014/`.
      annotations: file in `annotations/`; empty takes the only `densepose_coco_2014_*.json` there.
      uv_processed: DensePose's `UV_Processed.mat`; empty takes `UV_data/UV_Processed.mat` in the
        source folder.
      body_model: whose mesh that file describes: "smpl" or "procedural".
      selection: "all" people with marked points, or "posepile": those with enough visible joints
        (`coco_selection.posepile_dense_people`).
      images_per_shard: pictures per shard.
      seed: shuffles the pictures over the shards.
      progress: show a bar over the annotation rows.

    Returns:
      `(info, tasks)` for `preparation.write_dataset`; `info.dropped` counts people, and marked
      points, by reason.

    Raises:
      ValueError: if a file is missing or broken, or an option unknown.
    """
    coco_selection.check_selection(selection, _SELECTIONS)
    path = coco_annotations.find(source_dir, annotations, _PREFIX)
    uv_processed = _uv_path(source_dir, uv_processed)
    n_vertices = _n_vertices(uv_processed, body_model)
    dropped = collections.Counter()
    kept = _images(path, selection, dropped, progress)
    split = os.path.basename(path).removesuffix(".json").removeprefix(_PREFIX)
    source = {
        "reader": "densepose_coco",
        "annotations": os.path.basename(path),
        "uv_processed_sha256": dataset_info.sha256_of_file(uv_processed),
        "selection": selection,
        "images_per_shard": images_per_shard,
        "seed": seed,
        "fov_degrees": coco_pictures.DEFAULT_FOV_DEGREES,
    }
    info = records.DatasetInfo(
        name=f"densepose_coco_{split}",
        kind="dense",
        skeleton=COCO_17.to_dict(),
        licence=_LICENCE,
        source=source,
        body_model={"name": body_model, "n_vertices": n_vertices},
        expected=EXPECTED if split == "train" and selection == "posepile" else 0,
        dropped=dict(+dropped),
    )
    tasks = coco_pictures.shard_tasks(
        source_dir,
        _PICTURES.get(split, split),
        "densepose_coco",
        kept,
        images_per_shard=images_per_shard,
        seed=seed,
        surface=functools.partial(_surface, uv_processed),
    )
    return info, tasks


def _uv_path(source_dir, uv_processed):
    """The charts: the user names any file, the usual one lies in the source folder."""
    if uv_processed:
        return os.path.abspath(uv_processed)
    return image_files.confined_path(source_dir, "UV_data/UV_Processed.mat")


def _images(path, selection, dropped, progress):
    """The images with people to keep; what is left out is counted."""
    convert = functools.partial(_dense_points, dropped=dropped)
    images = coco_annotations.load(path, dropped, convert=convert, progress=progress)
    if selection == "posepile":
        for image in images:
            image.people = coco_selection.posepile_dense_people(image.people, dropped)
    kept = [image for image in images if image.people]
    dropped["images: without a usable person"] += len(images) - len(kept)
    return kept


def _n_vertices(uv_processed, body_model):
    """How many vertices the body model has; the charts may name no more."""
    if body_model not in BODY_MODELS:
        raise ValueError(f"body_model = {body_model!r} is unknown; choose one of {BODY_MODELS}.")
    n_vertices = load_charts(uv_processed).n_vertices
    if body_model != "smpl":
        return n_vertices
    if n_vertices > N_SMPL_VERTICES:
        raise ValueError(
            f"{uv_processed}: All_vertices names vertex {n_vertices}, SMPL has {N_SMPL_VERTICES}; "
            "name the mesh with --body_model."
        )
    return N_SMPL_VERTICES


def _dense_points(row, dropped) -> DensePoints:
    """The usable marked points of a row.

    Raises:
      ValueError: with the reason, if the row has none.
    """
    if "dp_masks" not in row:
        raise ValueError("without DensePose")
    names = ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")
    lists = [coco_masks.plain_numbers(row.get(name)) for name in names]
    if any(values is None for values in lists):
        raise ValueError("dp_x, dp_y, dp_I, dp_U or dp_V is no list of numbers")
    if len({len(values) for values in lists}) != 1:
        raise ValueError("dp lists of unequal length")
    x, y, parts, u, v = lists
    is_part = (parts >= 1) & (parts <= N_CHARTS) & (parts % 1 == 0)
    is_chart = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    is_in_box = (x >= 0) & (x <= 256) & (y >= 0) & (y <= 256)
    dropped["points: part outside 1..24"] += int(np.count_nonzero(~is_part))
    dropped["points: U or V outside 0..1"] += int(np.count_nonzero(is_part & ~is_chart))
    dropped["points: outside the box"] += int(np.count_nonzero(is_part & is_chart & ~is_in_box))
    good = is_part & is_chart & is_in_box
    if not good.any():
        raise ValueError("without a usable DensePose point")
    corner_x, corner_y, width, height = np.round(np.asarray(row["bbox"], np.float64))
    if width < 1 or height < 1:
        raise ValueError("box without area")
    points2d = np.stack(
        [corner_x + x * width / _BOX_STRETCH, corner_y + y * height / _BOX_STRETCH], axis=-1
    )
    return DensePoints(
        points2d[good].astype(np.float32),
        parts[good].astype(np.int8),
        np.stack([u, v], axis=-1)[good].astype(np.float32),
    )


def _surface(uv_processed, person) -> records.SurfacePoints:
    """A person's marked points on the mesh; each process reads the charts once."""
    dense = person.more
    vertex_ids, weights, _ = load_charts(uv_processed).locate(dense.parts, dense.uv)
    return records.SurfacePoints(vertex_ids, weights, dense.points2d)
