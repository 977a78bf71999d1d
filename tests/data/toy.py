"""Small data sets whose images show a Gaussian spot at every projected joint."""

import functools

import cv2
import numpy as np

from metrabs_like.data import preparation, records
from metrabs_like.skeletons import Skeleton

TOY = Skeleton("toy", ("pelv", "lhan", "rhan", "lfoo", "rfoo"), ((0, 1), (0, 2)), suffix="toy")
OFFSETS_M = np.array(
    [[0, 0, 0], [0.5, -0.6, 0.1], [-0.5, -0.6, 0], [0.35, 0.7, 0], [-0.3, 0.8, 0.2]]
)
COEFFS = np.zeros(12)
COEFFS[:5] = [-0.22, 0.05, 0.001, -0.001, 0.01]


def draw_spots(points, width, height, sigma):
    """Draws spots at real-valued pixels on grey; returns uint8 `[height, width, 3]`."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.full((height, width), 0.2, np.float32)
    for px, py in points:
        image += 0.7 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return np.repeat(np.uint8(np.clip(image, 0, 1) * 255)[..., np.newaxis], 3, axis=-1)


def make_record(rng, image_id, *, width=320, n_people=1, extension=".png", sigma=0.0, kind="kp3d"):
    """Makes one record; `width` decides all sizes, a person is about a third of it high."""
    height = width * 3 // 4
    intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])
    people, spots = [], []
    for _ in range(n_people):
        points3d = OFFSETS_M * rng.uniform(0.8, 1.1) + [*rng.uniform(-0.8, 0.8, 2), 4.5]
        zero = np.zeros(3)
        points2d = cv2.projectPoints(points3d, zero, zero, intrinsics, COEFFS)[0][:, 0]
        spots.extend(points2d)
        box = np.concatenate([points2d.min(axis=0), np.ptp(points2d, axis=0)])
        is_3d = np.full(5, kind == "kp3d")
        people.append(records.Person(box, points3d, is_3d, points2d, np.full(5, True)))
    image = draw_spots(spots, width, height, sigma or width / 100)
    encoded = cv2.imencode(extension, image, [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes()
    return records.Record(
        encoded, height, width, image_id, "toy", intrinsics, COEFFS, np.eye(4), people
    )


def make_shard(shard_index, *, n_images=6, n_people=(1, 2, 0), **kwargs):
    """Yields the records of a shard; the people per image cycle through `n_people`."""
    rng = np.random.default_rng(shard_index)
    for i in range(n_images):
        count = n_people[i % len(n_people)]
        yield make_record(rng, f"{shard_index}-{i}", n_people=count, **kwargs)


def make_info(kind="kp3d", name="toy"):
    return records.DatasetInfo(name=name, kind=kind, skeleton=TOY.to_dict())


def write_toy(folder, *, n_shards=3, kind="kp3d", **kwargs):
    """Writes a toy data set and returns its folder as text."""
    task = functools.partial(make_shard, kind=kind, **kwargs)
    preparation.write_dataset(
        [task] * n_shards, str(folder), make_info(kind), n_processes=1, progress=False
    )
    return str(folder)
