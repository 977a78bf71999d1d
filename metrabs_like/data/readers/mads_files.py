"""The MATLAB files of MADS: poses and calibrations.

Conventions: the files are in mm; what is returned is in m. World to camera is `R X + t`.
"""

from __future__ import annotations

import dataclasses
import os

import cv2
import numpy as np

from metrabs_like.data import safe_loading
from metrabs_like.data.people import N_DISTORTION_COEFFS
from metrabs_like.skeletons import MADS_19
from metrabs_like.units import MM_PER_M

_15_NAMES = "neck pelv lhip lkne lank rhip rkne rank lsho lelb lwri rsho relb rwri head".split()
JOINTS_15 = np.array([MADS_19.index(name) for name in _15_NAMES])
"""Where the joints of the clips without toes and hands stand among the 19."""


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A calibrated camera.

    Attributes:
      intrinsics: float64 `[3, 3]`, px.
      distortion_coeffs: float64 `[12]`, OpenCV order, padded with zeros.
      extrinsics: float64 `[4, 4]`, world to camera, m.
    """

    intrinsics: np.ndarray
    distortion_coeffs: np.ndarray
    extrinsics: np.ndarray

    def world_to_camera(self, points: np.ndarray) -> np.ndarray:
        """Returns world points `[..., 3]` in the camera frame, m."""
        return points @ self.extrinsics[:3, :3].T + self.extrinsics[:3, 3]

    def camera_to_image(self, points: np.ndarray) -> np.ndarray:
        """Projects points `[P, 3]` (m, camera frame, positive depth) to pixels `[P, 2]`."""
        if not len(points):
            return np.zeros((0, 2))
        zero, coeffs = np.zeros(3), self.distortion_coeffs
        normalized = cv2.projectPoints(points, zero, zero, np.eye(3), coeffs)[0][:, 0]
        # OpenCV's projection ignores the skew that Bouguet's KK may have.
        return normalized @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2]


def load_poses(path: str) -> np.ndarray:
    """Reads a `*_GT.mat`.

    Args:
      path: of a file with `GTpose2`, a cell array of one `[19, 3]` or `[15, 3]` matrix a frame.

    Returns:
      float64 `[n, 19, 3]`, m, world frame, in the order of `MADS_19`; NaN where a joint is unknown:
      toes and hands of clips with 15 joints, and whole frames whose cell is empty.

    Raises:
      ValueError: naming file, frame and shape, if the file is of another form.
    """
    content = safe_loading.load_mat(path)
    if "GTpose2" not in content:
        raise ValueError(
            f"{path} has no GTpose2 but {sorted(content)[:10]}; it is no MADS ground truth."
        )
    cells = np.asarray(content["GTpose2"])
    cells = list(cells.ravel()) if cells.dtype == object else [cells]
    poses = np.full((len(cells), MADS_19.n_joints, 3), np.nan)
    for i, cell in enumerate(cells):
        pose = np.asarray(cell)
        if pose.size == 0:
            continue
        if pose.shape not in ((19, 3), (15, 3)) or pose.dtype.kind not in "fiu":
            raise ValueError(
                f"{path}: GTpose2{{{i + 1}}} has shape {pose.shape} and type {pose.dtype}; a frame "
                "is 19 x 3 or 15 x 3 numbers."
            )
        rows = JOINTS_15 if len(pose) == 15 else slice(None)
        poses[i, rows] = pose.astype(np.float64) / MM_PER_M
    # A joint is known or not: never in one coordinate alone.
    poses[~np.isfinite(poses).all(axis=-1)] = np.nan
    return poses


def load_calibration(path: str) -> Calibration:
    """Reads a `Calib_Cam*.mat` of Bouguet's toolbox.

    Args:
      path: of a file with `KK` (or `fc`, `cc`, `alpha_c`), `kc`, `om_ext` and `T_ext` (mm).

    Returns:
      The camera.

    Raises:
      ValueError: naming file and field, if it is missing or of another form.
    """
    if not os.path.exists(path):
        raise ValueError(f"{path} is missing: the camera's calibration; copy it again.")
    content = safe_loading.load_mat(path)
    rotvec = _numbers(content, "om_ext", (3,), path)
    translation = _numbers(content, "T_ext", (3,), path) / MM_PER_M
    kc = np.asarray(content.get("kc", np.zeros(5))).ravel()
    if kc.size not in (4, 5):
        raise ValueError(f"{path}: kc has {kc.size} numbers; Bouguet's toolbox writes 5 (or 4).")
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = cv2.Rodrigues(rotvec)[0]
    extrinsics[:3, 3] = translation
    distortion = np.zeros(N_DISTORTION_COEFFS)
    distortion[: kc.size] = _numbers({"kc": kc}, "kc", (kc.size,), path)
    return Calibration(_intrinsics(content, path), distortion, extrinsics)


def _intrinsics(content, path):
    """KK, or the same from focal lengths, principal point and skew."""
    if "KK" in content:
        intrinsics = _numbers(content, "KK", (3, 3), path)
    else:
        (fx, fy), (cx, cy) = (_numbers(content, name, (2,), path) for name in ("fc", "cc"))
        skew = float(np.ravel(content.get("alpha_c", 0.0))[0])
        intrinsics = np.array([[fx, skew * fx, cx], [0, fy, cy], [0, 0, 1]])
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or intrinsics[2].tolist() != [0, 0, 1]:
        raise ValueError(f"{path}: KK = {intrinsics.tolist()} is no camera matrix.")
    return intrinsics


def _numbers(content, name, shape, path):
    """A field as finite float64 of a shape; MATLAB's vectors are matrices."""
    value = np.asarray(content.get(name, ()))
    if value.size != np.prod(shape) or value.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: {name} is {value.tolist()!r:.80}; the calibration needs {shape} numbers."
        )
    value = value.astype(np.float64).reshape(shape)
    if not np.isfinite(value).all():
        raise ValueError(f"{path}: {name} = {value.tolist()} is not finite; copy the file again.")
    return value
