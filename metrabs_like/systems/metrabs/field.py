"""The localizer field: a head whose convolution weights are a function of a canonical point.

Conventions: canonical points as in `canonical` (metres, T-pose, origin at the pelvis). A point's
weights are `(C + 1) * (2 + depth)` numbers, the last row the bias, as `decoding.decode_features`
takes them.

References: Sarandi and Pons-Moll, Neural Localizer Fields, NeurIPS 2024. Ours: plain Fourier
features, and the order of the products for points that differ from example to example.
"""

import math

import numpy as np
import tensorflow as tf

from metrabs_like.skeletons import Skeleton
from metrabs_like.systems.metrabs.canonical import SymmetricLayout, joint_guesses
from metrabs_like.systems.metrabs.head import HeatmapDecoder

POINTS = "points_"
"""Prefix of the outputs for canonical points."""
_FREQUENCY_SEED = 0


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class LocalizerField(tf.keras.layers.Layer):
    """Estimates the joints of a skeleton and any other points of the body.

    Input: `[features, canonical_points]`: `[B, H, W, C]`, any float dtype, and float32 `[A, K, 3]`,
    m, for the first A <= B examples; A and K may be zero. Output: dict of float32 as of
    `HeatmapDecoder` for the P joints `[B, P, ...]`, and for the points the same keys with the
    prefix `points_` `[A, K, ...]`. The joints' canonical positions are learned and mirror-
    symmetric. Weights are float32; products with features have the features' dtype. No masking.
    Gradient: to features, points and weights.

    Args:
      skeleton: `skeletons.Skeleton`, or its `to_dict()`.
      decoder: dict of the arguments of `HeatmapDecoder` without `n_points`.
      width: int, hidden units.
      n_frequencies: int, number of Fourier features.
      bandwidth: float, cycles per metre, standard deviation of their frequencies.
    """

    def __init__(self, skeleton, decoder, *, width=256, n_frequencies=64, bandwidth=1.0, **kwargs):
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
        is_skeleton = isinstance(skeleton, Skeleton)
        self.skeleton = skeleton if is_skeleton else Skeleton.from_dict(skeleton)
        self.decoder_config = dict(decoder)
        self.width, self.n_frequencies, self.bandwidth = width, n_frequencies, bandwidth
        self.layout = SymmetricLayout(self.skeleton)
        self.decoder = HeatmapDecoder(self.skeleton.n_joints, **decoder)

    def build(self, input_shape):
        """Creates the weights for features of `C` channels."""
        self.n_maps = 2 + self.decoder.depth
        n_rows = input_shape[0][-1] + 1
        rng = np.random.default_rng(_FREQUENCY_SEED)
        frequencies = rng.normal(0, self.bandwidth, [3, self.n_frequencies])
        self.frequencies = self._weight("frequencies", frequencies, trainable=False)
        guesses = joint_guesses(self.skeleton)[self.layout.free]
        # Flat: optimizers decay matrices, which would draw every joint to the pelvis.
        self.joint_positions = self._weight("joint_positions", guesses.reshape(-1))
        n_features = 3 + 2 * self.n_frequencies
        self.kernel1 = self._random("kernel1", [n_features, self.width], 1.0 / n_features)
        self.bias1 = self._weight("bias1", np.zeros(self.width))
        self.kernel2 = self._random("kernel2", [self.width, self.width], 1.0 / self.width)
        self.bias2 = self._weight("bias2", np.zeros(self.width))
        # So that logits vary about as much as those of a convolution of Glorot's variance.
        variance = 2.0 / (n_rows * self.width)
        self.kernel3 = self._random("kernel3", [self.width, n_rows * self.n_maps], variance)
        super().build(input_shape)

    def _weight(self, name, value, trainable=True):
        """A weight that starts from given numbers."""
        value = np.asarray(value, np.float32)

        def initializer(shape, dtype=None, **kwargs):
            del shape, kwargs
            return tf.constant(value, dtype or tf.float32)

        return self.add_weight(
            name=name, shape=value.shape, initializer=initializer, trainable=trainable
        )

    def _random(self, name, shape, variance):
        initializer = tf.keras.initializers.RandomNormal(stddev=math.sqrt(variance))
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def canonical_joints(self):
        """Returns the learned canonical positions of the joints, `[P, 3]`, m."""
        numbers = tf.reshape(tf.convert_to_tensor(self.joint_positions), [-1, 3])
        return self.layout.positions(numbers)

    def point_weights(self, canonical_points):
        """Returns the flat weights `[..., (C + 1) * (2 + depth)]` of points `[..., 3]`, m."""
        return self._hidden(canonical_points) @ tf.convert_to_tensor(self.kernel3)

    def call(self, inputs):
        """Returns the dict of decoded joints and points."""
        features, canonical_points = inputs
        joints = self.decoder(tf.cast(self._joint_logits(features), tf.float32))
        n_examples, n_points, _ = tf.unstack(tf.shape(canonical_points))
        maps = self._point_maps(features[:n_examples], canonical_points)
        points = self.decoder.decode_maps(tf.cast(maps, tf.float32), features.shape[1])
        shape = [n_examples, n_points]
        known = canonical_points.shape[:2]
        return joints | {
            POINTS + key: tf.ensure_shape(
                tf.reshape(value, [*shape, *value.shape[1:]]), [*known, *value.shape[1:]]
            )
            for key, value in points.items()
        }

    def _hidden(self, points):
        """The hidden units of points `[..., 3]`, `[..., width]`."""
        phases = 2 * math.pi * (points @ tf.convert_to_tensor(self.frequencies))
        features = tf.concat([points, tf.sin(phases), tf.cos(phases)], axis=-1)
        hidden = tf.nn.gelu(features @ tf.convert_to_tensor(self.kernel1) + self.bias1)
        return tf.nn.gelu(hidden @ tf.convert_to_tensor(self.kernel2) + self.bias2)

    def _joint_logits(self, features):
        """A convolution whose kernel all examples share, `[B, H, W, P * (2 + depth)]`."""
        weights = self.point_weights(self.canonical_joints())
        n_rows = features.shape[-1] + 1
        weights = tf.reshape(weights, [self.skeleton.n_joints, n_rows, self.n_maps])
        kernel = tf.reshape(tf.transpose(weights[:, :-1], [1, 0, 2]), [n_rows - 1, -1])
        bias = tf.reshape(weights[:, -1], [-1])
        return features @ tf.cast(kernel, features.dtype) + tf.cast(bias, features.dtype)

    def _point_maps(self, features, points):
        """Logits of points that differ by example, `[A * K, (2 + depth) * H * W]`.

        The features meet the last layer first and the hidden units then: the same product, without
        a convolution kernel for every point of every example.
        """
        _, height, width, channels = features.shape
        columns = tf.reshape(features, [-1, height * width, channels])
        columns = tf.concat([columns, tf.ones_like(columns[..., :1])], axis=-1)
        kernel = tf.reshape(self.kernel3, [self.width, channels + 1, self.n_maps])
        kernel = tf.reshape(tf.transpose(kernel, [0, 2, 1]), [-1, channels + 1])
        kernel = tf.cast(kernel, features.dtype)
        spread = tf.matmul(kernel, columns, transpose_b=True)  # [A, width * maps, H * W]
        spread = tf.reshape(spread, [-1, self.width, self.n_maps * height * width])
        hidden = tf.cast(self._hidden(points), features.dtype)
        return tf.reshape(hidden @ spread, [-1, self.n_maps * height * width])

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the outputs."""
        features, points = input_shape
        joints = self.decoder.compute_output_shape((*features[:3], None))
        of_points = {POINTS + k: (*points[:2], *shape[2:]) for k, shape in joints.items()}
        return {**joints, **of_points}

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "skeleton": self.skeleton.to_dict(),
            "decoder": self.decoder_config,
            "width": self.width,
            "n_frequencies": self.n_frequencies,
            "bandwidth": self.bandwidth,
        }
