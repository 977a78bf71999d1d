"""Procedural backgrounds, foreground objects and contact shadows.

Conventions: pictures are float32 RGB `[S, S, 3]`, 0..255. All numbers are ours.
"""

from __future__ import annotations

import cv2
import numpy as np

from metrabs_like.data.synthetic.camera import Camera


def sample_background(
    rng: np.random.Generator, camera: Camera, side: int, depth: float
) -> np.ndarray:
    """Draws what is behind the people.

    Args:
      rng: Source of randomness.
      camera: Puts floor and horizon where the camera sees them.
      side: Side of the picture, px.
      depth: Distance of the people, m; walls stand behind it.

    Returns:
      `[side, side, 3]`, RGB.
    """
    kind = rng.random()
    if kind < 0.45:
        picture = _room(rng, camera, side, depth)
    elif kind < 0.7:
        picture = _outdoors(rng, camera, side, depth)
    elif kind < 0.9:
        picture = _texture(rng, side, base=_colour_grid(rng, side, int(rng.integers(2, 7))))
    else:
        picture = _colour_grid(rng, side, 2)
    if rng.random() < 0.6:
        _clutter(rng, picture, int(rng.integers(1, 12)))
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 2.5) * side / 128)
    return picture


def sample_occluder(rng: np.random.Generator, side: int) -> tuple[np.ndarray, tuple]:
    """Draws an object that stands in front of the people.

    Args:
      rng: Source of randomness.
      side: Side of the picture, px.

    Returns:
      Corners `[n, 2]` in px and an RGB colour.
    """
    colour = _any_colour(rng)
    x, y = rng.uniform(0.0, side, 2)
    kind = rng.random()
    if kind < 0.4:  # a table or counter from below
        top, slope = rng.uniform(0.6, 0.95) * side, rng.normal(0.0, 0.08) * side
        left = -10 if rng.random() < 0.6 else x * 0.5
        corners = [(left, top), (side + 10, top + slope), (side + 10, 2 * side), (left, 2 * side)]
    elif kind < 0.7:  # a post
        half = rng.uniform(0.015, 0.06) * side
        lean = rng.normal(0.0, 0.06) * side
        corners = [(x - half, -5), (x + half, -5), (x + half + lean, side + 5)]
        corners.append((x - half + lean, side + 5))
    else:  # a bag, a plant
        angles = np.sort(rng.uniform(0.0, 2.0 * np.pi, 9))
        radii = rng.uniform(0.06, 0.16) * side * rng.uniform(0.7, 1.2, 9)
        hull = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=-1)
        corners = cv2.convexHull(hull.astype(np.float32))[:, 0]
    return np.asarray(corners, dtype=np.float64), tuple(colour.tolist())


def cast_shadow(
    picture: np.ndarray, camera: Camera, places: list[np.ndarray], strength: float
) -> None:
    """Darkens the floor below people.

    Args:
      picture: `[S, S, 3]`, changed in place.
      camera: The camera.
      places: Pieces `[n, 3]` of bodies in the world frame, m; each shades the floor under it.
      strength: 0 to 1.
    """
    shade = np.zeros(picture.shape[:2], dtype=np.float32)
    for place in places:
        spread = place[:, np.newaxis] + 0.12 * _DISC
        spread[..., 1] = 0.0
        seen = camera.world_to_camera(spread.reshape(-1, 3))
        if seen[:, 2].min() < 0.1:
            continue
        pixels = np.clip(camera.camera_to_image(seen), -3e4, 3e4)
        hull = cv2.convexHull(np.rint(pixels * 16).astype(np.int32))
        cv2.fillConvexPoly(shade, hull, strength, cv2.LINE_8, 4)
    side = picture.shape[0]
    shade = cv2.blur(shade, (side // 20 | 1, side // 40 | 1))
    picture *= (1.0 - shade)[..., np.newaxis]


_ANGLES = np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False)
_DISC = np.stack([np.cos(_ANGLES), np.zeros(8), np.sin(_ANGLES)], axis=-1)


def _any_colour(rng):
    """A random RGB colour, half of the time nearly grey."""
    level = rng.uniform(15.0, 245.0)
    spread = 6.0 if rng.random() < 0.4 else 45.0
    return np.clip(level + rng.normal(0.0, spread, 3), 0.0, 255.0)


def _colour_grid(rng, side, n_cells):
    """Smooth colours between a few random ones."""
    grid = _any_colour(rng) + rng.normal(0.0, rng.uniform(5.0, 45.0), (n_cells, n_cells, 1))
    grid = grid + rng.normal(0.0, rng.uniform(2.0, 22.0), (n_cells, n_cells, 3))
    smooth = cv2.resize(grid.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth, 0.0, 255.0)


def _texture(rng, side, base):
    """Adds noise of several grain sizes."""
    n_octaves = int(rng.integers(1, 4))
    for cells in rng.choice((6, 10, 16, 28, 48, 80), n_octaves, replace=False).tolist():
        shape = (cells, cells) if rng.random() < 0.6 else (cells, max(2, cells // 6))
        grain = rng.standard_normal(shape, dtype=np.float32) * np.float32(rng.uniform(4.0, 22.0))
        smooth = cv2.INTER_LINEAR if rng.random() < 0.8 else cv2.INTER_NEAREST
        base = base + cv2.resize(grain, (side, side), interpolation=smooth)[..., np.newaxis]
    return np.clip(base, 0.0, 255.0)


def _floor(rng, picture, camera, far):
    """Paints a patterned floor between the camera and the distance `far`."""
    side = picture.shape[0]
    size, scale = 128, 8.0 / rng.uniform(4.0, 16.0)
    tile = _any_colour(rng) + rng.normal(0.0, 5.0, (size, size, 1))
    kind, strength = rng.random(), rng.uniform(0.6, 1.3)
    if kind < 0.3:  # tiles
        step = int(rng.integers(4, 14))
        rows = np.arange(size) // step % 2
        tile[rows[:, np.newaxis] == rows] *= strength
    elif kind < 0.55:  # planks
        step = int(rng.integers(3, 9))
        tile *= 1.0 + 0.12 * rng.standard_normal((size // step + 1, 1, 1)).repeat(step, 0)[:size]
    elif kind < 0.75:  # carpet, grass
        tile += rng.normal(0.0, rng.uniform(5.0, 18.0), (size, size, 1))
    metres = size / 10.0 * scale
    # Texture pixel (u, v) lies at x = (u - size/2) / metres, z = v / metres + 0.2 on the floor.
    to_world = np.array([[1 / metres, 0, -size / 2 / metres], [0, 1 / metres, 0.2], [0, 0, 1.0]])
    extrinsics = camera.extrinsics
    homography = camera.intrinsics @ extrinsics[:3, [0, 2, 3]] @ to_world
    columns = np.concatenate([extrinsics[:3, [0, 2]], extrinsics[:3, 3:]], axis=1)
    homography = camera.intrinsics @ columns @ to_world
    border = cv2.BORDER_REFLECT
    floor = cv2.warpPerspective(
        np.clip(tile, 0, 255).astype(np.float32), homography, (side, side), borderMode=border
    )
    mask = _below_line(camera, side, far)
    picture *= 1.0 - mask
    picture += floor * mask
    return mask


def _below_line(camera, side, far):
    """1 where the camera sees floor nearer than `far`, `[S, S, 1]`."""
    edge = camera.world_to_camera(np.array([[-0.3 * far, 0.0, far], [0.3 * far, 0.0, far]]))
    edge = np.maximum(edge, [-np.inf, -np.inf, 0.05])
    pixels = edge[:, :2] / edge[:, 2:] @ camera.intrinsics[:2, :2].T + camera.intrinsics[:2, 2]
    slope = (pixels[1, 1] - pixels[0, 1]) / max(pixels[1, 0] - pixels[0, 0], 1e-6)
    columns = np.arange(side)
    heights = pixels[0, 1] + slope * (columns - pixels[0, 0])
    mask = np.clip(np.arange(side)[:, np.newaxis] - heights + 0.5, 0.0, 1.0)
    return mask.astype(np.float32)[..., np.newaxis]


def _room(rng, camera, side, depth):
    """A wall with things on it above a floor."""
    picture = _texture(rng, side, _colour_grid(rng, side, 2))
    _panels(rng, picture, int(rng.integers(0, 5)))
    mask = _floor(rng, picture, camera, depth + rng.uniform(0.5, 5.0))
    if rng.random() < 0.5:  # a baseboard
        edge = np.abs(mask - np.roll(mask, rng.integers(1, 4), axis=0))
        picture += (_any_colour(rng) - picture).astype(np.float32) * edge
    return picture


def _outdoors(rng, camera, side, depth):
    """Sky, a skyline or bushes, and ground."""
    rows = np.linspace(0.0, 1.0, side, dtype=np.float32)[:, np.newaxis, np.newaxis]
    zenith = np.array([90.0, 140.0, 205.0]) + rng.normal(0.0, 25.0, 3)
    haze = np.array([205.0, 215.0, 225.0]) + rng.normal(0.0, 18.0, 3)
    picture = np.repeat((zenith + (haze - zenith) * rows).astype(np.float32), side, axis=1)
    horizon = _below_line(camera, side, 200.0)
    top = float(np.argmax(horizon[:, side // 2, 0] > 0.5)) if horizon.any() else float(side)
    if rng.random() < 0.5:
        _panels(rng, picture, int(rng.integers(2, 7)), bottom=top)
    else:
        green = np.array([60.0, 85.0, 45.0]) + rng.normal(0.0, 20.0, 3)
        bushes = _texture(rng, side, np.full((side, side, 3), green, dtype=np.float32))
        outline = cv2.resize(rng.normal(0.0, 1.0, (1, 8)), (side, 1), interpolation=cv2.INTER_CUBIC)
        height = top - side * (rng.uniform(0.0, 0.5) + 0.08 * outline)
        above = np.clip(np.arange(side)[:, np.newaxis] - height, 0.0, 1.0)[..., np.newaxis]
        picture += (bushes - picture) * above.astype(np.float32)
    _floor(rng, picture, camera, 60.0 + depth)
    return np.clip(picture, 0.0, 255.0)


def _panels(rng, picture, count, bottom=None):
    """Rectangles with frames and windows: pictures, doors, shelves, buildings."""
    side = picture.shape[0]
    for _ in range(count):
        x, y = rng.uniform(-0.1, 0.9, 2) * side
        width, height = rng.uniform(0.08, 0.5, 2) * side
        low = bottom if bottom is not None else y + height
        colour = _any_colour(rng).tolist()
        start, end = (int(x), int(min(y, low))), (int(x + width), int(low))
        cv2.rectangle(picture, start, end, colour, -1)
        if rng.random() < 0.5:
            cv2.rectangle(picture, start, end, _any_colour(rng).tolist(), max(1, side // 64))
        if rng.random() < 0.4:
            step, inner = int(rng.integers(5, 14)) * side // 128, _any_colour(rng)
            patch = picture[max(start[1], 0) : end[1], max(start[0], 0) : end[0]]
            patch[step // 3 :: step] = inner
            patch[:, step // 3 :: step] = inner


def _clutter(rng, picture, count):
    """Random lines, ellipses and limb-like strokes anywhere."""
    side = picture.shape[0]
    for kind in rng.random(count).tolist():
        colour = _any_colour(rng).tolist()
        x, y, u, v = (rng.uniform(-0.1, 1.1, 4) * side).astype(int).tolist()
        if kind < 0.35:
            thickness = int(rng.integers(1, 2 + side // 12))
            cv2.line(picture, (x, y), (u, v), colour, thickness, cv2.LINE_AA)
        elif kind < 0.65:
            axes = (1 + abs(u - x) // 5, 1 + abs(v - y) // 5)
            cv2.ellipse(picture, (x, y), axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
        elif kind < 0.85:
            cv2.rectangle(picture, (x, y), (x + abs(u - x) // 3, y + abs(v - y) // 3), colour, -1)
        else:
            thickness = int(rng.integers(1, 3))
            cv2.circle(picture, (x, y), 2 + side // 24, colour, thickness, cv2.LINE_AA)
