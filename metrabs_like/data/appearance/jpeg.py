"""Artefacts of JPEG compression: quantized cosine transforms of 8 x 8 blocks.

Conventions: JFIF colours (YCbCr of full range), chroma at half resolution (4:2:0), the tables of
the standard's annex K scaled by quality as libjpeg does.

References:
  ITU-T T.81 (1992), annex K.1; JFIF 1.02; libjpeg's `jpeg_quality_scaling`.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.data import randomness

_QUALITIES = (10, 60)
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * 8,) * 4),
)
_YCC_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)
_BLOCK = 8


def jpeg_artefacts(images, seed):
    """Compresses crops as JPEG and decompresses them, each with a quality of 10 to 60.

    Args:
      images: float32 `[B, S, S, 3]`, 0..1.
      seed: int32 `[2]`.

    Returns:
      float32 `[B, S, S, 3]`, 0..1.
    """
    low, high = _QUALITIES
    numbers = randomness.uniform([tf.shape(images)[0]], seed)
    return compress(images, low + tf.floor((high - low + 1) * numbers))


def compress(images, quality):
    """Returns what JPEG leaves of images.

    Args:
      images: float32 `[B, H, W, 3]`, 0..1, H and W static.
      quality: float `[B]`, whole numbers 1 to 100 as in libjpeg.

    Returns:
      float32 `[B, H, W, 3]`, 0..1, not rounded to 8 bits.
    """
    height, width = images.shape[1:3]
    amounts = [[0, -height % (2 * _BLOCK)], [0, -width % (2 * _BLOCK)]]
    planes = tf.tensordot(images * 255, tf.constant(_YCC_FROM_RGB.T, tf.float32), 1)
    luma = _repeated_edge(planes[..., :1] - 128, amounts)
    chroma = _halved(_repeated_edge(planes[..., 1:], amounts))
    scale = tf.where(quality < 50, tf.floor(5000 / quality), 200 - 2 * quality)
    luma = _quantized(luma, _LUMA_TABLE, scale) + 128
    chroma = _doubled(_quantized(chroma, _CHROMA_TABLE, scale))
    planes = tf.concat([luma, chroma], axis=-1)[:, :height, :width]
    rgb_from_ycc = np.linalg.inv(_YCC_FROM_RGB).T / 255
    rgb = tf.tensordot(planes, tf.constant(rgb_from_ycc, tf.float32), 1)
    return tf.clip_by_value(rgb, 0.0, 1.0)


def _quantized(planes, table, scale):
    """Rounds the cosine transform of each block to multiples of the scaled table."""
    _, height, width, n_planes = planes.shape
    rows, columns = height // _BLOCK, width // _BLOCK
    table = tf.constant(np.ravel(table), tf.float32)
    steps = tf.floor((table * scale[:, tf.newaxis] + 50) / 100)
    steps = tf.clip_by_value(steps, 1.0, 255.0)[:, tf.newaxis]
    blocks = tf.reshape(planes, [-1, rows, _BLOCK, columns, _BLOCK, n_planes])
    blocks = tf.transpose(blocks, [0, 1, 3, 5, 2, 4])
    blocks = tf.reshape(blocks, [-1, rows * columns * n_planes, _BLOCK**2])
    transform = tf.constant(_block_transform(), tf.float32)
    coefficients = tf.round(tf.tensordot(blocks, transform, 1) / steps) * steps
    blocks = tf.tensordot(coefficients, tf.transpose(transform), 1)
    blocks = tf.reshape(blocks, [-1, rows, columns, n_planes, _BLOCK, _BLOCK])
    blocks = tf.transpose(blocks, [0, 1, 4, 2, 5, 3])
    return tf.reshape(blocks, [-1, height, width, n_planes])


def _block_transform():
    """Returns `[64, 64]`: block pixels to coefficients (right-multiplied), orthonormal."""
    frequency, position = np.mgrid[:_BLOCK, :_BLOCK]
    cosines = np.cos((2 * position + 1) * frequency * np.pi / (2 * _BLOCK)) / 2
    cosines[0] /= np.sqrt(2)
    return np.kron(cosines, cosines).T


def _repeated_edge(planes, amounts):
    """Continues the last row and column to whole blocks."""
    for axis, (_, amount) in enumerate(amounts, start=1):
        if amount:
            last = planes[:, -1:] if axis == 1 else planes[:, :, -1:]
            planes = tf.concat([planes, tf.repeat(last, amount, axis=axis)], axis=axis)
    return planes


def _halved(planes):
    """Averages blocks of 2 x 2 pixels."""
    _, height, width, n_planes = planes.shape
    planes = tf.reshape(planes, [-1, height // 2, 2, width // 2, 2, n_planes])
    return tf.reduce_mean(planes, axis=[2, 4])


def _doubled(planes):
    """Doubles the resolution by weights 3/4 and 1/4, as libjpeg's fancy upsampling."""
    for axis in (1, 2):
        n = planes.shape[axis]
        before = tf.gather(planes, np.maximum(np.arange(n) - 1, 0), axis=axis)
        after = tf.gather(planes, np.minimum(np.arange(n) + 1, n - 1), axis=axis)
        pairs = tf.stack([planes + (before - planes) / 4, planes + (after - planes) / 4], axis + 1)
        shape = [-1, *planes.shape[1:]]
        shape[axis] = 2 * n
        planes = tf.reshape(pairs, shape)
    return planes
