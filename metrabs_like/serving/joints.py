"""Joint names, edges and selections of a served skeleton, as variables that a SavedModel keeps."""

import numpy as np
import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.serving.checks import checked


def part_skeletons(skeleton: skeletons.Skeleton) -> dict[str, skeletons.Skeleton]:
    """Splits a union into its parts with their own short joint names and edges.

    Args:
      skeleton: A union, or a plain skeleton, which is its own only part.

    Returns:
      Part name to skeleton; `lsho_smpl` of the union is `lsho` of the part.
    """
    parts = {}
    for name, indices in skeletons.components(skeleton).items():
        names = [skeleton.joint_names[i] for i in indices]
        suffixes = {joint.rpartition("_")[2] for joint in names}
        if skeleton.parts and len(suffixes) == 1 and all("_" in joint for joint in names):
            names = [joint.rpartition("_")[0] for joint in names]
        local = {joint: i for i, joint in enumerate(indices)}
        edges = [(local[a], local[b]) for a, b in skeleton.edges if a in local and b in local]
        parts[name] = skeletons.Skeleton(name, tuple(names), tuple(edges))
    return parts


class JointTables:
    """What a caller reads about joints, and the choice of a skeleton by name inside the graph.

    Attributes:
      joint_names: string variable `[P]`.
      joint_edges: int32 variable `[E, 2]`.
      per_skeleton_joint_names: part name to string variable.
      per_skeleton_joint_edges: part name to int32 variable `[E_part, 2]`, indices within the part.
      per_skeleton_indices: part name to int32 variable, indices among all `P`.
      mirror_indices: the permutation that swaps left and right, `P` Python integers.
    """

    def __init__(self, skeleton: skeletons.Skeleton):
        parts = part_skeletons(skeleton)
        self._indices = skeletons.components(skeleton)
        self._n_joints = skeleton.n_joints
        self.mirror_indices = skeleton.mirror_indices
        self.joint_names = tf.Variable(list(skeleton.joint_names), trainable=False)
        self.joint_edges = _edge_variable(skeleton)
        self.per_skeleton_joint_names = {
            name: tf.Variable(list(part.joint_names), trainable=False)
            for name, part in parts.items()
        }
        self.per_skeleton_joint_edges = {name: _edge_variable(part) for name, part in parts.items()}
        self.per_skeleton_indices = {
            name: tf.Variable(np.array(indices, np.int32), trainable=False)
            for name, indices in self._indices.items()
        }

    def select(self, skeleton: tf.Tensor) -> tf.Tensor:
        """Looks the joints of a skeleton up.

        Args:
          skeleton: string scalar; empty means all joints.

        Returns:
          int32 `[P_selected]`.

        Raises:
          tf.errors.InvalidArgumentError: when run, for an unknown name; the message lists the
          known ones.
        """
        rows = [tuple(range(self._n_joints)), *self._indices.values()]
        names = tf.constant(["", *self._indices])
        skeleton = checked(
            skeleton,
            "skeleton",
            (
                tf.reduce_any(names == skeleton),
                f"is not known; give '' for all joints or one of {', '.join(self._indices)}",
            ),
        )
        table = tf.ragged.constant(rows, dtype=tf.int32)
        return table[tf.argmax(tf.cast(names == skeleton, tf.int32))]


def _edge_variable(skeleton):
    """Edges as an int32 variable that also holds none: `[E, 2]`."""
    edges = np.array(skeleton.edges, np.int32).reshape(-1, 2)
    return tf.Variable(edges, trainable=False)
