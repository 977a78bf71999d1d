"""The network of the `metrabs` system: backbone, one 1x1 convolution, heatmap decoding.

Conventions: crop pixels with (0, 0) in the centre of the top-left one; `coords3d_rel` is in the
axes of the crop camera with a free origin; metres.
"""

import tensorflow as tf

from metrabs_like.layers import PadToOne, SliceToBatch, build_backbone
from metrabs_like.systems.metrabs.head import HeatmapDecoder

HEAD_LAYER = "head"


def build_model(config):
    """Builds the network.

    Args:
      config: `Config`.

    Returns:
      `tf.keras.Model` from the dict `image` `[B, S, S, 3]` (0..1) and `intrinsics` `[B, 3, 3]` (of
      the crop; it does not influence the outputs, `decode` and the loss use it) to the dict
      `coords2d` `[B, P, 2]` (crop px), `coords3d_rel` `[B, P, 3]` (m) and `uncert` `[B, P]` (m),
      all float32; with a `heatmap_loss_factor` also `log_heatmap` `[B, P, H, W]`. B may be unknown
      and 0. The compute type of the backbone and head is the Keras policy in force while building;
      decoding is float32 always.

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
        with_log_heatmap=config.heatmap_loss_factor > 0,
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
