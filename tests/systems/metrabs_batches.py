"""Made-up pipeline batches of `metrabs` for tests: known poses, an undistorted camera."""

import numpy as np
import tensorflow as tf


def make_batch(rng, n, config, kinds=("kp3d", "kp2d"), share_invalid=0.2):
    """Returns a pipeline batch of `n` examples per kind, as tensors."""
    return {kind: make_sub_batch(rng, n, config, kind, share_invalid) for kind in kinds}


def make_sub_batch(rng, n, config, kind, share_invalid=0.2):
    """Returns one kind's part: noise images of people 3 to 5 m away that fill most of the crop."""
    side, n_points = config.proc_side, config.n_points
    focal = side * rng.uniform(1.3, 1.6, [n, 1])
    intrinsics = np.zeros([n, 3, 3])
    intrinsics[:, :2, 2] = (side - 1) / 2
    intrinsics[:, [0, 1], [0, 1]] = focal
    intrinsics[:, 2, 2] = 1
    root = np.concatenate([rng.uniform(-0.1, 0.1, [n, 1, 2]), rng.uniform(3, 5, [n, 1, 1])], -1)
    points = root + rng.uniform(-0.6, 0.6, [n, n_points, 3])
    projected = points @ intrinsics.swapaxes(1, 2)
    coords2d = projected[..., :2] / projected[..., 2:]
    valid = rng.uniform(size=[n, n_points]) >= share_invalid
    coords3d = points if kind == "kp3d" else np.zeros_like(points)
    window_side = side + side // 2
    floats = {
        "window_intrinsics": intrinsics * [[[1.5], [1.5], [1]]],
        "distortion_coeffs": np.zeros([n, 12]),
        "crop_from_camera": np.tile(np.eye(3), [n, 1, 1]),
        "intrinsics": intrinsics,
        "coords3d_true": np.where(valid[..., None], coords3d, 0),
        "coords2d_true": np.where(valid[..., None], coords2d, 0),
        "box": np.tile([0.0, 0.0, window_side, window_side], [n, 1]),
    }
    window = rng.integers(0, 256, [n, window_side, window_side, 3], np.uint8)
    tensors = {key: tf.constant(value, tf.float32) for key, value in floats.items()}
    return {**tensors, "window": tf.constant(window), "point_validity": tf.constant(valid)}


def with_masked(batch, value):
    """Returns the batch with `value` as coordinates of every invalid point."""
    result = {}
    for kind, sub in batch.items():
        invalid = ~sub["point_validity"][..., tf.newaxis]
        coords = ("coords3d_true", "coords2d_true")
        result[kind] = {**sub, **{key: tf.where(invalid, value, sub[key]) for key in coords}}
    return result
