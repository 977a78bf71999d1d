"""Layers that make a zero-size batch ordinary for networks whose kernels refuse one.

Conventions: the batch is the first axis; oneDNN convolutions fail or return a wrong shape on zero
examples, so a network is entered with at least one example and left with the true number.
"""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class PadToOne(tf.keras.layers.Layer):
    """Appends one all-zero example to an empty batch and passes every other batch on unchanged.

    Input: any float or integer tensor `[B, ...]`, B >= 0. Output: `[max(B, 1), ...]`; integers keep
    their dtype, floats get the layer's (as in every Keras layer). No weights, no masking. Gradient:
    flows to the B real examples.
    """

    def call(self, inputs):
        """Returns `inputs` `[B, ...]` with at least one example."""
        n_missing = tf.maximum(1 - tf.shape(inputs)[0], 0)
        padding = tf.pad(tf.reshape(n_missing, [1, 1]), [[0, inputs.shape.rank - 1], [1, 0]])
        return tf.ensure_shape(tf.pad(inputs, padding), [None, *inputs.shape[1:]])

    def compute_output_shape(self, input_shape):
        """Returns the input's shape with an unknown batch."""
        return (None, *input_shape[1:])


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class SliceToBatch(tf.keras.layers.Layer):
    """Cuts the outputs of a network that was entered through `PadToOne` to the true batch.

    Input: `[padded, reference]`, `[max(B, 1), ...]` and `[B, ...]`. Output: `[B, ...]`, dtype of
    `padded`. No weights, no masking. Gradient: flows to `padded`; the added example gets none.
    """

    def call(self, inputs):
        """Returns the first B examples of `padded`."""
        padded, reference = inputs
        return tf.ensure_shape(padded[: tf.shape(reference)[0]], [None, *padded.shape[1:]])

    def compute_output_shape(self, input_shape):
        """Returns the shape of `padded` with an unknown batch."""
        return (None, *input_shape[0][1:])
