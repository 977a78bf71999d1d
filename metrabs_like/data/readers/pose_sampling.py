"""Which frames of a moving person are worth keeping.

Conventions: any unit of length, the same for points and threshold.
"""

import numpy as np

MIN_MOTION_M = 0.1
"""PosePile's choice for its training sets: 100 mm."""


def moving_frames(points, min_motion: float) -> list[int]:
    """Picks the frames in which somebody has moved since the last frame that was picked.

    Args:
      points: float `[n, P, 3]`, in a frame that does not move; NaN where a joint is unknown.
      min_motion: a frame is kept when some joint has moved at least as far.

    Returns:
      Rising indices: the first frame with any joint, then each with a moved one. Joints unknown in
      one of both frames do not count; a frame that shares no joint with the last kept one is kept;
      a frame without any joint is not.

    References:
      PosePile, posepile/util/adaptive_pose_sampling.py.
    """
    kept, last = [], None
    for index, pose in enumerate(np.asarray(points, np.float64)):
        is_known = np.isfinite(pose).all(axis=-1)
        if not is_known.any():
            continue
        if last is not None:
            both = is_known & np.isfinite(last).all(axis=-1)
            distances = np.linalg.norm(pose[both] - last[both], axis=-1)
            if both.any() and distances.max() < min_motion:
                continue
        kept.append(index)
        last = pose
    return kept
