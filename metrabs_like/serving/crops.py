"""Crops of people out of full-size photographs without aliasing and without copying the photograph.

Only the part of the photograph that the crops of one person look at is cut out, shrunk by
averaging where the crops are coarser than the photograph, and then sampled exactly: virtual
camera, lens distortion, bilinear.

Conventions: pixel (0, 0) is the centre of the top-left pixel; crops hold intensities 0..1, black
outside the image.
"""

import tensorflow as tf

from metrabs_like.geometry import warping


def render_crops(
    images: tf.Tensor,
    image_index: tf.Tensor,
    intrinsics: tf.Tensor,
    distortion_coeffs: tf.Tensor,
    crop_from_camera: tf.Tensor,
    crop_intrinsics: tf.Tensor,
    side: int,
    antialias_factor: tf.Tensor,
) -> tf.Tensor:
    """Renders `A` crops of one person.

    Args:
      images: uint8 `[B, H, W, 3]`.
      image_index: int scalar, which image.
      intrinsics: float `[A, 3, 3]`, px of the image.
      distortion_coeffs: float `[A, 12]`, OpenCV order.
      crop_from_camera: float `[A, 3, 3]`, orthogonal; determinant -1 mirrors.
      crop_intrinsics: float `[A, 3, 3]`, px of the crop.
      side: Crop side `S`, px.
      antialias_factor: int scalar; every crop pixel averages this number of samples squared.

    Returns:
      float32 `[A, S, S, 3]`, 0..1.

    Gradient: none to the uint8 image.
    """
    n_crops = tf.shape(crop_from_camera)[0]
    points = warping.crop_to_image_points(
        tf.tile(_sample_grid(side, antialias_factor), [n_crops, 1, 1, 1]),
        intrinsics,
        distortion_coeffs,
        crop_from_camera,
        crop_intrinsics,
    )
    window, window_points = _shrunk_window(images, image_index, points)
    sampled = warping.bilinear_sample(window / 255.0, window_points[tf.newaxis])
    sampled = tf.reshape(sampled, [n_crops, side, antialias_factor, side, antialias_factor, 3])
    return tf.reduce_mean(sampled, axis=[2, 4])


def _sample_grid(side, antialias_factor):
    """Crop coordinates of the samples, `[1, S*f, S*f, 2]`."""
    factor = tf.cast(antialias_factor, tf.float32)
    line = (tf.cast(tf.range(side * antialias_factor), tf.float32) + 0.5) / factor - 0.5
    return tf.stack(tf.meshgrid(line, line), axis=-1)[tf.newaxis]


def _shrunk_window(images, image_index, points):
    """The shrunk part of the image that the points need, `[1, h, w, 3]`, and the points in it."""
    shrink = _shrink_factor(points)
    limits = _width_height(images)
    margin = 2.0 * shrink + 1.0
    is_near = tf.reduce_all((points > -margin) & (points < limits + margin), -1, True)
    low = tf.reduce_min(tf.where(is_near, points, limits), axis=[0, 1, 2]) - margin
    high = tf.reduce_max(tf.where(is_near, points, 0.0), axis=[0, 1, 2]) + margin
    start = tf.clip_by_value(tf.floor(low), 0.0, limits - 1.0)
    stop = tf.clip_by_value(tf.math.ceil(high) + 1.0, start + 1.0, limits)
    origin, extent = (tf.reverse(tf.cast(v, tf.int32), [0]) for v in (start, stop - start))
    window = tf.slice(
        images,
        tf.concat([[image_index], origin, [0]], axis=0),
        tf.concat([[1], extent, [3]], axis=0),
    )
    small = tf.maximum(1, tf.cast(tf.round((stop - start) / shrink), tf.int32))
    window = tf.cond(
        shrink > 1.0,
        lambda: tf.image.resize(window, tf.reverse(small, [0]), method="area"),
        lambda: tf.cast(window, tf.float32),
    )
    ratio = _width_height(window) / (stop - start)
    return window, (points - start + 0.5) * ratio - 0.5


def _width_height(images):
    """Size of `[B, H, W, C]` in the order of coordinates, float `[2]`."""
    return tf.cast(tf.stack([tf.shape(images)[2], tf.shape(images)[1]]), tf.float32)


def _shrink_factor(points):
    """Image px between neighbouring samples of the finest crop, at least 1."""
    across = tf.norm(points[:, :, 1:] - points[:, :, :-1], axis=-1)
    spacing = tf.reduce_min(_median(across))
    return tf.maximum(1.0, spacing)


def _median(spacing):
    """Median of each crop's spacings, `[A]`: a horizon or a fold in the crop does not move it."""
    flat = tf.reshape(spacing[:, ::8, ::8], [tf.shape(spacing)[0], -1])
    return tf.sort(flat, axis=-1)[:, tf.shape(flat)[1] // 2]
