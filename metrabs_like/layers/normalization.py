"""Batch normalization as PyTorch's networks are trained with, in both Keras generations.

Conventions: channels last. Keras' own layer differs between its generations in the variance that it
remembers, and runs as several element-wise operations in one of them; this one is a single
operation that graph optimizers merge into the convolution before it.
"""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class BatchNorm(tf.keras.layers.BatchNormalization):
    """`tf.keras.layers.BatchNormalization` with the running statistics of `torch.nn.BatchNorm2d`.

    Input and output: float `[B, H, W, C]`, B >= 1 (see `PadToOne`). In training the examples are
    normalized by their biased variance, and the unbiased one is remembered. Computes in float32
    inside under every precision policy; the output has the layer's type. Weights: `gamma`, `beta`;
    not trained: `moving_mean`, `moving_variance`. With `trainable=False` it is in inference mode.
    Gradient: as usual; in inference the statistics are constants.

    Args:
      momentum: float, share of the running statistics that a step keeps. 0.9 is PyTorch's 0.1.
      epsilon: float, added to the variance.
      **kwargs: as of `tf.keras.layers.BatchNormalization`.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        """Returns the normalized `inputs` `[B, H, W, C]`."""
        is_training = bool(training) and self.trainable
        inputs = tf.cast(inputs, self.compute_dtype)
        gamma, beta = (tf.convert_to_tensor(v, tf.float32) for v in (self.gamma, self.beta))
        statistics = (self.moving_mean, self.moving_variance)
        mean, variance = (tf.convert_to_tensor(v, tf.float32) for v in statistics)
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=[] if is_training else mean,
            variance=[] if is_training else variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        if is_training:
            kept = self.momentum
            self.moving_mean.assign(kept * mean + (1 - kept) * outputs.batch_mean)
            self.moving_variance.assign(kept * variance + (1 - kept) * outputs.batch_variance)
        return outputs.y
