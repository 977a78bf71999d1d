"""AGORA's cameras: chosen by the picture's name, as its evaluation code does.

Conventions: Unreal's axes (x forward, y right, z up, cm) become (x right, y down, z forward, m) by
(x, y, z) -> (y, -z, x) / 100. A fit is in the body model's frame (y up): its points (x, -y, -z) are
turned by Yaw - 90 degrees about y and moved to the scan's position; that is the world. Source:
agora_evaluation, projection.py.
"""

import dataclasses

import numpy as np

WIDTH, HEIGHT = 3840, 2160
"""px, of the large release, in which the 2D joints are given."""

_SENSOR_WIDTH_MM = 36.0
_FIXED = {  # part of the name: focal length mm, position cm (Unreal), yaw and pitch in degrees
    "hdri": (50.0, (0.0, 0.0, 170.0), 0.0, 0.0),
    "cam00": (18.0, (400.0, -275.0, 265.0), 135.0, 30.0),
    "cam01": (18.0, (400.0, 225.0, 265.0), -135.0, 30.0),
    "cam02": (18.0, (-490.0, 170.0, 265.0), -45.0, 30.0),
    "cam03": (18.0, (-490.0, -275.0, 265.0), 45.0, 30.0),
    "ag2": (28.0, (0.0, 0.0, 170.0), 0.0, 15.0),
}
_OTHER_FOCAL_MM = 28.0
_OTHER_OFFSET_M = np.array([0.0, -1.7, 0.0])  # of the camera, after the change of axes


@dataclasses.dataclass(frozen=True)
class View:
    """A camera.

    Attributes:
      focal_mm: focal length for a sensor of 36 mm.
      position: `[3]`, m, in the world.
      yaw: degrees.
      pitch: degrees.
    """

    focal_mm: float
    position: tuple[float, float, float]
    yaw: float
    pitch: float

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """Returns `[3, 3]`, px; the principal point is half the size, as in the 2D joints."""
        focal = self.focal_mm / _SENSOR_WIDTH_MM * width
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])

    def camera_from_world(self) -> np.ndarray:
        """Returns `[4, 4]`, m."""
        matrix = np.eye(4)
        matrix[:3, :3] = _about_x(self.pitch) @ _about_y(-self.yaw)
        matrix[:3, 3] = -matrix[:3, :3] @ np.array(self.position)
        return matrix

    def camera_from_fit(self, scan_position_cm, scan_yaw: float) -> np.ndarray:
        """Returns the rigid transformation `[3, 4]`, m, of a fit's frame.

        Args:
          scan_position_cm: `[3]`, the row's X, Y, Z.
          scan_yaw: degrees, the row's Yaw.
        """
        world_from_fit = np.eye(4)
        world_from_fit[:3, :3] = _about_y(scan_yaw - 90.0) @ np.diag([1.0, -1.0, -1.0])
        world_from_fit[:3, 3] = from_unreal(scan_position_cm)
        return (self.camera_from_world() @ world_from_fit)[:3]


def is_fixed(name: str) -> bool:
    """Whether the name of a picture's file alone says which camera took it."""
    return any(part in name for part in _FIXED)


def view_of(name: str, row_camera) -> View:
    """Chooses the camera of a picture.

    Args:
      name: of the picture's file.
      row_camera: the row's (camX, camY, camZ, camYaw), cm and degrees; used where no rule names
        the camera, and may be None elsewhere.

    Returns:
      The camera.
    """
    for part, (focal_mm, position, yaw, pitch) in _FIXED.items():
        if part in name:
            return View(focal_mm, tuple(from_unreal(position)), yaw, pitch)
    *position, yaw = (float(value) for value in row_camera)
    position = from_unreal(position) + _OTHER_OFFSET_M
    return View(_OTHER_FOCAL_MM, tuple(position), yaw, 0.0)


def from_unreal(position_cm) -> np.ndarray:
    """Changes axes and unit of a position `[3]`."""
    x, y, z = (float(value) / 100 for value in position_cm)
    return np.array([y, -z, x])


def _about_x(degrees):
    """Rotation about the axis to the right."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _about_y(degrees):
    """Rotation about the axis that points down."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
