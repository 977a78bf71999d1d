"""Whole photographs fitted into the input of a network, as in training.

Conventions: affine maps `[3, 3]` act on `(x, y, 1)` px; pixel (0, 0) is the centre of the top-left
pixel; intensities 0..1.
"""

import tensorflow as tf

from metrabs_like.geometry.affine import affine_from_placement, pre_process
from metrabs_like.geometry.warping import warp_affine


def fit_photographs(images, side):
    """Renders photographs on the network's input.

    Args:
      images: uint8 `[B, H, W, 3]`.
      side: int scalar, px: the photographs fill a square of this side as well as they can, a
        multiple of 32; 0: they keep their pixels, in the middle of the next multiples of 32 above
        their sides.

    Returns:
      (float32 `[B, h, w, 3]`, 0..1, black around the photograph; `input_from_image` float32
      `[B, 3, 3]`). Photographs more than twice as large as the input are shrunk by averaging first.
    """
    n_images = tf.shape(images)[0]
    size = tf.shape(images)[tf.newaxis, 1:3]
    kept = pre_process(size, fix_resolution=False)
    fitted = pre_process(size, fix_resolution=True, input_size=(side, side))
    keeps_pixels = tf.equal(side, 0)
    center, length, input_size = (
        tf.where(keeps_pixels, kept[name], fitted[name])
        for name in ("center", "scale", "input_size")
    )
    placement = (center, length, 0.0, input_size[:, ::-1])
    input_from_image = affine_from_placement(*placement)
    image_from_input = affine_from_placement(*placement, inverse=True)
    factor = tf.cast(length[0, 0], tf.int32) // input_size[0, 1]
    images, small_from_image = _shrunk(images, factor)
    sampled = warp_affine(
        images,
        tf.tile(tf.cast(small_from_image @ image_from_input, tf.float32), [n_images, 1, 1]),
        tf.unstack(input_size[0]),
        jit_compile=False,  # sizes keep changing
    )
    return sampled, tf.tile(tf.cast(input_from_image, tf.float32), [n_images, 1, 1])


def _shrunk(images, factor):
    """Averages blocks of `factor` pixels; returns the map `[1, 3, 3]` into the result, too."""
    size = tf.shape(images)[1:3]
    factor = tf.maximum(factor, 1)
    small = (size + factor - 1) // factor
    shrunk = tf.cond(
        factor > 1,
        lambda: tf.image.resize(images, small, method="area") / 255,
        lambda: tf.image.convert_image_dtype(images, tf.float32),
    )
    ratio = tf.cast(small, tf.float64) / tf.cast(size, tf.float64)
    zero, one = tf.zeros([], tf.float64), tf.ones([], tf.float64)
    x, y = ratio[1], ratio[0]
    entries = [x, zero, x / 2 - 0.5, zero, y, y / 2 - 0.5, zero, zero, one]
    return shrunk, tf.reshape(tf.stack(entries), [1, 3, 3])
