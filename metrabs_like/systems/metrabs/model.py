"""The network of the `metrabs` system: backbone, head, heatmap decoding.

Conventions: crop pixels with (0, 0) in the centre of the top-left one; `coords3d_rel` is in the
axes of the crop camera with a free origin; metres.
"""

import tensorflow as tf

from metrabs_like.layers import PadToOne, SliceToBatch, build_backbone
from metrabs_like.systems.metrabs.field import POINTS, LocalizerField
from metrabs_like.systems.metrabs.head import HeatmapDecoder

HEAD_LAYER = "head"
LINK_LAYER = "link"


def build_model(config):
    """Builds the network.

    Args:
      config: `Config`.

    Returns:
      `tf.keras.Model` from the dict `image` `[B, S, S, 3]` (0..1) and `intrinsics` `[B, 3, 3]` (of
      the crop; it does not influence the outputs, `decode` and the loss use it) to the dict
      `coords2d` `[B, P, 2]` (crop px), `coords3d_rel` `[B, P, 3]` (m) and `uncert` `[B, P]` (m),
      all float32; with a `heatmap_loss_factor` also `log_heatmap` `[B, P, H, W]`. B may be unknown
      and 0. With `head="field"` there is a third input `canonical_points` `[A, K, 3]` (m, see
      `canonical`) for the first A <= B examples (A and K may be 0), and the same outputs for them,
      `points_coords2d` `[A, K, 2]` and so on. The compute type of the backbone and head is the
      Keras policy in force while building; decoding is float32 always.

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
    decoder_config = {
        "depth": config.depth,
        "proc_side": config.proc_side,
        "stride": config.stride,
        "centered_stride": config.centered_stride,
        "box_size_m": config.box_size_m,
        "uncert_bias": config.uncert_bias,
        "uncert_bias2": config.uncert_bias2,
        "with_log_heatmap": config.heatmap_loss_factor > 0,
    }
    # functional model
    image = tf.keras.Input([config.proc_side, config.proc_side, 3], name="image")
    inputs = {"image": image, "intrinsics": tf.keras.Input([3, 3], name="intrinsics")}
    features = backbone(PadToOne(name="pad_to_one")(image))
    if config.head == "field":
        inputs["canonical_points"] = tf.keras.Input([None, 3], name="canonical_points")
        link = layers.Conv2D(config.field_link_dim, 1, name=LINK_LAYER)
        field = LocalizerField(
            config.joints,
            decoder_config,
            width=config.field_width,
            n_frequencies=config.field_frequencies,
            bandwidth=config.field_bandwidth,
            name=HEAD_LAYER,
        )
        decoded = field([link(features), inputs["canonical_points"]])
    else:
        head = layers.Conv2D(config.n_points * (2 + config.depth), 1, name=HEAD_LAYER)
        decoded = HeatmapDecoder(config.n_points, **decoder_config, name="decoder")(head(features))
    outputs = {key: _cut(key, value, inputs) for key, value in sorted(decoded.items())}
    return tf.keras.Model(inputs, outputs, name="metrabs")


def _cut(key, value, inputs):
    """Cuts what was estimated for each image to the true batch; points have it already."""
    if key.startswith(POINTS):
        return tf.keras.layers.Activation("linear", name=key, dtype="float32")(value)
    return SliceToBatch(name=key, dtype="float32")([value, inputs["intrinsics"]])
