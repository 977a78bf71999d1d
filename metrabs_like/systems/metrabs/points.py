"""Asking a trained field for joints alone, or for any points of the body.

Conventions: crops 0..1, crop px, metres, crop camera frame; canonical points as in `canonical`.
"""

import tensorflow as tf

from metrabs_like.systems.metrabs.codec import decode
from metrabs_like.systems.metrabs.field import POINTS

INPUT = "canonical_points"


def has_field(model):
    """Whether a model of `build_model` takes canonical points."""
    return INPUT in model.input


def joint_network(model):
    """Returns a model as a function of images and intrinsics alone.

    Args:
      model: of `build_model`.

    Returns:
      Function of `({"image", "intrinsics"}, training=False)` to the model's outputs for the joints.

    Gradient: flows.
    """
    if not has_field(model):
        return model

    def network(inputs, training=False):
        no_points = tf.zeros([tf.shape(inputs["image"])[0], 0, 3])
        outputs = model({**inputs, INPUT: no_points}, training=training)
        return {key: value for key, value in outputs.items() if not key.startswith(POINTS)}

    return network


def predict(model, config, image, intrinsics, canonical_points):
    """Estimates any points of the body in crops.

    Args:
      model: of `build_model(config)` with `head="field"`.
      config: its `Config`.
      image: float32 `[B, S, S, 3]`, 0..1.
      intrinsics: float32 `[B, 3, 3]`, px, of the crops.
      canonical_points: float32 `[K, 3]`, m, the same for all crops.

    Returns:
      Dict of float32: `coords3d_abs` `[B, K, 3]` (m, crop camera frame), `coords2d` `[B, K, 2]`
      (crop px) and `uncert` `[B, K]` (m). The pose is placed by its joints, as in `decode`: what is
      asked for changes nothing else.

    Raises:
      ValueError: if the model has a fixed head.

    Gradient: flows to image, intrinsics and points.
    """
    if not has_field(model):
        raise ValueError(
            f"canonical_points need a model with head='field', this one has head={config.head!r}; "
            "train one, or ask for its joints"
        )
    points = tf.convert_to_tensor(canonical_points, tf.float32)
    shape = tf.concat([tf.shape(image)[:1], tf.shape(points)], axis=0)
    points = tf.ensure_shape(tf.broadcast_to(points, shape), [None, points.shape[0], 3])
    inputs = {"image": image, "intrinsics": intrinsics, INPUT: points}
    decoded = decode(model(inputs, training=False), inputs, config)
    return {key[len(POINTS) :]: v for key, v in decoded.items() if key.startswith(POINTS)}


def point_predictor(model, config):
    """Returns `predict` of a model, a function of image, intrinsics and canonical points.

    Returns:
      The function, None for a model with a fixed head.
    """
    if not has_field(model):
        return None

    def predict_points(image, intrinsics, canonical_points):
        return predict(model, config, image, intrinsics, canonical_points)

    return predict_points
