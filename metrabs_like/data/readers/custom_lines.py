"""Parses and checks one line of the `custom` layout; every message names the field.

Conventions: float64 inside; camera frame x right, y down, z forward; `extrinsics` map world to
camera, m.
"""

from typing import NamedTuple

import cv2
import numpy as np

from metrabs_like.data import people, plausibility, records
from metrabs_like.data.cameras import intrinsics_from_fov

_LINE_KEYS = ("image", "intrinsics", "fov_degrees", "distortion", "extrinsics", "frame", "people")
_PERSON_KEYS = ("points3d_m", "points2d_px", "box_px")
_BOX_MARGIN = 0.1  # added on each side of the box around the points where none is given (ours)
_MAX_DEPTH_M = 200.0


class Camera(NamedTuple):
    """The camera of one image.

    Attributes:
      intrinsics: float64 `[3, 3]`, px.
      distortion: float64 `[12]`, OpenCV order.
      extrinsics: float64 `[4, 4]`, world to camera, m.
      is_world: whether 3D points are given in the world frame.
      width: of the image, px.
      height: of the image, px.
    """

    intrinsics: np.ndarray
    distortion: np.ndarray
    extrinsics: np.ndarray
    is_world: bool
    width: int
    height: int


def check_line_keys(content, where: str) -> None:
    """Checks that a line is an object with an image path and known keys only.

    Raises:
      ValueError: naming the line and the key.
    """
    if not isinstance(content, dict) or not isinstance(content.get("image"), str):
        raise ValueError(f'{where} must be an object with "image": "path/inside/the/folder.jpg".')
    _check_keys(content, _LINE_KEYS, where)
    if not isinstance(content.get("people", []), list):
        raise ValueError(f"{where}: people must be a list of objects.")


def parse_camera(content: dict, width: int, height: int, where: str) -> Camera:
    """Reads the camera of a line.

    Args:
      content: the line.
      width: of the image, px.
      height: of the image, px.
      where: names the line, for messages.

    Returns:
      The camera.

    Raises:
      ValueError: naming field, value and remedy.
    """
    frame = content.get("frame", "camera")
    if frame not in ("camera", "world"):
        raise ValueError(f'{where}: frame = {frame!r} must be "camera" or "world".')
    if frame == "world" and "extrinsics" not in content:
        raise ValueError(f'{where}: frame = "world" needs extrinsics (4 x 4, world to camera, m).')
    distortion = _numbers(content.get("distortion", []), f"{where}: distortion", (None,))
    if len(distortion) > people.N_DISTORTION_COEFFS:
        raise ValueError(
            f"{where}: distortion has {len(distortion)} numbers; OpenCV's first 12 are supported "
            "(k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4)."
        )
    padding = people.N_DISTORTION_COEFFS - len(distortion)
    return Camera(
        _parse_intrinsics(content, width, height, where),
        np.pad(distortion, (0, padding)),
        _parse_extrinsics(content, where),
        frame == "world",
        width,
        height,
    )


def parse_person(content, camera: Camera, skeleton, where: str) -> records.Person:
    """Reads one person of a line.

    Args:
      content: the object in `people`.
      camera: of the image.
      skeleton: whose joint names the points carry.
      where: names line and person, for messages.

    Returns:
      The person: 3D points in the camera frame; 2D points as given, where not given projected from
      3D; the box as given, else around the 2D points.

    Raises:
      ValueError: naming field, value and remedy: unknown keys or joints, wrong numbers, implausible
        size or depth, 3D points that do not project to the 2D points, a box outside the image.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be an object with points3d_m and/or points2d_px.")
    _check_keys(content, _PERSON_KEYS, where)
    points3d, validity3d = _parse_points(content, "points3d_m", 3, skeleton, where)
    points2d, validity2d = _parse_points(content, "points2d_px", 2, skeleton, where)
    if not validity3d.any() and not validity2d.any():
        raise ValueError(f"{where} has no point; give points3d_m and/or points2d_px by joint name.")
    if validity3d.any():
        field = f"{where}.points3d_m"
        plausibility.check_person_size(points3d, validity3d, skeleton, field)
        if camera.is_world:
            points3d = points3d @ camera.extrinsics[:3, :3].T + camera.extrinsics[:3, 3]
        points2d, validity2d = _with_projected(
            points3d, validity3d, points2d, validity2d, camera, field
        )
    return records.Person(
        box=_parse_box(content, points2d[validity2d], camera, where),
        points3d=points3d.astype(np.float32),
        validity3d=validity3d,
        points2d=points2d.astype(np.float32),
        validity2d=validity2d,
    )


def _parse_intrinsics(content, width, height, where):
    """Returns `[3, 3]` from `intrinsics` or `fov_degrees`."""
    if ("intrinsics" in content) == ("fov_degrees" in content):
        raise ValueError(
            f"{where}: give either intrinsics (3 x 3, px) or fov_degrees (along the longer side)."
        )
    if "fov_degrees" in content:
        fov = float(_numbers(content["fov_degrees"], f"{where}: fov_degrees", ()))
        if not 1 <= fov <= 170:
            raise ValueError(
                f"{where}: fov_degrees = {fov} must be between 1 and 170 (degrees, full angle)."
            )
        return intrinsics_from_fov(fov, width, height).astype(np.float64)
    field = f"{where}: intrinsics"
    matrix = _numbers(content["intrinsics"], field, (3, 3))
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError(
            f"{field} has focal lengths {matrix[0, 0]}, {matrix[1, 1]}; they must be positive (px)."
        )
    if not np.array_equal(matrix[2], [0, 0, 1]) or matrix[1, 0] != 0:
        raise ValueError(
            f"{field} = {matrix.tolist()} must have the form [[fx, s, cx], [0, fy, cy], [0, 0, 1]]."
        )
    return matrix


def _parse_extrinsics(content, where):
    """Returns `[4, 4]`, the identity where the line has none."""
    if "extrinsics" not in content:
        return np.eye(4)
    field = f"{where}: extrinsics"
    matrix = _numbers(content["extrinsics"], field, (4, 4))
    rotation = matrix[:3, :3]
    is_rotation = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    is_proper = is_rotation and np.linalg.det(rotation) > 0
    if not is_proper or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise ValueError(
            f"{field} = {matrix.tolist()} must be a rotation and a translation "
            "(world to camera, m) with the last row 0 0 0 1."
        )
    return matrix


def _parse_points(content, key, n_dims, skeleton, where):
    """Returns `[P, n_dims]` and validity `[P]`; null marks a missing joint."""
    points = np.zeros((skeleton.n_joints, n_dims))
    validity = np.zeros(skeleton.n_joints, bool)
    given = content.get(key) or {}
    if not isinstance(given, dict):
        raise ValueError(f"{where}.{key} must be an object: joint name to coordinates.")
    for name, value in given.items():
        try:
            index = skeleton.index(name)
        except ValueError as error:
            raise ValueError(f"{where}.{key}: {error}") from None
        if value is not None:
            points[index] = _numbers(value, f"{where}.{key}.{name}", (n_dims,))
            validity[index] = True
    return points, validity


def _with_projected(points3d, validity3d, points2d, validity2d, camera, field):
    """Fills missing 2D points from 3D; checks that given ones agree with the camera."""
    depth = np.median(points3d[validity3d, 2])
    if not 0 < depth <= _MAX_DEPTH_M:
        raise ValueError(
            f"{field}: the person is at a depth of {depth:.4g} m in the camera frame, it must be "
            f"between 0 and {_MAX_DEPTH_M:g} m; check frame and extrinsics (world to camera, m)."
        )
    is_projectable = validity3d & (points3d[:, 2] > 0.05)
    projected = np.zeros_like(points2d)
    if is_projectable.any():
        zero = np.zeros(3)
        projected[is_projectable] = cv2.projectPoints(
            points3d[is_projectable], zero, zero, camera.intrinsics, camera.distortion
        )[0][:, 0]
    both = is_projectable & validity2d
    if both.any():
        error = np.median(np.linalg.norm(projected[both] - points2d[both], axis=-1))
        limit = 0.05 * np.hypot(camera.width, camera.height)
        if error > limit:
            raise ValueError(
                f"{field} projects {error:.0f} px away from points2d_px (median; at most "
                f"{limit:.0f}); check intrinsics, distortion, frame and extrinsics."
            )
    projected[validity2d] = points2d[validity2d]
    return projected, validity2d | is_projectable


def _parse_box(content, points2d, camera, where):
    """Returns `[4]`, px; refuses a box that misses the image."""
    field = f"{where}.box_px"
    if content.get("box_px") is not None:
        box = _numbers(content["box_px"], field, (4,))
    else:
        low, size = points2d.min(axis=0), np.maximum(np.ptp(points2d, axis=0), 1.0)
        box = np.concatenate([low - _BOX_MARGIN * size, size * (1 + 2 * _BOX_MARGIN)])
        field += " (around the points, none was given)"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise ValueError(f"{field} = {box.tolist()} has no area; it is [x, y, width, height].")
    if x >= camera.width or y >= camera.height or x + width <= 0 or y + height <= 0:
        raise ValueError(
            f"{field} = {np.round(box, 1).tolist()} lies outside the image of {camera.width} x "
            f"{camera.height} px; mend the points or the box, or leave the person out."
        )
    return box.astype(np.float32)


def _check_keys(content, known, where):
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}.")


def _numbers(value, field, shape):
    """Returns finite float64 numbers of a shape (None: any length)."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    is_right = len(array.shape) == len(shape) and all(
        wanted in (None, got) for wanted, got in zip(shape, array.shape, strict=False)
    )
    if not is_right or not np.all(np.isfinite(array)):
        wanted = " x ".join("n" if s is None else str(s) for s in shape) or "one"
        raise ValueError(f"{field} = {value!r} must be {wanted} finite numbers.")
    return array
