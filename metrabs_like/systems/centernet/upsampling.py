"""From the levels of a backbone to the one feature map that the heads read.

Conventions: lists of levels go from fine to coarse, each half the size of the one before. Layers of
DLA's aggregation bear the names of the released code's modules.

References:
  Yu et al., Deep Layer Aggregation, CVPR 2018; released code (DLA). Zhou et al., Objects as Points,
  2019, and its released code (up-convolutions).
"""

import tensorflow as tf

from metrabs_like.layers.backbones.tiny_pyramid import scaled_channels, tiny_convolution
from metrabs_like.layers.convolution import convolution, normalized
from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.layers.upsampling import LearnedUpsampling

_UP_CHANNELS = (256, 128, 64, 64)  # released code's deformable ResNets, the fourth ours
_TINY_CHANNELS = 64


def ida_up(levels, channels, factors, name, *, deformable=True):
    """Iterative deep aggregation: coarser levels are enlarged and merged into the finest one.

    Args:
      levels: list of Keras tensors; the first has `channels` channels already.
      channels: int, of all but the first output.
      factors: list of ints, how much smaller than the first each level is; even but for the first.
      name: of the module.
      deformable: bool, False takes plain convolutions.

    Returns:
      List of Keras tensors of the first level's size; the last one has seen all levels.
    """
    levels = list(levels)
    for i in range(1, len(levels)):
        x = _block(levels[i], channels, f"{name}.proj_{i}", deformable)
        x = LearnedUpsampling(factors[i], name=f"{name}.up_{i}")(x)
        x = tf.keras.layers.Add(name=f"{name}.add_{i}")([x, levels[i - 1]])
        levels[i] = _block(x, channels, f"{name}.node_{i}", deformable)
    return levels


def dla_up(levels, name, *, deformable=True):
    """Aggregates from the coarsest level on, each time one level finer.

    Args:
      levels: list of Keras tensors.
      name: of the module.
      deformable: bool.

    Returns:
      List of Keras tensors like `levels`, of which the last is the same.
    """
    levels = list(levels)
    channels = [level.shape[-1] for level in levels]
    outputs = [levels[-1]]
    for i, start in enumerate(range(len(levels) - 2, -1, -1)):
        factors = [1] + [2] * (len(levels) - start - 1)  # the steps before made them alike
        levels[start:] = ida_up(
            levels[start:], channels[start], factors, f"{name}.ida_{i}", deformable=deformable
        )
        outputs.insert(0, levels[-1])
    return outputs


def dla_feature(levels, *, first_level, last_level=5, out_channels=0, deformable=True):
    """Aggregates the levels of `build_dla`.

    Args:
      levels: its six outputs.
      first_level: int, 1 to 4: the output has stride 2^first_level.
      last_level: int, first_level + 1 to 6: the finest `last_level - first_level` aggregates are
        merged once more.
      out_channels: int, 0 takes those of the first level. Others need a convolution `proj_0`, which
        the released code lacks: it fails there.
      deformable: bool.

    Returns:
      Keras tensor `[B, H, W, out_channels]`.

    Raises:
      ValueError: for levels that there are not.
    """
    if not first_level < last_level <= len(levels):
        raise ValueError(
            f"last_level={last_level}: must be {first_level + 1} to {len(levels)} for the output "
            f"stride {2**first_level}"
        )
    aggregates = dla_up(levels[first_level:], "dla_up", deformable=deformable)
    aggregates = aggregates[: last_level - first_level]
    channels = out_channels or aggregates[0].shape[-1]
    if channels != aggregates[0].shape[-1]:
        aggregates[0] = _block(aggregates[0], channels, "ida_up.proj_0", deformable)
    factors = [2**i for i in range(len(aggregates))]
    return ida_up(aggregates, channels, factors, "ida_up", deformable=deformable)[-1]


def up_convolutions(x, n_steps, *, width=1.0):
    """Enlarges the coarsest level by transposed convolutions.

    Args:
      x: Keras tensor `[B, h, w, C]`.
      n_steps: int, 1 to 4; each doubles the size.
      width: float > 0, factor on the channels.

    Returns:
      Keras tensor `[B, h * 2^n_steps, w * 2^n_steps, C']`.
    """
    for i, channels in enumerate(_UP_CHANNELS[:n_steps]):
        name = f"deconv_layers.{3 * i}"
        x = tf.keras.layers.Conv2DTranspose(
            scaled_channels(channels, width),
            4,
            2,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=name,
        )(x)
        names = [f"deconv_layers.{3 * i + j}" for j in (1, 2)]
        x = normalized(x, names[0], activation=names[1])
    return x


def top_down_pyramid(levels, *, width=1.0):
    """Adds coarser levels to finer ones; cheap.

    Args:
      levels: list of Keras tensors.
      width: float > 0, factor on the channels.

    Returns:
      Keras tensor of the first level's size.
    """
    channels = scaled_channels(_TINY_CHANNELS, width)
    x = None
    for i in range(len(levels) - 1, -1, -1):
        y = tiny_convolution(
            levels[i], channels, f"pyramid.{i}.lateral", kernel_size=1, has_relu=False
        )
        if x is not None:
            x = tf.keras.layers.UpSampling2D(2, name=f"pyramid.{i}.up")(x)
            y = tf.keras.layers.Add(name=f"pyramid.{i}.add")([x, y])
        x = tiny_convolution(y, channels, f"pyramid.{i}.conv")
    return x


def _block(x, channels, name, deformable):
    """A 3x3 convolution with bias, normalization and ReLU."""
    if deformable:
        x = DeformableConv2D(channels, name=f"{name}.conv")(x)
    else:
        x = convolution(x, channels, 3, f"{name}.conv", use_bias=True)
    return normalized(x, f"{name}.actf.0", activation=f"{name}.actf.1")
