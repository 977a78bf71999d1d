"""The network of the `metrabs` system: backbone, one 1x1 convolution, heatmap decoding.

Conventions: crop pixels with (0, 0) in the centre of the top-left one; `coords3d_rel` is in the
axes of the crop camera with a free origin; metres.
"""

import tensorflow as tf

from metrabs_like.geometry.camera import CropGrid
from metrabs_like.geometry.heatmap import heatmap_to_image, heatmap_to_metric
from metrabs_like.layers import PadToOne, SliceToBatch, build_backbone
from metrabs_like.systems.metrabs.decoding import decode_head

HEAD_LAYER = "head"


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class HeatmapDecoder(tf.keras.layers.Layer):
    """Turns the head's logits into points by soft-argmax, always in float32.

    Input: `[B, H, W, n_points * (2 + depth)]`, any float dtype; per point: uncertainty, metric-xy
    heatmap, then the 2.5D volume. Output: dict of float32 `coords2d` `[B, P, 2]` (crop px),
    `coords3d_rel` `[B, P, 3]` (m), `uncert` `[B, P]` (m). No weights, no masking. Gradient: as
    `decode_head`.

    Args:
      n_points: int, number of points P.
      depth: int, number of depth bins.
      proc_side: int, side of the crop, px.
      stride: int, px per feature.
      centered_stride: bool, whether a feature stands for the middle of its cell.
      box_size_m: float, side of the metric cube, m.
      uncert_bias: float, added to the uncertainty before its softplus.
      uncert_bias2: float, m, added after it.
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
        **kwargs,
    ):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.n_points = n_points
        self.depth = depth
        self.grid = CropGrid(proc_side=proc_side, stride=stride, centered_stride=centered_stride)
        self.box_size_m = box_size_m
        self.uncert_bias = uncert_bias
        self.uncert_bias2 = uncert_bias2

    def call(self, inputs):
        """Returns the dict of decoded points of logits `[B, H, W, P * (2 + depth)]`."""
        side = self.grid.proc_side // self.grid.stride
        logits = tf.reshape(inputs, [-1, side, side, self.n_points, 2 + self.depth])
        coords2d, coords3d, uncert = decode_head(
            tf.transpose(logits, [0, 3, 1, 2, 4]),
            uncert_bias=self.uncert_bias,
            uncert_bias2=self.uncert_bias2,
        )
        return {
            "coords2d": heatmap_to_image(coords2d, self.grid),
            "coords3d_rel": heatmap_to_metric(coords3d, self.grid, self.box_size_m),
            "uncert": uncert,
        }

    def compute_output_shape(self, input_shape):
        """Returns the shapes of the three outputs."""
        batch = input_shape[0]
        return {
            "coords2d": (batch, self.n_points, 2),
            "coords3d_rel": (batch, self.n_points, 3),
            "uncert": (batch, self.n_points),
        }

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
        }


def build_model(config):
    """Builds the network.

    Args:
      config: `Config`.

    Returns:
      `tf.keras.Model` from the dict `image` `[B, S, S, 3]` (0..1) and `intrinsics` `[B, 3, 3]` (of
      the crop; it does not influence the outputs, `decode` and the loss use it) to the dict
      `coords2d` `[B, P, 2]` (crop px), `coords3d_rel` `[B, P, 3]` (m) and `uncert` `[B, P]` (m),
      all float32. B may be unknown and 0. The compute type of the backbone and head is the Keras
      policy in force while building; decoding is float32 always.

    Raises:
      ValueError: from `layers.build_backbone`.
    """
    layers = tf.keras.layers
    # layers
    backbone = build_backbone(
        config.backbone,
        stride=config.stride,
        weights=config.weights or None,
        width=config.width,
    )
    head = layers.Conv2D(config.n_points * (2 + config.depth), 1, name=HEAD_LAYER)
    decoder = HeatmapDecoder(
        config.n_points,
        depth=config.depth,
        proc_side=config.proc_side,
        stride=config.stride,
        centered_stride=config.centered_stride,
        box_size_m=config.box_size_m,
        uncert_bias=config.uncert_bias,
        uncert_bias2=config.uncert_bias2,
        name="decoder",
    )
    # functional model
    image = tf.keras.Input([config.proc_side, config.proc_side, 3], name="image")
    intrinsics = tf.keras.Input([3, 3], name="intrinsics")
    decoded = decoder(head(backbone(PadToOne(name="pad_to_one")(image))))
    outputs = {
        key: SliceToBatch(name=key, dtype="float32")([value, intrinsics])
        for key, value in sorted(decoded.items())
    }
    return tf.keras.Model({"image": image, "intrinsics": intrinsics}, outputs, name="metrabs")
