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
        width = int(rng.integers(1, 4)) * side // 128 * 2 + 1
        picture = cv2.blur(picture, (width, width))
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


def cast_shadow(picture: np.ndarray, camera: Camera, pieces: np.ndarray, strength: float) -> None:
    """Darkens the floor below people.

    Args:
      picture: `[S, S, 3]`, changed in place.
      camera: The camera.
      pieces: `[n, k, 3]`, world frame, m; each of the `n` pieces of a body shades the floor below
        its `k` points.
      strength: 0 to 1.
    """
    spread = pieces[:, :, np.newaxis] + _DISC
    spread = spread.reshape(len(pieces), pieces.shape[1] * len(_DISC), 3)
    spread[..., 1] = 0.0
    seen = camera.world_to_camera(spread)
    seen = seen[(seen[..., 2] > 0.1).all(axis=-1)]
    if not len(seen):
        return
    pixels = np.minimum(np.maximum(camera.camera_to_image(seen), -3e4), 3e4)
    shade = np.zeros(picture.shape[:2], dtype=np.float32)
    for corners in np.rint(pixels * 16.0).astype(np.int32):
        cv2.fillConvexPoly(shade, cv2.convexHull(corners), strength, cv2.LINE_8, 4)
    side = picture.shape[0]
    shade = cv2.blur(shade, (side // 20 | 1, side // 40 | 1))
    picture *= _as_rgb(1.0 - shade)


_ANGLES = np.linspace(0.0, 2.0 * np.pi, 6, endpoint=False)
_DISC = 0.12 * np.stack([np.cos(_ANGLES), np.zeros(6), np.sin(_ANGLES)], axis=-1)


def _as_rgb(grey):
    """Three equal channels; broadcasting over so short an axis would be slow."""
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def _any_colour(rng):
    """A random RGB colour, half of the time nearly grey."""
    level = rng.uniform(15.0, 245.0)
    spread = 6.0 if rng.random() < 0.5 else 34.0
    colour = level + spread * rng.standard_normal(3)
    return np.minimum(np.maximum(colour, 0.0), 255.0)


def _colour_grid(rng, side, n_cells):
    """Smooth colours between a few random ones."""
    grid = _any_colour(rng) + rng.normal(0.0, rng.uniform(5.0, 45.0), (n_cells, n_cells, 1))
    grid = grid + rng.normal(0.0, rng.uniform(2.0, 22.0), (n_cells, n_cells, 3))
    grid = np.clip(grid, 0.0, 255.0).astype(np.float32)
    linear = cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR)
    return cv2.blur(linear, (side // 8 | 1, side // 8 | 1))  # cubic interpolation costs more


def _texture(rng, side, base):
    """Adds noise of several grain sizes."""
    n_octaves = int(rng.integers(1, 4))
    grain = np.zeros((side, side), dtype=np.float32)
    for cells in rng.permutation((6, 10, 16, 28, 48, 80))[:n_octaves].tolist():
        shape = (cells, cells) if rng.random() < 0.6 else (cells, max(2, cells // 6))
        octave = rng.standard_normal(shape, dtype=np.float32) * np.float32(rng.uniform(4.0, 22.0))
        smooth = cv2.INTER_LINEAR if rng.random() < 0.8 else cv2.INTER_NEAREST
        grain += cv2.resize(octave, (side, side), interpolation=smooth)
    return np.clip(base + _as_rgb(grain), 0.0, 255.0)


#: Pixels along the side of a floor pattern, and the metres that it covers.
_PATTERN_PX, _PATTERN_M = 192, 16.0


def _floor(rng, picture, camera, far):
    """Paints a patterned floor between the camera and the distance `far`; returns where it is."""
    side = picture.shape[0]
    pattern = _floor_pattern(rng)
    metres = _PATTERN_PX / _PATTERN_M * rng.uniform(0.6, 1.4)
    # Pattern pixel (u, v) lies at x = (u - middle) / metres, z = v / metres + 0.2 on the floor.
    middle = 0.5 * _PATTERN_PX / metres
    to_world = np.array([[1 / metres, 0, -middle], [0, 1 / metres, 0.2], [0, 0, 1.0]])
    homography = camera.intrinsics @ camera.extrinsics[:3, [0, 2, 3]] @ to_world
    # Far floor is plain: patterns finer than a pixel average out.
    grey = cv2.warpPerspective(pattern, homography, (side, side), borderValue=float(_PLAIN))
    floor = cv2.transform(grey, (_any_colour(rng) / _PLAIN)[:, np.newaxis]).astype(np.float32)
    mask = _below_line(camera, side, far)
    picture[:] = cv2.blendLinear(floor, picture, mask, 1.0 - mask)
    return mask


_PLAIN = 128  # grey level of a floor's mean colour


def _floor_pattern(rng):
    """A grey pattern, uint8 `[_PATTERN_PX, _PATTERN_PX]`: tiles, planks, carpet, lines or plain."""
    kind, strength = rng.random(), rng.uniform(12.0, 55.0)
    size = _PATTERN_PX
    if kind < 0.25:  # tiles
        step = int(rng.integers(4, 16))
        odd = np.arange(size) // step % 2
        pattern = np.where(odd[:, np.newaxis] == odd, _PLAIN + strength, _PLAIN - strength)
    elif kind < 0.45:  # planks
        step = int(rng.integers(2, 8))
        planks = np.repeat(rng.normal(_PLAIN, 0.5 * strength, size // step + 1), step)[:size]
        pattern = np.repeat(planks[np.newaxis], size, axis=0)
        pattern = pattern.T if rng.random() < 0.5 else pattern
    elif kind < 0.65:  # carpet, grass
        cells = int(rng.integers(24, size))
        grain = rng.normal(_PLAIN, 0.6 * strength, (cells, cells))
        pattern = cv2.resize(grain, (size, size), interpolation=cv2.INTER_LINEAR)
    elif kind < 0.8:  # joints or markings
        pattern = np.full((size, size), float(_PLAIN))
        step = int(rng.integers(8, 40))
        pattern[::step] += strength * rng.choice((-1.0, 1.0))
        pattern[:, ::step] = pattern[0, 0]
    else:
        return np.full((size, size), _PLAIN, dtype=np.uint8)
    return np.clip(pattern, 0.0, 255.0).astype(np.uint8)


def _below_line(camera, side, far):
    """1 where the camera sees floor nearer than `far`, `[S, S]`."""
    edge = camera.world_to_camera(np.array([[-0.3 * far, 0.0, far], [0.3 * far, 0.0, far]]))
    edge = np.maximum(edge, [-np.inf, -np.inf, 0.05])
    pixels = edge[:, :2] / edge[:, 2:] @ camera.intrinsics[:2, :2].T + camera.intrinsics[:2, 2]
    slope = (pixels[1, 1] - pixels[0, 1]) / max(pixels[1, 0] - pixels[0, 0], 1e-6)
    columns = np.arange(side)
    heights = pixels[0, 1] + slope * (columns - pixels[0, 0])
    depths = np.arange(0.5, side)[:, np.newaxis] - heights
    return np.minimum(np.maximum(depths, 0.0), 1.0).astype(np.float32)


def _room(rng, camera, side, depth):
    """A wall with things on it above a floor."""
    picture = _texture(rng, side, _colour_grid(rng, side, 2))
    _panels(rng, picture, int(rng.integers(0, 5)))
    mask = _floor(rng, picture, camera, depth + rng.uniform(0.5, 5.0))
    if rng.random() < 0.5:  # a baseboard
        height = int(rng.integers(1, 4))
        edge = np.zeros_like(mask)
        edge[:-height] = mask[height:] - mask[:-height]
        board = np.full_like(picture, _any_colour(rng))
        picture = cv2.blendLinear(board, picture, edge, 1.0 - edge)
    return picture


def _outdoors(rng, camera, side, depth):
    """Sky, a skyline or bushes, and ground."""
    rows = np.linspace(0.0, 1.0, side, dtype=np.float32)[:, np.newaxis, np.newaxis]
    zenith = np.array([90.0, 140.0, 205.0]) + rng.normal(0.0, 25.0, 3)
    haze = np.array([205.0, 215.0, 225.0]) + rng.normal(0.0, 18.0, 3)
    picture = np.repeat((zenith + (haze - zenith) * rows).astype(np.float32), side, axis=1)
    horizon = _below_line(camera, side, 200.0)
    top = float(np.argmax(horizon[:, side // 2] > 0.5)) if horizon.any() else float(side)
    if rng.random() < 0.5:
        _panels(rng, picture, int(rng.integers(2, 7)), bottom=top)
    else:
        green = np.array([60.0, 85.0, 45.0]) + rng.normal(0.0, 20.0, 3)
        bushes = _texture(rng, side, np.full((side, side, 3), green, dtype=np.float32))
        outline = cv2.resize(rng.normal(0.0, 1.0, (1, 8)), (side, 1), interpolation=cv2.INTER_CUBIC)
        height = top - side * (rng.uniform(0.0, 0.5) + 0.08 * outline)
        above = np.clip(np.arange(side)[:, np.newaxis] - height, 0.0, 1.0).astype(np.float32)
        picture = cv2.blendLinear(bushes, picture, above, 1.0 - above)
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
