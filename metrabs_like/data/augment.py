"""Random augmentation: geometric draws for the crop camera, photometric changes of the crop.

Conventions: everything is stateless, from the philox generator's raw bits, which are the same with
and without XLA (its floats are not). A geometric draw depends on the run's seed and the example's
number alone, not on how the examples fall into batches.
"""

import math

import tensorflow as tf

from metrabs_like.data import randomness

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_MAX_NOISE = 0.03  # standard deviation of the strongest noise (ours)
_N_DRAWS = 8  # uniform numbers per example; two philox blocks of four
_PLACEMENT_STREAM = 1 << 62  # beside the stream of `draw_geometric`, whose numbers stay
_SMALLEST_PART = 0.35  # of each side of the box (ours)


def draw_geometric(key: int, numbers, config) -> dict:
    """Draws the geometric augmentation of consecutive examples.

    Args:
      key: names the stream of draws (from the run's seed and the source).
      numbers: int64 `[B]`, running numbers of the examples, consecutive.
      config: a `PipelineConfig`: max_roll_degrees, max_scale, max_shift, mirror_probability.

    Returns:
      Keyword arguments of `crop_camera`: `roll [B]` radians, `scale [B]` (log-uniform between
      1 / (1 + max_scale) and 1 + max_scale), `shift [B, 2]`, `mirror [B]` bool.
    """
    draws = uniform_per_example(key, numbers)
    symmetric = 2 * draws - 1
    return {
        "roll": symmetric[:, 0] * math.radians(config.max_roll_degrees),
        "scale": tf.exp(symmetric[:, 1] * math.log1p(config.max_scale)),
        "shift": symmetric[:, 2:4] * config.max_shift,
        "mirror": draws[:, 4] < config.mirror_probability,
    }


def draw_placement(
    key: int, numbers, *, partial_probability: float, full_rotation_probability: float
) -> dict:
    """Draws which examples show a part of the person only, and which are turned by any angle.

    Partial visibility makes the crop look at a part of the person's box, as if an image ended
    there: 35 to 100 % of each side, touching at least one border of the box. Full rotation turns
    the crop by any angle, where the usual roll stays near the upright.

    Args:
      key: names the stream of draws, as for `draw_geometric`; the numbers drawn are others.
      numbers: int64 `[B]`, running numbers of the examples, consecutive.
      partial_probability: share of examples that show a part.
      full_rotation_probability: share of examples turned by any angle.

    Returns:
      Dict: `is_partial` bool `[B]`; `part` float32 `[B, 4]`, x, y, width and height of the part in
      units of the box (0, 0, 1, 1 where it is whole), for `partial_box`; `full_roll` float32
      `[B]`, radians, uniform in -pi..pi, 0 for examples that are not turned.
    """
    draws = uniform_per_example(key ^ _PLACEMENT_STREAM, numbers)
    is_partial = draws[:, 0] < partial_probability
    size = _SMALLEST_PART + (1 - _SMALLEST_PART) * draws[:, 1:3]
    border = tf.cast(tf.floor(4 * draws[:, 5]), tf.int32)  # left, right, top, bottom
    is_held = tf.stack([border < 2, border >= 2], axis=-1)
    held = tf.cast(border % 2, tf.float32)[:, tf.newaxis]
    corner = (1 - size) * tf.where(is_held, held, draws[:, 3:5])
    part = tf.concat([corner, size], axis=-1)
    angle = (2 * draws[:, 7] - 1) * math.pi
    return {
        "is_partial": is_partial,
        "part": tf.where(is_partial[:, tf.newaxis], part, tf.constant([0.0, 0.0, 1.0, 1.0])),
        "full_roll": tf.where(draws[:, 6] < full_rotation_probability, angle, 0.0),
    }


def partial_box(box, part):
    """Cuts boxes to parts of them.

    Args:
      box: float `[B, 4]`, px, (x, y, width, height).
      part: float `[B, 4]`, of `draw_placement`.

    Returns:
      float `[B, 4]`, px.
    """
    return tf.concat([box[:, :2] + part[:, :2] * box[:, 2:], part[:, 2:] * box[:, 2:]], axis=-1)


def uniform_per_example(key, numbers):
    """Draws numbers that belong to the examples, in one call.

    Args:
      key: names the stream of draws, an integer or an int64 scalar, 0 or more.
      numbers: int64 `[B]`, running numbers of the examples, consecutive.

    Returns:
      float32 `[B, 8]` in [0, 1).
    """
    first = tf.cast(tf.concat([numbers, [0]], axis=0)[0], tf.uint64)
    counter = tf.stack([first * tf.constant(_N_DRAWS // 4, tf.uint64), tf.constant(0, tf.uint64)])
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=tf.stack([tf.size(numbers), _N_DRAWS]),
        key=tf.cast(tf.reshape(tf.convert_to_tensor(key, tf.int64), [1]), tf.uint64),
        counter=counter,
        alg=_PHILOX,
        dtype=tf.uint32,
    )
    return randomness.uniform_from_bits(bits)


def photometric(images, seed):
    """Changes brightness, contrast, colour and noise of crops, each crop its own way.

    Args:
      images: float `[B, S, S, 3]`, 0..1.
      seed: int32 `[2]`.

    Returns:
      Images of the same shape and dtype, 0..1. Meant for the device; same numbers under XLA.

    Gradient: flows where the result is not clipped.
    """
    dtype = images.dtype
    images = tf.cast(images, tf.float32)
    bits = randomness.random_bits([tf.shape(images)[0], _N_DRAWS], seed)
    draws = 2 * randomness.uniform_from_bits(bits) - 1
    matrix, offset = _color_change(draws, tf.reduce_mean(images, axis=[1, 2]))
    changed = tf.einsum("byxc,bdc->byxd", images, matrix) + offset[:, tf.newaxis, tf.newaxis]
    strength = _MAX_NOISE * tf.nn.relu(draws[:, 7])[:, tf.newaxis, tf.newaxis, tf.newaxis]
    noise = _pixel_noise(tf.shape(images)[:3], seed + [0, 1 << 30])
    return tf.cast(tf.clip_by_value(changed + strength * noise, 0.0, 1.0), dtype)


def _color_change(draws, mean_color):
    """Returns `[B, 3, 3]` and `[B, 3]` of the affine change of the colours."""
    gains = tf.exp(0.1 * draws[:, 1:4] + 0.25 * draws[:, :1])
    mean = tf.reduce_mean(gains * mean_color, axis=-1, keepdims=True)
    # One crop in twenty becomes grey.
    saturation = tf.where(draws[:, 4] > 0.9, 0.0, tf.exp(0.4 * draws[:, 4]))
    saturation = saturation[:, tf.newaxis, tf.newaxis]
    mixing = saturation * tf.eye(3) + (1 - saturation) / 3
    contrast = tf.exp(0.3 * draws[:, 5])[:, tf.newaxis]
    matrix = contrast[:, tf.newaxis] * mixing * gains[:, tf.newaxis]
    offset = (1 - contrast) * mean + 0.1 * draws[:, 6:7]
    return matrix, tf.broadcast_to(offset, tf.shape(gains))


def _pixel_noise(shape, seed):
    """Returns uniform noise `[..., 3]` of variance 1, three values out of each random word."""
    bits = randomness.random_bits(shape, seed)[..., tf.newaxis]
    parts = tf.bitwise.bitwise_and(
        tf.bitwise.right_shift(bits, tf.constant([0, 10, 20], tf.uint32)), 1023
    )
    return tf.cast(tf.bitcast(parts, tf.int32), tf.float32) * (math.sqrt(12) / 1023) - math.sqrt(3)
