"""Made-up pipeline batches of `metrabs` for tests: known poses, an undistorted camera."""

import numpy as np
import tensorflow as tf


def make_batch(rng, n, config, kinds=("kp3d", "kp2d"), share_invalid=0.2):
    """Returns a pipeline batch of `n` examples per kind, as tensors."""
    return {kind: make_sub_batch(rng, n, config, kind, share_invalid) for kind in kinds}


def make_batch_of_all_kinds(rng, n, config, share_invalid=0.2):
    """Returns a pipeline batch of `n` examples of each of the four kinds."""
    batch = make_batch(rng, n, config, share_invalid=share_invalid)
    return batch | {kind: make_point_batch(rng, n, config, kind) for kind in ("param", "dense")}


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
        result[kind] = dict(sub)
        for key in ("coords3d_true", "coords2d_true"):
            if key in sub:  # body parameters have no invalid points
                invalid = ~sub["point_validity"][..., tf.newaxis]
                result[kind][key] = tf.where(invalid, value, sub[key])
    return result


def make_point_batch(rng, n, config, kind):
    """Returns a sub-batch of kind param or dense: upright people of the config's body model."""
    part = make_sub_batch(rng, n, config, "kp2d")
    labels = ("coords3d_true", "coords2d_true", "point_validity")
    part = {key: value for key, value in part.items() if key not in labels}
    n_points = config.n_surface_points
    if kind == "dense":
        faces = config.body.faces[rng.integers(0, len(config.body.faces), [n, n_points])]
        valid = rng.uniform(size=[n, n_points]) < 0.8
        coords2d = rng.uniform(0, config.proc_side, [n, n_points, 2])
        return part | {
            "surface_ids": tf.constant(faces, tf.int32),
            "surface_weights": tf.constant(rng.dirichlet([1] * 3, [n, n_points]), tf.float32),
            "coords2d_true": tf.constant(np.where(valid[..., None], coords2d, 0), tf.float32),
            "point_validity": tf.constant(valid),
        }
    upright = np.diag([1.0, -1.0, -1.0])  # the body's y is up, the camera's down
    place = np.concatenate([rng.uniform(-0.1, 0.1, [n, 2]), rng.uniform(3, 5, [n, 1])], axis=1)
    to_crop = np.concatenate([np.tile(upright, [n, 1, 1]), place[..., None]], axis=2)
    return part | {
        "pose_rotvecs": tf.constant(rng.normal(0, 0.2, [n, 24, 3]), tf.float32),
        "shape_betas": tf.constant(rng.normal(0, 1, [n, 10]), tf.float32),
        "translation": tf.constant(rng.normal(0, 0.1, [n, 3]), tf.float32),
        "crop_from_body": tf.constant(to_crop, tf.float32),
    }


def mirrored(part):
    """Returns a sub-batch of kind param or dense whose crops are mirrored left to right."""
    flip = tf.linalg.diag([-1.0, 1.0, 1.0])
    changed = {"crop_from_camera": flip @ part["crop_from_camera"]}
    if "crop_from_body" in part:
        changed["crop_from_body"] = flip @ part["crop_from_body"]
    return part | changed


def assert_is_truth(decoded, truth):
    """The decoded points are those of the labels."""
    # the ridge of the full perspective solver draws the depth towards the camera by millimetres
    np.testing.assert_allclose(decoded["coords3d_abs"], truth["coords3d_true"], atol=0.01)
    np.testing.assert_allclose(decoded["coords2d"], truth["coords2d_true"], atol=0.05)
