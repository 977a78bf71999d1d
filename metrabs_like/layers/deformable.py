"""Modulated deformable convolution (DCNv2): every kernel position samples where its offset says.

Conventions: NHWC. Kernel position k = kernel_width * i + j. Offsets are in input pixels, y before
x: channel 2 * (g * K + k) is dy, the next one dx, of deformable group g and kernel position k; mask
channel g * K + k belongs to them. Output pixel (u, v) samples at
y = u * stride - padding + i * dilation + dy, and x likewise.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.layers.deformable_passes import backward_pass, forward_pass
from metrabs_like.layers.deformable_sampling import Window


def modulated_deform_conv2d(
    inputs,
    offsets,
    masks,
    kernel,
    bias=None,
    *,
    strides=1,
    padding,
    dilations=1,
    groups=1,
    deformable_groups=1,
    jit_compile=True,
):
    """Convolves bilinear samples taken at learned offsets, each weighted by its mask.

    A sample counts if -1 < y < H and -1 < x < W; neighbours outside the image are zero. The mask
    multiplies the sample, without normalisation.

    Args:
      inputs: float `[B, H, W, C]`; B may be zero.
      offsets: float `[B, h, w, G * K * 2]`, px, G deformable groups, K kernel positions.
      masks: float `[B, h, w, G * K]`, used as they are (after the sigmoid).
      kernel: float `[kh, kw, C / groups, O]`.
      bias: float `[O]` or None.
      strides: int or (y, x).
      padding: int or (y, x), px of zeros on both sides.
      dilations: int or (y, x).
      groups: int, divides C and O, as in a grouped convolution.
      deformable_groups: int G, divides C; every group of neighbouring channels has its own offsets
        and masks.
      jit_compile: whether XLA compiles both passes, about a second for each new shape; on a CPU
        that halves the time at least. False where XLA is absent or shapes keep changing.

    Returns:
      `[B, h, w, O]`, dtype of `inputs`. Positions and interpolation are float32 in any precision
      (float64 for float64 inputs).

    Raises:
      ValueError: if the arguments' shapes or options do not fit each other (shapes that are
        unknown while tracing are checked when run, except under XLA).

    Gradient: to all five; at whole pixels the right-hand one. A sample that does not count, or
    whose offset is not finite, is zero whatever its mask is, and gives no gradient. Nothing but the
    arguments is kept for the backward pass.

    References:
      Zhu et al., Deformable ConvNets v2, CVPR 2019; released code.
    """
    inputs, offsets, masks, kernel = map(tf.convert_to_tensor, (inputs, offsets, masks, kernel))
    if kernel.shape.rank != 4:
        raise ValueError(f"kernel has shape {kernel.shape}: pass [kh, kw, C / groups, O].")
    window = Window(
        tuple(kernel.shape[:2]),
        _pair("strides", strides, 1),
        _pair("padding", padding, 0),
        _pair("dilations", dilations, 1),
        groups,
        deformable_groups,
    )
    _check(inputs, offsets, masks, kernel, bias, window)
    return _convolved(inputs, offsets, masks, kernel, bias, window, jit_compile)


def _convolved(inputs, offsets, masks, kernel, bias, window, jit_compile):
    """Returns the output for arguments that fit each other."""
    dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
    offsets, masks = tf.cast(offsets, dtype), tf.cast(masks, dtype)
    kernel = tf.cast(kernel, inputs.dtype)
    bias = tf.zeros(kernel.shape[3:], dtype) if bias is None else tf.cast(bias, dtype)
    forward = _compiled_forward if jit_compile else forward_pass
    backward = _compiled_backward if jit_compile else backward_pass

    # What autodiff would do is slower, and would keep the samples: K times the input.
    @tf.custom_gradient
    def convolution(*tensors):
        return forward(*tensors, window), lambda upstream: backward(*tensors[:4], upstream, window)

    outputs = convolution(inputs, offsets, masks, kernel, bias)
    return tf.ensure_shape(outputs, [*masks.shape[:3], kernel.shape[3]])


_compiled_forward = tf.function(
    forward_pass, jit_compile=True, reduce_retracing=True, autograph=False
)
_compiled_backward = tf.function(
    backward_pass, jit_compile=True, reduce_retracing=True, autograph=False
)


def _check(inputs, offsets, masks, kernel, bias, window):
    """Raises ValueError where known shapes disagree; checks unknown ones when run."""
    if not inputs.dtype.is_floating:
        raise ValueError(f"inputs are {inputs.dtype.name}, but must be floats: cast them.")
    n_inputs, n_outputs = kernel.shape[2] * window.groups, kernel.shape[3]
    n_samples = window.deformable_groups * window.n_positions
    _check_groups(n_inputs, n_outputs, window.groups, window.deformable_groups)
    height, width = window.output_sizes(*inputs.shape[1:3])
    sizes = f"{'h' if height is None else height} {'w' if width is None else width}"
    check_shapes(
        inputs=(inputs, f"B H W {n_inputs}"),
        offsets=(offsets, f"B {sizes} {2 * n_samples}"),
        masks=(masks, f"B {sizes} {n_samples}"),
        bias=(None if bias is None else tf.convert_to_tensor(bias), f"{n_outputs}"),
    )


def _check_groups(n_inputs, n_outputs, groups, deformable_groups):
    """Raises ValueError where channels cannot be cut into that many groups."""
    for name, value, divided in (
        ("groups", groups, (n_inputs, n_outputs)),
        ("deformable_groups", deformable_groups, (n_inputs,)),
    ):
        if not isinstance(value, int) or value < 1 or any(size % value for size in divided):
            raise ValueError(
                f"{name}={value} must divide {' and '.join(map(str, divided))} channels."
            )


def _pair(name, value, least):
    """Returns (y, x) of an int or a pair of ints."""
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(size, int) and size >= least for size in pair):
        raise ValueError(f"{name}={value!r} must be an int, or two (y, x), of at least {least}.")
    return pair


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class DeformableConv2D(tf.keras.layers.Layer):
    """A convolution that predicts, by one of its own, where and how strongly to sample.

    Input: float `[B, H, W, C]`, B may be zero. Output: `[B, h, w, filters]` in the layer's dtype, h
    and w as of any convolution. No masking. Precision: the sublayer and the sampling are float32
    under every policy, the product with the kernel has the layer's dtype.

    Weights: `kernel` `[kh, kw, C / groups, filters]`, `bias`, and those of the sublayer
    `conv_offset_mask`, `kernel` and `bias`: the names of the released code, its `weight` being
    `kernel` here. The sublayer begins at zero: offsets 0, masks 0.5.

    Args:
      filters: int, output channels.
      kernel_size: int or (y, x).
      strides: int or (y, x).
      padding: int or (y, x), px of zeros on both sides.
      dilation_rate: int or (y, x).
      groups: int, as in a grouped convolution.
      deformable_groups: int, groups of channels with their own offsets and masks.
      use_bias: bool.
      jit_compile: see `modulated_deform_conv2d`.
      **kwargs: `name`, `dtype`, `trainable`.

    Raises:
      ValueError: for sizes that are not positive ints, or groups that do not divide the channels.

    References:
      Zhu et al., Deformable ConvNets v2, CVPR 2019; released code (also the initialisation).
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        strides=1,
        padding=1,
        dilation_rate=1,
        groups=1,
        deformable_groups=1,
        use_bias=True,
        jit_compile=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(filters, int) or filters < 1:
            raise ValueError(f"filters={filters!r} must be a positive int.")
        self.filters = filters
        self.kernel_size = _pair("kernel_size", kernel_size, 1)
        self.strides = _pair("strides", strides, 1)
        self.padding = _pair("padding", padding, 0)
        self.dilation_rate = _pair("dilation_rate", dilation_rate, 1)
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.use_bias = use_bias
        self.jit_compile = jit_compile
        # Keras refuses to stride a dilated convolution
        self._is_strided_later = max(self.strides) > 1 and max(self.dilation_rate) > 1
        self.conv_offset_mask = tf.keras.layers.Conv2D(
            3 * deformable_groups * self._window.n_positions,
            self.kernel_size,
            1 if self._is_strided_later else self.strides,
            "valid",
            dilation_rate=self.dilation_rate,
            kernel_initializer="zeros",
            dtype="float32",
            name="conv_offset_mask",
        )

    @property
    def _window(self):
        return Window(
            self.kernel_size,
            self.strides,
            self.padding,
            self.dilation_rate,
            self.groups,
            self.deformable_groups,
        )

    def build(self, input_shape):
        """Makes the weights."""
        channels = input_shape[-1]
        _check_groups(channels, self.filters, self.groups, self.deformable_groups)
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        # uniform within 1 / sqrt(fan in), as released
        initializer = tf.keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initializer)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=[self.filters], initializer="zeros")
        self.conv_offset_mask.build((None, None, None, channels))
        super().build(input_shape)

    def call(self, inputs):
        """Returns `[B, h, w, filters]`."""
        return _convolved(
            inputs,
            *self.offsets_and_masks(inputs),
            tf.convert_to_tensor(self.kernel),
            None if self.bias is None else tf.convert_to_tensor(self.bias),
            self._window,
            self.jit_compile,
        )

    def offsets_and_masks(self, inputs):
        """Predicts where to sample.

        Args:
          inputs: float `[B, H, W, C]`.

        Returns:
          float32 offsets, px, and masks, 0..1, as of `modulated_deform_conv2d`.
        """
        images = tf.cast(inputs, tf.float32)
        n_images, *size = tf.unstack(tf.shape(images))
        # oneDNN refuses an empty batch: it gets one image. Not by the padding below: TensorFlow
        # fuses that with the convolution, and then forgets the padding of the batch.
        images = tf.concat([images, tf.zeros([tf.maximum(1 - n_images, 0), *size])], axis=0)
        images = tf.pad(images, [[0, 0], *([pad, pad] for pad in self.padding), [0, 0]])
        raw = self.conv_offset_mask(images)[:n_images]
        if self._is_strided_later:
            raw = raw[:, :: self.strides[0], :: self.strides[1]]
        n_offsets = 2 * self.deformable_groups * self._window.n_positions
        # The released layer splits into thirds and joins two of them: dy and dx stay interleaved.
        return raw[..., :n_offsets], tf.sigmoid(raw[..., n_offsets:])

    def compute_output_shape(self, input_shape):
        """Returns the shape of a convolution's output."""
        return (input_shape[0], *self._window.output_sizes(*input_shape[1:3]), self.filters)

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
        names += ("deformable_groups", "use_bias", "jit_compile")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
