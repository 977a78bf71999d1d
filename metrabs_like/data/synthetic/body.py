"""Body proportions: the rest skeleton of a random adult and how stout its parts are.

Conventions: the body frame has x to the person's left, y up, z to the front, origin at the pelvis.
At rest the arms hang, so that every limb is vertical. Joint order is that of `smpl_24`.
"""

from __future__ import annotations

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
    build = rng.random()  # 0: narrow shoulders, wide hips; 1: the reverse
    height = float(np.clip(rng.normal(1.66 + 0.12 * build, 0.075), 1.5, 2.0))
    leg, arm, trunk, head = np.exp(rng.normal(0.0, (0.03, 0.03, 0.03, 0.03))).tolist()
    girth = float(np.clip(np.exp(rng.normal(0.0, 0.13)), 0.78, 1.5))
    factors = dict.fromkeys(_LEGS, leg) | dict.fromkeys(_ARMS, arm) | dict.fromkeys(_TRUNK, trunk)
    breadth = {"lsho": 0.93 + 0.14 * build, "lcla": 0.97 + 0.06 * build, "lhip": 1.08 - 0.1 * build}
    offsets = _scaled_offsets(factors, breadth)
    template_height = (
        -sum(offsets[SMPL_24.index(name)][1] for name in ("lhip", "lkne", "lank"))
        + sum(offsets[SMPL_24.index(name)][1] for name in (*_TRUNK, "head"))
        + ANKLE_HEIGHT
        + HEAD_TOP * head
    )
    scale = height / template_height
    return Body(
        rest_joints=_accumulated(offsets * scale),
        height_m=height,
        scale=scale,
        trunk_girth=scale * girth * (0.95 + 0.08 * build),
        limb_girth=scale * girth**0.8 * (0.93 + 0.12 * build),
        hip_girth=1.06 - 0.1 * build,
        head_scale=scale * head,
    )


def _scaled_offsets(factors, breadth):
    """Template offsets `[24, 3]` with lengths and breadths multiplied by name."""
    offsets = np.zeros((SMPL_24.n_joints, 3))
    for name, offset in _OFFSETS.items():
        scaled = np.array(offset) * factors.get(name, 1.0)
        scaled[0] *= breadth.get(name, 1.0)
        joint = SMPL_24.index(name)
        offsets[joint] = scaled
        if (twin := SMPL_24.mirror_indices[joint]) != joint:
            offsets[twin] = scaled * (-1.0, 1.0, 1.0)
    return offsets


def _accumulated(offsets):
    """Joint positions from offsets to the parents."""
    joints = offsets.copy()
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[joint] += joints[parent]
    return joints
