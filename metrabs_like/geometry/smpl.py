"""Posing body models in SMPL form: vertices, joints and chosen points of the surface.

Conventions: metres, the model's own frame, column vectors. Rotation vectors are relative to the
parent joint, the root first. Fewer betas than the model has are the first ones. Shape blend, joints
from the shaped vertices, pose blend, kinematic chain, linear blend skinning, translation, in this
order. Arithmetic keeps float32 precision on every device, except that the pose blend may be rounded
to TF32 on a GPU (some micrometres).
"""

from typing import NamedTuple

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.geometry.body_model import (
    BodyModel,
    canonical_joints,
    canonical_vertices,
    posed_arrays,
)
from metrabs_like.geometry.skinning import (
    mesh_constants,
    shaped_planes,
    skeleton,
    skinned_corners,
    skinned_vertices,
)
from metrabs_like.geometry.tracing import traced_once

__all__ = [
    "BodyModel",
    "PosedBody",
    "canonical_joints",
    "canonical_points",
    "canonical_vertices",
    "combine_corners",
    "pose_body",
    "pose_joints",
    "pose_points",
    "posed_arrays",
]

#: Up to so many vertices, posing all of them is cheaper than gathering weights for each example.
SMALL_MESH = 2500


class PosedBody(NamedTuple):
    """A batch of posed bodies.

    Attributes:
      vertices: `[B, V, 3]`, m.
      joints: `[B, J, 3]`, m.
      rotations: `[B, J, 3, 3]` of each joint relative to its parent, as the pose says.
      transforms: `[B, J, 4, 4]` that take a point at rest along with the joint, before translation.
      rest_joints: `[B, J, 3]`, m, of the shaped body.
      shaped_vertices: `[B, V, 3]`, m, before the pose.
    """

    vertices: tf.Tensor
    joints: tf.Tensor
    rotations: tf.Tensor
    transforms: tf.Tensor
    rest_joints: tf.Tensor
    shaped_vertices: tf.Tensor


def pose_body(model, pose_rotvecs, shape_betas, translation=None, *, rotate_base=False):
    """Shapes and poses bodies.

    Args:
      model: BodyModel.
      pose_rotvecs: float `[B, J, 3]`, rad.
      shape_betas: float `[B, S']`, S' <= S.
      translation: `[B, 3]`, m, added to vertices and joints, or None.
      rotate_base: whether the root's rotation is multiplied from the right by diag(1, -1, -1), as
        the PyTorch port of HMR does; the pose blend and `rotations` do not see it.

    Returns:
      PosedBody of float32 tensors.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: flows to pose, betas and translation, finite at zero rotations too. NaN in an example
    stays in that example.

    References:
      Loper et al., SMPL, SIGGRAPH Asia 2015; Kanazawa et al., HMR, CVPR 2018, released code.
    """
    args = _body_arguments(model, pose_rotvecs, shape_betas, translation)
    return PosedBody(*_pose_body(model, *args, bool(rotate_base)))


def pose_joints(model, pose_rotvecs, shape_betas, translation=None, *, rotate_base=False):
    """Shapes and poses the skeleton alone: `pose_body(...).joints` without the mesh.

    Args:
      model: BodyModel.
      pose_rotvecs: float `[B, J, 3]`, rad.
      shape_betas: float `[B, S']`, S' <= S.
      translation: `[B, 3]`, m, or None.
      rotate_base: as in `pose_body`.

    Returns:
      `[B, J, 3]`, m.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: flows to pose, betas and translation. NaN in an example stays there.
    """
    args = _body_arguments(model, pose_rotvecs, shape_betas, translation)
    return _pose_joints(model, *args, bool(rotate_base))


def pose_points(
    model, pose_rotvecs, shape_betas, vertex_ids, weights, translation=None, *, rotate_base=False
):
    """Poses points of the surface: barycentric combinations of `pose_body`'s vertices.

    Of points that all examples share (`[K, 3]`) only the corners are shaped and posed. Where every
    example has its own points, the blend shapes are one product over all vertices (gathering their
    rows for each example costs more) and only the named corners are posed; meshes of up to
    `SMALL_MESH` vertices are posed whole.

    Args:
      model: BodyModel.
      pose_rotvecs: float `[B, J, 3]`, rad.
      shape_betas: float `[B, S']`, S' <= S.
      vertex_ids: int `[K, 3]` or `[B, K, 3]`, 0 ... V - 1.
      weights: float of the same shape; rows that add up to 1 lie in the triangle's plane. Rows of
        zeros (padding) give the translation.
      translation: `[B, 3]`, m, or None.
      rotate_base: as in `pose_body`.

    Returns:
      `[B, K, 3]`, m.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: flows to pose, betas, weights and translation. NaN in an example stays there.
    """
    args = _body_arguments(model, pose_rotvecs, shape_betas, translation)
    vertex_ids, weights = _corner_arguments(vertex_ids, weights, args[0])
    pattern = "B K 3" if vertex_ids.shape.rank == 3 else "K 3"
    check_shapes(
        pose_rotvecs=(args[0], f"B {model.n_joints} 3"),
        vertex_ids=(vertex_ids, pattern),
        weights=(weights, pattern),
    )
    function = _pose_own_points if vertex_ids.shape.rank == 3 else _pose_shared_points
    return function(model, *args, bool(rotate_base), vertex_ids, weights)


def canonical_points(model, vertex_ids, weights):
    """Returns points of the surface of the mean body (zero betas) in the canonical pose.

    Args:
      model: BodyModel.
      vertex_ids: int `[..., 3]`, 0 ... V - 1.
      weights: float `[..., 3]`, barycentric.

    Returns:
      `[..., 3]`, m, the frame of the model.

    Raises:
      ValueError: if the static shapes disagree.

    Gradient: flows to `weights`.
    """
    vertex_ids, weights = _corner_arguments(vertex_ids, weights)
    vertices = tf.constant(canonical_vertices(model), weights.dtype)
    return combine_corners(tf.gather(vertices, vertex_ids), weights)


def combine_corners(corners, weights):
    """Combines the corners of triangles.

    Args:
      corners: float `[..., 3, C]`, the three corners' values.
      weights: `[..., 3]`, barycentric, of the same dtype.

    Returns:
      `[..., C]`. Gradient: flows to both.
    """
    # elementwise: matmul may round to TF32 on a GPU
    return tf.reduce_sum(corners * weights[..., tf.newaxis], axis=-2)


def _body_arguments(model, pose_rotvecs, shape_betas, translation):
    """Converts and checks the arguments that all functions share."""
    pose_rotvecs = as_float(pose_rotvecs)
    shape_betas = as_float(shape_betas, pose_rotvecs)
    translation = None if translation is None else as_float(translation, pose_rotvecs)
    check_shapes(
        pose_rotvecs=(pose_rotvecs, f"B {model.n_joints} 3"),
        shape_betas=(shape_betas, "B S"),
        translation=(translation, "B 3"),
    )
    n_betas = shape_betas.shape[-1]
    if n_betas is not None and n_betas > model.n_betas:
        raise ValueError(
            f"`shape_betas` has shape {shape_betas.shape}, but the body model {model.name!r} has "
            f"only {model.n_betas} shape directions: pass at most so many."
        )
    return pose_rotvecs, shape_betas, translation


def _corner_arguments(vertex_ids, weights, like=None):
    """Converts and checks the corners of surface points."""
    vertex_ids = tf.cast(tf.convert_to_tensor(vertex_ids), tf.int32)
    weights = as_float(weights, like)
    check_shapes(vertex_ids=(vertex_ids, "... 3"), weights=(weights, "... 3"))
    if not vertex_ids.shape.is_compatible_with(weights.shape):
        raise ValueError(
            f"`vertex_ids` has shape {vertex_ids.shape} and `weights` {weights.shape}: "
            "pass equal shapes."
        )
    return vertex_ids, weights


@traced_once
def _pose_body(model, pose_rotvecs, shape_betas, translation, rotate_base):
    mesh = mesh_constants(model, pose_rotvecs.dtype)
    bones = skeleton(model, pose_rotvecs, shape_betas, rotate_base)
    shaped, unposed = shaped_planes(model, mesh, bones.rotations, shape_betas)
    return (
        _translated(skinned_vertices(mesh, unposed, bones.transforms), translation),
        _translated(bones.joints, translation),
        bones.rotations,
        _homogeneous(bones.transforms),
        bones.rest_joints,
        tf.linalg.matrix_transpose(shaped),
    )


@traced_once
def _pose_joints(model, pose_rotvecs, shape_betas, translation, rotate_base):
    bones = skeleton(model, pose_rotvecs, shape_betas, rotate_base)
    return _translated(bones.joints, translation)


@traced_once
def _pose_shared_points(
    model, pose_rotvecs, shape_betas, translation, rotate_base, vertex_ids, weights
):
    mesh = mesh_constants(model, pose_rotvecs.dtype, tf.reshape(vertex_ids, [-1]))
    bones = skeleton(model, pose_rotvecs, shape_betas, rotate_base)
    _, unposed = shaped_planes(model, mesh, bones.rotations, shape_betas)
    corners = skinned_vertices(mesh, unposed, bones.transforms)
    shape = tf.stack([tf.shape(pose_rotvecs)[0], tf.shape(vertex_ids)[0], 3, 3])
    return _translated(combine_corners(tf.reshape(corners, shape), weights), translation)


@traced_once
def _pose_own_points(
    model, pose_rotvecs, shape_betas, translation, rotate_base, vertex_ids, weights
):
    mesh = mesh_constants(model, pose_rotvecs.dtype)
    bones = skeleton(model, pose_rotvecs, shape_betas, rotate_base)
    _, unposed = shaped_planes(model, mesh, bones.rotations, shape_betas)
    if model.n_vertices <= SMALL_MESH:
        vertices = skinned_vertices(mesh, unposed, bones.transforms)
        corners = tf.gather(vertices, vertex_ids, batch_dims=1)
    else:
        corners = skinned_corners(mesh, unposed, bones.transforms, vertex_ids)
    return _translated(combine_corners(corners, weights), translation)


def _translated(points, translation):
    """Adds `[B, 3]` or nothing."""
    return points if translation is None else points + translation[:, tf.newaxis]


def _homogeneous(transforms):
    """Appends the row 0 0 0 1 to `[B, J, 3, 4]`."""
    last = tf.constant([0.0, 0.0, 0.0, 1.0], transforms.dtype)
    last = tf.broadcast_to(last, tf.concat([tf.shape(transforms)[:2], [1, 4]], axis=0))
    return tf.concat([transforms, last], axis=-2)
