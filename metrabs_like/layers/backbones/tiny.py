"""A residual network of about 1 M parameters that trains on two CPU cores.

Conventions: channels last; feature (i, j) looks at the centre of its `stride` x `stride` pixel
cell, which is where `geometry.heatmap` with a centred stride puts it.
"""

import tensorflow as tf

# (channels, residual blocks) of the three stages (ours). After 900 updates on synthetic people, for
# about the same CPU time, a strided 7x7 stem and a last stage of 2 x 192 channels were 2 % worse,
# attention at the lowest resolution no better.
_STAGES = ((32, 1), (64, 2), (128, 3))
_STEM_CHANNELS = 16
_STAGE_STRIDES = {8: (1, 2, 1), 16: (1, 2, 2), 32: (2, 2, 2)}
# short trainings need statistics that follow within some tens of updates (ours)
_MOMENTUM = 0.95


def build_tiny(*, stride=16, width=1.0):
    """Builds the tiny backbone.

    The parameters do not depend on `stride`, so weights move between strides and crop sizes.

    Args:
      stride: int, 8, 16 or 32.
      width: float > 0, factor on the number of channels.

    Returns:
      `tf.keras.Model`: float `[B, S, S, 3]` in 0..1 -> `[B, S/stride, S/stride, 128 * width]`.

    Raises:
      ValueError: another stride, or a width that is not positive.
    """
    if stride not in _STAGE_STRIDES:
        raise ValueError(f'stride={stride}: backbone "tiny" has 8, 16 or 32')
    if not width > 0:
        raise ValueError(f"width={width} must be positive; 1 is the standard network")
    image = tf.keras.Input([None, None, 3], name="image")
    x = tf.keras.layers.Rescaling(2.0, offset=-1.0, name="to_signed")(image)
    x = _convolution(x, _scaled(_STEM_CHANNELS, width), "stem1", stride=2)
    x = _convolution(x, _scaled(_STAGES[0][0], width), "stem2", stride=2)
    stage_strides = _STAGE_STRIDES[stride]
    for i, (channels, n_blocks) in enumerate(_STAGES):
        is_last_downsampling = 2 not in stage_strides[i + 1 :]
        for j in range(n_blocks):
            name = f"stage{i + 1}_block{j + 1}"
            block_stride = stage_strides[i] if j == 0 else 1
            x = _block(x, _scaled(channels, width), name, block_stride, is_last_downsampling)
    x = _add_context(x)
    return tf.keras.Model(image, x, name="tiny")


def _scaled(channels, width):
    """Channels times `width`, a multiple of 8 (vector length of the convolution kernels)."""
    return max(8, int(round(channels * width / 8)) * 8)


def _convolution(x, channels, name, stride=1, is_centered=False, is_activated=True):
    """3x3 convolution, batch normalization and, if wanted, ReLU."""
    layers = tf.keras.layers
    if is_centered:
        # symmetric padding here and "same" (which looks half a step right and down) before it put
        # the features in the middle of their cells
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    padding = "valid" if is_centered else "same"
    x = layers.Conv2D(
        channels, 3, stride, padding, use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if is_activated else x


def _block(x, channels, name, stride, is_last_downsampling):
    """Residual block; its branch takes part from the start: a zero scale there learns slower."""
    layers = tf.keras.layers
    is_centered = stride == 2 and is_last_downsampling
    branch = _convolution(x, channels, f"{name}_a", stride, is_centered)
    branch = _convolution(branch, channels, f"{name}_b", is_activated=False)
    if stride != 1:
        x = layers.AveragePooling2D(stride, name=f"{name}_pool")(x)
    if x.shape[-1] != channels:
        x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_shortcut")(x)
        x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"{name}_shortcut_norm")(x)
    x = layers.Add(name=f"{name}_add")([x, branch])
    return layers.ReLU(name=f"{name}_relu")(x)


def _add_context(x):
    """Adds a function of the whole crop to every feature: distance shows in no single part."""
    layers = tf.keras.layers
    channels = x.shape[-1]
    context = layers.GlobalAveragePooling2D(keepdims=True, name="context_pool")(x)
    context = layers.Dense(channels, activation="relu", name="context_hidden")(context)
    context = layers.Dense(channels, name="context")(context)
    return layers.Add(name="context_add")([x, context])
