"""Random numbers that are the same with and without XLA.

Conventions: stateless; the philox generator's raw bits are equal everywhere, its floats are not,
so that floats are made of the bits here.
"""

import tensorflow as tf


def uniform(shape, seed):
    """Draws uniform numbers.

    Args:
      shape: of the result, a list or a tensor.
      seed: int32 `[2]`.

    Returns:
      float32 in [0, 1), multiples of 2^-24.
    """
    return uniform_from_bits(random_bits(shape, seed))


def random_bits(shape, seed):
    """Draws raw random words, uint32 of a shape, from an int32 `[2]` seed."""
    bits = tf.random.stateless_uniform(
        shape, seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.bitcast(bits, tf.uint32)


def uniform_from_bits(bits):
    """Turns uint32 into float32 in [0, 1): TensorFlow and XLA draw equal bits, but not floats."""
    shifted = tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32))
    return tf.cast(tf.bitcast(shifted, tf.int32), tf.float32) * 2.0**-24


def split_seed(seed, stream: int):
    """Derives the seed, int32 `[2]`, of one of the independent streams of a seed."""
    return tf.random.experimental.stateless_fold_in(seed, stream, alg="philox")
