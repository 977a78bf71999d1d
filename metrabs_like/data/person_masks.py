"""Masks of people as they are trained on: decoded, stretched to squares of one size.

Conventions: uint8 0..255; a square covers the person's mask box, see `masks`.
"""

import tensorflow as tf


def decode_masks(pngs, side: int):
    """Decodes the masks of the people of one image.

    Args:
      pngs: string `[N]`, PNG bytes as of `masks.encode_mask`, empty where there is none.
      side: M, px.

    Returns:
      uint8 `[N, M, M]`, each mask stretched to the square, averages over what its pixels cover;
      zero where there is none. Pixel `(u, v)` of the stored mask comes to `(u + 0.5) * M / width -
      0.5` and so on.
    """
    found = tf.where(tf.strings.length(pngs) > 0)
    squares = tf.map_fn(
        lambda index: _square(pngs[index[0]], side),
        found,
        fn_output_signature=tf.TensorSpec([side, side], tf.uint8),
    )
    shape = tf.stack([tf.size(pngs, tf.int64), side, side])
    squares = tf.scatter_nd(found, tf.cast(squares, tf.int32), shape)
    return tf.ensure_shape(tf.cast(squares, tf.uint8), [*pngs.shape, side, side])


def _square(png, side):
    mask = tf.io.decode_png(png, channels=1)
    square = tf.image.resize(mask, [side, side], method="area")
    return tf.cast(tf.round(tf.ensure_shape(square, [side, side, 1])[..., 0]), tf.uint8)
