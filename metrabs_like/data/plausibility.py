"""Checks that annotated people are the size of people, so that wrong units fail loudly.

Conventions: metres; NumPy, float64.
"""

import numpy as np

# Wide limits (ours): they accept children, odd skeletons and noise, and refuse mm and cm.
MAX_BONE_M = 1.3
MIN_LONGEST_BONE_M = 0.03
MAX_EXTENT_M = 4.0
MIN_EXTENT_M = 0.1


def check_person_size(points3d, validity, skeleton, field: str) -> None:
    """Checks the bone lengths and the extent of one person.

    Args:
      points3d: float `[P, 3]`, m.
      validity: bool `[P]`.
      skeleton: whose edges are the bones.
      field: where the points stand, for the message.

    Raises:
      ValueError: naming field, bone, value and the likely wrong unit.
    """
    points3d = np.asarray(points3d, np.float64)
    bones = [(a, b) for a, b in skeleton.edges if validity[a] and validity[b]]
    if bones:
        lengths = np.array([np.linalg.norm(points3d[a] - points3d[b]) for a, b in bones])
        a, b = bones[int(np.argmax(lengths))]
        name = f"the bone {skeleton.joint_names[a]}-{skeleton.joint_names[b]}"
        _check(lengths.max(), MIN_LONGEST_BONE_M, MAX_BONE_M, name, field)
    if np.count_nonzero(validity) >= skeleton.n_joints / 2 and skeleton.n_joints > 4:
        extent = np.linalg.norm(np.ptp(points3d[validity], axis=0))
        _check(extent, MIN_EXTENT_M, MAX_EXTENT_M, "the whole person", field)


def _check(length, minimum, maximum, name, field):
    if minimum <= length <= maximum:
        return
    raise ValueError(
        f"{field}: {name} measures {length:.4g} m, plausible are {minimum} to {maximum} m. "
        f"{_likely_cause(length, maximum)}"
    )


def _likely_cause(length, maximum):
    if length > 100 * maximum:
        return "It looks like millimetres: divide by 1000."
    if length > 10 * maximum:
        return "It looks like centimetres: divide by 100."
    if length > maximum:
        return "Check these points; the unit must be metres."
    return "Check for kilometres, normalized units or equal points; the unit must be metres."
