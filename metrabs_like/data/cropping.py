"""Decides which window of an image a crop needs, and decodes just that.

Conventions: pixel (0,0) = centre of the top-left pixel. A *window* is an axis-aligned part of the
image, shrunk if the crop is coarser than the image, in the top-left corner of a uint8 canvas of
fixed side; `window_intrinsics` is the image's camera in pixels of the window.
"""

import tensorflow as tf

from metrabs_like.geometry import warping

_RATIOS = (1, 2, 4, 8)  # the scales at which a JPEG decodes faster
_MIN_DENSITY = 0.8  # window px per crop px that scaled decoding must leave (ours)
_MARGIN_PX = 2.0  # bilinear neighbours, and the bulge of a distorted edge between samples
_POINTS_PER_EDGE = 12


def plan_windows(
    example: dict, image_size, side: int, window_side: int, *, scaled_decoding: bool = True
) -> dict:
    """Finds the windows that a batch of crops needs.

    Args:
      example: dict with `image_bytes [B]`, `intrinsics [B,3,3]` (of the image), `distortion_coeffs
        [B,12]`, `crop_from_camera [B,3,3]`, `crop_intrinsics [B,3,3]`.
      image_size: int32 `[B, 2]`, (height, width), px.
      side: side of the crops, px.
      window_side: side W of the canvas, px.
      scaled_decoding: whether JPEGs may be decoded at 1/2, 1/4 or 1/8. That is cheaper, but it
        averages grey levels, not light: fine bright patterns come out too dark.

    Returns:
      Dict: `decoder [B]` int32 (JPEG at 1, 1/2, 1/4, 1/8; then PNG), `part [B, 4]` int32 (y, x,
      height, width) in pixels of the scaled image, `part_size [B, 2]` int32 (height, width) <= W
      after shrinking, `window_intrinsics [B,3,3]`. A crop that misses the image still gets one
      pixel of it; the warp then finds nothing.
    """
    area = _seen_area(example, side, image_size)
    plan, place = _planned_parts(
        example["image_bytes"], image_size, area, window_side, scaled_decoding
    )
    return {**plan, "window_intrinsics": _in_window(example["intrinsics"], *place)}


def plan_affine_windows(
    image_bytes,
    image_size,
    input_from_image,
    input_size,
    window_side: int,
    *,
    scaled_decoding: bool = True,
) -> dict:
    """Finds the windows that a batch of inputs needs, which are affine maps of whole images.

    Args:
      image_bytes: string `[B]`, JPEG or PNG.
      image_size: int32 `[B, 2]`, (height, width), px.
      input_from_image: float `[B, 3, 3]`, affine and invertible.
      input_size: (height, width) of the inputs, px: two numbers or int32 `[B, 2]`.
      window_side: side W of the canvas, px.
      scaled_decoding: see `plan_windows`.

    Returns:
      Dict: `decoder`, `part` and `part_size` as of `plan_windows`, and float32 `[B, 3, 3]`
      `window_from_image`, with shrinking that keeps the outer edges of pixels in place.
    """
    matrix = tf.cast(input_from_image, tf.float64)
    size = tf.broadcast_to(tf.cast(input_size, tf.float64), tf.shape(image_size))
    inverse = tf.linalg.inv(matrix)
    corners = tf.constant([[0, 0], [1, 0], [0, 1], [1, 1]], tf.float64) * size[:, tf.newaxis, ::-1]
    points = tf.einsum("bij,bcj->bci", inverse[:, :2, :2], corners - 0.5)
    points = tf.cast(points + inverse[:, tf.newaxis, :2, 2], tf.float32)
    area = (
        tf.reduce_min(points, axis=1) - _MARGIN_PX,
        tf.reduce_max(points, axis=1) + _MARGIN_PX,
        tf.cast(tf.norm(inverse[:, :2, 0], axis=-1), tf.float32),
    )
    plan, place = _planned_parts(image_bytes, image_size, area, window_side, scaled_decoding)
    identity = tf.eye(3, batch_shape=[tf.shape(image_size)[0]])
    return {**plan, "window_from_image": _in_window(identity, *place)}


def decode_window(
    image_bytes, decoder, part, part_size, fast_dct: bool, *, linear_light: bool = False
):
    """Decodes one window.

    Args:
      image_bytes: scalar string, JPEG or PNG.
      decoder: scalar int32, as planned.
      part: int32 `[4]`, as planned.
      part_size: int32 `[2]`, as planned.
      fast_dct: use libjpeg's fast, slightly less exact inverse DCT and chroma upsampling.
      linear_light: average light where the window is shrunk, not grey levels.

    Returns:
      uint8 `[height, width, 3]` of `part_size`; batching puts it on the canvas.
    """
    pixels = tf.switch_case(
        decoder,
        [_jpeg_decoder(image_bytes, part, ratio, fast_dct) for ratio in _RATIOS]
        + [lambda: _decode_png_part(image_bytes, part)],
    )
    pixels = tf.cond(
        tf.reduce_all(part[2:] == part_size),
        lambda: pixels,
        lambda: _shrunk(pixels, part_size, linear_light),
    )
    return tf.ensure_shape(pixels, [None, None, 3])


def _planned_parts(image_bytes, image_size, area, window_side, scaled_decoding):
    """Returns the plan for an area `(low, high, source px per crop px)`, and the window's place."""
    low, high, density = area
    is_jpeg = tf.strings.substr(image_bytes, 0, 2) == b"\xff\xd8"
    level = tf.zeros_like(density, tf.int32)
    for ratio in _RATIOS[1:] if scaled_decoding else ():
        level += tf.cast((density / ratio >= _MIN_DENSITY) & is_jpeg, tf.int32)
    ratio = tf.gather(tf.constant(_RATIOS, tf.float32), level)[:, tf.newaxis]
    size = tf.cast(image_size[:, ::-1], tf.float32)
    last = tf.math.ceil(size / ratio) - 1
    first = tf.clip_by_value(tf.floor((low + 0.5) / ratio - 0.5), 0.0, last)
    end = tf.clip_by_value(tf.math.ceil((high + 0.5) / ratio - 0.5), first, last)
    extent = end - first + 1
    shrink = tf.minimum(1.0, window_side / tf.reduce_max(extent, axis=-1, keepdims=True))
    shrunk = tf.maximum(1.0, tf.round(extent * shrink))
    part = tf.concat([first[:, ::-1], extent[:, ::-1]], axis=-1)
    plan = {
        "decoder": tf.where(is_jpeg, level, len(_RATIOS)),
        "part": tf.cast(part, tf.int32),
        "part_size": tf.cast(shrunk[:, ::-1], tf.int32),
    }
    return plan, (ratio, first, shrunk / extent)


def _seen_area(example, side, image_size):
    """Returns corners `[B, 2]` (x, y) px of the area the crop shows, and source px per crop px."""
    points = warping.crop_to_image_points(
        tf.broadcast_to(_border(side), [tf.shape(image_size)[0], 4 * _POINTS_PER_EDGE, 2]),
        example["intrinsics"],
        example["distortion_coeffs"],
        example["crop_from_camera"],
        example["crop_intrinsics"],
    )
    steps = tf.norm(points - tf.roll(points, 1, axis=1), axis=-1)
    density = tf.reduce_sum(steps, axis=1) / (4 * side)
    low = tf.reduce_min(points, axis=1) - _MARGIN_PX
    high = tf.reduce_max(points, axis=1) + _MARGIN_PX
    # Some rays meet no image: any part of the image may be needed.
    is_seen = tf.reduce_all(points > warping.UNSEEN_PX, axis=[1, 2])
    size = tf.cast(image_size[:, ::-1], tf.float32)
    low = tf.where(is_seen[:, tf.newaxis], low, 0.0)
    high = tf.where(is_seen[:, tf.newaxis], high, size - 1)
    return low, high, tf.where(is_seen, density, tf.reduce_max(size, axis=-1) / side)


def _border(side):
    """Returns `[4 * n, 2]` points around the edge of the crop, in order."""
    along = tf.linspace(-0.5, side - 0.5, _POINTS_PER_EDGE + 1)[:-1]
    back = side - 1 - along
    first, last = tf.fill(tf.shape(along), -0.5), tf.fill(tf.shape(along), side - 0.5)
    x = tf.concat([along, last, back, first], axis=0)
    y = tf.concat([first, along, last, back], axis=0)
    return tf.stack([x, y], axis=-1)


def _in_window(intrinsics, ratio, first, shrink):
    """Returns the intrinsics after u -> ((u + 0.5) / ratio - first) * shrink - 0.5."""
    factor = shrink / ratio
    top = intrinsics[:, :2] * factor[..., tf.newaxis]
    offset = 0.5 * factor - first * shrink - 0.5
    zero = tf.zeros_like(offset)
    top += tf.stack([zero, zero, offset], axis=-1)
    return tf.concat([top, intrinsics[:, 2:]], axis=1)


def _jpeg_decoder(image_bytes, part, ratio, fast_dct):
    """Returns a function that decodes a part of a JPEG at a scale; the scale must be static."""

    def decode():
        return tf.io.decode_and_crop_jpeg(
            image_bytes,
            part,
            channels=3,
            ratio=ratio,
            fancy_upscaling=not fast_dct,
            dct_method="INTEGER_FAST" if fast_dct else "INTEGER_ACCURATE",
        )

    return decode


def _decode_png_part(image_bytes, part):
    pixels = tf.io.decode_png(image_bytes, channels=3)
    return tf.slice(pixels, [part[0], part[1], 0], [part[2], part[3], 3])


def _shrunk(pixels, size, linear_light):
    """Averages the area that each new pixel covers."""
    pixels = tf.cast(pixels, tf.float32)
    if linear_light:
        shrunk = _from_light(tf.image.resize(_to_light(pixels), size, method="area"))
    else:
        shrunk = tf.image.resize(pixels, size, method="area")
    return tf.cast(tf.clip_by_value(tf.round(shrunk), 0.0, 255.0), tf.uint8)


# Light x^2 (0.7 + 0.3 x) of a grey level x in 0..1 differs from sRGB's curve by at most 0.003, and
# needs no power and no table, which cost 20 and 8 times as much as the averaging (measured).
_LIGHT_SHIFT = 255 * 0.7 / 0.3
_LIGHT_SCALE = 0.3 / 255**3
# x / y as a polynomial of y = sqrt(light): least squares, wrong by at most 0.02 grey levels.
_INVERSE = (1.1935436, -0.28800772, 0.127717, -0.03333602)


def _to_light(levels):
    """Turns grey levels 0..255 into light, in the unit 1 / _LIGHT_SCALE."""
    return tf.square(levels) * (levels + _LIGHT_SHIFT)


def _from_light(light):
    """Turns light back into grey levels."""
    root = tf.sqrt(light * _LIGHT_SCALE)
    ratio = tf.fill(tf.shape(root), _INVERSE[-1])
    for coefficient in _INVERSE[-2::-1]:
        ratio = ratio * root + coefficient
    return 255 * root * ratio
