"""Where the joints of any skeleton lie on the canonical body: first guesses, and what is learned.

Conventions: metres, the body in T-pose, x to the person's left, y up, z to the front, origin at the
pelvis. Left and right are mirror images: x changes its sign.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import smpl

# Of the left side and the middle, for a person of 1.76 m; ours, rounded.
_POSITIONS = {
    "pelv": (0, 0, 0),
    "bell": (0, 0.11, -0.02),
    "spin": (0, 0.25, -0.01),
    "tors": (0, 0.28, -0.01),
    "thor": (0, 0.31, -0.01),
    "neck": (0, 0.51, -0.04),
    "head": (0, 0.61, 0.0),
    "nose": (0, 0.65, 0.11),
    "htop": (0, 0.78, 0.0),
    "lhip": (0.07, -0.08, -0.01),
    "lkne": (0.09, -0.48, 0.0),
    "lank": (0.08, -0.90, -0.02),
    "lfoo": (0.09, -0.95, 0.06),
    "ltoe": (0.10, -0.96, 0.11),
    "lto2": (0.08, -0.96, 0.13),
    "lto3": (0.14, -0.96, 0.10),
    "lhee": (0.08, -0.96, -0.07),
    "lcla": (0.08, 0.42, -0.03),
    "lsho": (0.18, 0.44, -0.04),
    "lelb": (0.46, 0.43, -0.05),
    "lwri": (0.71, 0.43, -0.03),
    "lhan": (0.80, 0.43, -0.02),
    "lthu": (0.77, 0.43, 0.03),
    "lfin": (0.88, 0.43, -0.02),
    "leye": (0.03, 0.68, 0.09),
    "lear": (0.07, 0.67, 0.0),
}
_MIRROR = np.array([-1.0, 1.0, 1.0])


def joint_guesses(skeleton):
    """Guesses the canonical positions of a skeleton's joints from their names.

    Args:
      skeleton: `skeletons.Skeleton`.

    Returns:
      float32 `[P, 3]`, m, mirror-symmetric; joints with unknown names start at the pelvis, those
      of the left a little to the left.
    """
    mirror = skeleton.mirror_indices
    guesses = np.zeros([skeleton.n_joints, 3], np.float32)
    for joint, other in enumerate(mirror):
        if other < joint:
            guesses[joint] = guesses[other] * _MIRROR
            continue
        guesses[joint] = _guess(skeleton.joint_names[joint], is_middle=other == joint)
    return guesses


def _guess(name, is_middle):
    """Position of a joint by the first four letters of its name, as the built-in sets write it."""
    part = name.lower()[:4]
    if part in _POSITIONS:
        return _POSITIONS[part]
    if part[:1] == "r" and "l" + part[1:] in _POSITIONS:
        return np.multiply(_POSITIONS["l" + part[1:]], _MIRROR)
    if is_middle:
        return (0.0, 0.0, 0.0)
    return (-0.1, 0.0, 0.0) if part.startswith("r") else (0.1, 0.0, 0.0)


class SymmetricLayout:
    """How few numbers make mirror-symmetric positions of all joints.

    Attributes:
      free: indices of the joints that have numbers of their own: one of each pair, and the middle.
      source: int `[P]`, place in `free` from which each joint takes its numbers.
      signs: float32 `[P, 3]`, what they are multiplied by; 0 keeps the middle in the middle.
    """

    def __init__(self, skeleton):
        mirror = skeleton.mirror_indices
        self.free = [joint for joint, other in enumerate(mirror) if joint <= other]
        place = {joint: i for i, joint in enumerate(self.free)}
        self.source = np.array([place[min(j, other)] for j, other in enumerate(mirror)], np.int32)
        self.signs = np.ones([len(mirror), 3], np.float32)
        for joint, other in enumerate(mirror):
            self.signs[joint, 0] = np.sign(other - joint) if joint != other else 0.0

    def positions(self, numbers):
        """Returns `[P, 3]` from the free joints' numbers `[n_free, 3]`. Gradient: flows."""
        # The product with one makes the gradient dense: optimizers and sums of them expect that.
        return tf.gather(numbers * tf.ones_like(numbers), self.source) * self.signs


def surface_to_canonical(body, vertex_ids, weights):
    """Places surface points on the canonical body.

    Args:
      body: `geometry.smpl.BodyModel`.
      vertex_ids: int32 `[..., 3]`.
      weights: float32 `[..., 3]`, barycentric.

    Returns:
      float32 `[..., 3]`, m, relative to the pelvis.

    Gradient: none is wanted.
    """
    pelvis = tf.constant(smpl.canonical_joints(body)[0], tf.float32)
    return smpl.canonical_points(body, vertex_ids, weights) - pelvis
