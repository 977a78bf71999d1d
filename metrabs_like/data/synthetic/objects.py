"""Simple things as pictures with alpha: boxes, balls, bottles and blobs.

Conventions: pictures are RGBA, 0..255. All numbers are ours.
"""

from __future__ import annotations

import cv2
import numpy as np

_FINE = 2  # things are drawn this much larger, then averaged: smooth edges


def sample_object(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draws one thing that nearly fills its picture.

    Args:
      rng: Source of randomness.
      side: Side of the picture, px.

    Returns:
      uint8 `[side, side, 4]`, RGBA, transparent around the thing.
    """
    fine = _FINE * side
    kinds = (_box, _ball, _bottle, _blob)
    mask, light = kinds[int(rng.integers(len(kinds)))](rng, fine)
    colour = _texture(rng, fine) * light[..., np.newaxis]
    # Colours are averaged inside the thing only.
    weight = cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA)
    colour = cv2.resize(colour * mask[..., np.newaxis], (side, side), interpolation=cv2.INTER_AREA)
    colour = colour / np.maximum(weight, 1e-3)[..., np.newaxis]
    picture = np.concatenate([colour, 255.0 * weight[..., np.newaxis]], axis=-1)
    return np.uint8(np.clip(np.rint(picture), 0, 255))


def _grid(side):
    """Coordinates -1..1 of the pixels, `[S, S]` x and y."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) * (2.0 / side) - 1.0
    return np.meshgrid(axis, axis)


def _texture(rng, side):
    """A colour, and half of the time stripes, checks or grain over it; `[S, S, 3]`."""
    base, other = rng.uniform(10.0, 245.0, (2, 3))
    kind = rng.integers(6)
    share = np.zeros((side, side), np.float32)
    if kind == 0:
        angle, frequency = rng.uniform(0, np.pi), rng.uniform(4, 16)
        x, y = _grid(side)
        share = (np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y)) > 0) * 1.0
    elif kind == 1:
        x, y = (np.floor(g * rng.integers(2, 6)) for g in _grid(side))
        share = (x + y) % 2
    elif kind == 2:
        cells = int(rng.integers(4, 24))
        grain = rng.uniform(size=(cells, cells)).astype(np.float32)
        share = cv2.resize(grain, (side, side), interpolation=cv2.INTER_LINEAR)
    share = np.asarray(share, np.float32)[..., np.newaxis]
    return np.float32(base) + share * np.float32(other - base)


def _polygon(corners, side):
    """1 inside a polygon of corners `[n, 2]` in -1..1; `[S, S]`."""
    mask = np.zeros((side, side), np.float32)
    points = np.rint(((np.asarray(corners) + 1) / 2 * side - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 1.0, cv2.LINE_8, 4)
    return mask


def _box(rng, side):
    """A box seen from above a corner: three faces of different brightness."""
    half, height = rng.uniform(0.35, 0.9), rng.uniform(0.2, 0.6)
    middle, rise = half * rng.uniform(-0.6, 0.6), rng.uniform(0.1, 0.3)
    top = [(-half, -height), (middle, -height + rise), (half, -height)]
    back = (-middle, -height - rise)
    below = [(x, y + 2 * height - rise) for x, y in top]
    brightness = rng.permutation([0.6, 0.8, 1.0])
    faces = [
        [top[0], top[1], below[1], below[0]],
        [top[1], top[2], below[2], below[1]],
        [top[0], back, top[2], top[1]],
    ]
    mask, light = np.zeros((side, side), np.float32), np.ones((side, side), np.float32)
    for face, level in zip(faces, brightness, strict=True):
        inside = _polygon(face, side)
        light = np.where(inside > 0, np.float32(level), light)
        mask = np.maximum(mask, inside)
    return mask, light


def _ball(rng, side):
    """An ellipsoid, lit from one side."""
    x, y = _grid(side)
    a, b = rng.uniform(0.55, 0.95, 2)
    squared = (x / a) ** 2 + (y / b) ** 2
    height = np.sqrt(np.maximum(1 - squared, 0))
    direction = rng.normal(size=2) * 0.6
    normal = np.sqrt(1 + direction @ direction)
    light = 0.45 + 0.55 * np.maximum(height - direction[0] * x / a - direction[1] * y / b, 0)
    return np.float32(squared < 1), np.float32(light / normal)


def _bottle(rng, side):
    """A body of revolution: a few radii along the axis, darker towards the sides."""
    x, y = _grid(side)
    n = int(rng.integers(4, 8))
    radii = rng.uniform(0.15, 0.6, n)
    heights = np.linspace(-0.95, 0.95, n)
    radius = np.interp(y[:, 0], heights, radii, left=0.0, right=0.0)[:, np.newaxis]
    across = x / np.maximum(radius, 1e-3)
    light = 0.4 + 0.6 * np.sqrt(np.clip(1 - (across - rng.uniform(-0.4, 0.4)) ** 2, 0, 1))
    return np.float32(np.abs(across) < 1), np.float32(light)


def _blob(rng, side):
    """A smooth closed outline: a bag, a plant, a stone."""
    angles = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)
    radii = np.full(72, 0.7)
    for order in (1, 2, 3, 4, 5):
        phase, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.22 / order)
        radii += size * np.cos(order * angles + phase)
    radii *= rng.uniform(0.75, 0.95) / radii.max()
    mask = _polygon(np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1), side)
    x, y = _grid(side)
    slope = rng.uniform(-0.3, 0.3, 2)
    return mask, np.float32(np.clip(0.8 + slope[0] * x + slope[1] * y, 0.2, 1.0))
