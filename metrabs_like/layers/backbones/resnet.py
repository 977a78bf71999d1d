"""ResNet-18 as a feature pyramid: small enough for CPUs.

Conventions: channels last. Layers bear the names of torchvision's modules (`layer2.0.conv1`).

References:
  He et al., Deep Residual Learning for Image Recognition, CVPR 2016.
"""

import tensorflow as tf

from metrabs_like.layers.convolution import convolution, normalized

_CHANNELS = (64, 128, 256, 512)
_BLOCKS = 2


def build_resnet18(name="resnet18"):
    """Builds the network without its classifier, with random weights.

    Args:
      name: of the model.

    Returns:
      `tf.keras.Model`: normalized image `[B, H, W, 3]` to the list of features at strides 2, 4, 8,
      16 and 32, with 64, 64, 128, 256 and 512 channels. H and W are multiples of 32, B >= 1. The
      compute type is the Keras policy in force while building.
    """
    layers = tf.keras.layers
    image = x = tf.keras.Input([None, None, 3], name="image")
    x = convolution(x, _CHANNELS[0], 7, "conv1", stride=2, initializer="he_normal")
    x = normalized(x, "bn1", activation="relu")
    outputs = [x]
    # zeros around it change no maximum: nothing here is negative
    x = layers.ZeroPadding2D(1, name="maxpool.pad")(x)
    x = layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for i, channels in enumerate(_CHANNELS):
        for j in range(_BLOCKS):
            stride = 2 if i > 0 and j == 0 else 1
            x = _block(x, channels, f"layer{i + 1}.{j}", stride)
        outputs.append(x)
    return tf.keras.Model(image, outputs, name=name)


def _block(x, channels, name, stride):
    layers = tf.keras.layers
    shortcut = x
    if stride > 1 or x.shape[-1] != channels:
        shortcut = convolution(
            x, channels, 1, f"{name}.downsample.0", stride=stride, initializer="he_normal"
        )
        shortcut = normalized(shortcut, f"{name}.downsample.1")
    x = convolution(x, channels, 3, f"{name}.conv1", stride=stride, initializer="he_normal")
    x = normalized(x, f"{name}.bn1", activation=f"{name}.relu1")
    x = convolution(x, channels, 3, f"{name}.conv2", initializer="he_normal")
    x = layers.Add(name=f"{name}.add")([normalized(x, f"{name}.bn2"), shortcut])
    return layers.ReLU(name=f"{name}.relu")(x)
