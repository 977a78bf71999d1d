"""Drawing posed people: lit mesh faces, painted from far to near.

Conventions: pictures are RGB uint8 `[H, W, 3]`; the canvas has `SUPERSAMPLING` times the resolution
of the image and a fourth channel that holds 1 + the number of the person whose face was painted
last (`OCCLUDER` for objects).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np

from metrabs_like.data.synthetic.appearance import Outfit
from metrabs_like.data.synthetic.camera import Camera
from metrabs_like.data.synthetic.face import face_features
from metrabs_like.data.synthetic.scene import Scene

SUPERSAMPLING = 2
#: Value of the canvas' fourth channel where an object hides the people.
OCCLUDER = 255
#: Fractional bits of the polygon corners.
SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Light:
    """Light of a scene.

    Attributes:
      direction: `[3]`, unit vector towards the light, camera frame.
      up: `[3]`, unit vector away from the floor, camera frame.
      colour: `[3]`, RGB factor of the directed light.
      ambient: `[3]`, RGB factor of the light from everywhere.
    """

    direction: np.ndarray
    up: np.ndarray
    colour: np.ndarray
    ambient: np.ndarray


def sample_light(rng: np.random.Generator, camera: Camera) -> Light:
    """Draws a light above the scene, often behind the photographer.

    Args:
      rng: Source of randomness.
      camera: Gives the direction of the floor.

    Returns:
      The light.
    """
    world = rng.normal(size=3) * (1.0, 0.6, 1.0) + (0.0, -0.9, -0.5)
    rotation = camera.extrinsics[:3, :3]
    share = rng.uniform(0.3, 0.75)
    warmth = rng.normal(0.0, 0.06)
    tint = np.array([1.0 + warmth, 1.0, 1.0 - warmth])
    level = rng.uniform(0.85, 1.15)
    return Light(
        direction=rotation @ (world / np.linalg.norm(world)),
        up=-rotation[:, 1],
        colour=level * share * tint,
        ambient=level * (1.0 - 0.55 * share) * (2.0 - tint),
    )


def paint_people(canvas: np.ndarray, scene: Scene, light: Light) -> list[int]:
    """Paints all people, the farthest first.

    Args:
      canvas: uint8 `[H, W, 4]`, changed in place; its fourth channel identifies people.
      scene: People and camera.
      light: The light.

    Returns:
      For each person the number of canvas pixels of their silhouette, before nearer people cover
      it.
    """
    areas = [0] * len(scene.people)
    depths = [scene.camera.world_to_camera(p.translation)[2] for p in scene.people]
    for index in np.argsort(depths)[::-1].tolist():
        _paint_person(canvas, scene, index, light)
        areas[index] = int(np.count_nonzero(cv2.extractChannel(canvas, 3) == index + 1))
    return areas


def _paint_person(canvas, scene: Scene, index, light):
    """Paints one person."""
    person, view, camera = scene.people[index], scene.views[index], scene.camera
    faces = person.posed.template.faces
    corners = canvas_corners(view.pixels)[faces]
    shown, depths, colours = _lit_faces(view.vertices, faces, corners, person.outfit, light)
    rotation = camera.extrinsics[:3, :3] @ person.rotation
    features = face_features(
        person.posed, person.outfit, rotation, camera.world_to_camera(person.translation)
    )
    order = np.argsort(-np.concatenate([depths, features.depths]))
    colours = np.concatenate([colours, _lit_features(features, light)])[order]
    painted = np.full((len(order), 4), index + 1.0)
    painted[:, :3] = np.minimum(colours, 255.0)
    polygons = list(corners[shown])
    polygons.extend(canvas_corners(camera.camera_to_image(features.corners)))
    polygons = map(polygons.__getitem__, order.tolist())
    # Some hundred tiny polygons: a loop in Python would cost as much as the painting.
    paint = map(
        cv2.fillConvexPoly,
        repeat(canvas),
        polygons,
        painted.tolist(),
        repeat(cv2.LINE_8),
        repeat(SUBPIXEL_BITS),
    )
    deque(paint, maxlen=0)


def _lit_features(features, light):
    """Colours of facial features under the light, `[n, 3]`."""
    facing = np.maximum(features.normals @ light.direction, 0.0)[:, np.newaxis]
    return features.colours * (light.ambient + light.colour * facing)


def canvas_corners(pixels: np.ndarray) -> np.ndarray:
    """Takes places in the image to the canvas.

    Args:
      pixels: `[..., 2]`, px in the image.

    Returns:
      int32 `[..., 2]`, canvas pixels with `SUBPIXEL_BITS` fractional bits, as OpenCV draws them.
    """
    scaled = (pixels + 0.5) * SUPERSAMPLING - 0.5
    scaled = np.minimum(np.maximum(scaled, -3e4), 3e4)
    return np.rint(scaled * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _lit_faces(vertices, faces, corners, outfit: Outfit, light: Light):
    """Visible faces, their depths and lit colours."""
    first, second = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    turn = turns(first, second)
    shown = np.flatnonzero(outfit.is_drawn & ((turn < 0) | outfit.two_sided))
    a, b, c, d = vertices.T[:, faces[shown].T].transpose(1, 0, 2)
    normals = _crossed(c - a, d - b)
    normals *= np.where(turn[shown] < 0, 1.0, -1.0) / np.sqrt((normals**2).sum(axis=0) + 1e-20)
    middle = 0.25 * (a + b + c + d)
    distances = np.sqrt((middle**2).sum(axis=0))
    facing = np.maximum(light.direction @ normals, 0.0)
    grazing = 1.0 + (normals * middle).sum(axis=0) / distances
    darkening = (1.0 - 0.25 * grazing**2)[:, np.newaxis]
    sky = (0.82 + 0.18 * (light.up @ normals))[:, np.newaxis]
    shade = (sky * light.ambient + facing[:, np.newaxis] * light.colour) * darkening
    highlight = 255.0 * outfit.gloss[shown] * facing**8
    colours = outfit.colours[shown] * shade + highlight[:, np.newaxis]
    return shown, distances, colours


def turns(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the cross products of rows `[n, 2]` of `canvas_corners`, negative for front faces."""
    return first[:, 0].astype(np.int64) * second[:, 1] - first[:, 1].astype(np.int64) * second[:, 0]


def _crossed(a, b):
    """Cross products of the columns of two arrays `[3, n]`."""
    return np.stack(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )
