"""A residual feature pyramid of about 0.7 M parameters that trains on two CPU cores.

Conventions: channels last.
"""

import tensorflow as tf

from metrabs_like.layers.convolution import convolution
from metrabs_like.layers.normalization import BatchNorm

# (channels, residual blocks) of the stages at strides 4, 8, 16 and 32 (ours): most of the work is
# done where a person of a crowd has some cells, the last stage sees whole people
_STAGES = ((32, 1), (64, 2), (96, 2), (128, 1))
_STEM_CHANNELS = 16
# short trainings need statistics that follow within some tens of updates (ours)
_MOMENTUM = 0.95


def build_tiny_pyramid(*, width=1.0, name="tiny"):
    """Builds the network, with random weights.

    Args:
      width: float > 0, factor on the channels, which stay multiples of 8.
      name: of the model.

    Returns:
      `tf.keras.Model`: normalized image `[B, H, W, 3]` to the list of features at strides 2, 4, 8,
      16 and 32, with 16, 32, 64, 96 and 128 times `width` channels. H and W are multiples of 32,
      B >= 1. The compute type is the Keras policy in force while building.

    Raises:
      ValueError: for a width that is not positive.
    """
    if not width > 0:
        raise ValueError(f"width={width} must be positive; 1 is the standard network")
    image = x = tf.keras.Input([None, None, 3], name="image")
    x = tiny_convolution(x, scaled_channels(_STEM_CHANNELS, width), "stem", stride=2)
    outputs = [x]
    for i, (channels, n_blocks) in enumerate(_STAGES):
        for j in range(n_blocks):
            stride = 2 if j == 0 else 1
            x = _block(x, scaled_channels(channels, width), f"stage{i + 1}.{j}", stride)
        outputs.append(x)
    return tf.keras.Model(image, outputs, name=name)


def scaled_channels(channels, width):
    """Returns `channels * width` as a multiple of 8, the vector length of convolutions; >= 8."""
    return max(8, int(round(channels * width / 8)) * 8)


def tiny_convolution(x, channels, name, *, stride=1, kernel_size=3, has_relu=True):
    """Adds a convolution, batch normalization and, if wanted, ReLU to a functional model.

    Args:
      x: Keras tensor `[B, H, W, C]`.
      channels: int, of the output.
      name: of the convolution.
      stride: int.
      kernel_size: int, odd.
      has_relu: bool.

    Returns:
      Keras tensor `[B, H / stride, W / stride, channels]`.
    """
    x = convolution(x, channels, kernel_size, name, stride=stride, initializer="he_normal")
    x = BatchNorm(momentum=_MOMENTUM, name=f"{name}.bn")(x)
    return tf.keras.layers.ReLU(name=f"{name}.relu")(x) if has_relu else x


def _block(x, channels, name, stride):
    layers = tf.keras.layers
    branch = tiny_convolution(x, channels, f"{name}.conv1", stride=stride)
    branch = tiny_convolution(branch, channels, f"{name}.conv2", has_relu=False)
    if stride > 1:
        x = layers.AveragePooling2D(stride, name=f"{name}.pool")(x)
    if x.shape[-1] != channels:
        x = tiny_convolution(x, channels, f"{name}.shortcut", kernel_size=1, has_relu=False)
    return layers.ReLU(name=f"{name}.relu")(layers.Add(name=f"{name}.add")([x, branch]))
