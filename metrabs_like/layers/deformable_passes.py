"""Forward and backward pass of the modulated deformable convolution.

Conventions: those of `deformable_sampling`; in addition, matrices of kernels and gradients are
`[..., Q, R, ...]`, Q groups of the convolution with R = S / Q slices each.

Measured in TensorFlow 2.21 on two CPU cores for one image, 64 channels, 128x128, 3x3; ms of CPU
time under XLA, 8 of them the matrix product, and MB besides the arguments. Forward: the kernel
positions one by one 11 and 42 MB, all at once 14 and 76 MB, in a loop 15 and 15 MB; as one product
over all positions and channels 35, since XLA then finds a sample's place anew for every channel.
Without XLA 34 and, all at once, 44. Backward 43: indices and weights are found before the loop, or
XLA would find them for each element that it scatters (twice the time, 8 times the compiling);
products with ones are sums that XLA vectorises; the kernel's gradient has a loop of its own (30
less), as otherwise the corners are stored.
"""

import tensorflow as tf

from metrabs_like.layers.deformable_sampling import (
    corner_steps,
    framed_table,
    locate_samples,
    read_corners,
    read_samples,
    unframed,
)


def forward_pass(inputs, offsets, masks, kernel, bias, window):
    """Returns the convolution's output.

    Args:
      inputs: float `[B, H, W, C]`.
      offsets: float `[B, h, w, G * K * 2]`, px, in the dtype of the sampling arithmetic.
      masks: `[B, h, w, G * K]`, that dtype.
      kernel: `[kh, kw, C / groups, O]`, dtype of `inputs`.
      bias: `[O]`, dtype of the masks.
      window: `Window`.

    Returns:
      `[B, h, w, O]`, dtype of `inputs`.
    """
    image_shape, dtype = tf.shape(inputs), masks.dtype
    table, steps = framed_table(inputs, window), corner_steps(image_shape, window)
    samples = locate_samples(image_shape, offsets, masks, window)
    matrices = _kernel_matrices(kernel, window)
    # Summed one by one: the samples of one position stay in the caches.
    outputs = 0.0
    for k in range(window.n_positions):
        rows = _grouped(read_samples(table, samples.at(k), steps), window)
        outputs += tf.reduce_sum(tf.cast(tf.matmul(rows, matrices[k]), dtype), axis=1)
    outputs = tf.reshape(tf.transpose(outputs, [1, 0, 2]), _output_shape(masks, kernel))
    return tf.cast(outputs + bias, inputs.dtype)


def backward_pass(inputs, offsets, masks, kernel, upstream, window):
    """Returns the gradients of `forward_pass` with respect to its five tensors.

    Args:
      inputs: float `[B, H, W, C]`.
      offsets: float `[B, h, w, G * K * 2]`, px, in the dtype of the sampling arithmetic.
      masks: `[B, h, w, G * K]`, that dtype.
      kernel: `[kh, kw, C / groups, O]`, dtype of `inputs`.
      upstream: `[B, h, w, O]`, dtype of `inputs`, gradient with respect to the output.
      window: `Window`.

    Returns:
      The five gradients, shapes and dtypes as of the tensors.
    """
    table, steps = framed_table(inputs, window), corner_steps(tf.shape(inputs), window)
    samples = locate_samples(tf.shape(inputs), offsets, masks, window)
    n_rows, n_outputs = tf.shape(samples.index)[2], tf.shape(upstream)[3]
    by_group = tf.reshape(upstream, [n_rows, window.groups, 1, n_outputs // window.groups])
    by_group = tf.transpose(by_group, [1, 2, 0, 3])  # [Q, 1, N, O / Q]
    matrices = _kernel_matrices(kernel, window)
    d_table, *d_samples = _sample_gradients(table, samples, steps, matrices, by_group, window)
    d_y, d_x, d_masks = (_by_pixel(values, window) for values in d_samples)
    return (
        tf.cast(unframed(d_table, tf.shape(inputs)), inputs.dtype),
        tf.reshape(tf.stack([d_y, d_x], axis=-1), tf.shape(offsets)),
        tf.reshape(d_masks, tf.shape(masks)),
        _kernel_gradient(table, samples, steps, by_group, tf.shape(kernel), window),
        tf.reduce_sum(tf.cast(upstream, masks.dtype), axis=[0, 1, 2]),
    )


def _kernel_gradient(table, samples, steps, by_group, kernel_shape, window):
    """Returns the kernel's gradient: every position's samples times the upstream gradient."""
    # transposed once and stored: XLA is slow on a product whose left side is transposed
    transposed = tf.transpose(by_group, [0, 1, 3, 2])

    def body(k, gradients):
        rows = _grouped(read_samples(table, samples.at(k), steps), window)
        return k + 1, gradients.write(k, tf.matmul(transposed, rows))

    arrays = [tf.TensorArray(table.dtype, window.n_positions)]
    (gradients,) = _for_each_position(body, arrays, window)
    # [K, Q, R, O / Q, C / S] -> [K, R, C / S, Q, O / Q]
    return tf.reshape(tf.transpose(gradients.stack(), [0, 2, 4, 1, 3]), kernel_shape)


def _sample_gradients(table, samples, steps, matrices, by_group, window):
    """Returns the gradients of the table, and of y, x and mask, each `[K, S, N]`."""
    dtype, n_positions = samples.mask.dtype, window.n_positions
    n_channels, n_rows = tf.shape(table)[1], tf.shape(samples.index)[2]
    ones = tf.ones([n_channels, 1], dtype)

    def sums(values):
        return tf.reshape(
            tf.matmul(tf.reshape(values, [-1, n_channels]), ones), tf.shape(values)[:-1]
        )

    def body(k, d_table, d_y, d_x, d_mask):
        here = samples.at(k)
        d_rows = tf.matmul(by_group, matrices[k], transpose_b=True)
        d_rows = tf.cast(tf.reshape(d_rows, [window.n_slices, n_rows, n_channels]), dtype)
        corners = [sums(d_rows * corner) for corner in read_corners(table, here, steps)]
        # a sample that does not count is zero, even where the upstream gradient is not finite
        corners = [tf.where(here.is_counted, corner, 0.0) for corner in corners]
        right_top, right_bottom = corners[1] - corners[0], corners[3] - corners[2]
        top = corners[0] + here.far_x * right_top
        down = corners[2] + here.far_x * right_bottom - top
        indices = tf.stack([here.index + step for step in steps])
        updates = tf.stack(here.weights())[..., tf.newaxis] * d_rows
        return (
            k + 1,
            tf.tensor_scatter_nd_add(
                d_table, tf.reshape(indices, [-1, 1]), tf.reshape(updates, [-1, n_channels])
            ),
            d_y.write(k, here.mask * down),
            d_x.write(k, here.mask * (right_top + here.far_y * (right_bottom - right_top))),
            d_mask.write(k, top + here.far_y * down),
        )

    arrays = [tf.TensorArray(dtype, n_positions) for _ in range(3)]
    start = [tf.zeros(tf.shape(table), dtype), *arrays]
    d_table, *arrays = _for_each_position(body, start, window)
    return d_table, *(array.stack() for array in arrays)


def _for_each_position(body, start, window):
    """Runs `body(k, *state)` for every kernel position; returns the last state."""
    n_positions = window.n_positions
    # one at a time: the state is changed in place
    return tf.while_loop(
        lambda k, *_: k < n_positions,
        body,
        (0, *start),
        parallel_iterations=1,
        maximum_iterations=n_positions,
    )[1:]


def _kernel_matrices(kernel, window):
    """Returns `[K, Q, R, C / S, O / Q]` of `[kh, kw, C / Q, O]`."""
    n_groups, n_slices = window.groups, window.n_slices // window.groups
    n_inputs, n_outputs = tf.unstack(tf.shape(kernel)[2:])
    shape = [window.n_positions, n_slices, n_inputs // n_slices, n_groups, n_outputs // n_groups]
    return tf.transpose(tf.reshape(kernel, shape), [0, 3, 1, 2, 4])


def _grouped(rows, window):
    """Returns `[Q, R, N, C / S]` of `[S, N, C / S]`."""
    shape = [window.groups, window.n_slices // window.groups]
    return tf.reshape(rows, tf.concat([shape, tf.shape(rows)[1:]], axis=0))


def _by_pixel(values, window):
    """Returns `[N, G, K]` of `[K, S, N]`, summed over the slices of a deformable group."""
    n_groups = window.deformable_groups
    shape = [window.n_positions, n_groups, window.n_slices // n_groups, tf.shape(values)[-1]]
    return tf.transpose(tf.reduce_sum(tf.reshape(values, shape), axis=2), [2, 1, 0])


def _output_shape(masks, kernel):
    return tf.concat([tf.shape(masks)[:3], tf.shape(kernel)[3:]], axis=0)
