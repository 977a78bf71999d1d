"""Another background behind the person, by the person's mask."""

import tensorflow as tf

from metrabs_like.data import randomness

_SMALLEST_PART = 0.5  # share of the background's side that the strongest zoom shows
_MAX_GAIN = 2.0


def replace_background(images, masks, backgrounds, seed):
    """Puts crops in front of other backgrounds.

    The background is flipped, zoomed and shifted at random, and its brightness moved by a random
    share towards the crop's.

    Args:
      images: float32 `[B, S, S, 3]`, 0..1.
      masks: float `[B, S, S, 1]`, 0..1, the visible part of the person.
      backgrounds: uint8 `[B, T, T, 3]`; T about S, since nothing is averaged when it shrinks.
      seed: int32 `[2]`.

    Returns:
      float32 `[B, S, S, 3]`, 0..1: the crop where the mask is 1, the background one pixel or more
      beside the mask, a blend between.
    """
    side = images.shape[1]
    numbers = randomness.uniform([tf.shape(images)[0], 5], seed)
    behind = _part(tf.cast(backgrounds, tf.float32) / 255, side, numbers)
    gain = (_mean(images) + 0.05) / (_mean(behind) + 0.05)
    gain = tf.clip_by_value(gain, 1 / _MAX_GAIN, _MAX_GAIN)
    share = numbers[:, 4, tf.newaxis, tf.newaxis, tf.newaxis]
    behind = tf.minimum(behind * (1 + share * (gain - 1)), 1.0)
    masks = tf.cast(masks, tf.float32)
    # The edge fades outwards: what the mask holds fully stays as it is.
    padded = tf.pad(masks, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    wide = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    wide = (wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]) / 9
    alpha = tf.clip_by_value(tf.maximum(masks, wide), 0.0, 1.0)
    return tf.where(alpha >= 1, images, alpha * images + (1 - alpha) * behind)


def _mean(images):
    return tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)


def _part(pictures, side, numbers):
    """Shows a random square part of each picture on `side` pixels, half of them flipped."""
    zoom = _SMALLEST_PART + (1 - _SMALLEST_PART) * numbers[:, 0]
    n_px = tf.cast(tf.shape(pictures)[1], tf.float32)
    axis = (tf.range(side, dtype=tf.float32) + 0.5) / side

    def positions(offset, is_flipped):
        along = tf.where(is_flipped[:, tf.newaxis], 1 - axis, axis)
        along = (1 - zoom[:, tf.newaxis]) * offset[:, tf.newaxis] + zoom[:, tf.newaxis] * along
        return along * n_px - 0.5

    rows = positions(numbers[:, 1], tf.zeros_like(zoom, tf.bool))
    columns = positions(numbers[:, 2], numbers[:, 3] < 0.5)
    return _resampled(_resampled(pictures, rows, axis=1), columns, axis=2)


def _resampled(pictures, positions, axis):
    """Interpolates along one axis at positions `[B, S]` px; beyond the ends the end counts."""
    last = tf.cast(tf.shape(pictures)[axis] - 1, tf.float32)
    positions = tf.clip_by_value(positions, 0.0, last)
    near = tf.floor(positions)
    shape = [-1, tf.shape(positions)[1], 1, 1] if axis == 1 else [-1, 1, tf.shape(positions)[1], 1]
    weight = tf.reshape(positions - near, shape)
    first, second = (
        tf.gather(pictures, tf.cast(index, tf.int32), axis=axis, batch_dims=1)
        for index in (near, tf.minimum(near + 1, last))
    )
    return first + weight * (second - first)
