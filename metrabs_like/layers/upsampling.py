"""Learned upsampling: a depthwise transposed convolution that begins as bilinear interpolation.

Conventions: NHWC; output pixel f * q + r lies around input pixel q, as with a transposed
convolution of kernel 2 f, stride f and padding f / 2.
"""

import numpy as np
import tensorflow as tf


def bilinear_kernel(factor):
    """Returns the kernel of bilinear interpolation.

    Args:
      factor: int, even.

    Returns:
      float32 `[2 * factor, 2 * factor]`.

    References:
      Released code (`fill_up_weights`).
    """
    size = 2 * factor
    half = np.ceil(size / 2)
    centre = (2 * half - 1 - half % 2) / (2 * half)
    taps = 1 - np.abs(np.arange(size) / half - centre)
    return np.outer(taps, taps).astype(np.float32)


@tf.autograph.experimental.do_not_convert
def upsample_depthwise(inputs, kernel):
    """Transposed convolution of each channel by itself.

    Every phase of the output is a 3x3 convolution of the input: this is fast without a compiler,
    and mobile runtimes know all of it, which they do not of the transposed depthwise convolution.

    Args:
      inputs: float `[B, H, W, C]`, B >= 1.
      kernel: `[2 f, 2 f, C]`, f even; cast to the type of `inputs`.

    Returns:
      `[B, f H, f W, C]`, dtype of `inputs`.

    Gradient: to both.
    """
    size, _, channels = kernel.shape
    factor = size // 2
    half = factor // 2
    padded = tf.pad(tf.cast(kernel, inputs.dtype), [[half, half], [half, half], [0, 0]])
    # position y = f * (2 - i) + r of the padded kernel weighs input row q + i - 1 for phase r
    taps = tf.reshape(padded, [3, factor, 3, factor, channels])[::-1, :, ::-1]
    taps = tf.reshape(tf.transpose(taps, [1, 3, 0, 2, 4]), [factor**2, 3, 3, channels, 1])
    phases = [
        tf.nn.depthwise_conv2d(inputs, taps[i], [1, 1, 1, 1], "SAME") for i in range(factor**2)
    ]
    return tf.nn.depth_to_space(tf.concat(phases, axis=-1), factor)


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class LearnedUpsampling(tf.keras.layers.Layer):
    """Enlarges a feature map; begins as bilinear interpolation and is trained.

    Input: float `[B, H, W, C]`, B >= 1 (see `PadToOne`). Output: `[B, factor * H, factor * W, C]`
    in the layer's type. Weights: `kernel` `[2 factor, 2 factor, C]`. No masking. Gradient: to input
    and kernel.

    Args:
      factor: int, even: 2, 4, 8 ...
      **kwargs: `name`, `dtype`, `trainable`.

    Raises:
      ValueError: for a factor that is not even and positive.

    References:
      Yu et al., Deep Layer Aggregation, CVPR 2018; released code.
    """

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        if factor < 2 or factor % 2:
            raise ValueError(f"factor={factor}: must be an even number, 2 or more")
        self.factor = factor

    def build(self, input_shape):
        """Makes the kernel."""
        size, channels = 2 * self.factor, input_shape[-1]

        def interpolating(shape, dtype=None):
            return tf.cast(tf.broadcast_to(bilinear_kernel(self.factor)[..., None], shape), dtype)

        self.kernel = self.add_weight(
            name="kernel", shape=[size, size, channels], initializer=interpolating
        )
        super().build(input_shape)

    def call(self, inputs):
        """Returns the enlarged `inputs`."""
        return upsample_depthwise(inputs, self.kernel)

    def compute_output_shape(self, input_shape):
        """Returns the shape, unknown sizes staying unknown."""
        n, height, width, channels = input_shape
        sizes = [None if size is None else size * self.factor for size in (height, width)]
        return (n, *sizes, channels)

    def get_config(self):
        """Returns the constructor's arguments."""
        return {**super().get_config(), "factor": self.factor}
