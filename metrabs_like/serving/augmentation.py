"""Test-time augmentation: the views of one person that are predicted and averaged."""

from typing import NamedTuple

import tensorflow as tf

ROTATION_RANGE_DEGREES = 25.0


class Views(NamedTuple):
    """How each of the `A` crops of a person differs from the plain one.

    Attributes:
      roll: float `[A]`, rad, rotation about the optical axis.
      scale: float `[A]`, size of the person in the crop relative to the plain crop.
      mirror: bool `[A]`, whether left and right are swapped.
    """

    roll: tf.Tensor
    scale: tf.Tensor
    mirror: tf.Tensor


def make_views(n_views: tf.Tensor, rotation_range_degrees: float = ROTATION_RANGE_DEGREES) -> Views:
    """Spreads views evenly over rotation and scale, every second one mirrored.

    The middle one of an odd number is the plain crop, and so is a single one. The released MeTRAbs
    code also varies the gamma curve; this does not.

    Args:
      n_views: int scalar `A` >= 1.
      rotation_range_degrees: Largest rotation to either side. 25 and the scales 0.8 to 1.1:
        released code.

    Returns:
      The views.
    """
    n_small = n_views // 2
    n_large = n_views - n_small
    limit = rotation_range_degrees * 3.141592653589793 / 180.0
    position = tf.cast(tf.range(n_views), tf.float32)
    turn = position / tf.cast(tf.maximum(n_views - 1, 1), tf.float32) * 2.0 - 1.0
    roll = tf.where(n_views > 1, turn * limit, tf.zeros_like(turn))
    small = 0.8 + 0.2 * position[:n_small] / tf.cast(tf.maximum(n_small, 1), tf.float32)
    large = 1.0 + 0.1 * position[:n_large] / tf.cast(tf.maximum(n_large - 1, 1), tf.float32)
    mirror = (tf.range(n_views) - n_small) % 2 != 0
    return Views(roll, tf.concat([small, large], axis=0), mirror)
