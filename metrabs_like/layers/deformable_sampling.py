"""Where a deformable convolution samples, and what it reads there.

Conventions: K kernel positions, row by row; N = B * h * w output pixels. Channels are cut into S
slices, the coarsest ones of which each has one group of the convolution and one of the offsets
(S = 1 where there are no groups). Samples are ordered `[K, S, N]`, so that all of one kernel
position are rows of a matrix. Arithmetic is float32 (float64 for float64 inputs).
"""

import math
import typing

import numpy as np
import tensorflow as tf

# Further away no image reaches; and beyond it, float32 has no fractions.
_FAR_PX = 2.0**22
_FRAME = [[0, 0], [1, 2], [1, 1], [0, 0]]


class Window(typing.NamedTuple):
    """The options of a convolution, pairs being (y, x).

    Attributes:
      kernel_size: pair of int, px.
      strides: pair of int, px.
      padding: pair of int, px of zeros on both sides.
      dilations: pair of int, px.
      groups: int, as in a grouped convolution.
      deformable_groups: int, groups of channels with their own offsets and masks.
    """

    kernel_size: tuple
    strides: tuple
    padding: tuple
    dilations: tuple
    groups: int
    deformable_groups: int

    @property
    def n_positions(self):
        """K, the kernel positions."""
        return self.kernel_size[0] * self.kernel_size[1]

    @property
    def n_slices(self):
        """S, the slices of the channels."""
        return math.lcm(self.groups, self.deformable_groups)

    def output_sizes(self, height, width):
        """Returns (h, w) of the output; None where the input's size is None."""
        extents = [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel_size, strict=True)]
        return tuple(
            None if size is None else max(0, (size + 2 * pad - extent) // stride + 1)
            for size, pad, extent, stride in zip(
                (height, width), self.padding, extents, self.strides, strict=True
            )
        )


class Samples(typing.NamedTuple):
    """Where to sample; all entries are `[K, S, N]`, or those of one kernel position.

    Attributes:
      index: int32, row of the table (see `framed_table`) of the corner above and to the left.
      far_y: float, px below that corner, 0..1.
      far_x: float, px to the right of it, 0..1.
      mask: float, weight; 0 where the sample does not count.
      is_counted: bool.
    """

    index: tf.Tensor
    far_y: tf.Tensor
    far_x: tf.Tensor
    mask: tf.Tensor
    is_counted: tf.Tensor

    def at(self, position):
        """Returns the samples of one kernel position, `[S, N]`; int or int32 scalar."""
        return Samples(*(entry[position] for entry in self))

    def weights(self):
        """Returns the weights of the corners: top left, top right, bottom left, bottom right."""
        top, bottom = (1 - self.far_y) * self.mask, self.far_y * self.mask
        near_x = 1 - self.far_x
        return top * near_x, top * self.far_x, bottom * near_x, bottom * self.far_x


def locate_samples(image_shape, offsets, masks, window):
    """Finds the four pixels around every sample, and its place between them.

    Whole and fractional parts of the offsets are kept apart, so that the place between the pixels
    is as exact in a large image as in a small one.

    Args:
      image_shape: int32 `[4]`, B, H, W, C.
      offsets: float `[B, h, w, G * K * 2]`, px.
      masks: float `[B, h, w, G * K]`.
      window: `Window`.

    Returns:
      `Samples`. One that does not count (at or beyond one pixel outside of the image, or with a
      non-finite offset) has mask 0 and only pixels of the frame around it.

    Gradient: not meant to be used.
    """
    n_images, height, width, _ = tf.unstack(image_shape)
    out_height, out_width = tf.shape(masks)[1], tf.shape(masks)[2]
    n_groups, n_positions = window.deformable_groups, window.n_positions
    shape = [n_images, out_height, out_width, n_groups, n_positions]
    offsets = tf.reshape(offsets, [*shape, 2])
    is_near = tf.abs(offsets) < _FAR_PX
    offsets = tf.where(is_near, offsets, 0.0)
    whole = tf.floor(offsets)
    far_y, far_x = tf.unstack(offsets - whole, axis=-1)
    grid_y, grid_x = _grid(out_height, out_width, window)
    top = tf.cast(whole[..., 0], tf.int32) + grid_y
    left = tf.cast(whole[..., 1], tf.int32) + grid_x
    is_counted = is_near[..., 0] & is_near[..., 1]
    is_counted &= ((top >= 0) | ((top == -1) & (far_y > 0))) & (top < height)
    is_counted &= ((left >= 0) | ((left == -1) & (far_x > 0))) & (left < width)
    # The frame has a row above the image, two below it, and a column on each side.
    row = tf.where(is_counted, top, height) + 1
    column = tf.where(is_counted, left, -1) + 1
    image = tf.reshape(tf.range(n_images), [-1, 1, 1, 1, 1])
    index = (image * (height + 3) + row) * (width + 2) + column
    mask = tf.where(is_counted, tf.reshape(masks, shape), 0.0)

    def ordered(values):
        values = tf.transpose(tf.reshape(values, [-1, n_groups, n_positions]), [2, 1, 0])
        return tf.repeat(values, window.n_slices // n_groups, axis=1)

    index = ordered(index) * window.n_slices + tf.range(window.n_slices)[:, tf.newaxis]
    return Samples(index, *(ordered(values) for values in (far_y, far_x, mask, is_counted)))


def _grid(out_height, out_width, window):
    """Returns int32 y `[h, 1, 1, K]` and x `[w, 1, K]`, px, of the undeformed samples."""
    (stride_y, stride_x), (pad_y, pad_x) = window.strides, window.padding
    i, j = np.divmod(np.arange(window.n_positions, dtype=np.int32), window.kernel_size[1])
    y = tf.reshape(tf.range(out_height) * stride_y - pad_y, [-1, 1, 1, 1])
    x = tf.reshape(tf.range(out_width) * stride_x - pad_x, [-1, 1, 1])
    return y + i * window.dilations[0], x + j * window.dilations[1]


def framed_table(inputs, window):
    """Puts a frame of zeros around the images and returns their pixels as rows.

    With the frame every neighbour of a sample exists, nothing is clipped, and a sample that does
    not count reads zeros, whatever the image holds.

    Args:
      inputs: float `[B, H, W, C]`.
      window: `Window`.

    Returns:
      `[B * (H + 3) * (W + 2) * S, C / S]`.
    """
    channels = tf.shape(inputs)[-1]
    return tf.reshape(tf.pad(inputs, _FRAME), [-1, channels // window.n_slices])


def unframed(table, image_shape):
    """Returns a table's pixels without the frame, as images `[B, H, W, C]`."""
    n_images, height, width, channels = tf.unstack(image_shape)
    framed = tf.reshape(table, [n_images, height + 3, width + 2, channels])
    return framed[:, 1:-2, 1:-1]


def corner_steps(image_shape, window):
    """Returns what to add to an index for each of the corners, in the order of the weights."""
    right, below = window.n_slices, (image_shape[2] + 2) * window.n_slices
    return 0, right, below, below + right


def read_corners(table, samples, steps):
    """Returns the pixels at the four corners of the samples, each `[..., S, N, C / S]`."""
    pixels = [tf.gather(table, samples.index + step) for step in steps]
    return [tf.cast(pixel, samples.mask.dtype) for pixel in pixels]


def read_samples(table, samples, steps):
    """Returns the interpolated and masked samples in the table's dtype, `[..., S, N, C / S]`."""
    corners = read_corners(table, samples, steps)
    weighted = [c * w[..., tf.newaxis] for c, w in zip(corners, samples.weights(), strict=True)]
    return tf.cast(weighted[0] + weighted[1] + weighted[2] + weighted[3], table.dtype)
