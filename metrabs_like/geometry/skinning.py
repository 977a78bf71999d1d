"""The stages of posing a body model: skeleton, blend shapes, linear blend skinning.

Conventions: those of `smpl`, which checks the arguments. Tensors of vertices are planes: x, y and z
of `N` vertices behind each other (a last dimension of 3 does not vectorize).
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.matmul import exact_matmul
from metrabs_like.geometry.rotation import rotvec_to_rotmat


class Mesh(NamedTuple):
    """The constant arrays of all or some vertices of a body model.

    Attributes:
      shapes: `[1 + S, 3 N]`, m: the template, then what each beta adds.
      posedirs: `[9 (J - 1), 3 N]`, or `[0, 3 N]` for no pose blend.
      weights: `[J, N]`.
    """

    shapes: tf.Tensor
    posedirs: tf.Tensor
    weights: tf.Tensor


class Skeleton(NamedTuple):
    """A batch of posed skeletons.

    Attributes:
      rotations: `[B, J, 3, 3]` relative to the parent, as the pose says.
      rest_joints: `[B, J, 3]`, m.
      joints: `[B, J, 3]`, m, posed.
      transforms: `[B, J, 3, 4]` that take a point at rest along with the joint.
    """

    rotations: tf.Tensor
    rest_joints: tf.Tensor
    joints: tf.Tensor
    transforms: tf.Tensor


@functools.lru_cache(maxsize=8)
def _planar_arrays(model):
    """The model's arrays with the vertices in the last dimension, NumPy float32."""
    shapes = np.concatenate([model.v_template[..., np.newaxis], model.shapedirs], axis=-1)
    return (
        np.ascontiguousarray(shapes.transpose(2, 1, 0)),
        np.ascontiguousarray(model.posedirs.transpose(2, 1, 0)),
        np.ascontiguousarray(model.weights.T),
    )


def mesh_constants(model, dtype, vertex_ids=None):
    """Returns the Mesh of all vertices, or of those that int `[N]` names, repetitions included."""
    shapes, posedirs, weights = (
        array if vertex_ids is None else tf.gather(array, vertex_ids, axis=-1)
        for array in (tf.constant(array, dtype) for array in _planar_arrays(model))
    )
    return Mesh(
        tf.reshape(shapes, [1 + model.n_betas, -1]),
        tf.reshape(posedirs, tf.stack([model.posedirs.shape[-1], 3 * tf.shape(weights)[1]])),
        weights,
    )


def skeleton(model, pose_rotvecs, shape_betas, rotate_base=False):
    """Shapes and poses the joints; see `smpl.pose_body` for the arguments.

    Returns:
      Skeleton. Gradient: flows to pose and betas.
    """
    n_joints, dtype = model.n_joints, pose_rotvecs.dtype
    rotations = rotvec_to_rotmat(tf.reshape(pose_rotvecs, [-1, n_joints, 3]))
    directions = tf.constant(model.joint_shapedirs, dtype)[..., : tf.shape(shape_betas)[1]]
    rest_joints = tf.constant(model.joint_template, dtype) + tf.reduce_sum(
        directions * shape_betas[:, tf.newaxis, tf.newaxis], axis=-1
    )
    turned, joints = _chained(model.parents, rotations, rest_joints, rotate_base)
    shifts = joints - _applied(turned, rest_joints)
    transforms = tf.concat([turned, shifts[..., tf.newaxis]], axis=-1)
    return Skeleton(rotations, rest_joints, joints, transforms)


def _chained(parents, rotations, rest_joints, rotate_base):
    """Walks down the kinematic tree: global rotations `[B, J, 3, 3]` and joints `[B, J, 3]`."""
    levels, row_of_joint = _levels(parents)
    root = rotations[:, :1]
    if rotate_base:
        root *= tf.constant([1.0, -1.0, -1.0], root.dtype)
    turned, joints = [root], [rest_joints[:, :1]]
    for level, over, rows in levels[1:]:
        bones = tf.gather(rest_joints, level, axis=1) - tf.gather(rest_joints, over, axis=1)
        above = tf.gather(turned[-1], rows, axis=1)
        joints.append(tf.gather(joints[-1], rows, axis=1) + _applied(above, bones))
        local = tf.gather(rotations, level, axis=1)
        product = above[..., tf.newaxis] * local[..., tf.newaxis, :, :]
        turned.append(tf.reduce_sum(product, axis=-2))
    turned, joints = tf.concat(turned, axis=1), tf.concat(joints, axis=1)
    return tf.gather(turned, row_of_joint, axis=1), tf.gather(joints, row_of_joint, axis=1)


@functools.lru_cache(maxsize=32)
def _levels(parents):
    """Joints by depth: (joints, parents, the parents' rows in the level above); and their order."""
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    levels = []
    for depth in range(max(depths) + 1):
        joints = [joint for joint, d in enumerate(depths) if d == depth]
        above = levels[-1][0] if levels else []
        over = [parents[joint] for joint in joints]
        levels.append((joints, over, [above.index(parent) for parent in over if above]))
    order = [joint for joints, _, _ in levels for joint in joints]
    return levels, [order.index(joint) for joint in range(len(parents))]


def _applied(rotations, vectors):
    """Applies `[..., 3, 3]` to `[..., 3]`."""
    return tf.reduce_sum(rotations * vectors[..., tf.newaxis, :], axis=-1)


def shaped_planes(model, mesh, rotations, shape_betas):
    """Applies the blend shapes.

    Args:
      model: BodyModel.
      mesh: Mesh of its vertices.
      rotations: `[B, J, 3, 3]`, relative to the parents.
      shape_betas: `[B, S']`.

    Returns:
      Vertices after the shape blend, and after the pose blend, `[B, 3, N]`, m. Gradient: flows to
      rotations and betas.
    """
    planes = tf.stack([tf.shape(rotations)[0], 3, tf.shape(mesh.weights)[1]])
    # The template as one more direction: products over no betas at all abort in oneDNN.
    shares = tf.concat([tf.ones_like(rotations[:, 0, 0, :1]), shape_betas], axis=1)
    shaped = exact_matmul(shares, mesh.shapes[: tf.shape(shares)[1]])
    unposed = shaped
    if model.posedirs.shape[-1]:
        bends = rotations[:, 1:] - tf.eye(3, dtype=rotations.dtype)
        unposed += tf.matmul(tf.reshape(bends, [-1, model.posedirs.shape[-1]]), mesh.posedirs)
    return tf.reshape(shaped, planes), tf.reshape(unposed, planes)


def skinned_vertices(mesh, unposed, transforms):
    """Poses all vertices of a mesh.

    Args:
      mesh: Mesh.
      unposed: `[B, 3, N]`, m.
      transforms: `[B, J, 3, 4]`.

    Returns:
      `[B, N, 3]`, m. Gradient: flows to unposed and transforms.
    """
    shape = tf.shape(unposed)
    rows = tf.transpose(transforms, [0, 2, 3, 1])
    rows = tf.reshape(rows, tf.stack([shape[0] * 12, transforms.shape[1]]))
    blended = tf.reshape(exact_matmul(rows, mesh.weights), tf.stack([shape[0], 3, 4, shape[2]]))
    posed = tf.reduce_sum(blended[:, :, :3] * unposed[:, tf.newaxis], axis=2) + blended[:, :, 3]
    return tf.linalg.matrix_transpose(posed)


def skinned_corners(mesh, unposed, transforms, vertex_ids):
    """Poses the vertices that each example names.

    Args:
      mesh: Mesh.
      unposed: `[B, 3, N]`, m.
      transforms: `[B, J, 3, 4]`.
      vertex_ids: int `[B, K, 3]`.

    Returns:
      `[B, K, 3, 3]`, corner by corner, m. Gradient: flows to unposed and transforms.
    """
    corners = tf.gather(tf.linalg.matrix_transpose(unposed), vertex_ids, batch_dims=1)
    n_examples, n_joints = tf.shape(vertex_ids)[0], transforms.shape[1]
    shares = tf.gather(tf.transpose(mesh.weights), vertex_ids)
    blended = exact_matmul(
        tf.reshape(shares, tf.stack([n_examples, 3 * tf.shape(vertex_ids)[1], n_joints])),
        tf.reshape(transforms, tf.stack([n_examples, n_joints, 12])),
    )
    blended = tf.reshape(blended, tf.concat([tf.shape(vertex_ids), [3, 4]], axis=0))
    return _applied(blended[..., :3], corners) + blended[..., 3]
