"""Random augmentation: geometric draws for the crop camera, photometric changes of the crop.

Conventions: everything is stateless and uses the philox generator, whose numbers are the same with
and without XLA. A geometric draw depends on the run's seed and the example's number alone, not on
how the examples fall into batches.
"""

import math

import tensorflow as tf

_PHILOX = 1  # tf.random.Algorithm.PHILOX
_N_DRAWS = 8  # uniform numbers per example; two philox blocks of four


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


def uniform_per_example(key: int, numbers):
    """Draws numbers that belong to the examples, in one call.

    Args:
      key: names the stream of draws.
      numbers: int64 `[B]`, running numbers of the examples, consecutive.

    Returns:
      float32 `[B, 8]` in [0, 1).
    """
    first = tf.cast(tf.concat([numbers, [0]], axis=0)[0], tf.uint64)
    counter = tf.stack([first * tf.constant(_N_DRAWS // 4, tf.uint64), tf.constant(0, tf.uint64)])
    return tf.raw_ops.StatelessRandomUniformV2(
        shape=tf.stack([tf.size(numbers), _N_DRAWS]),
        key=tf.constant([key], tf.uint64),
        counter=counter,
        alg=_PHILOX,
        dtype=tf.float32,
    )


def photometric(images, seed):
    """Changes brightness, contrast, colour and noise of crops, each crop its own way.

    Args:
      images: float `[B, S, S, 3]`, 0..1.
      seed: int32 `[2]`.

    Returns:
      Images of the same shape and dtype, 0..1. Meant for the device; same numbers under XLA.

    Gradient: flows where the result is not clipped.
    """
    n_images = tf.shape(images)[0]
    dtype = images.dtype
    draws = tf.random.stateless_uniform(
        tf.stack([n_images, 8]), seed, minval=-1.0, maxval=1.0, alg="philox"
    )
    draws = tf.cast(draws, dtype)[:, :, tf.newaxis, tf.newaxis, tf.newaxis]
    gains = tf.exp(0.1 * tf.concat([draws[:, 1], draws[:, 2], draws[:, 3]], axis=-1))
    images = images * gains * tf.exp(0.25 * draws[:, 0])
    grey = tf.reduce_mean(images, axis=-1, keepdims=True)
    saturation = tf.where(draws[:, 4] > 0.9, tf.zeros_like(draws[:, 4]), tf.exp(0.4 * draws[:, 4]))
    images = grey + saturation * (images - grey)
    mean = tf.reduce_mean(grey, axis=[1, 2], keepdims=True)
    images = mean + tf.exp(0.3 * draws[:, 5]) * (images - mean) + 0.1 * draws[:, 6]
    noise = tf.random.stateless_normal(tf.shape(images), seed + [0, 1 << 30], alg="philox")
    strength = 0.03 * tf.nn.relu(draws[:, 7])
    return tf.clip_by_value(images + strength * tf.cast(noise, dtype), 0.0, 1.0)
