"""People in front of a crop camera, for tests: consistent 2D and 3D heads and their truth."""

import numpy as np

from metrabs_like.geometry.camera import CropGrid

GRID = CropGrid()


def make_scene(rng, n_examples=4, n_points=24, noise_px=0.0, noise_m=0.0, dtype=np.float32):
    """Returns a dict: people 3 to 8 m away who fill about half of a 256 px crop.

    Keys: coords3d_abs (truth), coords2d, normalized, coords3d_rel (free origin), intrinsics, mask
    (1 of 8 points invalid).
    """
    shape = (n_examples, n_points)
    relative = rng.normal(size=(*shape, 3)) * [0.25, 0.35, 0.2]
    position = rng.uniform([-0.5, -0.5, 3.0], [0.5, 0.5, 8.0], (n_examples, 3))
    points = relative + position[:, np.newaxis]
    focal = 128 * position[:, 2] / rng.uniform(1.0, 1.5, n_examples)
    intrinsics = np.zeros((n_examples, 3, 3))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 2, 2] = focal, focal * 1.02, 1.0
    center = position[:, :2] / position[:, 2:]
    intrinsics[:, :2, 2] = 128 - intrinsics[:, [0, 1], [0, 1]] * center
    normalized = points[..., :2] / points[..., 2:]
    scale = intrinsics[:, [0, 1], [0, 1]][:, np.newaxis]
    coords2d = normalized * scale + intrinsics[:, np.newaxis, :2, 2]
    coords2d += rng.normal(size=coords2d.shape) * noise_px
    coords3d_rel = relative + rng.normal(size=relative.shape) * noise_m
    coords3d_rel -= rng.normal(size=(n_examples, 1, 3))
    scene = {
        "coords3d_abs": points,
        "coords2d": coords2d,
        "normalized": (coords2d - intrinsics[:, np.newaxis, :2, 2]) / scale,
        "coords3d_rel": coords3d_rel,
        "intrinsics": intrinsics,
    }
    scene = {key: value.astype(dtype) for key, value in scene.items()}
    mask = np.arange(n_points) % 8 != 3
    return {**scene, "mask": np.tile(mask, (n_examples, 1))}
