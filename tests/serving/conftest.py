"""A person made of three discs, and a crop predictor that reads them: every number is known."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import serving
from metrabs_like.skeletons import Skeleton

SIDE = 64
DEPTH_M = 3.0
PLAIN = Skeleton("discs", ("mid", "lsho", "rsho"), ((0, 1), (0, 2)), "d")
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.float32)


def read_discs(images, intrinsics):
    """Finds the red disc, and the green and blue ones by their place: the right one is `lsho`."""
    axis = tf.range(tf.shape(images)[1], dtype=tf.float32)
    grid = tf.stack(tf.meshgrid(axis, axis), axis=-1)
    mass = tf.reduce_sum(images, axis=[1, 2])[..., tf.newaxis]
    centers = tf.einsum("nhwc,hwd->ncd", images, grid) / tf.maximum(mass, 1e-6)
    mid, one, other = tf.unstack(centers, axis=1)
    is_right = one[:, :1] > other[:, :1]
    left, right = tf.where(is_right, one, other), tf.where(is_right, other, one)
    points = tf.stack([mid, left, right], axis=1)
    normalized = tf.stack(
        [
            (points[..., 0] - intrinsics[:, tf.newaxis, 0, 2]) / intrinsics[:, tf.newaxis, 0, 0],
            (points[..., 1] - intrinsics[:, tf.newaxis, 1, 2]) / intrinsics[:, tf.newaxis, 1, 1],
            tf.ones_like(points[..., 0]),
        ],
        axis=-1,
    )
    scale = DEPTH_M / tf.norm(normalized, axis=-1, keepdims=True)
    spread = tf.constant([0.01, 0.02, 0.03]) * tf.ones_like(points[..., 0])
    return {"coords3d_abs": normalized * scale, "uncert": spread}


def draw_discs(height, width, centers, radius):
    """Renders discs of the three colours: uint8 `[H, W, 3]`."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    image = np.zeros([height, width, 3], np.float32)
    for (cx, cy), colour in zip(centers, COLOURS, strict=True):
        inside = np.clip(radius + 0.5 - np.hypot(x - cx, y - cy), 0, 1)
        image += inside[..., np.newaxis] * colour
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def predictor():
    return serving.PosePredictor(read_discs, SIDE, PLAIN)


@pytest.fixture(scope="session")
def saved_predictor(predictor, tmp_path_factory):
    """The same predictor after a round trip through a SavedModel, and its folder."""
    path = tmp_path_factory.mktemp("saved") / "model"
    serving.save(predictor, path)
    return tf.saved_model.load(str(path)), path


@pytest.fixture(scope="session")
def scene():
    """A photograph, the discs' centres in it, the person's box and the intrinsics."""
    centers = np.array([[210.0, 90.0], [235.0, 130.0], [180.0, 128.0]], np.float32)
    image = draw_discs(240, 320, centers, 5.0)
    intrinsics = np.array([[300, 0, 159.5], [0, 300, 119.5], [0, 0, 1]], np.float32)
    return image, centers, np.array([[160, 60, 90, 100]], np.float32), intrinsics


@pytest.fixture(scope="session")
def draw():
    return draw_discs
