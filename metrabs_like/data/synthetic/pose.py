"""Joint angles: their limits and what they do to the skeleton.

Conventions: a pose is a vector of `len(ANGLE_NAMES)` angles in radians, zero at rest (upright, arms
hanging). Angles of the right side mean the mirror image of those of the left side. Body frame: x
left, y up, z front.
"""

from __future__ import annotations

import numpy as np

from metrabs_like.data.synthetic.body import PARENTS
from metrabs_like.skeletons import SMPL_24

_SIDE = (
    "hip_flexion hip_abduction hip_rotation knee_flexion ankle_extension "
    "shoulder_elevation shoulder_azimuth shoulder_rotation elbow_flexion wrist_flexion"
).split()
_MIDDLE = (
    "root_pitch root_roll spine_flexion spine_bending spine_twist "
    "neck_flexion neck_bending neck_twist"
).split()

#: Names of the angles in the order of a pose vector.
ANGLE_NAMES = (*_MIDDLE, *(f"l_{name}" for name in _SIDE), *(f"r_{name}" for name in _SIDE))

_LIMITS_DEGREES = {
    "root_pitch": (-35, 75),
    "root_roll": (-25, 25),
    "spine_flexion": (-25, 60),
    "spine_bending": (-30, 30),
    "spine_twist": (-45, 45),
    "neck_flexion": (-40, 45),
    "neck_bending": (-30, 30),
    "neck_twist": (-65, 65),
    "hip_flexion": (-25, 125),
    "hip_abduction": (-12, 50),
    "hip_rotation": (-30, 45),
    "knee_flexion": (0, 145),
    "ankle_extension": (-25, 45),
    "shoulder_elevation": (0, 160),
    "shoulder_azimuth": (-40, 150),
    "shoulder_rotation": (-85, 90),
    "elbow_flexion": (0, 145),
    "wrist_flexion": (-50, 50),
}

#: Lowest and highest value of each angle, `[n_angles, 2]`, radians. Ours, from common ranges of
#: motion.
ANGLE_LIMITS = np.radians(
    [_LIMITS_DEGREES[n.removeprefix("l_").removeprefix("r_")] for n in ANGLE_NAMES]
)

MIDDLE = slice(0, len(_MIDDLE))
LEFT = slice(len(_MIDDLE), len(_MIDDLE) + len(_SIDE))
RIGHT = slice(len(_MIDDLE) + len(_SIDE), len(ANGLE_NAMES))
_ODD = np.array([name.endswith(("roll", "bending", "twist")) for name in _MIDDLE])
_ELEVATION = np.array([ANGLE_NAMES.index(f"{side}_shoulder_elevation") for side in "lr"])
_AZIMUTH = _ELEVATION + 1


def limited(pose: np.ndarray) -> np.ndarray:
    """Returns the pose clipped to the joint limits.

    How far an arm can be raised depends on where to: 160 degrees in front and sideways, 50 behind
    the back.

    Args:
      pose: `[n_angles]`, radians.

    Returns:
      The clipped copy.
    """
    pose = np.minimum(np.maximum(pose, ANGLE_LIMITS[:, 0]), ANGLE_LIMITS[:, 1])
    pose[_ELEVATION] = np.minimum(pose[_ELEVATION], elevation_limit(pose[_AZIMUTH]))
    return pose


def elevation_limit(azimuth: np.ndarray) -> np.ndarray:
    """Returns how far the arm can rise towards an azimuth (0 front, pi/2 sideways), radians."""
    return np.interp(azimuth, np.radians([-40, 0, 100, 150]), np.radians([120, 160, 160, 50]))


def mirrored(pose: np.ndarray) -> np.ndarray:
    """Returns the pose seen in a mirror: sides swapped, twists and sideways bends reversed."""
    middle = np.where(_ODD, -pose[MIDDLE], pose[MIDDLE])
    return np.concatenate([middle, pose[RIGHT], pose[LEFT]])


def forward_kinematics(rest_joints: np.ndarray, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses the skeleton.

    Args:
      rest_joints: `[24, 3]`, m.
      pose: `[n_angles]`, radians.

    Returns:
      Joints `[24, 3]` in m with the pelvis at the origin, and the global rotation of each joint's
      frame `[24, 3, 3]`.
    """
    transforms = np.zeros((SMPL_24.n_joints, 4, 4))
    transforms[:, :3, :3] = local_rotations(pose)
    transforms[1:, :3, 3] = rest_joints[1:] - rest_joints[_PARENTS[1:]]
    transforms[:, 3, 3] = 1.0
    for level, parents in _LEVELS:
        transforms[level] = transforms[parents] @ transforms[level]
    return transforms[:, :3, 3].copy(), transforms[:, :3, :3].copy()


def local_rotations(pose: np.ndarray) -> np.ndarray:
    """Returns the rotation of each joint relative to its parent, `[24, 3, 3]`."""
    zxy = np.zeros((SMPL_24.n_joints, 3))  # angles about z, x, y, applied in reverse order
    (pitch, roll, flexion, bending, twist, nod, tilt, turn) = pose[MIDDLE].tolist()
    zxy[_PELVIS] = (roll, pitch, 0.0)
    zxy[_SPINE] = np.outer(_SPINE_SHARES, (bending, flexion, twist))
    zxy[_NECK] = (0.5 * tilt, 0.5 * nod, 0.5 * turn)
    shoulders = []
    for side, sign, joints in ((LEFT, 1.0, _LEFT_JOINTS), (RIGHT, -1.0, _RIGHT_JOINTS)):
        (hip, abduction, rotation, knee, ankle, *arm) = pose[side].tolist()
        (elevation, azimuth, arm_rotation, elbow, wrist) = arm
        # The collar bone lifts with the arm: shoulder rhythm.
        lift = min(max(elevation - np.pi / 3, 0.0) * 0.22, 0.4)
        forward = 0.25 * elevation * np.cos(azimuth)
        zxy[joints] = (
            (sign * abduction, -hip, sign * rotation),
            (0.0, knee, 0.0),
            (0.0, ankle, 0.0),
            (sign * lift, 0.0, -sign * min(max(forward, -0.15), 0.3)),
            (0.0, -elbow, 0.0),
            (sign * wrist, 0.0, 0.0),
        )
        shoulders.append((sign * azimuth, -elevation, sign * (arm_rotation - azimuth)))
    rotations = _rotations_zxy(zxy)
    rotations[_SHOULDERS] = _rotations_yxy(np.array(shoulders))
    return rotations


def _levels():
    """Joints of equal depth in the tree with their parents, from the pelvis outwards."""
    depths = [0] * SMPL_24.n_joints
    for joint, parent in enumerate(PARENTS[1:], start=1):
        depths[joint] = depths[parent] + 1
    levels = []
    for depth in range(1, max(depths) + 1):
        level = np.array([joint for joint, d in enumerate(depths) if d == depth])
        levels.append((level, _PARENTS[level]))
    return levels


_PARENTS = np.maximum(PARENTS, 0)
_LEVELS = _levels()
_PELVIS = SMPL_24.index("pelv")
_SPINE = np.array([SMPL_24.index(name) for name in ("bell", "spin", "thor")])
_SPINE_SHARES = np.array([0.35, 0.35, 0.3])
_NECK = np.array([SMPL_24.index(name) for name in ("neck", "head")])
_LEFT_JOINTS = np.array([SMPL_24.index(f"l{part}") for part in "hip kne ank cla elb wri".split()])
_RIGHT_JOINTS = np.array([SMPL_24.index(f"r{part}") for part in "hip kne ank cla elb wri".split()])
_SHOULDERS = np.array([SMPL_24.index("lsho"), SMPL_24.index("rsho")])


def _rotations_zxy(angles):
    """Rz(a) Rx(b) Ry(c) for angles `[n, 3]`."""
    (cz, cx, cy), (sz, sx, sy) = np.cos(angles).T, np.sin(angles).T
    return np.stack(
        [
            *(cz * cy - sz * sx * sy, -sz * cx, cz * sy + sz * sx * cy),
            *(sz * cy + cz * sx * sy, cz * cx, sz * sy - cz * sx * cy),
            *(-cx * sy, sx, cx * cy),
        ],
        axis=-1,
    ).reshape(-1, 3, 3)


def _rotations_yxy(angles):
    """Ry(a) Rx(b) Ry(c) for angles `[n, 3]`."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles).T, np.sin(angles).T
    return np.stack(
        [
            *(ca * cc - sa * cb * sc, sa * sb, ca * sc + sa * cb * cc),
            *(sb * sc, cb, -sb * cc),
            *(-sa * cc - ca * cb * sc, ca * sb, -sa * sc + ca * cb * cc),
        ],
        axis=-1,
    ).reshape(-1, 3, 3)
