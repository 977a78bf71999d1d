"""Everyday poses as distributions: base poses for legs, arms and trunk, combined and varied.

Conventions: angles in degrees in the tables (converted once), radians outside; see `pose`.
"""

from __future__ import annotations

import numpy as np

from metrabs_like.data.synthetic.pose import (
    ANGLE_LIMITS,
    ANGLE_NAMES,
    LEFT,
    MIDDLE,
    RIGHT,
    limited,
    mirrored,
)

# Weight; left leg; right leg; spread.
# Columns: hip flexion, abduction, rotation, knee flexion, ankle extension.
_LEGS = {
    "stand": (28, (0, 5, 8, 3, 0), (0, 5, 8, 3, 0), (5, 4, 7, 5, 4)),
    "contrapposto": (8, (2, 8, 10, 2, 0), (14, 12, 14, 26, 4), (5, 4, 7, 8, 4)),
    "walk": (22, (26, 2, 5, 12, 0), (-15, 2, 5, 26, 15), (9, 3, 6, 10, 8)),
    "run": (6, (55, 2, 3, 80, 5), (-16, 2, 3, 60, 20), (15, 4, 6, 20, 10)),
    "sit": (12, (85, 8, 5, 84, 0), (85, 8, 5, 84, 0), (11, 8, 8, 14, 8)),
    "squat": (5, (98, 18, 18, 108, -16), (98, 18, 18, 108, -16), (16, 8, 8, 18, 6)),
    "lunge": (5, (70, 5, 5, 80, -5), (-14, 3, 5, 42, 22), (14, 5, 6, 15, 8)),
    "kneel": (4, (85, 6, 5, 92, 0), (4, 4, 5, 96, 34), (8, 5, 6, 10, 8)),
    "kick": (4, (75, 6, 2, 22, 12), (0, 4, 8, 6, 0), (22, 8, 6, 18, 8)),
    "straddle": (4, (5, 25, 15, 8, 0), (5, 25, 15, 8, 0), (7, 8, 8, 8, 5)),
    "step_up": (2, (65, 5, 5, 75, 0), (0, 4, 6, 6, 0), (12, 5, 6, 15, 6)),
}

# Weight; arm; spread. Columns: shoulder elevation, azimuth, rotation, elbow flexion, wrist flexion.
_ARMS = {
    "hang": (28, (9, 70, -5, 13, 0), (5, 35, 15, 9, 10)),
    "swing": (10, (22, 10, -8, 28, 0), (9, 40, 12, 16, 10)),
    "swing_back": (6, (22, 140, -5, 30, 0), (9, 10, 12, 20, 10)),
    "bent": (10, (22, 40, -22, 80, 0), (12, 30, 18, 20, 15)),
    "reach": (9, (80, 8, 0, 22, 0), (20, 20, 20, 18, 15)),
    "sideways": (7, (86, 82, 0, 12, 0), (14, 14, 25, 12, 12)),
    "surrender": (5, (84, 84, 75, 85, 0), (15, 12, 12, 20, 15)),
    "overhead": (8, (140, 50, 20, 22, 0), (16, 35, 25, 20, 15)),
    "akimbo": (6, (38, 82, -62, 96, -10), (6, 8, 8, 8, 10)),
    "folded": (5, (32, 8, -68, 100, 0), (6, 8, 8, 10, 10)),
    "to_face": (5, (48, 20, -25, 132, 0), (15, 20, 15, 8, 15)),
    "wave": (4, (78, 88, 68, 105, 0), (16, 14, 14, 20, 15)),
    "anywhere": (6, None, None),
}

# Weight; mean; spread. Columns as the middle angles of a pose.
_TRUNKS = {
    "upright": (70, (0, 0, 5, 0, 0, 4, 0, 0), (4, 2, 7, 4, 8, 9, 5, 18)),
    "bent_forward": (12, (34, 0, 22, 0, 0, -8, 0, 0), (15, 3, 12, 5, 10, 14, 6, 18)),
    "leaning_back": (4, (-12, 0, -8, 0, 0, 8, 0, 0), (6, 3, 8, 5, 8, 10, 5, 15)),
    "bent_sideways": (6, (0, 5, 6, 18, 0, 0, 8, 0), (5, 5, 7, 8, 10, 10, 8, 20)),
    "twisted": (8, (3, 0, 8, 0, 28, 4, 0, 20), (5, 3, 8, 5, 10, 10, 5, 20)),
}


def _table(rows):
    """Splits a table into cumulative shares and entries in radians."""
    weights = np.array([row[0] for row in rows.values()], dtype=np.float64)
    entries = [
        tuple(None if angles is None else np.radians(angles) for angles in row[1:])
        for row in rows.values()
    ]
    return np.cumsum(weights / weights.sum()), entries


_LEG_TABLE, _ARM_TABLE, _TRUNK_TABLE = _table(_LEGS), _table(_ARMS), _table(_TRUNKS)
_N_LEG = 5
_HIP_FLEXION = np.array([ANGLE_NAMES.index(f"{side}_hip_flexion") for side in "lr"])
_ARM_LIMITS = ANGLE_LIMITS[LEFT][_N_LEG:]
_SAME_ARMS = 0.45


def sample_pose(rng: np.random.Generator) -> np.ndarray:
    """Draws a pose.

    Legs, arms and trunk are drawn from base poses with a normal spread, both arms alike in 45 % of
    the poses, and the whole is mirrored half of the time, so that left and right have one
    distribution.

    Args:
      rng: Source of randomness.

    Returns:
      `[n_angles]`, radians, within the joint limits.
    """
    pose = np.empty(len(ANGLE_NAMES))
    mean, spread = _drawn(rng, _TRUNK_TABLE)
    pose[MIDDLE] = mean + spread * rng.standard_normal(mean.shape)
    left, right, spread = _drawn(rng, _LEG_TABLE)
    noise = spread * rng.standard_normal((2, _N_LEG))
    noise[1] = 0.4 * noise[1] + 0.6 * noise[0] if np.array_equal(left, right) else noise[1]
    pose[LEFT.start : LEFT.start + _N_LEG] = left + noise[0]
    pose[RIGHT.start : RIGHT.start + _N_LEG] = right + noise[1]
    pose[_HIP_FLEXION] += np.maximum(pose[0], 0.0)  # bending forward leaves the legs upright
    first = _drawn(rng, _ARM_TABLE)
    second = first if rng.random() < _SAME_ARMS else _drawn(rng, _ARM_TABLE)
    pose[LEFT.start + _N_LEG : LEFT.stop] = _sampled_arm(rng, first)
    pose[RIGHT.start + _N_LEG : RIGHT.stop] = _sampled_arm(rng, second)
    pose = limited(pose)
    return mirrored(pose) if rng.random() < 0.5 else pose


def _drawn(rng, table):
    """Picks an entry of a table by its share."""
    shares, entries = table
    return entries[min(int(np.searchsorted(shares, rng.random())), len(entries) - 1)]


def _sampled_arm(rng, entry):
    """Angles of one arm; without base pose anywhere within the limits."""
    mean, spread = entry
    if mean is None:
        return rng.uniform(_ARM_LIMITS[:, 0], _ARM_LIMITS[:, 1])
    return mean + spread * rng.standard_normal(mean.shape)
