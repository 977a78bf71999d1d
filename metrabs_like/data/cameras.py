"""Intrinsics for images whose camera is known by its field of view only.

Conventions: px; pixel (0,0) = centre of the top-left pixel.
"""

import math

import numpy as np


def intrinsics_from_fov(fov_degrees: float, width: int, height: int) -> np.ndarray:
    """Makes pinhole intrinsics from the field of view along the longer side.

    Args:
      fov_degrees: full field of view, degrees.
      width: of the image, px.
      height: of the image, px.

    Returns:
      float32 `[3, 3]`, px, the principal point in the middle of the image (pixel
      centres being integers, at `(width - 1) / 2`).
    """
    focal = max(width, height) / (2 * math.tan(math.radians(fov_degrees) / 2))
    center = (width - 1) / 2, (height - 1) / 2
    return np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]], np.float32)
