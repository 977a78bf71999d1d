"""Virtual-camera crops: the camera turned to a box, its pixel maps, and the exact image warp.

Conventions: camera frame x right, y down, z forward; pixel (0,0) = centre of the top-left pixel.
The crop camera shares the optical centre of the original one and sees no lens distortion:
`x_crop_camera = crop_from_camera @ x_camera`, `crop px ~ crop_intrinsics @ x_crop_camera`. A
`crop_from_camera` of determinant -1 is a mirrored crop. Distortion coefficients are OpenCV's,
padded with zeros to 12. Training and serving use the same functions.
"""

import tensorflow as tf

from metrabs_like.geometry import lens
from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.geometry.distortion import distort_points

UNSEEN_PX = -1e6
"""Pixel coordinate given to points that no pixel of the source shows."""

_MIN_COS = 0.05  # a ray further than 87 degrees off the optical axis meets no image (ours)


def crop_camera(
    box,
    intrinsics,
    distortion_coeffs,
    side,
    *,
    padding,
    roll=0.0,
    scale=1.0,
    shift=0.0,
    mirror=False,
):
    """Turns a virtual camera to the centre of a box, so that the padded box fills the crop.

    Args:
      box: float `[B, 4]`, px, (x, y, width, height) in the source image; may leave the image.
      intrinsics: float `[B, 3, 3]`, px, of the source.
      distortion_coeffs: float `[B, 12]`, of the source.
      side: int, px, side of the square crop.
      padding: share of the longer side of the box that is added to it, in all.
      roll: radians, scalar or `[B]`, turn about the crop's optical axis; positive turns the
        picture's content clockwise.
      scale: scalar or `[B]`; above 1 the person becomes larger.
      shift: scalar or `[B, 2]`, shift of the looked-at point in units of the box's longer side.
      mirror: bool scalar or `[B]`, whether the crop is mirrored left to right.

    Returns:
      `crop_from_camera` float32 `[B, 3, 3]`, orthogonal, and `crop_intrinsics` float32 `[B, 3, 3]`
      with the principal point at `(side - 1) / 2`. The original camera's up direction stays up.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: flows; not meant to be used. A box without area counts as one pixel.

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021 (camera turned to the person); released code.
    """
    box, intrinsics = _float32(box), _float32(intrinsics)
    check_shapes(
        box=(box, "B 4"),
        intrinsics=(intrinsics, "B 3 3"),
        distortion_coeffs=(_float32(distortion_coeffs), "B 12"),
    )
    n_boxes = tf.shape(box)[0]
    size = tf.maximum(box[:, 2:], 1.0)
    longer = tf.reduce_max(size, axis=-1, keepdims=True)
    center = box[:, :2] + size / 2 + _per_example(shift, n_boxes, 2) * longer
    offsets = tf.constant([[0.0, 0], [-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
    points = center[:, tf.newaxis] + offsets * size[:, tf.newaxis]
    normalized = image_to_normalized(points, intrinsics, distortion_coeffs)
    rays = tf.concat([normalized, tf.ones_like(normalized[..., :1])], axis=-1)
    looking = _rotation_to(rays[:, 0])
    turned = tf.einsum("bpc,bdc->bpd", rays[:, 1:], looking)
    turned = turned[..., :2] / tf.maximum(turned[..., 2:], _MIN_COS)
    extents = tf.norm(turned[:, 1::2] - turned[:, 0::2], axis=-1)
    focal = side * _per_example(scale, n_boxes) / (tf.reduce_max(extents, axis=-1) * (1 + padding))
    in_plane = _in_plane(_per_example(roll, n_boxes), tf.broadcast_to(mirror, [n_boxes]))
    middle = tf.fill([n_boxes], (side - 1) / 2)
    return in_plane @ looking, _matrix3(focal, 0, middle, 0, focal, middle, 0, 0, 1)


def image_to_normalized(points, intrinsics, distortion_coeffs):
    """Removes intrinsics and lens distortion from source pixels.

    Args:
      points: float `[B, ..., 2]`, px.
      intrinsics: float `[B, 3, 3]`, px.
      distortion_coeffs: float `[B, 12]`.

    Returns:
      float32 `[B, ..., 2]`, normalized undistorted coordinates. A point beyond the radius where the
      distortion folds back (no ray reaches it) is taken at that radius.
    """
    points, intrinsics = _float32(points), _float32(intrinsics)
    flat = tf.reshape(points, [tf.shape(points)[0], -1, 2])
    fx, skew, cx, fy, cy = _entries(intrinsics)
    y = (flat[..., 1] - cy) / fy
    x = (flat[..., 0] - cx - skew * y) / fx
    undistorted = lens.undistort_exactly(tf.stack([x, y], axis=-1), distortion_coeffs)
    return tf.reshape(undistorted, tf.shape(points))


def image_to_crop_points(points, intrinsics, distortion_coeffs, crop_from_camera, crop_intrinsics):
    """Maps source pixels into the crop: the inverse of `crop_to_image_points`, for labels.

    Args:
      points: float `[B, ..., 2]`, px, in the (distorted) source.
      intrinsics: float `[B, 3, 3]`, px, of the source.
      distortion_coeffs: float `[B, 12]`, of the source.
      crop_from_camera: float `[B, 3, 3]`, orthogonal.
      crop_intrinsics: float `[B, 3, 3]`, px.

    Returns:
      float32 `[B, ..., 2]`, crop px. Points behind the crop camera become `UNSEEN_PX`.
    """
    normalized = image_to_normalized(points, intrinsics, distortion_coeffs)
    flat = tf.reshape(normalized, [tf.shape(normalized)[0], -1, 2])
    turned = _turned(flat, _float32(crop_from_camera))
    is_seen = turned[2] > _MIN_COS * tf.sqrt(turned[0] ** 2 + turned[1] ** 2 + turned[2] ** 2)
    mapped = _to_pixels(*_divided(turned, is_seen), _float32(crop_intrinsics), is_seen)
    return tf.reshape(mapped, tf.shape(points))


def crop_to_image_points(points, intrinsics, distortion_coeffs, crop_from_camera, crop_intrinsics):
    """Maps crop pixels to the source's pixels, lens distortion included.

    Args:
      points: float `[B, ..., 2]`, crop px.
      intrinsics: float `[B, 3, 3]`, px, of the source image (or of a window of it).
      distortion_coeffs: float `[B, 12]`, of the source.
      crop_from_camera: float `[B, 3, 3]`, orthogonal.
      crop_intrinsics: float `[B, 3, 3]`, px.

    Returns:
      float32 `[B, ..., 2]`, source px. Where no ray can reach an image (behind the camera, or
      beyond the radius where the distortion folds back) both coordinates are `UNSEEN_PX`.
    """
    points = _float32(points)
    flat = tf.reshape(points, [tf.shape(points)[0], -1, 2])
    fx, skew, cx, fy, cy = _entries(_float32(crop_intrinsics))
    y = (flat[..., 1] - cy) / fy
    x = (flat[..., 0] - cx - skew * y) / fx
    camera_from_crop = tf.linalg.matrix_transpose(_float32(crop_from_camera))
    turned = _turned(tf.stack([x, y], axis=-1), camera_from_crop)
    is_seen = turned[2] > _MIN_COS * tf.sqrt(x**2 + y**2 + 1)
    x, y = _divided(turned, is_seen)
    limit = lens.fold_radius(distortion_coeffs)
    is_seen &= x**2 + y**2 < limit[:, tf.newaxis] ** 2
    x, y = tf.where(is_seen, x, 0.0), tf.where(is_seen, y, 0.0)
    coeffs = _float32(distortion_coeffs)[:, tf.newaxis]
    distorted = distort_points(tf.stack([x, y], axis=-1), coeffs)
    mapped = _to_pixels(distorted[..., 0], distorted[..., 1], _float32(intrinsics), is_seen)
    return tf.reshape(mapped, tf.shape(points))


def warp_images(
    windows,
    window_intrinsics,
    distortion_coeffs,
    crop_from_camera,
    crop_intrinsics,
    side: int,
    *,
    jit_compile: bool = True,
):
    """Renders crops by sampling source windows bilinearly, lens distortion removed exactly.

    Args:
      windows: uint8 (0..255) or float (0..1) `[B, H, W, C]`, windows of the source images.
      window_intrinsics: float `[B, 3, 3]`, px, the source camera in pixels of the window.
      distortion_coeffs: float `[B, 12]`, of the source.
      crop_from_camera: float `[B, 3, 3]`, orthogonal.
      crop_intrinsics: float `[B, 3, 3]`, px.
      side: px, side of the square crops.
      jit_compile: whether XLA compiles it, once a shape; on a CPU that is 4 to 7 times faster.
        False where XLA is absent or shapes keep changing.

    Returns:
      float32 `[B, side, side, C]`, 0..1 up to rounding, zero outside the window. B may be zero.

    Gradient: to float windows.
    """
    warp = _compiled_warp if jit_compile else _warp
    arguments = (window_intrinsics, distortion_coeffs, crop_from_camera, crop_intrinsics)
    return warp(windows, *(_float32(argument) for argument in arguments), side)


def _warp(windows, window_intrinsics, distortion_coeffs, crop_from_camera, crop_intrinsics, side):
    axis = tf.range(side, dtype=tf.float32)
    grid = tf.stack(tf.meshgrid(axis, axis), axis=-1)
    grid = tf.broadcast_to(grid, [tf.shape(windows)[0], side, side, 2])
    points = crop_to_image_points(
        grid, window_intrinsics, distortion_coeffs, crop_from_camera, crop_intrinsics
    )
    return bilinear_sample(windows, points)


_compiled_warp = tf.function(_warp, jit_compile=True, reduce_retracing=True, autograph=False)


def warp_affine(windows, window_from_output, size, *, jit_compile: bool = True):
    """Renders pictures by sampling source windows bilinearly through affine maps: no camera.

    Args:
      windows: uint8 (0..255) or float (0..1) `[B, H, W, C]`.
      window_from_output: float `[B, 3, 3]` (or `[B, 2, 3]`): takes `(x, y, 1)` px of the output to
        px of the window.
      size: (height, width) of the output, px.
      jit_compile: see `warp_images`.

    Returns:
      float32 `[B, height, width, C]`, 0..1 up to rounding, zero outside the window. B may be zero.

    Gradient: to float windows.
    """
    warp = _compiled_affine_warp if jit_compile else _affine_warp
    return warp(windows, _float32(window_from_output), *size)


def _affine_warp(windows, window_from_output, height, width):
    x = tf.range(width, dtype=tf.float32)
    y = tf.range(height, dtype=tf.float32)[:, tf.newaxis]
    m = window_from_output[:, tf.newaxis, tf.newaxis]
    points = [m[..., i, 0] * x + m[..., i, 1] * y + m[..., i, 2] for i in range(2)]
    return bilinear_sample(windows, tf.stack(points, axis=-1))


_compiled_affine_warp = tf.function(
    _affine_warp, jit_compile=True, reduce_retracing=True, autograph=False
)


def bilinear_sample(images, points):
    """Samples images at real-valued pixel positions, with zeros outside.

    Args:
      images: uint8 (0..255) or float (0..1) `[B, H, W, C]`.
      points: float `[B, ..., 2]`, px; NaN and far-away points give zero.

    Returns:
      float32 `[B, ..., C]`, 0..1 up to rounding. Within one pixel of the border the value fades to
      zero.

    Gradient: to float images, and to the points (through the weights).
    """
    images, points = tf.convert_to_tensor(images), _float32(points)
    n_images, height, width, channels = tf.unstack(tf.shape(images))
    x = tf.reshape(points[..., 0], [n_images, -1])
    y = tf.reshape(points[..., 1], [n_images, -1])
    is_inside = (x > -1) & (x < tf.cast(width, tf.float32))
    is_inside &= (y > -1) & (y < tf.cast(height, tf.float32))
    x, y = tf.where(is_inside, x, -1.0), tf.where(is_inside, y, -1.0)
    left, top = tf.floor(x), tf.floor(y)
    far_x, far_y = x - left, y - top
    near_x, near_y = 1 - far_x, 1 - far_y
    # A frame of zeros makes every neighbour of an inside point exist: no clipping, no masks.
    framed = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    table = tf.reshape(framed, [-1, channels])
    stride = width + 2
    row = tf.range(n_images)[:, tf.newaxis] * (height + 2) + tf.cast(top, tf.int32) + 1
    index = row * stride + tf.cast(left, tf.int32) + 1
    intensity = 1 / 255 if images.dtype == tf.uint8 else 1.0

    def weighted(offset, weight_x, weight_y):
        pixel = tf.cast(tf.gather(table, index + offset), tf.float32)
        return pixel * (weight_x * weight_y * intensity)[..., tf.newaxis]

    value = weighted(0, near_x, near_y) + weighted(1, far_x, near_y)
    value += weighted(stride, near_x, far_y) + weighted(stride + 1, far_x, far_y)
    return tf.reshape(value, tf.concat([tf.shape(points)[:-1], [channels]], axis=0))


def _rotation_to(forward):
    """Returns `[B, 3, 3]`: the axes (rows) of a camera that looks along `forward`, upright."""
    z = tf.math.l2_normalize(forward, axis=-1, epsilon=1e-12)
    zero = tf.zeros_like(z[:, 0])
    # z cross (0, -1, 0): the x axis stays horizontal in the original camera.
    x = tf.math.l2_normalize(tf.stack([z[:, 2], zero, -z[:, 0]], axis=-1), axis=-1, epsilon=1e-12)
    y = tf.linalg.cross(z, x)
    return tf.stack([x, y, z], axis=1)


def _in_plane(roll, mirror):
    """Returns `[B, 3, 3]`: the turn about the optical axis, then the mirroring."""
    sign = tf.where(mirror, -1.0, 1.0)
    cos, sin = tf.cos(roll), tf.sin(roll)
    return _matrix3(sign * cos, -sign * sin, 0, sin, cos, 0, 0, 0, 1)


def _matrix3(*entries):
    """Stacks nine scalars or `[B]` tensors, row by row, into `[B, 3, 3]`."""
    like = next(e for e in entries if isinstance(e, tf.Tensor))
    entries = [
        e if isinstance(e, tf.Tensor) else tf.fill(tf.shape(like), float(e)) for e in entries
    ]
    return tf.reshape(tf.stack(entries, axis=-1), [-1, 3, 3])


def _entries(intrinsics):
    """Returns fx, skew, cx, fy, cy, each `[B, 1]`."""
    k = intrinsics[:, tf.newaxis]
    return k[..., 0, 0], k[..., 0, 1], k[..., 0, 2], k[..., 1, 1], k[..., 1, 2]


def _turned(points, matrix):
    """Applies `[B, 3, 3]` to `(x, y, 1)` of `[B, M, 2]`, spelled out so that XLA fuses it."""
    x, y = points[..., 0], points[..., 1]
    m = matrix[:, tf.newaxis]
    return [m[..., i, 0] * x + m[..., i, 1] * y + m[..., i, 2] for i in range(3)]


def _divided(turned, is_seen):
    """Divides by the depth where a point is seen; elsewhere returns zeros."""
    depth = tf.where(is_seen, turned[2], 1.0)
    return tf.where(is_seen, turned[0], 0.0) / depth, tf.where(is_seen, turned[1], 0.0) / depth


def _to_pixels(x, y, intrinsics, is_seen):
    """Applies intrinsics to normalized coordinates; unseen points become `UNSEEN_PX`."""
    fx, skew, cx, fy, cy = _entries(intrinsics)
    pixels = tf.stack([fx * x + skew * y + cx, fy * y + cy], axis=-1)
    return tf.where(is_seen[..., tf.newaxis], pixels, UNSEEN_PX)


def _per_example(value, n_examples, *dims):
    """Broadcasts a scalar or per-example number to `[B, *dims]`."""
    return tf.broadcast_to(_float32(value), [n_examples, *dims])


def _float32(value):
    return tf.cast(value, tf.float32)
