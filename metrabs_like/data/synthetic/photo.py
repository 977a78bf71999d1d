"""What a camera and a file format do to a picture: blur, exposure, colour, noise, JPEG.

Conventions: pictures are float32 RGB `[S, S, 3]`, 0..255. All numbers are ours.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

_TILE = 512  # side of the noise tile, px


def photographed(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Degrades a rendered picture towards a photograph.

    Args:
      rng: Source of randomness.
      picture: `[S, S, 3]`, may be changed.

    Returns:
      uint8 `[S, S, 3]`, RGB.
    """
    side = picture.shape[0]
    u = rng.random(8).tolist()
    if u[0] < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), (0.3 + 0.7 * u[1]) * max(1.0, side / 160))
    elif u[0] > 0.93:
        picture = _motion_blurred(picture, 2 + int(3 * u[1]), 2 * np.pi * u[2])
    picture = cv2.transform(picture, _development(rng, u[3], u[4], u[5], u[6] < 0.07))
    strength = 9.0 * u[7] ** 3 + 0.6
    picture += _noise(rng, side) * np.float32(strength)
    return np.clip(picture, 0.0, 255.0).astype(np.uint8)


def _development(rng, contrast, exposure, middle, is_grey):
    """Affine colour transform `[3, 4]`: contrast, exposure, tint, saturation."""
    contrast, middle = 0.8 + 0.4 * contrast, 108.0 + 20.0 * middle
    tint = (0.85 + 0.3 * exposure) * np.exp(0.05 * rng.standard_normal(3))
    saturation = 0.0 if is_grey else min(rng.uniform(0.55, 1.25), 1.1)
    mix = saturation * np.eye(3) + (1.0 - saturation) / 3.0
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = contrast * tint[:, np.newaxis] * mix
    matrix[:, 3] = middle * (1.0 - contrast) * tint
    return matrix


def encoded_jpeg(rng: np.random.Generator, picture: np.ndarray, best_quality: int) -> bytes:
    """Encodes a picture, at times badly.

    Args:
      rng: Source of randomness.
      picture: uint8 `[S, S, 3]`, RGB.
      best_quality: Highest quality; up to 25 less is used, seldom much less.

    Returns:
      JPEG bytes.
    """
    quality = int(max(30, best_quality - 25.0 * rng.random() ** 2))
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()


@cache
def _noise_tile():
    """Unit normal noise, made once per process from a fixed seed."""
    rng = np.random.default_rng(20240229)
    return rng.standard_normal((_TILE, _TILE, 3), dtype=np.float32)


def _noise(rng, side):
    """A random cut of the noise tile, repeated for large pictures."""
    tile = _noise_tile()
    top, left = rng.integers(0, max(_TILE - side, _TILE // 4), 2).tolist()
    if max(top, left) + side <= _TILE:
        return tile[top : top + side, left : left + side]
    rows, columns = (top + np.arange(side)) % _TILE, (left + np.arange(side)) % _TILE
    return tile[rows[:, np.newaxis], columns]


def _motion_blurred(picture, length, angle):
    """Blurs along a direction."""
    kernel = np.zeros((2 * length + 1, 2 * length + 1), dtype=np.float32)
    step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    start, end = np.rint(length - step).astype(int), np.rint(length + step).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())
