"""Matrix products that keep float32's precision where the hardware rounds their factors.

Conventions: TensorFlow lets NVIDIA GPUs round the factors of float32 products to TF32 (11
significant bits): skinning weights would no longer add up to 1, and a body of 2 m would be off by
up to 1 mm.
"""

import tensorflow as tf

_TF32_BITS = -(1 << 13)  # mask of sign, exponent and the 10 stored bits that TF32 keeps


def exact_matmul(a, b):
    """Multiplies matrices with float32 (or float64) precision on every device.

    The factors are split into a part that TF32 represents exactly and the rest; the product of the
    two small rests, 2^-22 of the result, is dropped. Without TF32 the price is three times the
    multiplications.

    Args:
      a: float `[..., M, K]`.
      b: float `[..., K, N]` of the same dtype and leading dimensions.

    Returns:
      `[..., M, N]`, dtype of `a`. Gradient: flows to both, computed the same way. NaN stays in its
      row of `a` or column of `b`.
    """
    return tf.matmul(a, b) if a.dtype == tf.float64 else _split_matmul(a, b)


@tf.custom_gradient
def _split_matmul(a, b):
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    product = tf.matmul(
        tf.concat([a_high, a_high, a_low], axis=-1), tf.concat([b_high, b_low, b_high], axis=-2)
    )

    def gradient(upstream):
        return (
            _split_matmul(upstream, tf.linalg.matrix_transpose(b)),
            _split_matmul(tf.linalg.matrix_transpose(a), upstream),
        )

    return product, gradient


def _split(x):
    """Returns float32 as the sum of a part that TF32 holds exactly and a small rest."""
    bits = tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), tf.constant(_TF32_BITS, tf.int32))
    high = tf.bitcast(bits, tf.float32)
    return high, x - high
