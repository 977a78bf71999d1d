"""Drawing posed people: lit mesh faces, painted from far to near.

Conventions: pictures are RGB uint8 `[H, W, 3]`; the canvas has `SUPERSAMPLING` times the resolution
of the image and a fourth channel that holds 1 + the number of the person whose face was painted
last (`OCCLUDER` for objects).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from metrabs_like.data.synthetic.appearance import Outfit
from metrabs_like.data.synthetic.camera import Camera
from metrabs_like.data.synthetic.face import face_features
from metrabs_like.data.synthetic.mesh_template import mesh_template
from metrabs_like.data.synthetic.scene import PlacedPerson, Scene

SUPERSAMPLING = 2
#: Value of the canvas' fourth channel where an object hides the people.
OCCLUDER = 255
_SHIFT = 4  # fractional bits of the polygon corners


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
        _paint_person(canvas, scene.people[index], scene.camera, light, index + 1)
        areas[index] = int(np.count_nonzero(canvas[..., 3] == index + 1))
    return areas


def _paint_person(canvas, person: PlacedPerson, camera, light, identity):
    """Paints one person."""
    rotation = camera.extrinsics[:3, :3] @ person.rotation
    translation = camera.world_to_camera(person.translation)
    vertices = person.posed.vertices @ rotation.T + translation
    corners = _canvas_corners(camera.camera_to_image(vertices))
    shown, depths, colours = _lit_faces(vertices, corners, person.outfit, light)
    polygons = list(corners[mesh_template().faces[shown]])
    features = face_features(person.posed, person.outfit, rotation, translation)
    for feature in features:
        polygons.append(_canvas_corners(camera.camera_to_image(feature.corners)))
        depths = np.append(depths, feature.depth)
        shade = light.ambient + light.colour * max(0.0, float(feature.normal @ light.direction))
        colours.append(np.minimum(feature.colour * shade, 255.0).tolist())
    for index in np.argsort(-depths).tolist():
        colour = (*colours[index], identity)
        cv2.fillConvexPoly(canvas, polygons[index], colour, cv2.LINE_8, _SHIFT)


def _canvas_corners(pixels):
    """Image pixels to fixed-point canvas pixels for OpenCV."""
    scaled = (pixels + 0.5) * SUPERSAMPLING - 0.5
    return np.rint(np.clip(scaled, -3e4, 3e4) * (1 << _SHIFT)).astype(np.int32)


def _lit_faces(vertices, corners, outfit: Outfit, light: Light):
    """Visible faces, their depths and lit colours."""
    template = mesh_template()
    quads = vertices[template.faces]
    flat = corners[template.faces].astype(np.float64)
    first, second = flat[:, 2] - flat[:, 0], flat[:, 3] - flat[:, 1]
    is_front = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0.0
    shown = np.flatnonzero(outfit.is_drawn & (is_front | outfit.two_sided))
    quads = quads[shown]
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12
    normals *= np.where(is_front[shown], 1.0, -1.0)[:, np.newaxis]
    middle = quads.mean(axis=1)
    facing = np.maximum(normals @ light.direction, 0.0)
    sky = 0.82 + 0.18 * (normals @ light.up)
    grazing = 1.0 - np.abs((normals * middle).sum(axis=-1)) / np.linalg.norm(middle, axis=-1)
    shade = sky[:, np.newaxis] * light.ambient + facing[:, np.newaxis] * light.colour
    shade *= (1.0 - 0.25 * grazing**2)[:, np.newaxis]
    highlight = 255.0 * outfit.gloss[shown] * facing**8
    colours = outfit.colours[shown] * shade + highlight[:, np.newaxis]
    return shown, np.linalg.norm(middle, axis=-1), np.clip(colours, 0.0, 255.0).tolist()
