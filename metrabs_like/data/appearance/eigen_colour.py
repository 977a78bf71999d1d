"""Colour augmentation of CenterNet: brightness, contrast, saturation in any order, then lighting.

Conventions: images are RGB `[B, H, W, 3]` in 0..1; the result is not clipped, as in the released
code, and may leave 0..1. Everything is stateless and the same with and without XLA.
"""

import itertools

import tensorflow as tf

from metrabs_like.data import randomness

STEPS = ("brightness", "contrast", "saturation")
"""Names of the steps; orders are given by their indices."""

_STRENGTH = 0.4  # released code, of all three steps
_LIGHTING = 0.1  # released code, standard deviation
# Released code: covariance of the colours of ImageNet's pixels, there in the order BGR.
_EIGENVALUES = (0.2141788, 0.01817699, 0.00341571)
_EIGENVECTORS_BGR = (
    (-0.58752847, -0.69563484, 0.41340352),
    (-0.5832747, 0.00994535, -0.81221408),
    (-0.56089297, 0.71832671, 0.41158938),
)
_LUMA_RGB = (0.299, 0.587, 0.114)
_ORDERS = tuple(itertools.permutations(range(len(STEPS))))


def eigen_colour(images, seed):
    """Changes the colours of images, each image its own way.

    Args:
      images: float `[B, H, W, 3]`, RGB, 0..1.
      seed: int32 `[2]`.

    Returns:
      Images of the same shape and dtype, not clipped. Meant for the device; same numbers under XLA.

    Gradient: flows.

    References:
      Krizhevsky et al., NIPS 2012 (lighting); released code, `color_aug`.
    """
    bits = randomness.random_bits([tf.shape(images)[0], 8], seed)
    draws = randomness.uniform_from_bits(bits)
    index = tf.cast(tf.floor(draws[:, 0] * len(_ORDERS)), tf.int32)
    order = tf.gather(tf.constant(_ORDERS), index)
    alphas = 1 + _STRENGTH * (2 * draws[:, 1:4] - 1)
    inside = tf.clip_by_value(draws[:, 4:7], 2.0**-25, 1 - 2.0**-24)  # finite at 0 too
    return change_colours(images, order, alphas, _LIGHTING * tf.math.ndtri(inside))


def change_colours(images, order, alphas, lighting):
    """Changes the colours of images in a given way.

    Brightness multiplies by alpha; contrast keeps alpha of the image and fills up with the mean
    grey, saturation with the grey of each pixel. Both greys are those of the unchanged image.

    Args:
      images: float `[B, H, W, 3]`, RGB, 0..1.
      order: int32 `[B, 3]`, indices of `STEPS` as they are executed.
      alphas: float `[B, 3]`, of the steps as they are executed.
      lighting: float `[B, 3]`, amounts of the colours' principal directions.

    Returns:
      Images of the same shape and dtype, not clipped.

    Gradient: flows.
    """
    images = tf.convert_to_tensor(images)
    pixels = tf.cast(images, tf.float32)
    own, grey, mean_grey = _weights(tf.cast(order, tf.int32), tf.cast(alphas, tf.float32))
    greys = tf.einsum("bhwc,c->bhw", pixels, tf.constant(_LUMA_RGB))[..., tf.newaxis]
    mean = tf.reduce_mean(greys, axis=[1, 2, 3])
    vectors = tf.constant(_EIGENVECTORS_BGR[::-1])
    light = tf.einsum("bk,ck->bc", tf.cast(lighting, tf.float32) * _EIGENVALUES, vectors)
    offset = light + (mean_grey * mean)[:, tf.newaxis]
    own, grey = (w[:, tf.newaxis, tf.newaxis, tf.newaxis] for w in (own, grey))
    changed = own * pixels + grey * greys + offset[:, tf.newaxis, tf.newaxis]
    return tf.cast(changed, images.dtype)


def _weights(order, alphas):
    """Returns how much of the image, of its grey and of its mean grey the three steps leave."""
    own = tf.ones_like(alphas[:, 0])
    grey, mean_grey = tf.zeros_like(own), tf.zeros_like(own)
    for i in range(len(STEPS)):
        alpha = alphas[:, i]
        rest = 1 - alpha
        own, grey, mean_grey = alpha * own, alpha * grey, alpha * mean_grey
        mean_grey += tf.where(order[:, i] == STEPS.index("contrast"), rest, 0.0)
        grey += tf.where(order[:, i] == STEPS.index("saturation"), rest, 0.0)
    return own, grey, mean_grey
