"""What each annotation kind says about the points of a crop: the targets of `prepare`.

Conventions: crop camera frame, metres, crop pixels. The points of an example are the P joints of
the model's skeleton, then the K points of the body's surface where the kind has them.
"""

import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.data.body_models import N_BETAS
from metrabs_like.geometry import smpl
from metrabs_like.geometry.camera import project_pose
from metrabs_like.geometry.surface import sample_surface_points
from metrabs_like.systems.metrabs.canonical import surface_to_canonical

KINDS = ("param", "dense", "kp3d", "kp2d")
"""The order of the kinds in the network's batch: those with canonical points come first."""
POINT_KINDS = ("param", "dense")
KINDS_3D = ("param", "kp3d")
_COPIED = ("coords3d_true", "coords2d_true", "point_validity", "intrinsics", "box", "image_id")
_SMPL_JOINTS = skeletons.get("smpl_24")


def check_source(kind, info, config):
    """Checks that a model can learn from a data set's annotations of a kind.

    Args:
      kind: one of `KINDS`.
      info: `data.dataset_info.DatasetInfo` of the set.
      config: `Config`.

    Raises:
      ValueError: for surface points with a fixed head, bodies without a joint of the model's,
        annotations of another body model than the config's, or a body model of other joints.
    """
    if kind not in POINT_KINDS:
        return
    if kind == "dense":
        _check_head(config)
    elif config.head == "fixed" and max(skeletons.index_map(_SMPL_JOINTS, config.joints)) < 0:
        raise ValueError(
            f"skeleton={config.joints.name!r} has no joint of the body model, and a fixed head "
            "learns nothing else from bodies; add smpl_24 to it, or set head='field'"
        )
    body = config.body
    if body.n_joints != _SMPL_JOINTS.n_joints or body.n_betas < N_BETAS:
        raise ValueError(
            f"body_model={config.body_model!r} has {body.n_joints} joints and {body.n_betas} shape "
            f"directions; parameters are stored for SMPL's {_SMPL_JOINTS.n_joints} joints and "
            f"{N_BETAS}: give SMPL's file, not SMPL-H's or SMPL-X's"
        )
    n_vertices = info.body_model.get("n_vertices", body.n_vertices)
    if n_vertices != config.body.n_vertices:
        raise ValueError(
            f"the data set {info.name!r} refers to the body model {info.body_model.get('name')!r} "
            f"with {n_vertices} vertices, but body_model={config.body_model!r} has "
            f"{config.body.n_vertices}; give the file of that model (SMPL's .pkl or .npz)"
        )


def make_targets(kind, sub_batch, config, seed):
    """Returns the targets of one kind.

    Args:
      kind: one of `KINDS`.
      sub_batch: of the pipeline.
      config: `Config`.
      seed: int32 `[2]`, chooses the surface points of kind param.

    Returns:
      Dict: `coords2d_true` `[B, P + K, 2]`, `point_validity` `[B, P + K]`, `intrinsics`, `box`,
      `image_id` where the batch has it; except for dense `coords3d_true` `[B, P + K, 3]` (zeros for
      kp2d). For the kinds with points `canonical_points` `[B, K, 3]`; with a fixed head K is 0.

    Raises:
      ValueError: for kind dense with a fixed head, which cannot estimate surface points.
    """
    if kind == "param":
        return _of_body(sub_batch, config, seed)
    if kind == "dense":
        return _of_surface(sub_batch, config)
    return {key: sub_batch[key] for key in _COPIED if key in sub_batch}


def _of_body(sub_batch, config, seed):
    """Joints and random surface points of the posed body."""
    n_points = config.n_surface_points if config.head == "field" else 0
    parameters = tuple(sub_batch[name] for name in ("pose_rotvecs", "shape_betas"))
    translation = sub_batch["translation"]
    n_examples = tf.shape(translation)[0]
    ids, weights = sample_surface_points(config.body, tf.stack([n_examples, n_points]), seed)
    ids, weights = (tf.ensure_shape(tensor, [None, n_points, 3]) for tensor in (ids, weights))
    is_mirrored = _is_mirrored(sub_batch)
    all_joints = smpl.pose_joints(config.body, *parameters, translation)
    joints, is_known = _in_model_order(all_joints, is_mirrored, config.joints)
    surface = smpl.pose_points(config.body, *parameters, ids, weights, translation)
    to_crop = sub_batch["crop_from_body"]
    points = tf.concat([joints, surface], axis=1)
    points = tf.einsum("bij,bpj->bpi", to_crop[:, :, :3], points) + to_crop[:, tf.newaxis, :, 3]
    validity = tf.concat([is_known, tf.ones([n_examples, n_points], tf.bool)], axis=1)
    select = validity[..., tf.newaxis]
    coords2d = project_pose(points, sub_batch["intrinsics"])
    return {
        **_camera(sub_batch),
        "coords3d_true": tf.where(select, points, 0.0),
        "coords2d_true": tf.where(select, coords2d, 0.0),
        "point_validity": validity,
        "canonical_points": _canonical(config.body, ids, weights, is_mirrored),
    }


def _of_surface(sub_batch, config):
    """The marked surface points; joints are not annotated."""
    _check_head(config)
    points, validity = sub_batch["coords2d_true"], sub_batch["point_validity"]
    n_joints = [[0, 0], [config.n_points, 0]]
    ids, weights = sub_batch["surface_ids"], sub_batch["surface_weights"]
    return {
        **_camera(sub_batch),
        "coords2d_true": tf.pad(points, [*n_joints, [0, 0]]),
        "point_validity": tf.pad(validity, n_joints),
        "canonical_points": _canonical(config.body, ids, weights, _is_mirrored(sub_batch)),
    }


def _check_head(config):
    if config.head != "field":
        raise ValueError(
            "a source of kind dense marks points of the surface, which a fixed head cannot "
            f"estimate (head={config.head!r}); set head='field' or leave the source out"
        )


def _camera(sub_batch):
    names = ("intrinsics", "box", "image_id")
    return {name: sub_batch[name] for name in names if name in sub_batch}


def _is_mirrored(sub_batch):
    """Whether each crop is mirrored, bool `[B]`: the sign of its rotation's determinant."""
    x, y, z = tf.unstack(sub_batch["crop_from_camera"], axis=1)
    return tf.reduce_sum(tf.linalg.cross(x, y) * z, axis=-1) < 0


def _in_model_order(joints, is_mirrored, skeleton):
    """Sorts the body's 24 joints into the model's skeleton; a mirrored left is a right."""
    index = skeletons.index_map(_SMPL_JOINTS, skeleton)
    mirrored = [index[other] for other in skeleton.mirror_indices]
    index = tf.where(is_mirrored[:, tf.newaxis], mirrored, index)
    return tf.gather(joints, tf.maximum(index, 0), batch_dims=1), index >= 0


def _canonical(body, ids, weights, is_mirrored):
    """Canonical points of what a crop shows: in a mirrored one the other side of the body."""
    points = surface_to_canonical(body, ids, weights)
    sign = tf.where(is_mirrored, -1.0, 1.0)[:, tf.newaxis]
    return tf.stack([points[..., 0] * sign, points[..., 1], points[..., 2]], axis=-1)
