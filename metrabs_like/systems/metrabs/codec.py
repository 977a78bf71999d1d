"""Between points and network outputs: `encode_targets` and its inverse, `decode`.

Conventions: crop camera frame (x right, y down, z forward), metres; crop pixels.
"""

import tensorflow as tf

from metrabs_like.geometry.absolute import reconstruct_absolute
from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.geometry.camera import project_pose
from metrabs_like.geometry.masking import reduce_mean_masked
from metrabs_like.systems.metrabs.field import POINTS

_ESTIMATED = ("coords2d", "coords3d_rel", "uncert")
# the released inference code's choices
_MIX_3D_INSIDE_FOV = 0.5
_BORDER_FACTOR_OF_REFERENCE = 1.0
_BORDER_FACTOR_OF_2D = 0.6


def encode_targets(targets, config):
    """Returns the outputs of a network that knows the answer.

    Args:
      targets: mapping of one kind with 3D points: `coords3d_true` `[B, P, 3]` (m, crop camera),
        `coords2d_true` `[B, P, 2]` (crop px), `point_validity` bool `[B, P]`.
      config: `Config`.

    Returns:
      Dict like the model's: `coords2d`, `coords3d_rel` (relative to the mean of the valid points)
      and `uncert` (the smallest that the head can give), for canonical points with the prefix
      `points_`. Invalid points are 0.

    Masking: by select. Gradient: none is wanted.
    """
    valid = targets["point_validity"]
    mean = reduce_mean_masked(targets["coords3d_true"], valid, axis=1, keepdims=True)
    select = valid[..., tf.newaxis]
    ideal = {
        "coords2d": tf.where(select, targets["coords2d_true"], 0.0),
        "coords3d_rel": tf.where(select, targets["coords3d_true"] - mean, 0.0),
        "uncert": tf.fill(tf.shape(valid), tf.constant(config.uncert_bias2, tf.float32)),
    }
    if "canonical_points" not in targets:
        return ideal
    return _with_points(ideal, config.n_points)


def decode(outputs, inputs, config):
    """Places the pose in front of the crop camera.

    Full perspective; the reference is fitted to the points whose 2D estimate is inside the crop.
    Points inside the image are the mean of the 3D estimate and the lifted 2D estimate.

    Args:
      outputs: of the model: `coords2d` `[B, P, 2]`, `coords3d_rel` `[B, P, 3]`, `uncert` `[B, P]`.
      inputs: of the model: `intrinsics` `[B, 3, 3]` of the crop.
      config: `Config`.

    Returns:
      Dict of float32: `coords3d_abs` `[B, P, 3]` (m, crop camera frame), `coords2d` `[B, P, 2]`
      (crop px, its projection) and `uncert` `[B, P]` (m); with canonical points, asked for all
      examples, also `points_coords3d_abs` `[B, K, 3]` and so on. The points asked for do not move
      the joints: the reference is fitted to the joints alone.

    Gradient: flows to all outputs. A batch of zero examples is ordinary.

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021; released inference code (mix and borders).
    """
    joints = {key: outputs[key] for key in _ESTIMATED}
    has_points = POINTS + "uncert" in outputs
    if has_points:
        points = {key: outputs[POINTS + key] for key in _ESTIMATED}
        check_shapes(uncert=(joints["uncert"], "B P"), points_uncert=(points["uncert"], "B K"))
        joints = {key: tf.concat([joints[key], points[key]], axis=1) for key in _ESTIMATED}
    n_joints = outputs["uncert"].shape[1]
    is_joint = tf.range(tf.shape(joints["uncert"])[1]) < n_joints
    coords3d_abs = reconstruct_absolute(
        joints["coords2d"],
        joints["coords3d_rel"],
        inputs["intrinsics"],
        grid=config.grid,
        mix_3d_inside_fov=_MIX_3D_INSIDE_FOV,
        weak_perspective=False,
        point_validity_mask=tf.broadcast_to(is_joint, tf.shape(joints["uncert"])),
        border_factor1=_BORDER_FACTOR_OF_REFERENCE,
        border_factor2=_BORDER_FACTOR_OF_2D,
        mix_based_on_3d=True,
    )
    decoded = {
        "coords3d_abs": coords3d_abs,
        "coords2d": project_pose(coords3d_abs, inputs["intrinsics"]),
        "uncert": joints["uncert"],
    }
    return _with_points(decoded, n_joints) if has_points else decoded


def _with_points(values, n_joints):
    """Splits what all points have into the joints' part and the canonical points'."""
    joints = {key: value[:, :n_joints] for key, value in values.items()}
    return joints | {POINTS + key: value[:, n_joints:] for key, value in values.items()}
