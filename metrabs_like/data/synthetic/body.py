"""Body proportions: the rest skeleton of a random adult and how stout its parts are.

Conventions: the body frame has x to the person's left, y up, z to the front, origin at the pelvis.
At rest the arms hang, so that every limb is vertical. Joint order is that of `smpl_24`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metrabs_like.skeletons import SMPL_24

#: Parent of each joint; the pelvis has none.
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

#: Offsets from the parent joint for a person of about 1.76 m, m; right joints mirror the left
#: ones. Ours, rounded
#: from common anthropometric tables.
_OFFSETS = {
    "pelv": (0.0, 0.0, 0.0),
    "lhip": (0.072, -0.085, -0.008),
    "bell": (0.0, 0.112, -0.022),
    "lkne": (0.014, -0.395, 0.006),
    "spin": (0.0, 0.135, 0.008),
    "lank": (-0.008, -0.418, -0.022),
    "thor": (0.0, 0.060, 0.008),
    "ltoe": (0.018, -0.058, 0.130),
    "neck": (0.0, 0.208, -0.032),
    "lcla": (0.076, 0.112, -0.022),
    "head": (0.0, 0.092, 0.036),
    "lsho": (0.106, 0.022, -0.008),
    "lelb": (0.012, -0.278, -0.016),
    "lwri": (-0.004, -0.252, 0.022),
    "lhan": (-0.002, -0.085, 0.010),
}
#: Sole under the ankle and top of the head above the head joint in the same person, m.
ANKLE_HEIGHT = 0.078
HEAD_TOP = 0.178

_LEGS = ("lkne", "lank")
_ARMS = ("lelb", "lwri")
_TRUNK = ("bell", "spin", "thor", "neck")


@dataclass(frozen=True)
class Body:
    """Proportions of one person.

    Attributes:
      rest_joints: `[24, 3]`, m, body frame, arms hanging.
      height_m: Sole to top of the head.
      scale: Overall size relative to the template, for offsets that are not between joints.
      trunk_girth: Multiplier of the trunk's radii.
      limb_girth: Multiplier of the limbs' radii.
      hip_girth: Further multiplier at the hips.
      head_scale: Size of the head relative to the template.
    """

    rest_joints: np.ndarray
    height_m: float
    scale: float
    trunk_girth: float
    limb_girth: float
    hip_girth: float
    head_scale: float


def sample_body(rng: np.random.Generator) -> Body:
    """Draws an adult.

    Args:
      rng: Source of randomness.

    Returns:
      A body of 1.5 to 2.0 m; proportions vary independently by some per cent around anthropometric
      means.
    """
    build, *normals = rng.random(), *rng.standard_normal(6).tolist()
    # build 0: narrow shoulders, wide hips; 1: the reverse
    height = min(max(1.66 + 0.12 * build + 0.075 * normals[0], 1.5), 2.0)
    girth = min(max(math.exp(0.13 * normals[1]), 0.78), 1.5)
    head, leg, arm, trunk = (math.exp(0.03 * normal) for normal in normals[2:])
    offsets = _TEMPLATE * np.array([1.0, leg, arm, trunk])[_LENGTH_GROUP]
    breadths = np.array([1.0, 0.93 + 0.14 * build, 0.97 + 0.06 * build, 1.08 - 0.1 * build])
    offsets[:, 0] *= breadths[_BREADTH_GROUP]
    sole_to_head = float(_UPRIGHT @ offsets[:, 1])
    scale = height / (sole_to_head + ANKLE_HEIGHT + HEAD_TOP * head)
    return Body(
        rest_joints=_ANCESTORS @ (offsets * scale),
        height_m=height,
        scale=scale,
        trunk_girth=scale * girth * (0.95 + 0.08 * build),
        limb_girth=scale * girth**0.8 * (0.93 + 0.12 * build),
        hip_girth=1.06 - 0.1 * build,
        head_scale=scale * head,
    )


def _template():
    """Template offsets `[24, 3]`, right ones mirrored."""
    offsets = np.zeros((SMPL_24.n_joints, 3))
    for name, offset in _OFFSETS.items():
        joint = SMPL_24.index(name)
        offsets[SMPL_24.mirror_indices[joint]] = np.multiply(offset, (-1.0, 1.0, 1.0))
        offsets[joint] = offset
    return offsets


def _groups(*groups):
    """For each joint 1 + the number of the group that names it on either side, else 0."""
    result = np.zeros(SMPL_24.n_joints, dtype=int)
    for number, names in enumerate(groups, start=1):
        for name in names:
            joint = SMPL_24.index(name)
            result[[joint, SMPL_24.mirror_indices[joint]]] = number
    return result


def _ancestors():
    """Matrix `[24, 24]` that adds up the offsets on the way from the pelvis."""
    matrix = np.eye(SMPL_24.n_joints)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        matrix[joint] += matrix[parent]
    return matrix


_TEMPLATE = _template()
_LENGTH_GROUP = _groups(_LEGS, _ARMS, _TRUNK)[:, np.newaxis]
_BREADTH_GROUP = _groups(("lsho",), ("lcla",), ("lhip",))
_ANCESTORS = _ancestors()
#: What turns offsets into the height of the head joint above the ankle.
_UPRIGHT = _ANCESTORS[SMPL_24.index("head")] - _ANCESTORS[SMPL_24.index("lank")]
