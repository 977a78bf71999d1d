"""Pinhole cameras: projection, field of view, lens distortion.

Conventions: camera frame x right, y down, z forward, metres; pixel (0, 0) is the centre of the
top-left pixel; *normalized* coordinates are pixels with the intrinsics removed, i.e. X/Z and Y/Z.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.geometry.distortion import distort_points, undistort_points
from metrabs_like.geometry.tracing import TracedByValue

__all__ = [
    "MIN_DEPTH_M",
    "CropGrid",
    "back_project",
    "corner_aligned_scale_mat",
    "distort_points",
    "fov_bounds",
    "intrinsic_matrix_from_field_of_view",
    "is_within_fov",
    "normalized_planes",
    "pixel_planes",
    "planes_within_fov",
    "project",
    "project_pose",
    "to_homogeneous",
    "undistort_points",
]

# Depth below which a projection divides by this instead (released code), m.
MIN_DEPTH_M = 0.001


@dataclasses.dataclass(frozen=True)
class CropGrid(TracedByValue):
    """Geometry of the prediction grid over a square crop.

    Attributes:
      proc_side: side of the crop, px (256: released code).
      stride: pixels per cell of the feature map (32: released code).
      centered_stride: whether the cells lie symmetrically in the crop.
    """

    proc_side: int = 256
    stride: int = 32
    centered_stride: bool = True

    def __post_init__(self):
        if self.proc_side < 1 or self.stride < 1 or self.stride > self.proc_side:
            raise ValueError(
                f"proc_side={self.proc_side}, stride={self.stride}: both must be positive and the "
                "stride at most the side, e.g. proc_side=256, stride=32."
            )


def to_homogeneous(x):
    """Appends a 1 to each point.

    Args:
      x: float `[..., D]`.

    Returns:
      `[..., D + 1]`. Gradient: passes through.
    """
    x = as_float(x)
    return tf.concat([x, tf.ones_like(x[..., :1])], axis=-1)


def project(points):
    """Divides by depth, unguarded.

    Args:
      points: float `[..., 3]`, m, camera frame.

    Returns:
      `[..., 2]`, normalized. Depth 0 gives Inf or NaN in that point. Gradient: that of x / z.

    Raises:
      ValueError: if the last dimension is not 3.
    """
    points = as_float(points)
    check_shapes(points=(points, "... 3"))
    return points[..., :2] / points[..., 2:3]


def pixel_planes(x, y, z, intrinsic_matrix):
    """Projects points given as separate coordinate planes; see `project_pose` for the behaviour.

    Args:
      x: float `[B, P]`, m, camera frame.
      y: the same.
      z: the same.
      intrinsic_matrix: `[B, 3, 3]` or `[3, 3]`.

    Returns:
      (u, v), `[B, P]` each, px. Gradient as `project_pose`.
    """
    safe_z = tf.maximum(tf.constant(MIN_DEPTH_M, z.dtype), z)
    x, y, z = x / safe_z, y / safe_z, z / safe_z
    row_u, row_v = intrinsic_matrix[..., 0, :], intrinsic_matrix[..., 1, :]
    u = x * row_u[..., 0:1] + y * row_u[..., 1:2] + z * row_u[..., 2:3]
    v = x * row_v[..., 0:1] + y * row_v[..., 1:2] + z * row_v[..., 2:3]
    return u, v


def project_pose(coords3d, intrinsic_matrix):
    """Projects points to pixels, with depth clamped to at least 1 mm.

    All three coordinates are divided by max(0.001, z) and multiplied by the first two rows of the
    intrinsics. Where z < 0.001 the third one is then z / 0.001 instead of 1, so that the principal
    point is scaled as well.

    Args:
      coords3d: float `[B, P, 3]`, m, camera frame.
      intrinsic_matrix: `[B, 3, 3]`, or `[3, 3]` for all.

    Returns:
      `[B, P, 2]`, px. Finite for finite input, behind the camera as well (where it has no meaning).

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: below the clamp, none through the denominator. NaN stays in its point.

    References:
      Released code of Neural Localizer Fields.
    """
    coords3d = as_float(coords3d)
    intrinsic_matrix = as_float(intrinsic_matrix, coords3d)
    pattern = "3 3" if intrinsic_matrix.shape.rank == 2 else "B 3 3"
    check_shapes(coords3d=(coords3d, "B P 3"), intrinsic_matrix=(intrinsic_matrix, pattern))
    return tf.stack(pixel_planes(*tf.unstack(coords3d, 3, axis=-1), intrinsic_matrix), axis=-1)


def back_project(camcoords2d, delta_z, z_offset):
    """Lifts normalized image points with known depth: (x, y, 1) * (delta_z + z_offset).

    Args:
      camcoords2d: float `[B, P, 2]`, normalized.
      delta_z: float `[B, P]`, m, depth relative to the reference point.
      z_offset: float `[B]`, m, depth of the reference point.

    Returns:
      `[B, P, 3]`, m, camera frame. Depth <= 0 stays behind the camera.

    Raises:
      ValueError: if statically known dimensions disagree (unknown ones are checked when run).

    Gradient: flows to all three arguments. NaN in one point stays in that point.

    References:
      Sarandi et al., MeTRAbs, T-BIOM 2021, sec. 3; released code.
    """
    camcoords2d = as_float(camcoords2d)
    delta_z, z_offset = as_float(delta_z, camcoords2d), as_float(z_offset, camcoords2d)
    check_shapes(
        camcoords2d=(camcoords2d, "B P 2"), delta_z=(delta_z, "B P"), z_offset=(z_offset, "B")
    )
    return to_homogeneous(camcoords2d) * (delta_z + z_offset[:, tf.newaxis])[..., tf.newaxis]


def fov_bounds(grid, border_factor):
    """Returns the smallest and the largest pixel coordinate inside the field of view.

    Args:
      grid: CropGrid.
      border_factor: width of the excluded border, in strides; negative widens the view beyond the
        crop.

    Returns:
      (low, high), NumPy float32: computed in double and rounded once.
    """
    offset = 0.0 if grid.centered_stride else -grid.stride / 2
    low = grid.stride * border_factor + offset
    high = grid.proc_side - grid.stride * border_factor + offset
    return np.float32(low), np.float32(high)


def planes_within_fov(u, v, grid, border_factor):
    """Tells which pixels are inside the field of view, on planes; see `is_within_fov`.

    Args:
      u: float `[...]`, px in the crop.
      v: the same.
      grid: CropGrid.
      border_factor: Python number.

    Returns:
      bool `[...]`. No gradient.
    """
    low, high = (tf.cast(bound, u.dtype) for bound in fov_bounds(grid, border_factor))
    return (u >= low) & (u <= high) & (v >= low) & (v <= high)


def is_within_fov(imcoords, grid, border_factor=0.75):
    """Tells which points lie inside the crop's field of view, less a border.

    Args:
      imcoords: float `[..., 2]`, px in the crop.
      grid: CropGrid.
      border_factor: Python number, width of the border in strides (0.75: released code).

    Returns:
      bool `[...]`; both ends count as inside; NaN is outside. No gradient.

    Raises:
      ValueError: if the last dimension is not 2.

    References:
      Released code of Neural Localizer Fields.
    """
    imcoords = as_float(imcoords)
    check_shapes(imcoords=(imcoords, "... 2"))
    return planes_within_fov(imcoords[..., 0], imcoords[..., 1], grid, border_factor)


def normalized_planes(u, v, intrinsic_matrix):
    """Removes the intrinsics: the first two coordinates of K^-1 (u, v, 1).

    The 3x3 inverse by cofactors compiles everywhere, under XLA and in LiteRT.

    Args:
      u: float `[B, P]`, px.
      v: the same.
      intrinsic_matrix: `[B, 3, 3]`, regular; third row usually (0, 0, 1).

    Returns:
      (x, y), `[B, P]` each, normalized. Gradient: to all three arguments.
    """
    rows1 = tf.gather(intrinsic_matrix, [1, 2, 0], axis=-2)
    rows2 = tf.gather(intrinsic_matrix, [2, 0, 1], axis=-2)
    cofactors = tf.gather(rows1, [1, 2, 0], axis=-1) * tf.gather(rows2, [2, 0, 1], axis=-1)
    cofactors -= tf.gather(rows1, [2, 0, 1], axis=-1) * tf.gather(rows2, [1, 2, 0], axis=-1)
    det = tf.reduce_sum(intrinsic_matrix[..., 0, :] * cofactors[..., 0, :], axis=-1)
    # Row i of the inverse is column i of the cofactors over the determinant.
    inverse_x, inverse_y = (cofactors[..., i] / det[..., tf.newaxis] for i in range(2))
    x = u * inverse_x[..., 0:1] + v * inverse_x[..., 1:2] + inverse_x[..., 2:3]
    y = u * inverse_y[..., 0:1] + v * inverse_y[..., 1:2] + inverse_y[..., 2:3]
    return x, y


def intrinsic_matrix_from_field_of_view(fov_degrees, imshape):
    """Builds intrinsics from the angle under which the larger image side is seen.

    Focal length = larger side / (2 tan(fov / 2)); principal point at (width / 2, height / 2),
    without the -0.5 of a pixel centre (as the original).

    Args:
      fov_degrees: scalar, degrees, between 0 and 180.
      imshape: (height, width), px; list or tensor.

    Returns:
      float32 `[1, 3, 3]`. No gradient intended.

    Raises:
      ValueError: if the angle is NaN or not between 0 and 180, or `imshape` is not two numbers;
        `tf.errors.InvalidArgumentError` when run for an angle that is unknown while tracing (not
        under XLA).
    """
    imshape = tf.cast(tf.convert_to_tensor(imshape), tf.float32)
    fov_degrees = as_float(fov_degrees, imshape)
    check_shapes(fov_degrees=(fov_degrees, ""), imshape=(imshape, "2"))
    _check_field_of_view(fov_degrees)
    half_angle = fov_degrees * (math.pi / 360)
    focal = tf.reduce_max(imshape) / (2 * tf.tan(half_angle))
    zero, one = tf.zeros_like(focal), tf.ones_like(focal)
    rows = [focal, zero, imshape[1] / 2, zero, focal, imshape[0] / 2, zero, zero, one]
    return tf.reshape(tf.stack(rows), [1, 3, 3])


def _check_field_of_view(fov_degrees):
    """Raises where a scalar angle is no field of view: at once if it is known, else when run."""
    remedy = "pass an angle between 0 and 180 degrees, e.g. 55"
    value = tf.get_static_value(fov_degrees)
    if value is None:
        is_possible = (fov_degrees > 0) & (fov_degrees < 180)
        tf.raw_ops.Assert(
            condition=is_possible, data=[f"{remedy} as fov_degrees, not", fov_degrees]
        )
    elif not 0 < value < 180:
        raise ValueError(f"fov_degrees={value}: {remedy}.")


def corner_aligned_scale_mat(factor):
    """Builds the map of pixel coordinates under a resize that keeps the image's outer corners.

    Pixel centres are integers, so that the corner of an image lies at -0.5:
    new = factor * (old + 0.5) - 0.5.

    Args:
      factor: scalar, new size over old size.

    Returns:
      float32 `[3, 3]`, acts on (x, y, 1); multiplied to intrinsics from the left it resizes them.

    References:
      Released code of MeTRAbs.
    """
    factor = as_float(factor)
    shift, zero, one = (factor - 1) / 2, tf.zeros_like(factor), tf.ones_like(factor)
    rows = [factor, zero, shift, zero, factor, shift, zero, zero, one]
    return tf.reshape(tf.stack(rows), [3, 3])
