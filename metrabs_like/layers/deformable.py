"""Modulated deformable convolution (DCNv2): every kernel position samples where its offset says.

Conventions: NHWC. Kernel position k = kernel_width * i + j. Offsets are in input pixels, y before
x: channel 2 * (g * K + k) is dy, the next one dx, of deformable group g and kernel position k; mask
channel g * K + k belongs to them. Output pixel (u, v) samples at
y = u * stride - padding + i * dilation + dy, and x likewise.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import check_shapes


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

    Returns:
      `[B, h, w, O]`, dtype of `inputs`. Positions and interpolation are float32 in any precision
      (float64 for float64 inputs).

    Raises:
      ValueError: if the arguments' shapes do not fit each other.

    Gradient: to all five; at whole pixels the right-hand one. A sample that does not count, or
    whose offset is not finite, is zero whatever its mask, and gives no gradient.

    References:
      Zhu et al., Deformable ConvNets v2, CVPR 2019; released code.
    """
    inputs = tf.convert_to_tensor(inputs)
    geometry_dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
    offsets, masks = tf.cast(offsets, geometry_dtype), tf.cast(masks, geometry_dtype)
    kernel = tf.cast(kernel, inputs.dtype)
    strides, padding, dilations = _pair(strides), _pair(padding), _pair(dilations)
    kh, kw, _, n_outputs = kernel.shape
    n_samples = deformable_groups * kh * kw
    check_shapes(
        inputs=(inputs, "B H W C"),
        offsets=(offsets, f"B h w {2 * n_samples}"),
        masks=(masks, f"B h w {n_samples}"),
    )
    shape = tf.shape(masks)[:3]
    y, x = _positions(offsets, (kh, kw), strides, padding, dilations, deformable_groups)
    masks = tf.reshape(masks, tf.shape(y))
    samples = _samples(inputs, y, x, masks, deformable_groups)
    # [B, h, w, G, K, C / G] -> [B * h * w, groups, K * C / groups]
    channels = inputs.shape[-1]
    if deformable_groups > 1:
        samples = tf.transpose(samples, [0, 1, 2, 4, 3, 5])
    samples = tf.reshape(samples, [-1, kh * kw, groups, channels // groups])
    weights = tf.reshape(kernel, [kh * kw, channels // groups, groups, n_outputs // groups])
    outputs = tf.einsum("nkgc,kcgo->ngo", samples, weights)
    outputs = tf.reshape(outputs, tf.concat([shape, [n_outputs]], axis=0))
    return outputs if bias is None else outputs + tf.cast(bias, outputs.dtype)


def _positions(offsets, kernel_size, strides, padding, dilations, deformable_groups):
    """Returns y and x, each `[B, h, w, G, K]`."""
    kh, kw = kernel_size
    n_batch, height, width, _ = tf.unstack(tf.shape(offsets))
    shape = [n_batch, height, width, deformable_groups, kh * kw, 2]
    offsets = tf.reshape(offsets, shape)
    dtype = offsets.dtype
    y = tf.cast(tf.range(height), dtype) * strides[0] - padding[0]
    x = tf.cast(tf.range(width), dtype) * strides[1] - padding[1]
    steps_y = tf.constant([i * dilations[0] for i in range(kh) for _ in range(kw)], dtype)
    steps_x = tf.constant([j * dilations[1] for _ in range(kh) for j in range(kw)], dtype)
    y = y[:, tf.newaxis, tf.newaxis, tf.newaxis] + steps_y
    x = x[:, tf.newaxis, tf.newaxis] + steps_x
    return y + offsets[..., 0], x + offsets[..., 1]


def _samples(inputs, y, x, masks, deformable_groups):
    """Returns `[B, h, w, G, K, C / G]`: bilinear samples times masks."""
    n_images, height, width, channels = tf.unstack(tf.shape(inputs))
    channels = inputs.shape[-1] // deformable_groups
    dtype = y.dtype
    is_inside = (y > -1) & (y < tf.cast(height, dtype)) & (x > -1) & (x < tf.cast(width, dtype))
    y, x = tf.where(is_inside, y, -1.0), tf.where(is_inside, x, -1.0)
    masks = tf.where(is_inside, masks, 0.0)
    top, left = tf.floor(y), tf.floor(x)
    far_y, far_x = y - top, x - left
    framed = tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
    table = tf.reshape(framed, [-1, channels])
    image = tf.reshape(tf.range(n_images), [-1, 1, 1, 1, 1]) * (height + 2)
    row = image + tf.cast(top, tf.int32) + 1
    index = (row * (width + 2) + tf.cast(left, tf.int32) + 1) * deformable_groups
    index += tf.range(deformable_groups)[:, tf.newaxis]
    right, below = deformable_groups, (width + 2) * deformable_groups

    def weighted(offset, weight_y, weight_x):
        pixel = tf.cast(tf.gather(table, index + offset), dtype)
        return pixel * (masks * weight_y * weight_x)[..., tf.newaxis]

    value = weighted(0, 1 - far_y, 1 - far_x) + weighted(right, 1 - far_y, far_x)
    value += weighted(below, far_y, 1 - far_x) + weighted(below + right, far_y, far_x)
    return tf.cast(value, inputs.dtype)


def _pair(value):
    """Returns (y, x) of an int or a pair."""
    return (value, value) if isinstance(value, int) else tuple(value)


@tf.keras.utils.register_keras_serializable(package="metrabs_like")
class DeformableConv2D(tf.keras.layers.Layer):
    """A convolution that predicts, by one of its own, where and how strongly to sample.

    Input: float `[B, H, W, C]`. Output: `[B, h, w, filters]` in the layer's dtype, with h and w as
    of a convolution. B may be zero. No masking. Weights: `kernel`, `bias`, and `kernel` and `bias`
    of the sublayer `conv_offset_mask`, which begins at zero: offsets 0 and masks 0.5. That one and
    the sampling are float32 under every precision policy.

    Args:
      filters: int, output channels O.
      kernel_size: int or (y, x).
      strides: int or (y, x).
      padding: int or (y, x), px of zeros on both sides.
      dilation_rate: int or (y, x).
      groups: int, as in a grouped convolution.
      deformable_groups: int, groups of channels with their own offsets and masks.
      use_bias: bool.
      **kwargs: `name`, `dtype`, `trainable`.

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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = _pair(kernel_size)
        self.strides = _pair(strides)
        self.padding = _pair(padding)
        self.dilation_rate = _pair(dilation_rate)
        self.groups = groups
        self.deformable_groups = deformable_groups
        self.use_bias = use_bias
        kh, kw = self.kernel_size
        self.n_samples = deformable_groups * kh * kw
        self.conv_offset_mask = tf.keras.layers.Conv2D(
            3 * self.n_samples,
            self.kernel_size,
            self.strides,
            padding="valid",
            dilation_rate=self.dilation_rate,
            kernel_initializer="zeros",
            dtype="float32",
            name="conv_offset_mask",
        )

    def build(self, input_shape):
        """Makes the weights."""
        channels = input_shape[-1]
        shape = (*self.kernel_size, channels // self.groups, self.filters)
        # uniform within +-1 / sqrt(fan in), as released
        initializer = tf.keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initializer)
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=[self.filters], initializer="zeros")
        if not self.conv_offset_mask.built:
            self.conv_offset_mask.build((None, None, None, channels))
        super().build(input_shape)

    def call(self, inputs):
        """Returns `[B, h, w, filters]`."""
        offsets, masks = self.offsets_and_masks(inputs)
        return modulated_deform_conv2d(
            inputs,
            offsets,
            masks,
            self.kernel,
            self.bias,
            strides=self.strides,
            padding=self.padding,
            dilations=self.dilation_rate,
            groups=self.groups,
            deformable_groups=self.deformable_groups,
        )

    def offsets_and_masks(self, inputs):
        """Returns the predicted offsets, px, and masks, 0..1, as of `modulated_deform_conv2d`."""
        pad_y, pad_x = self.padding
        padded = tf.pad(inputs, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
        # a convolution refuses zero examples: it gets one
        n_images = tf.shape(inputs)[0]
        padded = tf.pad(padded, [[0, tf.maximum(1 - n_images, 0)], [0, 0], [0, 0], [0, 0]])
        raw = self.conv_offset_mask(tf.cast(padded, tf.float32))[:n_images]
        # The first two thirds are the offsets as they are, dy and dx in turns.
        return raw[..., : 2 * self.n_samples], tf.sigmoid(raw[..., 2 * self.n_samples :])

    def compute_output_shape(self, input_shape):
        """Returns the shape of a convolution's output."""
        sizes = [
            None if size is None else (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
            for size, pad, dilation, k, stride in zip(
                input_shape[1:3],
                self.padding,
                self.dilation_rate,
                self.kernel_size,
                self.strides,
                strict=True,
            )
        ]
        return (input_shape[0], *sizes, self.filters)

    def get_config(self):
        """Returns the constructor's arguments."""
        names = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
        names += ("deformable_groups", "use_bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
