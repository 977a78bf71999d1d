"""Deep layer aggregation: the image classifiers DLA-34 and its relatives, as feature pyramids.

Conventions: channels last. Every layer bears the name that its module has in the released PyTorch
code (`level3.tree1.root.conv`), so that weights are found by name. Level i has stride 2^i.

What has no effect on the outputs does not exist: trees of two levels and more carry a projection in
the released code whose result nobody reads.

References:
  Yu et al., Deep Layer Aggregation, CVPR 2018; released code.
"""

import dataclasses

import tensorflow as tf

from metrabs_like.layers.convolution import convolution, normalized

N_LEVELS = 6


@dataclasses.dataclass(frozen=True)
class DlaBase:
    """Layout of one network: depth and width of its levels.

    Attributes:
      levels: convolutions of level 0 and 1, depth of the trees of level 2 to 5.
      channels: of each level.
      has_bottlenecks: blocks of a narrow 3x3 convolution between 1x1 ones instead of two 3x3.
      has_residual_root: whether a root adds its first input to its output.
    """

    levels: tuple = (1, 1, 1, 2, 2, 1)
    channels: tuple = (16, 32, 64, 128, 256, 512)
    has_bottlenecks: bool = False
    has_residual_root: bool = False


_WIDE = (16, 32, 128, 256, 512, 1024)
BASES = {
    "dla34": DlaBase(),
    "dla46_c": DlaBase(channels=(16, 32, 64, 64, 128, 256), has_bottlenecks=True),
    "dla60": DlaBase(levels=(1, 1, 1, 2, 3, 1), channels=_WIDE, has_bottlenecks=True),
    "dla102": DlaBase(
        levels=(1, 1, 1, 3, 4, 1), channels=_WIDE, has_bottlenecks=True, has_residual_root=True
    ),
}
"""The networks, by the names of the released code."""


@dataclasses.dataclass(frozen=True)
class TreeOptions:
    """What the trees of a network share.

    Attributes:
      has_bottlenecks: see `DlaBase`.
      has_residual_root: see `DlaBase`.
      root_kernel_size: of the roots' convolution, odd.
      dilation: of the blocks' 3x3 convolutions.
    """

    has_bottlenecks: bool = False
    has_residual_root: bool = False
    root_kernel_size: int = 1
    dilation: int = 1


def build_dla(
    name="dla34", *, has_residual_root=None, root_kernel_size=1, dilation=1, prefix="", width=1.0
):
    """Builds the network without its classifier.

    Args:
      name: key of `BASES`; also the model's name.
      has_residual_root: bool, None takes the base's own.
      root_kernel_size: int, odd.
      dilation: int, of the 3x3 convolutions of levels 2 to 5; strides stay.
      prefix: put before the layers' names.
      width: float > 0, factor on all channels (ours), for tests.

    Returns:
      `tf.keras.Model`: normalized image `[B, H, W, 3]` (the released weights want BGR) to the list
      of its six levels, `[B, H / 2^i, W / 2^i, channels[i]]`. H and W are multiples of 32, B >= 1.
      The compute type is the Keras policy in force while building.

    Raises:
      ValueError: for an unknown name, an even `root_kernel_size` or another value out of range.
    """
    if name not in BASES:
        raise ValueError(f"base={name!r} is unknown; choose one of {', '.join(BASES)}")
    if dilation < 1 or not width > 0:
        raise ValueError(f"dilation={dilation}, width={width}: must be at least 1, and positive")
    base = BASES[name]
    options = TreeOptions(
        has_bottlenecks=base.has_bottlenecks,
        has_residual_root=base.has_residual_root
        if has_residual_root is None
        else has_residual_root,
        root_kernel_size=root_kernel_size,
        dilation=dilation,
    )
    channels = [max(1, round(width * n)) for n in base.channels]
    image = x = tf.keras.Input([None, None, 3], name="image")
    x = _convolutions(x, channels[0], 1, f"{prefix}base_layer", kernel_size=7)
    outputs = []
    for i, (depth, n_channels) in enumerate(zip(base.levels, channels, strict=True)):
        level = f"{prefix}level{i}"
        if i < 2:
            x = _convolutions(x, n_channels, depth, level, stride=1 + i)
        else:
            x = tree(x, n_channels, depth, level, options, stride=2, has_level_root=i > 2)
        outputs.append(x)
    return tf.keras.Model(image, outputs, name=name)


def tree(x, channels, depth, name, options, *, stride=1, has_level_root=False, children=()):
    """Adds a tree of blocks, whose outputs its root aggregates.

    Args:
      x: Keras tensor `[B, H, W, C]`.
      channels: int, of the output.
      depth: int, 2^depth blocks.
      name: of the tree.
      options: `TreeOptions`.
      stride: int, of the first block; H and W are multiples of it.
      has_level_root: whether the pooled input goes to the root too.
      children: Keras tensors of the output's size that go to the root.

    Returns:
      Keras tensor `[B, H / stride, W / stride, channels]`.
    """
    layers = tf.keras.layers
    bottom = layers.MaxPooling2D(stride, name=f"{name}.downsample")(x) if stride > 1 else x
    if has_level_root:
        children = (*children, bottom)
    names = (f"{name}.tree1", f"{name}.tree2")
    if depth > 1:
        x1 = tree(x, channels, depth - 1, names[0], options, stride=stride)
        return tree(x1, channels, depth - 1, names[1], options, children=(*children, x1))
    shortcut = bottom
    if bottom.shape[-1] != channels:
        shortcut = convolution(bottom, channels, 1, f"{name}.project.0")
        shortcut = normalized(shortcut, f"{name}.project.1")
    block = _bottleneck if options.has_bottlenecks else _basic_block
    x1 = block(x, shortcut, channels, names[0], stride=stride, dilation=options.dilation)
    x2 = block(x1, x1, channels, names[1], dilation=options.dilation)
    return _root([x2, x1, *children], channels, f"{name}.root", options)


def _root(children, channels, name, options):
    layers = tf.keras.layers
    x = layers.Concatenate(name=f"{name}.concat")(children)
    x = convolution(x, channels, options.root_kernel_size, f"{name}.conv")
    x = normalized(x, f"{name}.bn")
    if options.has_residual_root:
        x = layers.Add(name=f"{name}.add")([x, children[0]])
    return layers.ReLU(name=f"{name}.relu")(x)


def _basic_block(x, shortcut, channels, name, *, stride=1, dilation=1):
    x = convolution(x, channels, 3, f"{name}.conv1", stride=stride, dilation=dilation)
    x = normalized(x, f"{name}.bn1", activation=f"{name}.relu1")
    x = convolution(x, channels, 3, f"{name}.conv2", dilation=dilation)
    return _added(normalized(x, f"{name}.bn2"), shortcut, name)


def _bottleneck(x, shortcut, channels, name, *, stride=1, dilation=1):
    inner = max(1, channels // 2)
    x = convolution(x, inner, 1, f"{name}.conv1")
    x = normalized(x, f"{name}.bn1", activation=f"{name}.relu1")
    x = convolution(x, inner, 3, f"{name}.conv2", stride=stride, dilation=dilation)
    x = normalized(x, f"{name}.bn2", activation=f"{name}.relu2")
    x = convolution(x, channels, 1, f"{name}.conv3")
    return _added(normalized(x, f"{name}.bn3"), shortcut, name)


def _added(x, shortcut, name):
    layers = tf.keras.layers
    return layers.ReLU(name=f"{name}.relu")(layers.Add(name=f"{name}.add")([x, shortcut]))


def _convolutions(x, channels, depth, name, *, kernel_size=3, stride=1):
    """Convolutions with normalization and ReLU, as a `Sequential` names them; stride first."""
    for i in range(depth):
        names = [f"{name}.{3 * i + j}" for j in range(3)]
        x = convolution(x, channels, kernel_size, names[0], stride=stride if i == 0 else 1)
        x = normalized(x, names[1], activation=names[2])
    return x
