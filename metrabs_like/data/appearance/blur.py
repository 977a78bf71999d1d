"""Blur out of focus and blur by motion, as chains of three-tap filters.

Conventions: filters with taps 1, 2 and 4 pixels apart, one after the other, make nearly a Gaussian
at a cost that does not depend on its width.
"""

import tensorflow as tf

from metrabs_like.data import randomness

_STEPS = (1, 2, 4)
_SIGMAS = (0.5, 2.5)  # px of a crop of 256 px, out of focus
_MOTION_SIGMAS = (1.0, 3.0)  # along the motion
_REFERENCE_SIDE = 256
_MAX_WEIGHT = 0.25  # of the outer taps; the filter has no negative frequency up to there
_DIRECTIONS = ((0, 1), (1, 0), (1, 1))  # (y, x) steps of the chains


def blur(images, seed):
    """Blurs crops: half of them out of focus, half by motion in one of four directions.

    The standard deviation is log-uniform, of a crop of 256 px 0.5 to 2.5 px out of focus and 1 to
    3 px along the motion (horizontal, vertical, or either diagonal); it grows with the side, up to
    3.2 px, the most that a chain makes.

    Args:
      images: float32 `[B, S, S, 3]`.
      seed: int32 `[2]`.

    Returns:
      float32 `[B, S, S, 3]`. The borders are mirrored, so that the mean brightness stays (along
      diagonals but for the border).
    """
    n_images, side = tf.shape(images)[0], images.shape[1]
    numbers = randomness.uniform([n_images, 3], seed)
    is_motion = numbers[:, 0] < 0.5
    low, high = (tf.where(is_motion, m, f) for f, m in zip(_SIGMAS, _MOTION_SIGMAS, strict=True))
    sigma = side / _REFERENCE_SIDE * low * (high / low) ** numbers[:, 1]
    direction = tf.where(is_motion, tf.floor(4 * numbers[:, 2]), -1.0)
    # The second diagonal is the first of the mirrored image.
    is_flipped = (direction == 3)[:, tf.newaxis, tf.newaxis, tf.newaxis]
    changed = tf.where(is_flipped, tf.reverse(images, [2]), images)
    for i, step in enumerate(_DIRECTIONS):
        is_used = (direction == i) | ((direction == -1) if i < 2 else (direction == 3))
        # A step along the diagonal is longer.
        variance = tf.where(is_used, sigma**2 / (step[0] ** 2 + step[1] ** 2), 0.0)
        changed = _filtered(changed, step, variance)
    return tf.where(is_flipped, tf.reverse(changed, [2]), changed)


def _filtered(images, direction, variance):
    """Applies the chain along one direction, with a variance `[B]` in steps squared."""
    reach = sum(_STEPS)
    amounts = [[reach * d, reach * d] for d in direction]
    images = tf.pad(images, [[0, 0], *amounts, [0, 0]], "SYMMETRIC")
    for length in _STEPS:
        weight = tf.minimum(variance / (2 * length**2), _MAX_WEIGHT)
        variance -= 2 * length**2 * weight
        dy, dx = (length * d for d in direction)
        middle = images[:, dy : images.shape[1] - dy, dx : images.shape[2] - dx]
        before = images[:, : images.shape[1] - 2 * dy, : images.shape[2] - 2 * dx]
        after = images[:, 2 * dy :, 2 * dx :]
        images = middle + weight[:, tf.newaxis, tf.newaxis, tf.newaxis] * (
            before + after - 2 * middle
        )
    return images
