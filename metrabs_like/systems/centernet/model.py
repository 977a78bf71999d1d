"""The networks of the `centernet` system: backbone, up-sampling, heads.

Conventions: images are RGB in 0..1; the backbones see BGR normalized with the released code's
statistics. Outputs are raw: heat maps have no sigmoid.
"""

import math

import tensorflow as tf

from metrabs_like.geometry.affine import INPUT_STRIDE
from metrabs_like.layers import PadToOne, SliceToBatch
from metrabs_like.layers.backbones.dla import build_dla
from metrabs_like.layers.backbones.resnet import build_resnet18
from metrabs_like.layers.backbones.tiny_pyramid import build_tiny_pyramid
from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.systems.centernet import torch_names, upsampling
from metrabs_like.systems.centernet.heads import add_head

# released code, BGR
_MEAN = (0.40789654, 0.44719302, 0.47026115)
_STDEV = (0.28863828, 0.27408164, 0.27809835)


def build_model(config):
    """Builds the network.

    Args:
      config: `Config`.

    Returns:
      `tf.keras.Model` from the dict `image` `[B, H, W, 3]` (RGB, 0..1; H and W unknown, multiples
      of 32) and `input_from_image` `[B, 3, 3]` (it does not influence the outputs, `decode` uses
      it) to the dict of `config.heads`: name -> `[B, H / down_ratio, W / down_ratio, channels]`,
      float32, raw. B may be unknown and 0. The layer named `config.backbone` is the backbone. The
      compute type is the Keras policy in force while building.

    Raises:
      ValueError: for weights that cannot be read or are of another network; when called, for an
        image of known size whose sides are no multiples of 32.
    """
    options = {"head_width": config.head_width}
    if config.backbone == "dla34":
        model = build_dla_model(
            config.heads,
            base=config.backbone,
            down_ratio=config.down_ratio,
            deformable=config.deformable,
            **options,
        )
        for layer in model.layers:
            if isinstance(layer, DeformableConv2D):
                layer.jit_compile = config.compile_deformable
        if config.weights:
            torch_names.load_base(model.get_layer(config.backbone), config.weights)
        return model
    first = int(math.log2(config.down_ratio)) - 1
    if config.backbone == "resnet18":
        backbone = build_resnet18()

        def feature_of(levels):
            return upsampling.up_convolutions(levels[-1], 4 - first, width=config.width)

    else:
        backbone = build_tiny_pyramid(width=config.width)

        def feature_of(levels):
            return upsampling.top_down_pyramid(levels[first:], width=config.width)

    return _assembled(backbone, feature_of, config.heads, **options)


def build_dla_model(
    heads,
    *,
    base="dla34",
    down_ratio=4,
    final_kernel=1,
    last_level=5,
    head_width=256,
    out_channels=0,
    dilation=1,
    root_kernel_size=1,
    has_residual_root=None,
    deformable=True,
):
    """Builds a DLA network with the parameters of the released code.

    Args:
      heads: dict name -> channels.
      base: key of `layers.backbones.dla.BASES`.
      down_ratio: int, 2, 4, 8 or 16: input pixels per cell.
      final_kernel: int, odd, size of the heads' last convolution.
      last_level: int, the levels below it are merged once more for the feature map.
      head_width: int, channels of the heads' first convolution, 0 for heads of one convolution.
      out_channels: int, channels of the feature map, 0 takes the level's own.
      dilation: int, of the base's 3x3 convolutions.
      root_kernel_size: int, odd.
      has_residual_root: bool, None takes the base's own.
      deformable: bool, False takes plain convolutions for deformable ones.

    Returns:
      `tf.keras.Model` as of `build_model`; the base is its layer `base`.

    Raises:
      ValueError: for a parameter that the network cannot have.
    """
    if down_ratio not in (2, 4, 8, 16):
        raise ValueError(f"down_ratio={down_ratio}: choose one of 2, 4, 8, 16")
    backbone = build_dla(
        base,
        dilation=dilation,
        root_kernel_size=root_kernel_size,
        has_residual_root=has_residual_root,
    )

    def feature_of(levels):
        return upsampling.dla_feature(
            levels,
            first_level=int(math.log2(down_ratio)),
            last_level=last_level,
            out_channels=out_channels,
            deformable=deformable,
        )

    return _assembled(backbone, feature_of, heads, head_width=head_width, final_kernel=final_kernel)


def _assembled(backbone, feature_of, heads, *, head_width, final_kernel=1):
    # layers
    pad = PadToOne(name="pad_to_one", dtype="float32")
    normalize = NormalizedBgr(name="normalized_bgr", dtype="float32")
    # functional model
    image = tf.keras.Input([None, None, 3], name="image")
    inputs = {"image": image, "input_from_image": tf.keras.Input([3, 3], name="input_from_image")}
    feature = feature_of(backbone(normalize(pad(image))))
    outputs = {}
    for name, channels in heads.items():
        x = add_head(feature, name, channels, width=head_width, final_kernel=final_kernel)
        cut = SliceToBatch(name=f"{name}.cut", dtype="float32")
        outputs[name] = cut([x, inputs["input_from_image"]])
    return tf.keras.Model(inputs, outputs, name="centernet")


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class NormalizedBgr(tf.keras.layers.Layer):
    """Turns RGB intensities 0..1 into what the released networks were trained on.

    Input: `[B, H, W, 3]`, H and W multiples of 32. Output: the same shape, BGR, minus mean, divided
    by standard deviation. No weights, no masking. Gradient: flows to the input.
    """

    def call(self, inputs):
        """Returns the normalized image.

        Raises:
          ValueError: for an image of known size whose sides are no multiples of 32.
        """
        height, width = inputs.shape[1:3]
        if any(side is not None and side % INPUT_STRIDE for side in (height, width)):
            raise ValueError(
                f"image is {height} x {width} (height x width): the sides must be multiples of "
                f"{INPUT_STRIDE}; pad it"
            )
        return (inputs[..., ::-1] - tf.constant(_MEAN)) / tf.constant(_STDEV)

    def compute_output_shape(self, input_shape):
        """Returns the input's shape."""
        return tuple(input_shape)
