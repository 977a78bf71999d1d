"""Marked points on the visible surface of synthetic people.

Conventions: camera frame, m; pixels of the distorted image (pixel (0, 0) = centre of the top-left
pixel). The canvas is `rendering`'s, of `SUPERSAMPLING` times the resolution. Points belong to the
naked procedural body, also under clothes.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat

import cv2
import numpy as np

from metrabs_like.data.people import BodyParameters, SurfacePoints
from metrabs_like.data.synthetic.body_model import camera_points, procedural_body
from metrabs_like.data.synthetic.camera import Camera
from metrabs_like.data.synthetic.rendering import (
    SUBPIXEL_BITS,
    SUPERSAMPLING,
    canvas_corners,
    turns,
)

#: A point may lie this much behind the nearest surface, m: the canvas has pixels of some size.
_DEPTH_TOLERANCE_M = 0.01
_ROUNDS = 4
_DRAWS_PER_POINT = 4


def visible_surface_points(
    rng: np.random.Generator,
    parameters: BodyParameters,
    camera: Camera,
    is_visible: np.ndarray,
    n_points: int,
) -> SurfacePoints | None:
    """Draws points of a person's surface that the camera sees, evenly over the area.

    A point is seen if its face looks to the camera, no other part of the body is in front of it,
    and its pixel shows the person.

    Args:
      rng: Source of randomness.
      parameters: The person's body parameters.
      camera: The calibrated camera.
      is_visible: uint8 `[H, W]` of the canvas, not 0 where the person shows.
      n_points: How many points are wanted, >= 1.

    Returns:
      Up to `n_points` points, fewer if little is seen; None if nothing is.
    """
    model = procedural_body()
    vertices, _ = camera_points(parameters)
    pixels = camera.camera_to_image(vertices)
    corners = canvas_corners(pixels)[model.faces]
    front = np.flatnonzero(turns(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) < 0)
    if not len(front) or not is_visible.any():
        return None
    triangles = vertices[model.faces]
    shown = _painted_faces(corners, triangles, front, is_visible.shape)
    shown[is_visible == 0] = 0
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    areas = np.linalg.norm(normals[front], axis=-1)
    found = []
    for _ in range(_ROUNDS):
        faces = rng.choice(front, n_points * _DRAWS_PER_POINT, p=areas / areas.sum())
        weights = _barycentric(rng, len(faces))
        points = (triangles[faces] * weights[..., np.newaxis]).sum(axis=1)
        places = camera.camera_to_image(points)
        is_seen = _is_seen(points, places, shown, triangles[:, 0], normals, camera)
        found.append([x[is_seen] for x in (model.faces[faces], weights, places)])
        if sum(len(ids) for ids, _, _ in found) >= n_points:
            break
    ids, weights, places = (np.concatenate(x)[:n_points] for x in zip(*found, strict=True))
    if not len(ids):
        return None
    return SurfacePoints(ids, weights.astype(np.float32), places.astype(np.float32))


def _painted_faces(corners, triangles, front, shape):
    """1 + the number of the face that each canvas pixel shows, 0 where there is none."""
    # OpenCV draws 32-bit integers too
    canvas = np.zeros(shape, np.int32)
    distances = np.linalg.norm(triangles[front].mean(axis=1), axis=-1)
    order = front[np.argsort(-distances)]
    paint = map(
        cv2.fillConvexPoly,
        repeat(canvas),
        list(corners[order]),
        (order + 1.0).tolist(),
        repeat(cv2.LINE_8),
        repeat(SUBPIXEL_BITS),
    )
    deque(paint, maxlen=0)
    return canvas


def _barycentric(rng, n):
    """Weights `[n, 3]`, even over a triangle."""
    u, v = rng.random((2, n))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return np.stack([1 - u - v, u, v], axis=-1)


def _is_seen(points, places, shown, origins, normals, camera):
    """Whether nothing nearer than a point is painted at its pixel, which shows the person."""
    height, width = shown.shape
    column, row = np.rint((places + 0.5) * SUPERSAMPLING - 0.5).astype(int).T
    is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    painted = np.where(is_inside, shown[row * is_inside, column * is_inside], 0) - 1
    # Where the line of sight meets the plane of the painted face, as a share of the point's depth.
    to_plane = (normals[painted] * origins[painted]).sum(axis=-1)
    share = to_plane / np.minimum((normals[painted] * points).sum(axis=-1), -1e-12)
    pixel_m = points[:, 2] / (camera.intrinsics[0, 0] * SUPERSAMPLING)
    behind = (1.0 - share) * points[:, 2]
    return (painted >= 0) & (behind < _DEPTH_TOLERANCE_M + pixel_m)
