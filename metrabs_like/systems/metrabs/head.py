"""The decoding layer of the `metrabs` network: logits to points and uncertainties.

Conventions: per point the channels are uncertainty, metric-xy heatmap, then the 2.5D volume; crop
pixels and metres as in `geometry.heatmap`.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.camera import CropGrid
from metrabs_like.geometry.heatmap import heatmap_to_image, heatmap_to_metric


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class HeatmapDecoder(tf.keras.layers.Layer):
    """Turns the head's logits into points by soft-argmax, always in float32.

    Input: `[B, H, W, n_points * (2 + depth)]`, any float dtype; per point: uncertainty, metric-xy
    heatmap, then the 2.5D volume. Output: dict of float32 `coords2d` `[B, P, 2]` (crop px),
    `coords3d_rel` `[B, P, 3]` (m), `uncert` `[B, P]` (m) and, if wanted, `log_heatmap`
    `[B, P, H, W]`, the logarithm of the distribution that `coords2d` is the mean of. No weights, no
    masking. Gradient: exact; the uncertainty has none into the volume. The values are those of
    `decoding.decode_head`, in a memory layout that costs a fifth on CPUs.

    Args:
      n_points: int, number of points P.
      depth: int, number of depth bins.
      proc_side: int, side of the crop, px.
      stride: int, px per feature.
      centered_stride: bool, whether a feature stands for the middle of its cell.
      box_size_m: float, side of the metric cube, m.
      uncert_bias: float, added to the uncertainty before its softplus.
      uncert_bias2: float, m, added after it.
      with_log_heatmap: bool, whether to return the heatmap for a loss on it.
    """

    def __init__(
        self,
        n_points,
        *,
        depth=8,
        proc_side=256,
        stride=32,
        centered_stride=True,
        box_size_m=2.2,
        uncert_bias=0.0,
        uncert_bias2=0.001,
        with_log_heatmap=False,
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.n_points = n_points
        self.depth = depth
        self.grid = CropGrid(proc_side=proc_side, stride=stride, centered_stride=centered_stride)
        self.box_size_m = box_size_m
        self.uncert_bias = uncert_bias
        self.uncert_bias2 = uncert_bias2
        self.with_log_heatmap = with_log_heatmap

    def call(self, inputs):
        """Returns the dict of decoded points of logits `[B, H, W, P * (2 + depth)]`."""
        height, width, channels = inputs.shape[1:]
        n_pixels = height * width
        # [B * P, (2 + depth) * H * W]: contiguous maps
        maps = tf.transpose(tf.reshape(inputs, [-1, n_pixels, channels]), [0, 2, 1])
        outputs = self.decode_maps(tf.reshape(maps, [-1, (2 + self.depth) * n_pixels]), height)
        return {
            key: tf.reshape(value, [-1, self.n_points, *value.shape[1:]])
            for key, value in outputs.items()
        }

    def decode_maps(self, maps, height):
        """Decodes points one by one.

        Args:
          maps: float32 `[M, (2 + depth) * H * W]`, the channels of each point one after the other.
          height: H, a Python integer.

        Returns:
          The outputs of the layer with the single leading dimension M.
        """
        n_pixels = maps.shape[1] // (2 + self.depth)
        width = n_pixels // height
        # splitting is cheaper than slicing, whose gradient fills a whole tensor per slice
        sizes = [n_pixels, n_pixels, self.depth * n_pixels]
        evidence, metric_logits, volume_logits = tf.split(maps, sizes, axis=1)

        volume = tf.reshape(tf.nn.softmax(volume_logits), [-1, self.depth, n_pixels])
        over_pixels = tf.reduce_sum(volume, axis=1)
        z = _expectation(tf.reduce_sum(volume, axis=2))
        xy = _pixel_expectation(over_pixels, height, width)
        metric_xy = _pixel_expectation(tf.nn.softmax(metric_logits), height, width)
        uncert = tf.reduce_sum(evidence * tf.stop_gradient(over_pixels), axis=1)
        outputs = {
            "coords2d": heatmap_to_image(xy, self.grid),
            "coords3d_rel": heatmap_to_metric(
                tf.concat([metric_xy, z[:, tf.newaxis]], axis=1), self.grid, self.box_size_m
            ),
            "uncert": tf.nn.softplus(uncert + self.uncert_bias) + self.uncert_bias2,
        }
        if self.with_log_heatmap:
            log_volume = tf.nn.log_softmax(volume_logits)
            log_volume = tf.reshape(log_volume, [-1, self.depth, height, width])
            outputs["log_heatmap"] = tf.reduce_logsumexp(log_volume, axis=1)
        return outputs

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the outputs."""
        batch, height, width, _ = input_shape
        shapes = {"coords2d": (2,), "coords3d_rel": (3,), "uncert": ()}
        if self.with_log_heatmap:
            shapes["log_heatmap"] = (height, width)
        return {key: (batch, self.n_points, *shape) for key, shape in shapes.items()}

    def get_config(self):
        """Returns the constructor's arguments."""
        return {
            **super().get_config(),
            "n_points": self.n_points,
            "depth": self.depth,
            "proc_side": self.grid.proc_side,
            "stride": self.grid.stride,
            "centered_stride": self.grid.centered_stride,
            "box_size_m": self.box_size_m,
            "uncert_bias": self.uncert_bias,
            "uncert_bias2": self.uncert_bias2,
            "with_log_heatmap": self.with_log_heatmap,
        }


def _expectation(weights):
    """Mean position 0..1 along the last axis of weights `[..., N]` that sum to 1."""
    positions = np.linspace(0, 1, weights.shape[-1], dtype=np.float32)
    return tf.reduce_sum(weights * positions, axis=-1)


def _pixel_expectation(weights, height, width):
    """Mean (x, y) `[N, 2]`, 0..1, of weights `[N, H * W]` that sum to 1."""
    weights = tf.reshape(weights, [-1, height, width])
    x = _expectation(tf.reduce_sum(weights, axis=1))
    y = _expectation(tf.reduce_sum(weights, axis=2))
    return tf.stack([x, y], axis=-1)
