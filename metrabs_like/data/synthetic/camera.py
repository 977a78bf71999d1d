"""The pinhole camera with lens distortion, in NumPy.

Conventions: camera frame x right, y down, z forward, m; pixel (0, 0) is the centre of the top-left
pixel; OpenCV distortion order k1, k2, p1, p2, k3. World frame: like a level camera frame, y down,
the floor at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Length of the stored distortion vector (OpenCV's thin-prism model; unused entries are zero).
N_DISTORTION = 12


@dataclass(frozen=True)
class Camera:
    """A calibrated camera.

    Attributes:
      intrinsics: `[3, 3]`, px.
      distortion_coeffs: `[12]`, OpenCV order; only k1, k2, p1, p2, k3 are non-zero.
      extrinsics: `[4, 4]`, world to camera, m.
    """

    intrinsics: np.ndarray
    distortion_coeffs: np.ndarray
    extrinsics: np.ndarray

    def world_to_camera(self, points: np.ndarray) -> np.ndarray:
        """Returns world points `[..., 3]` in the camera frame, m."""
        return points @ self.extrinsics[:3, :3].T + self.extrinsics[:3, 3]

    def camera_to_image(self, points: np.ndarray) -> np.ndarray:
        """Projects points `[..., 3]` of positive depth to (distorted) pixels `[..., 2]`."""
        normalized = points[..., :2] / points[..., 2:]
        distorted = distorted_points(normalized, self.distortion_coeffs)
        return distorted @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2]


def distorted_points(normalized: np.ndarray, coeffs: np.ndarray) -> np.ndarray:
    """Applies OpenCV's radial and tangential distortion.

    Args:
      normalized: `[..., 2]`, normalized image coordinates.
      coeffs: `[>=5]`, k1, k2, p1, p2, k3.

    Returns:
      `[..., 2]`, distorted normalized image coordinates.
    """
    k1, k2, p1, p2, k3 = coeffs[:5].tolist()
    if not coeffs.any():
        return normalized
    x, y = normalized[..., 0], normalized[..., 1]
    xx, yy, xy = x * x, y * y, x * y
    r2 = xx + yy
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2.0 * p1 * xy + p2 * (r2 + 2.0 * xx),
            y * radial + p1 * (r2 + 2.0 * yy) + 2.0 * p2 * xy,
        ],
        axis=-1,
    )


def distortion_stretch(squared_radius: np.ndarray, coeffs: np.ndarray) -> np.ndarray:
    """Returns d(distorted radius)/d(radius) at squared radii; where it is <= 0 the lens folds."""
    k1, k2, _, _, k3 = coeffs[:5].tolist()
    r2 = squared_radius
    return 1.0 + r2 * (3.0 * k1 + r2 * (5.0 * k2 + r2 * 7.0 * k3))
