"""Eyes, brows, nose, mouth and glasses: polygons on the front of the head.

Conventions: head frame at rest (x left, y up, z front) with the head joint as origin, m; colours
RGB 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from metrabs_like.data.synthetic.appearance import Outfit
from metrabs_like.data.synthetic.mesh import PosedBody

_ROUND = np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False)


@dataclass(frozen=True)
class Features:
    """Polygons on a face, in painting order.

    Attributes:
      corners: `[n, 8, 3]`, m, camera frame; polygons with fewer corners repeat the last one.
      normals: `[n, 3]`, unit, out of the face, camera frame.
      depths: `[n]`, m, sorting distances in front of the skin below.
      colours: `[n, 3]`, RGB before lighting.
    """

    corners: np.ndarray
    normals: np.ndarray
    depths: np.ndarray
    colours: np.ndarray


def face_features(
    posed: PosedBody, outfit: Outfit, rotation: np.ndarray, translation: np.ndarray
) -> Features:
    """Places the features that face the camera.

    Args:
      posed: The person.
      outfit: Colours of skin, hair, eyes, lips; eyewear.
      rotation: `[3, 3]`, body to camera frame.
      translation: `[3]`, m, the pelvis in the camera frame.

    Returns:
      The features; `n` is 0 when the face looks away.
    """
    kinds, corners, normals = _shapes()
    turn = rotation @ posed.head_rotation
    placed = posed.head_scale * corners @ turn.T + (rotation @ posed.head_joint + translation)
    normals = normals @ turn.T
    middles = placed.mean(axis=1)
    distances = np.sqrt((middles**2).sum(axis=-1))
    is_worn = (kinds != _SHADE) | (outfit.eyewear == 2)
    is_worn &= (kinds != _FRAME) | (outfit.eyewear == 1)
    is_seen = is_worn & ((normals * middles).sum(axis=-1) < -0.12 * distances)
    depths = distances - 0.025 - 0.001 * np.arange(len(kinds))
    colours = _colours(outfit)[kinds[is_seen]]
    return Features(placed[is_seen], normals[is_seen], depths[is_seen], colours)


(_SOCKET, _WHITE, _IRIS, _BROW, _NOSE_SIDE, _NOSE, _NOSTRILS, _MOUTH, _SHADE, _FRAME) = range(10)


def _colours(outfit):
    """Colour of each kind of feature, `[10, 3]`."""
    skin = outfit.skin
    return np.stack(
        [
            skin * 0.87,
            np.minimum(skin * 0.35 + 150.0, 245.0),
            outfit.iris * 0.6,
            0.75 * outfit.hair + 0.15 * skin,
            skin * 0.84,
            np.minimum(skin * 1.05, 255.0),
            skin * 0.5,
            outfit.lips,
            np.array([20.0, 20.0, 24.0]),
            np.array([40.0, 32.0, 30.0]),
        ]
    )


@cache
def _shapes():
    """All polygons in painting order: kinds `[n]`, corners `[n, 8, 3]`, normals `[n, 3]`."""
    shapes = []
    for side in (1.0, -1.0):
        shapes.append((_SOCKET, _ellipse(0.032 * side, 0.074, 0.022, 0.015), side * 0.45))
        shapes.append((_WHITE, _ellipse(0.032 * side, 0.071, 0.0145, 0.0075), side * 0.45))
        shapes.append((_IRIS, _ellipse(0.031 * side, 0.071, 0.0068, 0.0075), side * 0.45))
        brow = [(0.014, 0.088), (0.03, 0.097), (0.05, 0.09), (0.048, 0.086), (0.03, 0.09)]
        shapes.append((_BROW, _on_face([(x * side, y) for x, y in brow]), side * 0.45))
        side_of_nose = np.array([(0, 0.07, 0.100), (0.016 * side, 0.032, 0.096), (0, 0.034, 0.118)])
        shapes.append((_NOSE_SIDE, side_of_nose, side * 0.9))
    bridge = [(0.005, 0.07, 0.1), (-0.005, 0.07, 0.1), (-0.01, 0.034, 0.11), (0.01, 0.034, 0.11)]
    shapes.append((_NOSE, np.array(bridge), 0.0))
    shapes.append((_NOSTRILS, _ellipse(0.0, 0.030, 0.013, 0.004), 0.0))
    shapes.append((_MOUTH, _ellipse(0.0, 0.002, 0.024, 0.0075), 0.0))
    for side in (1.0, -1.0):
        shapes.append((_SHADE, _ellipse(0.032 * side, 0.070, 0.026, 0.018), side * 0.3))
    frame = [(-0.06, 0.079), (0.06, 0.079), (0.06, 0.074), (-0.06, 0.074)]
    shapes.append((_FRAME, _on_face(frame), 0.0))
    kinds, corners, sideways = zip(*shapes, strict=True)
    padded = [np.pad(c, ((0, 8 - len(c)), (0, 0)), mode="edge") for c in corners]
    normals = np.array([(across, 0.0, 1.0) for across in sideways])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.array(kinds), np.stack(padded), normals


def _ellipse(x, y, half_width, half_height):
    """An ellipse on the face."""
    return _on_face(
        np.stack([x + half_width * np.cos(_ROUND), y + half_height * np.sin(_ROUND)], axis=-1)
    )


def _on_face(points):
    """Lifts (x, y) onto the front of the head, slightly proud of it."""
    points = np.asarray(points, dtype=np.float64)
    depth = np.interp(
        points[:, 1], (-0.05, 0.0, 0.04, 0.08, 0.12), (0.096, 0.104, 0.103, 0.103, 0.1)
    )
    width = np.interp(
        points[:, 1], (-0.05, 0.0, 0.04, 0.08, 0.12), (0.045, 0.062, 0.07, 0.076, 0.076)
    )
    bend = np.sqrt(np.maximum(1.0 - (points[:, 0] / width) ** 2, 0.05))
    return np.concatenate([points, (depth * bend)[:, np.newaxis]], axis=-1)
