"""Affine maps between an image and a network's square or oblong input, from a centre and a size.

Conventions: matrices are float64 `[B, 3, 3]` and act on columns `(x, y, 1)`, px. A *placement* is
what the released code calls `c`, `s` and `rot`: the point of the image that comes to the middle of
the output, the length of the image that fills the output's width, and a turn. Output sizes are
`(width, height)` as in that code, image sizes `(height, width)`.
"""

import math

import tensorflow as tf

from metrabs_like.geometry.arguments import check_shapes

INPUT_STRIDE = 32
"""Sides of a network's input are multiples of it; released code, whose `pad` is one less."""


def affine_from_placement(
    center,
    scale,
    angle_degrees,
    output_size,
    *,
    is_mirrored=None,
    image_width=None,
    shift=None,
    inverse: bool = False,
):
    """Returns the map from an image to an output: the released code's `get_affine_transform`.

    The released code rounds three pairs of points to float32 and solves for the map in float64. The
    same is done here, in the same order: which cell a joint falls into depends on that rounding.

    Args:
      center: float `[B, 2]`, px, `c`.
      scale: float `[B]` or `[B, 2]`, px, `s`, above 0; of two numbers the first, the width, counts
        (the second only for `shift`).
      angle_degrees: float `[B]` or a scalar, `rot`; positive turns the picture's content
        counterclockwise.
      output_size: (width, height), px: two numbers or `[B, 2]`. The width sets the scale, the
        height only the middle.
      is_mirrored: bool `[B]`: the image is mirrored first, `x` becomes `image_width - x - 1`. The
        centre is one of the mirrored image.
      image_width: int `[B]`, px, needed with `is_mirrored`.
      shift: float `[B, 2]`, moves the centre by this share of `scale`.
      inverse: return the map from the output to the image.

    Returns:
      float64 `[B, 3, 3]`. A scale of 0 gives no finite map.

    Raises:
      ValueError: if known dimensions disagree, or `is_mirrored` comes without `image_width`.

    Gradient: none.

    References:
      Zhou et al., Objects as Points, 2019; released code, `utils/image.py`; OpenCV's
      `getAffineTransform`.
    """
    center = tf.cast(center, tf.float32)
    scale = tf.cast(scale, tf.float32)
    scale = scale if scale.shape.rank == 2 else tf.stack([scale, scale], axis=-1)
    check_shapes(center=(center, "B 2"), scale=(scale, "B 2"))
    angle = tf.cast(angle_degrees, tf.float64) * (math.pi / 180)
    source = _source_points(center, scale, angle, shift)
    size = tf.broadcast_to(tf.cast(output_size, tf.float32), tf.shape(center))
    pairs = source, _output_points(size)
    matrix = tf.stop_gradient(_solved(*(reversed(pairs) if inverse else pairs)))
    if is_mirrored is None:
        return matrix
    if image_width is None:
        raise ValueError("is_mirrored without image_width: pass the widths of the images, px")
    mirror = mirror_matrix(is_mirrored, image_width)
    return mirror @ matrix if inverse else matrix @ mirror


def mirror_matrix(is_mirrored, image_width):
    """Returns the map `x -> image_width - x - 1` for mirrored images, the identity for others.

    Args:
      is_mirrored: bool `[B]`.
      image_width: int `[B]`, px.

    Returns:
      float64 `[B, 3, 3]`; its own inverse.

    Gradient: none is wanted.
    """
    is_mirrored = tf.convert_to_tensor(is_mirrored)
    one = tf.ones(tf.shape(is_mirrored), tf.float64)
    sign = tf.where(is_mirrored, -one, one)
    offset = tf.where(is_mirrored, tf.cast(image_width, tf.float64) - 1, 0 * one)
    return _matrix(sign, 0 * one, offset, 0 * one, one, 0 * one)


def transform_points(matrix, points):
    """Applies maps to points, which are rounded to float32 first, as the released code does.

    Args:
      matrix: float64 `[B, 3, 3]`.
      points: float `[B, ..., 2]`, px.

    Returns:
      float64 `[B, ..., 2]`, px.

    Gradient: flows to both. NaN in one point stays in that point.
    """
    points = tf.cast(tf.cast(points, tf.float32), tf.float64)
    matrix = tf.cast(matrix, tf.float64)
    check_shapes(matrix=(matrix, "B 3 3"))
    n_inner = points.shape.rank - 2
    shape = tf.concat([tf.shape(matrix)[:1], [1] * n_inner, [3, 3]], axis=0)
    m = tf.reshape(matrix, shape)
    x, y = points[..., 0], points[..., 1]
    return tf.stack([m[..., i, 0] * x + m[..., i, 1] * y + m[..., i, 2] for i in (0, 1)], axis=-1)


def transform_preds(coords, center, scale, output_size):
    """Takes points of the output back to the image, for placements without a turn.

    Args:
      coords: float `[B, ..., 2]`, px of the output.
      center: float `[B, 2]`, px, `c`.
      scale: float `[B]` or `[B, 2]`, px, `s`.
      output_size: (width, height), px: two numbers or `[B, 2]`.

    Returns:
      float64 `[B, ..., 2]`, px of the image (of the resized one, see `pre_process`).

    Gradient: to the coordinates.
    """
    matrix = affine_from_placement(center, scale, 0.0, output_size, inverse=True)
    return transform_points(matrix, coords)


def pre_process(
    image_size,
    scale: float = 1.0,
    *,
    fix_resolution: bool,
    input_size=(512, 512),
    down_ratio: int = 4,
):
    """Decides how images are shown to the network at test time.

    With `fix_resolution` every image fills an input of one size as well as it can. Otherwise the
    image keeps its pixels, in an input that is larger: the next multiple of 32 above each side.

    Args:
      image_size: int `[B, 2]`, (height, width), px.
      scale: factor by which the images are resized first (the multi-scale test), above 0.
      fix_resolution: see above; the released code's `fix_res`, otherwise its `keep_res`.
      input_size: (height, width), px, with `fix_resolution`.
      down_ratio: input px per cell of the network's output.

    Returns:
      Dict: `resized_size` int32 `[B, 2]`, (height, width) of the resized images; `center`
      `[B, 2]` and `scale` `[B, 2]` float32, px of the resized images, except that the fixed
      resolution takes its scale from the original image (released code: a smaller `scale` makes
      the people smaller); `input_size` and `map_size` int32 `[B, 2]`, (height, width);
      `input_from_resized` float64 `[B, 3, 3]`.

    Raises:
      ValueError: if `scale` is not above 0, or known dimensions disagree.

    Gradient: none is wanted.
    """
    if not scale > 0:
        raise ValueError(f"scale={scale}: images can be resized only by a factor above 0")
    image_size = tf.cast(image_size, tf.int32)
    check_shapes(image_size=(image_size, "B 2"))
    resized = tf.cast(tf.floor(tf.cast(image_size, tf.float64) * scale), tf.int32)
    if fix_resolution:
        size = tf.broadcast_to(tf.cast(input_size, tf.int32), tf.shape(image_size))
        center = tf.cast(resized[:, ::-1], tf.float32) / 2
        longer = tf.reduce_max(image_size, axis=-1, keepdims=True)
        length = tf.cast(tf.tile(longer, [1, 2]), tf.float32)
    else:
        size = tf.bitwise.bitwise_or(resized, INPUT_STRIDE - 1) + 1
        center = tf.cast(resized[:, ::-1] // 2, tf.float32)
        length = tf.cast(size[:, ::-1], tf.float32)
    return {
        "resized_size": resized,
        "center": center,
        "scale": length,
        "input_size": size,
        "map_size": size // down_ratio,
        "input_from_resized": affine_from_placement(center, length, 0.0, size[:, ::-1]),
    }


def _source_points(center, scale, angle, shift):
    """Returns three points of the image, float64 `[B, 3, 2]` of float32 values."""
    moved = tf.zeros_like(center)
    if shift is not None:
        # The product is exact in float64: rounded once, with and without XLA.
        product = tf.cast(scale, tf.float64) * tf.cast(tf.cast(shift, tf.float32), tf.float64)
        moved = tf.cast(product, tf.float32)
    half = -0.5 * tf.cast(scale[:, 0], tf.float64)
    direction = tf.stack([-half * tf.sin(angle), half * tf.cos(angle)], axis=-1)
    double = tf.cast(center, tf.float64) + direction + tf.cast(moved, tf.float64)
    return _with_third(center + moved, tf.cast(double, tf.float32))


def _output_points(size):
    """Returns the three points of the output that belong to them."""
    middle = size * 0.5
    return _with_third(middle, middle - tf.stack([0 * size[:, 0], size[:, 0] * 0.5], axis=-1))


def _with_third(first, second):
    """Adds the corner of a right angle at `second`, in float32."""
    back = first - second
    third = second + tf.stack([-back[:, 1], back[:, 0]], axis=-1)
    return tf.cast(tf.stack([first, second, third], axis=1), tf.float64)


def _solved(source, target):
    """Returns the map that takes three points `[B, 3, 2]` to three others.

    By elimination, in the order of rows in which OpenCV's solver comes to them: a point of the
    image's edge lands on 0, or beside it by the last bit, as it does in the released code.
    """
    ones = tf.ones_like(source[..., :1])
    x, y = (tf.concat([source, ones, t], axis=-1) for t in tf.split(target, 2, axis=-1))
    return _matrix(*_eliminated(x), *_eliminated(tf.gather(y, [1, 0, 2], axis=1)))


def _eliminated(rows):
    """Solves three equations `[B, 3, 4]`, with pivots; returns three tensors `[B]`."""
    for i in range(2):
        pivot = tf.argmax(tf.abs(rows[:, i:, i]), axis=1, output_type=tf.int32)[:, tf.newaxis] + i
        order = tf.range(3)
        order = tf.where(order == i, pivot, tf.where(order == pivot, i, order))
        rows = tf.gather(rows, order, axis=1, batch_dims=1)
        factor = rows[:, i + 1 :, i] * (-1 / rows[:, i : i + 1, i])
        below = rows[:, i + 1 :] + factor[..., tf.newaxis] * rows[:, i : i + 1]
        rows = tf.concat([rows[:, : i + 1], below], axis=1)
    c = rows[:, 2, 3] / rows[:, 2, 2]
    b = (rows[:, 1, 3] - rows[:, 1, 2] * c) / rows[:, 1, 1]
    a = (rows[:, 0, 3] - rows[:, 0, 1] * b - rows[:, 0, 2] * c) / rows[:, 0, 0]
    return a, b, c


def _matrix(*entries):
    """Stacks six tensors `[B]` to `[B, 3, 3]`."""
    zero, one = tf.zeros_like(entries[0]), tf.ones_like(entries[0])
    return tf.reshape(tf.stack([*entries, zero, zero, one], axis=-1), [-1, 3, 3])
