"""The heads: from the feature map to the raw numbers of each cell.

Conventions: layers bear the names of the released code's modules (`hm.0`, `hm.2`).
"""

import tensorflow as tf

from metrabs_like.layers.convolution import convolution

_HEAT_MAP_BIAS = -2.19  # released code: every cell begins with a probability of 0.1


def add_head(feature, name, channels, *, width, final_kernel=1):
    """Adds one head to a functional model.

    Args:
      feature: Keras tensor `[B, H, W, C]`.
      name: of the head; those with "hm" in it are heat maps, whose bias begins at -2.19.
      channels: int, of the output.
      width: int, channels of the 3x3 convolution before the last one; 0 leaves it out.
      final_kernel: int, odd, size of the last convolution.

    Returns:
      Keras tensor `[B, H, W, channels]`, without activation.
    """
    bias = tf.keras.initializers.Constant(_HEAT_MAP_BIAS if "hm" in name else 0.0)
    x = feature
    if width:
        x = convolution(x, width, 3, f"{name}.0", use_bias=True)
        x = tf.keras.layers.ReLU(name=f"{name}.1")(x)
    last = f"{name}.2" if width else name
    return convolution(x, channels, final_kernel, last, use_bias=True, bias_initializer=bias)
