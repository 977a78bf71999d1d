"""Where a deformable convolution samples: positions, what counts, and the frame of zeros."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.layers import deformable_sampling as sampling


def _window(kernel_size=(1, 1), strides=(1, 1), padding=(0, 0), dilations=(1, 1), groups=1, g=1):
    return sampling.Window(kernel_size, strides, padding, dilations, groups, g)


def _located(positions, image_size, window=None):
    """Samples of a one-pixel window at the first pixel, moved to the positions `[M, 2]`."""
    window = window or _window()
    offsets = tf.reshape(tf.constant(positions, tf.float32), [-1, 1, 1, 2])
    masks = tf.ones([offsets.shape[0], 1, 1, 1])
    shape = tf.constant([offsets.shape[0], *image_size, 1])
    return sampling.locate_samples(shape, offsets, masks, window)


@pytest.mark.parametrize(
    ("window", "sizes"),
    [
        (_window((3, 3), padding=(1, 1)), (7, 10)),
        (_window((3, 3), (2, 2), (1, 1)), (4, 5)),
        (_window((2, 3), (2, 1), (0, 1), (3, 2)), (2, 8)),
        (_window((9, 1)), (0, 10)),
    ],
)
def test_output_sizes_are_a_convolutions(window, sizes):
    assert window.output_sizes(7, 10) == sizes
    assert window.output_sizes(None, 10) == (None, sizes[1])


@pytest.mark.parametrize(("groups", "g", "n_slices"), [(1, 1, 1), (1, 4, 4), (4, 2, 4), (2, 3, 6)])
def test_slices_have_one_group_of_each_kind(groups, g, n_slices):
    assert _window(groups=groups, g=g).n_slices == n_slices


def test_positions_follow_stride_padding_and_dilation():
    window = _window((2, 2), (3, 2), (1, 2), (2, 1))
    n_rows, n_columns = window.output_sizes(8, 6)
    offsets = tf.zeros([1, n_rows, n_columns, 8])
    samples = sampling.locate_samples([1, 8, 6, 1], offsets, offsets[..., :4] + 1, window)
    row, column = np.divmod(samples.index.numpy().reshape(4, n_rows, n_columns), 6 + 2)
    expected_row = 3 * np.arange(n_rows) - 1 + np.array([0, 0, 2, 2])[:, np.newaxis]
    expected_column = 2 * np.arange(n_columns) - 2 + np.array([0, 1, 0, 1])[:, np.newaxis]
    is_counted = ((expected_row >= 0) & (expected_row < 8))[:, :, np.newaxis]
    is_counted = is_counted & ((expected_column >= 0) & (expected_column < 6))[:, np.newaxis]
    np.testing.assert_array_equal(samples.is_counted[:, 0], is_counted.reshape(4, -1))
    expected_row = np.broadcast_to(expected_row[:, :, np.newaxis] + 1, row.shape)
    expected_column = np.broadcast_to(expected_column[:, np.newaxis] + 1, row.shape)
    np.testing.assert_array_equal(row[is_counted], expected_row[is_counted])
    np.testing.assert_array_equal(column[is_counted], expected_column[is_counted])


@pytest.mark.parametrize(
    ("y", "is_counted"),
    [(-1.01, False), (-1, False), (-0.99, True), (0, True), (4, True), (4.99, True), (5, False)],
)
def test_a_sample_counts_within_one_pixel_of_the_image(y, is_counted):
    assert _located([[y, 1.5]], [5, 7]).is_counted.numpy().item() == is_counted
    assert _located([[1.5, y]], [7, 5]).is_counted.numpy().item() == is_counted


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**31, 1e9])
def test_far_and_undefined_offsets_read_the_frame(value):
    samples = _located([[value, 0], [0, value], [value, value]], [3, 3])
    assert not samples.is_counted.numpy().any()
    assert not samples.mask.numpy().any()
    for entry in samples:
        assert np.isfinite(np.asarray(entry, np.float64)).all()
    images = tf.fill([3, 3, 3, 1], np.float32(np.nan))
    table = sampling.framed_table(images, _window())
    read = sampling.read_corners(table, samples, sampling.corner_steps(tf.shape(images), _window()))
    np.testing.assert_array_equal(read, np.zeros([4, 1, 1, 3, 1]))


def test_the_place_between_pixels_is_exact_far_from_the_origin():
    """Not so if 3000 were added before the fraction is taken: float32 has 2e-4 px there."""
    window = _window(padding=(0, 0))
    offset = np.float32(0.3)
    offsets = tf.fill([1, 1, 3000, 2], offset)
    samples = sampling.locate_samples([1, 1, 3000, 1], offsets, offsets[..., :1], window)
    np.testing.assert_array_equal(samples.far_x, np.full([1, 1, 3000], offset))


def test_weights_of_the_corners_sum_to_the_mask(rng):
    samples = _located(rng.uniform(0, 4, size=(50, 2)), [6, 6])
    np.testing.assert_allclose(tf.add_n(samples.weights()), samples.mask, rtol=1e-6)
    y, x = samples.far_y.numpy(), samples.far_x.numpy()
    np.testing.assert_allclose(samples.weights()[1], (1 - y) * x, rtol=1e-6)
    np.testing.assert_allclose(samples.weights()[2], y * (1 - x), rtol=1e-6)


def test_frame_goes_on_and_off(rng):
    images = tf.constant(rng.normal(size=(2, 3, 4, 6)), tf.float32)
    window = _window(groups=2, g=3)
    table = sampling.framed_table(images, window)
    assert table.shape == (2 * 6 * 6 * 6, 1)
    np.testing.assert_array_equal(sampling.unframed(table, tf.shape(images)), images)
    np.testing.assert_allclose(tf.reduce_sum(table), tf.reduce_sum(images), rtol=1e-4)


def test_reads_are_bilinear_and_in_the_tables_dtype():
    images = tf.cast(tf.reshape(tf.range(12), [1, 3, 4, 1]), tf.bfloat16)
    steps = sampling.corner_steps(tf.shape(images), _window())
    table = sampling.framed_table(images, _window())
    for (y, x), expected in (((1, 2), 6), ((0.5, 1.5), 3.5), ((-0.25, 1), 0.75), ((2, 3.5), 5.5)):
        read = sampling.read_samples(table, _located([[y, x]], [3, 4]), steps)
        assert read.dtype == tf.bfloat16 and read.shape == (1, 1, 1, 1)
        assert float(read[0, 0, 0, 0]) == expected


def test_one_position_is_a_row_of_all(rng):
    window = _window((2, 1), g=2)
    offsets = tf.constant(rng.normal(size=(1, 3, 3, 8)), tf.float32)
    samples = sampling.locate_samples([1, 4, 3, 2], offsets, tf.ones([1, 3, 3, 4]), window)
    assert [entry.shape for entry in samples] == [(2, 2, 9)] * 5
    for entry, row, row_of_tensor in zip(
        samples, samples.at(1), samples.at(tf.constant(1)), strict=True
    ):
        np.testing.assert_array_equal(entry[1], row)
        np.testing.assert_array_equal(entry[1], row_of_tensor)
    # slice 1 has the offsets of deformable group 1, of kernel position 1: channels 6 and 7
    far = offsets.numpy()[..., 6].ravel()
    np.testing.assert_allclose(samples.far_y[1, 1], far - np.floor(far), atol=1e-7)
