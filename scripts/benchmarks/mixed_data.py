"""Prepared data sets with all that a record can hold, to measure the mixed pipeline with.

Pictures of 640 x 480 px are those of COCO in `../shared/data/coco` where it is there; else, and at
other sizes, noise with the falling spectrum of photographs. The people are random points: what they
look like costs nothing.
"""

import functools
import pathlib

import cv2
import numpy as np
import tensorflow as tf

from metrabs_like.data import masks, preparation, records
from metrabs_like.skeletons import SMPL_24
from scripts.benchmarks.input_pipeline import _photograph

COCO = pathlib.Path(__file__).resolve().parents[2].parent / "shared/data/coco/train2017"
_N_IMAGES = 48
_N_SURFACE = 120  # points a person; DensePose-COCO marks about 100


def write_people(folder, size, person_px):
    """Writes a data set whose people have everything that a record can hold.

    Args:
      folder: to create.
      size: (height, width) of the pictures, px.
      person_px: (lowest, highest) height of a person, px.

    Returns:
      The folder.
    """
    info = records.DatasetInfo(
        name="benchmark",
        kind="param",
        skeleton=SMPL_24.to_dict(),
        body_model={"name": "procedural", "n_vertices": 1000},
    )
    task = functools.partial(_records, size, person_px)
    preparation.write_dataset([task, task], folder, info, n_processes=1, progress=False)
    return folder


def small_records(n, shard_index):
    """Yields `n` records of 16 x 16 px with two people who have joints alone."""
    rng = np.random.default_rng(shard_index)
    picture = cv2.imencode(".jpg", _photograph(rng, (16, 16)))[1].tobytes()
    camera = np.array([[16, 0, 8], [0, 16, 8], [0, 0, 1.0]])
    for i in range(n):
        people = [_person(rng, 16, 16, camera, (4, 14)) for _ in range(2)]
        for person in people:
            person.mask = person.mask_box = person.body = person.surface = None
        yield records.Record(picture, 16, 16, str(i), "benchmark", camera, people=people)


def _records(size, person_px, shard_index):
    rng = np.random.default_rng(shard_index)
    pictures = _coco_pictures(shard_index) if size == (480, 640) and COCO.is_dir() else None
    for i in range(_N_IMAGES // 2):
        picture = pictures[i % len(pictures)] if pictures else _generated(rng, size)
        height, width = tf.io.extract_jpeg_shape(picture).numpy()[:2]
        camera = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
        people = [_person(rng, height, width, camera, person_px) for _ in range(1 + i % 3)]
        yield records.Record(
            picture, int(height), int(width), f"{shard_index}-{i}", "benchmark", camera,
            people=people,
        )  # fmt: skip


def _coco_pictures(shard_index):
    """Every second picture of the folder, by name."""
    return [path.read_bytes() for path in sorted(COCO.glob("*.jpg"))[shard_index::2]]


def _generated(rng, size):
    return cv2.imencode(".jpg", _photograph(rng, size), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def _person(rng, height, width, camera, person_px):
    """A person of random points in a random place, with an oval mask."""
    tall = min(np.exp(rng.uniform(*np.log(person_px))), 0.95 * height)
    wide = min(tall * rng.uniform(0.35, 0.6), 0.95 * width)
    corner = rng.uniform([0, 0], [width - wide, height - tall])
    depth = 1.7 * camera[0, 0] / tall
    points2d = corner + rng.uniform(0, 1, (24, 2)) * [wide, tall]
    rays = (points2d - camera[:2, 2]) / camera[0, 0]
    points3d = np.concatenate([rays, np.ones((24, 1))], axis=1) * depth
    mask = np.zeros((height, width), np.uint8)
    center, axes = corner + [wide / 2, tall / 2], (wide / 2, tall / 2)
    cv2.ellipse(mask, (tuple(map(float, center)), tuple(2 * a for a in axes), 0.0), 255, -1)
    png, mask_box = masks.encode_mask(mask)
    valid = np.full(24, True)
    body = records.BodyParameters(
        rng.normal(0, 0.3, (24, 3)), rng.normal(size=10), np.array([0, 0, depth])
    )
    surface = records.SurfacePoints(
        rng.integers(0, 1000, (_N_SURFACE, 3)),
        rng.dirichlet([1, 1, 1], _N_SURFACE),
        corner + rng.uniform(0, 1, (_N_SURFACE, 2)) * [wide, tall],
    )
    return records.Person(
        np.array([*corner, wide, tall]), points3d, valid, points2d, valid,
        mask=png, mask_box=mask_box, body=body, surface=surface,
    )  # fmt: skip
