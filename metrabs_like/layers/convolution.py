"""Convolutions of networks that were designed in PyTorch: their padding and first weights.

Conventions: channels last. A strided convolution is padded alike on both sides; Keras' "same" would
pad even sizes at the bottom and on the right only.
"""

import tensorflow as tf

from metrabs_like.layers.normalization import BatchNorm


def torch_uniform():
    """Returns a new initializer: uniform within +-1 / sqrt(fan in), as PyTorch's own."""
    return tf.keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")


def convolution(
    x,
    channels,
    kernel_size,
    name,
    *,
    stride=1,
    dilation=1,
    use_bias=False,
    initializer=None,
    bias_initializer="zeros",
):
    """Adds a convolution to a functional model, padded by `dilation * (kernel_size - 1) / 2`.

    Args:
      x: Keras tensor `[B, H, W, C]`.
      channels: int, output channels O.
      kernel_size: int, odd.
      name: of the layer.
      stride: int.
      dilation: int.
      use_bias: bool.
      initializer: of the kernel, None takes `torch_uniform`.
      bias_initializer: of the bias.

    Returns:
      Keras tensor `[B, ceil(H / stride), ceil(W / stride), O]`.

    Raises:
      ValueError: for an even kernel size, which has no centre.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size}: must be odd, the padding is half of it")
    layers = tf.keras.layers
    is_padded_before = stride > 1 and dilation == 1 and kernel_size > 1
    if is_padded_before:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}.pad")(x)
    is_cut_after = stride > 1 and dilation > 1  # Keras has no strides together with dilation
    x = layers.Conv2D(
        channels,
        kernel_size,
        1 if is_cut_after else stride,
        padding="valid" if is_padded_before else "same",
        dilation_rate=dilation,
        use_bias=use_bias,
        kernel_initializer=initializer or torch_uniform(),
        bias_initializer=bias_initializer,
        name=name,
    )(x)
    return layers.MaxPooling2D(1, stride, name=f"{name}.cut")(x) if is_cut_after else x


def normalized(x, name, *, activation=None):
    """Adds a batch normalization and, if `activation` names it, a ReLU to a functional model.

    Args:
      x: Keras tensor `[B, H, W, C]`.
      name: of the normalization.
      activation: name of the ReLU layer, None for none.

    Returns:
      Keras tensor `[B, H, W, C]`.
    """
    x = BatchNorm(name=name)(x)
    return tf.keras.layers.ReLU(name=activation)(x) if activation else x
