"""The cameras of a serving call: published defaults filled in, checked, one per image.

Conventions: intrinsics in px with (0, 0) the centre of the top-left pixel; extrinsics map world to
camera and their translation is in millimetres, as are the poses that serving returns; camera x
right, y down, z forward.
"""

from typing import NamedTuple

import tensorflow as tf

from metrabs_like.geometry import camera
from metrabs_like.serving.checks import checked

UNKNOWN_INTRINSIC_MATRIX = ((-1.0, -1.0, -1.0),) * 3
DEFAULT_DISTORTION = (0.0,) * 5
DEFAULT_EXTRINSIC_MATRIX = (
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
)
DEFAULT_WORLD_UP = (0.0, -1.0, 0.0)
N_DISTORTION_COEFFS = 12


class Cameras(NamedTuple):
    """One camera per row.

    Attributes:
      intrinsics: float `[B, 3, 3]`, px.
      distortion_coeffs: float `[B, 12]`, OpenCV order, zero padded.
      extrinsics: float `[B, 4, 4]`, world to camera, translation in mm.
      up: float `[B, 3]`, the world's up direction in camera axes, unit length.
    """

    intrinsics: tf.Tensor
    distortion_coeffs: tf.Tensor
    extrinsics: tf.Tensor
    up: tf.Tensor

    def gathered(self, rows: tf.Tensor) -> "Cameras":
        """Returns the cameras of the given rows (int `[N]`)."""
        return Cameras(*(tf.gather(field, rows) for field in self))


def resolve(
    n_images: tf.Tensor,
    image_size: tf.Tensor,
    intrinsic_matrix: tf.Tensor,
    distortion_coeffs: tf.Tensor,
    extrinsic_matrix: tf.Tensor,
    world_up_vector: tf.Tensor,
    default_fov_degrees: tf.Tensor,
) -> Cameras:
    """Builds one checked camera per image from the arguments of a serving call.

    Args:
      n_images: int scalar `B`.
      image_size: int `[2]`, height and width, px.
      intrinsic_matrix: float `[B or 1, 3, 3]`, px; all -1 = unknown, then from the field of view.
      distortion_coeffs: float `[B or 1, <=12]`, OpenCV order.
      extrinsic_matrix: float `[B or 1, 4, 4]`, world to camera, mm.
      world_up_vector: float `[3]`, world axes, any length but 0.
      default_fov_degrees: float scalar, field of view of the longer image side where intrinsics
        are unknown.

    Returns:
      The cameras, `B` rows.

    Raises:
      tf.errors.InvalidArgumentError: when run, for NaN, non-positive focal lengths, a wrong last
      row, a field of view
        outside (0, 180), a rotation that is none, or another number of cameras than images.
    """
    fov = checked(
        default_fov_degrees,
        "default_fov_degrees",
        ((default_fov_degrees > 0) & (default_fov_degrees < 180), "must be between 0 and 180"),
    )
    fallback = camera.intrinsic_matrix_from_field_of_view(fov, image_size)
    is_unknown = tf.reduce_all(intrinsic_matrix == -1, axis=[1, 2], keepdims=True)
    intrinsics = _checked_intrinsics(
        tf.where(is_unknown, tf.reshape(fallback, [1, 3, 3]), intrinsic_matrix)
    )
    extrinsics = _per_image(_checked_extrinsics(extrinsic_matrix), "extrinsic_matrix", n_images)
    length = tf.norm(world_up_vector)
    up = checked(
        world_up_vector,
        "world_up_vector",
        (tf.math.is_finite(length) & (length > 0), "must be finite and not zero, e.g. (0, -1, 0)"),
    )
    return Cameras(
        _per_image(intrinsics, "intrinsic_matrix", n_images),
        _per_image(_padded_distortion(distortion_coeffs), "distortion_coeffs", n_images),
        extrinsics,
        tf.linalg.matvec(extrinsics[:, :3, :3], up / length),
    )


def camera_to_world(points: tf.Tensor, extrinsics: tf.Tensor) -> tf.Tensor:
    """Transforms points from the camera frame to the world frame.

    Args:
      points: float `[N, M, 3]`, mm, camera frame.
      extrinsics: float `[N, 4, 4]`, world to camera, rotation orthogonal, translation in mm.

    Returns:
      float `[N, M, 3]`, mm, world frame.

    Gradient: flows to both.
    """
    shifted = points - extrinsics[:, tf.newaxis, :3, 3]
    return shifted @ extrinsics[:, :3, :3]


def _checked_intrinsics(intrinsics):
    """The matrices, once they can be intrinsics."""
    focal = tf.linalg.diag_part(intrinsics)[:, :2]
    last_row = tf.constant([0.0, 0.0, 1.0])
    return checked(
        intrinsics,
        "intrinsic_matrix",
        (tf.math.is_finite(intrinsics), "every number must be finite, or all -1 for unknown"),
        (focal > 0, "focal lengths (diagonal) must be above 0 px, or all nine -1 for unknown"),
        (tf.abs(intrinsics[:, 2] - last_row) < 1e-4, "the last row must be (0, 0, 1)"),
        (tf.abs(intrinsics[:, 1, 0]) < 1e-4, "the second row must start with 0"),
    )


def _checked_extrinsics(extrinsics):
    """The matrices, once they are rigid transformations."""
    rotation = extrinsics[:, :3, :3]
    gram = tf.matmul(rotation, rotation, transpose_a=True)
    last_row = tf.constant([0.0, 0.0, 0.0, 1.0])
    return checked(
        extrinsics,
        "extrinsic_matrix",
        (tf.math.is_finite(extrinsics), "every number must be finite"),
        (tf.abs(gram - tf.eye(3)) < 1e-2, "the upper left 3x3 part must be a rotation"),
        (tf.abs(extrinsics[:, 3] - last_row) < 1e-4, "the last row must be (0, 0, 0, 1)"),
    )


def _padded_distortion(coeffs):
    """Zero-padded to twelve coefficients."""
    n_given = tf.shape(coeffs)[1]
    coeffs = checked(
        coeffs,
        "distortion_coeffs",
        (tf.math.is_finite(coeffs), "every number must be finite; zeros mean no distortion"),
        (
            n_given <= N_DISTORTION_COEFFS,
            "at most 12 coefficients in OpenCV order (k1,k2,p1,p2,k3,k4,k5,k6,s1,s2,s3,s4)",
        ),
    )
    padded = tf.pad(coeffs, [[0, 0], [0, tf.maximum(0, N_DISTORTION_COEFFS - n_given)]])
    return tf.ensure_shape(padded[:, :N_DISTORTION_COEFFS], [None, N_DISTORTION_COEFFS])


def _per_image(values, field, n_images):
    """One row per image: a single row is meant for all."""
    n_given = tf.shape(values)[0]
    values = checked(
        values,
        field,
        ((n_given == 1) | (n_given == n_images), "give one for all images, or one per image"),
    )
    # More copies of the only row than images are cut off: also right for zero images.
    return tf.cond(n_given == n_images, lambda: values, lambda: tf.repeat(values, n_images, axis=0))
