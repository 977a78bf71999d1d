"""Placing people and the camera.

Conventions: world frame y down, floor at y = 0, the camera above the origin; see `camera`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from metrabs_like.data.synthetic.appearance import Outfit, sample_outfit
from metrabs_like.data.synthetic.body import Body, sample_body
from metrabs_like.data.synthetic.camera import (
    N_DISTORTION,
    Camera,
    distorted_points,
    distortion_stretch,
)
from metrabs_like.data.synthetic.config import SyntheticConfig
from metrabs_like.data.synthetic.mesh import PosedBody, posed_body
from metrabs_like.data.synthetic.mesh_template import mesh_template
from metrabs_like.data.synthetic.pose_library import sample_pose

#: Nearest depth of any part of a person, m: closer parts would not fit any lens.
MIN_DEPTH_M = 0.3
#: Distance between the pelvises of two people, at least, m.
_MIN_SPACING_M = 0.45
#: A camera that cuts away more than this of everybody is drawn anew, a few times.
_MIN_SHARE_SHOWN = 0.45
_MAX_TRIES = 8
#: Images from this side on get a mesh of twice the resolution.
_DETAILED_SIDE = 192
_BODY_TO_WORLD = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class PlacedPerson:
    """A person in the world.

    Attributes:
      posed: Shape and pose, body frame.
      outfit: Clothes and looks.
      rotation: `[3, 3]`, body to world frame.
      translation: `[3]`, world position of the pelvis, m.
      vertices: `[V, 3]`, world frame, m.
      body: Proportions.
      pose: `[n_angles]`, radians.
    """

    posed: PosedBody
    outfit: Outfit
    rotation: np.ndarray
    translation: np.ndarray
    vertices: np.ndarray
    body: Body
    pose: np.ndarray

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Returns points `[..., 3]` of the body frame in the world frame."""
        return points @ self.rotation.T + self.translation


@dataclass(frozen=True)
class View:
    """The surface of one person as the camera sees it.

    Attributes:
      vertices: `[V, 3]`, camera frame, m.
      pixels: `[V, 2]`, px, their exact projections.
    """

    vertices: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class Scene:
    """People in front of a camera.

    Attributes:
      people: In the order in which they were placed.
      views: What the camera sees of each.
      camera: The calibrated camera.
      depth: Typical distance of the people along the floor, m.
    """

    people: tuple[PlacedPerson, ...]
    views: tuple[View, ...]
    camera: Camera
    depth: float


def sample_scene(rng: np.random.Generator, config: SyntheticConfig) -> Scene:
    """Draws people, their places and a camera that looks at them.

    Args:
      rng: Source of randomness.
      config: Distributions.

    Returns:
      The scene; every point of every person lies at least `MIN_DEPTH_M` in front of the camera.
    """
    n_people = int(rng.integers(config.min_people, config.max_people + 1))
    logs = np.log([config.min_distance_m, config.max_distance_m])
    depth = float(np.exp(rng.uniform(*logs)))
    if n_people > 1:
        depth = max(depth, min(config.max_distance_m, 2.0))
    # Near cameras stay near the middle of the body: a steep view would show a top of a head only.
    height = rng.normal(1.25 if depth < 2.0 else 1.45, 0.42 * min(1.0, 0.3 + 0.2 * depth))
    height = min(max(height, config.min_camera_height_m), config.max_camera_height_m)
    people: list[PlacedPerson] = []
    for place in _floor_places(rng, n_people, depth):
        people.append(_placed_person(rng, config, place))
    n_tries = 0
    while True:
        camera = _aimed_camera(rng, config, people, height, depth)
        surfaces = [camera.world_to_camera(person.vertices) for person in people]
        if any(surface[:, 2].min() < MIN_DEPTH_M for surface in surfaces):
            people = [_moved_away(person, 0.5) for person in people]
            continue
        views = tuple(View(surface, camera.camera_to_image(surface)) for surface in surfaces)
        n_tries += 1
        if n_tries == _MAX_TRIES or _shows_enough(views, config.image_side):
            return Scene(tuple(people), views, camera, depth)


def _shows_enough(views, side):
    """Whether a good part of someone is in the image."""
    for view in views:
        is_inside = (view.pixels > 0.0) & (view.pixels < side)
        if np.count_nonzero(is_inside[:, 0] & is_inside[:, 1]) > _MIN_SHARE_SHOWN * len(is_inside):
            return True
    return not views


def _moved_away(person, distance):
    """The same person farther from the camera."""
    step = np.array([0.0, 0.0, distance])
    return replace(person, translation=person.translation + step, vertices=person.vertices + step)


def _floor_places(rng, n_people, depth):
    """Yields floor positions (x, z), the first straight ahead, later ones around it."""
    places = [np.array([0.0, depth])]
    spread = 0.35 + 0.22 * n_people
    for _ in range(n_people - 1):
        for _ in range(20):
            step = rng.normal(size=2) * (spread, 1.2 * spread)
            place = places[0] + step
            place[1] = max(place[1], 1.3)
            if min(np.hypot(*(place - other)) for other in places) > _MIN_SPACING_M:
                places.append(place)
                break
    return places[:n_people]


def _placed_person(rng, config, place):
    """Draws a person and stands them on the floor."""
    body = sample_body(rng)
    template = mesh_template(2 if config.image_side >= _DETAILED_SIDE else 1)
    outfit = sample_outfit(rng, template)
    pose = sample_pose(rng)
    posed = posed_body(body, pose, outfit.looseness, template)
    if rng.random() < config.frontal_fraction:
        yaw = np.radians(config.frontal_yaw_degrees) * rng.uniform(-1.0, 1.0)
    else:
        yaw = rng.uniform(-np.pi, np.pi)
    yaw += np.arctan2(place[0], place[1])  # relative to the line of sight
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    rotation = turn @ _BODY_TO_WORLD
    world = posed.vertices @ rotation.T
    x, y, z = world.T
    low_y, reach = y.max(), math.sqrt((x * x + z * z).max())
    jump = rng.uniform(0.0, 0.4) if rng.random() < 0.04 else 0.0
    # Pushed away until the nearest fingertip keeps its distance, whatever the camera's pitch.
    away = max(1.0, (reach + MIN_DEPTH_M + 0.15) / np.hypot(*place))
    translation = np.array([place[0] * away, -low_y - jump, place[1] * away])
    vertices = world + translation
    return PlacedPerson(posed, outfit, rotation, translation, vertices, body, pose)


def _aimed_camera(rng, config, people, height, depth):
    """A camera at `height` that shows the people at the wanted size and place."""
    position = np.array([0.0, -height, 0.0])
    if people:
        # Some of the vertices are enough to aim by.
        vertices = np.concatenate([person.vertices[::6] for person in people])
        low, high = _extremes(vertices)
    else:
        low, high = np.array([-0.5, -1.7, depth - 0.3]), np.array([0.5, 0.0, depth + 0.3])
        vertices = np.stack([low, high])
    rotation = _looking(0.5 * (low + high) - position, rng.normal(0.0, 0.05))
    relative = vertices - position
    normalized = _normalized(relative @ rotation.T)
    low, high = _extremes(normalized)
    extent = high - low
    fill, shift, is_cut = _framing(rng, config, extent)
    side = config.image_side
    focal = min(max(fill * side / extent.max(), 0.4 * side), 40.0 * side)
    centre = 0.5 * (low + high) - shift * side / focal
    rotation = _turned(rotation, centre)
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation
    extrinsics[:3, 3] = -rotation @ position
    normalized = _normalized(relative @ rotation.T)
    largest = (normalized**2).sum(axis=-1).max()
    coeffs = _lens(rng, config, 0.5 * np.sqrt(2.0) * side / focal, largest)
    aspect = 1.0 + rng.normal(0.0, 0.003)
    principal = 0.5 * (side - 1) + rng.normal(0.0, 0.015, size=2) * side
    if not is_cut:  # turning and lens have moved the outline a little: make sure that it fits
        low, high = _extremes(distorted_points(normalized, coeffs))
        room = np.concatenate([principal / -low, (side - principal) / high])
        focal = min(focal, 0.98 * room[room > 0].min(initial=np.inf))
    intrinsics = np.array([[focal, 0, principal[0]], [0, focal * aspect, principal[1]], [0, 0, 1]])
    return Camera(intrinsics, coeffs, extrinsics)


def _extremes(points):
    """Smallest and largest coordinates; reducing the long axis of rows of two or three is slow."""
    columns = points.T.copy()
    return columns.min(axis=1), columns.max(axis=1)


def _framing(rng, config, extent):
    """Share of the side that people fill, their middle in sides from the image's, if cut."""
    kind = rng.random()
    shape = extent / extent.max()
    if kind < config.truncation_fraction:
        fill = rng.uniform(0.85, 1.7)
        hidden = rng.uniform(0.05, 0.45, size=2) * fill * shape
        hidden[0] *= rng.random() < 0.35  # cut at the side more rarely than below or above
        free = np.maximum(0.5 * (1.0 - fill * shape), 0.0)
        edge = free + hidden
        sign = np.where(rng.random(2) < (0.5, 0.8), 1.0, -1.0)
        return fill, sign * edge, True
    small = kind < config.truncation_fraction + config.small_fraction
    fill = rng.uniform(0.25, 0.5) if small else rng.uniform(0.5, 0.95)
    return fill, rng.uniform(-0.5, 0.5, size=2) * (1.0 - fill * shape) * 0.9, False


def _looking(direction, roll):
    """World-to-camera rotation with the optical axis along `direction`."""
    level = _towards(direction)
    cos, sin = math.cos(roll), math.sin(roll)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ level


def _turned(rotation, centre):
    """Turns the camera so that the normalized point `centre` comes to the middle."""
    return _towards(np.array([centre[0], centre[1], 1.0])) @ rotation


def _towards(direction):
    """Rotation whose third row is along `direction` and whose first row is level."""
    x, y, z = direction.tolist()
    level, length = math.hypot(x, z), math.sqrt(x * x + y * y + z * z)
    right, forward = (z / level, 0.0, -x / level), (x / length, y / length, z / length)
    down = (forward[1] * right[2], forward[2] * right[0] - forward[0] * right[2])
    return np.array([right, (*down, -forward[1] * right[0]), forward])


def _normalized(points):
    """Normalized image coordinates; depths below the nearest allowed one count as that."""
    return points[:, :2] / np.maximum(points[:, 2:], MIN_DEPTH_M)


def _lens(rng, config, corner_radius, largest_squared_radius):
    """Mild distortion: a few per cent at the image corner, never folding where people are."""
    coeffs = np.zeros(N_DISTORTION)
    if rng.random() >= config.distortion_fraction:
        return coeffs
    k1 = rng.uniform(-0.07, 0.04) / corner_radius**2
    k2 = rng.uniform(-0.01, 0.01) / corner_radius**4
    coeffs[:4] = k1, k2, *(rng.normal(0.0, 0.002, size=2) / corner_radius)
    reach = np.linspace(0.0, max(largest_squared_radius, corner_radius**2), 8) * 1.15
    return coeffs if distortion_stretch(reach, coeffs).min() > 0.3 else np.zeros(N_DISTORTION)
