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
class Feature:
    """A polygon of the face in the camera frame.

    Attributes:
      corners: `[n, 3]`, m.
      normal: `[3]`, unit, out of the face.
      depth: Sorting distance, m, in front of the skin below.
      colour: `[3]`, RGB before lighting.
    """

    corners: np.ndarray
    normal: np.ndarray
    depth: float
    colour: np.ndarray


def face_features(
    posed: PosedBody, outfit: Outfit, rotation: np.ndarray, translation: np.ndarray
) -> list[Feature]:
    """Places the features that face the camera.

    Args:
      posed: The person.
      outfit: Colours of skin, hair, eyes, lips; eyewear.
      rotation: `[3, 3]`, body to camera frame.
      translation: `[3]`, m, the pelvis in the camera frame.

    Returns:
      Features in painting order; none when the face looks away.
    """
    turn = rotation @ posed.head_rotation
    joint = rotation @ posed.head_joint + translation
    if turn[:, 2] @ joint > 0.35 * np.linalg.norm(joint):
        return []
    features = []
    for order, (kind, corners, normal) in enumerate(_shapes()):
        colour = _colour(kind, outfit)
        if colour is None:
            continue
        placed = posed.head_scale * corners @ turn.T + joint
        outward = turn @ normal
        middle = placed.mean(axis=0)
        distance = float(np.linalg.norm(middle))
        if outward @ middle < -0.12 * distance:
            depth = distance - 0.025 - 0.001 * order
            features.append(Feature(placed, outward, depth, colour))
    return features


def _colour(kind, outfit):
    """Colour of a kind of feature, None where this person has none."""
    if kind == "shade" and outfit.eyewear == 2:
        return np.array([20.0, 20.0, 24.0])
    if kind == "frame" and outfit.eyewear == 1:
        return np.array([40.0, 32.0, 30.0])
    return {
        "white": np.minimum(outfit.skin * 0.35 + 150.0, 245.0),
        "iris": outfit.iris * 0.6,
        "brow": 0.75 * outfit.hair + 0.15 * outfit.skin,
        "nose_side": outfit.skin * 0.84,
        "nose": np.minimum(outfit.skin * 1.05, 255.0),
        "nostrils": outfit.skin * 0.5,
        "mouth": outfit.lips,
        "socket": outfit.skin * 0.87,
    }.get(kind)


@cache
def _shapes():
    """All polygons in painting order: (kind, corners, normal)."""
    shapes = []
    for side in (1.0, -1.0):
        shapes.append(("socket", _ellipse(0.032 * side, 0.074, 0.022, 0.015), side * 0.45))
        shapes.append(("white", _ellipse(0.032 * side, 0.071, 0.0145, 0.0075), side * 0.45))
        shapes.append(("iris", _ellipse(0.031 * side, 0.071, 0.0068, 0.0075), side * 0.45))
        brow = [(0.014, 0.088), (0.03, 0.097), (0.05, 0.09), (0.048, 0.086), (0.03, 0.09)]
        shapes.append(("brow", _on_face([(x * side, y) for x, y in brow]), side * 0.45))
        side_of_nose = np.array([(0, 0.07, 0.100), (0.016 * side, 0.032, 0.096), (0, 0.034, 0.118)])
        shapes.append(("nose_side", side_of_nose, side * 0.9))
    bridge = [(0.005, 0.07, 0.1), (-0.005, 0.07, 0.1), (-0.01, 0.034, 0.11), (0.01, 0.034, 0.11)]
    shapes.append(("nose", np.array(bridge), 0.0))
    shapes.append(("nostrils", _ellipse(0.0, 0.030, 0.013, 0.004), 0.0))
    shapes.append(("mouth", _ellipse(0.0, 0.002, 0.024, 0.0075), 0.0))
    for side in (1.0, -1.0):
        shapes.append(("shade", _ellipse(0.032 * side, 0.070, 0.026, 0.018), side * 0.3))
    shapes.append(
        ("frame", _on_face([(-0.06, 0.079), (0.06, 0.079), (0.06, 0.074), (-0.06, 0.074)]), 0.0)
    )
    return [(kind, corners, _unit(sideways)) for kind, corners, sideways in shapes]


def _unit(sideways):
    """Normal of a polygon that looks forward and somewhat to one side."""
    normal = np.array([sideways, 0.0, 1.0])
    return normal / np.linalg.norm(normal)


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
