"""Writes synthetic people as MADS' `multi_view_data`: videos, ground truth, calibration.

The three cameras stand in one place and differ in lens and picture, so that one ground truth fits
the pictures of all of them.
"""

import pathlib

import cv2
import numpy as np
import scipy.io

from metrabs_like.skeletons import MADS_19
from tests.native import scene

NAMES_15 = [n for n in MADS_19.joint_names if n not in ("ltoe", "rtoe", "lhan", "rhan")]
WIDTH, HEIGHT = 512, 384
FPS = 15.0
OM_EXT = np.array([1.9, -0.4, 0.3])
T_EXT_MM = np.array([120.0, 950.0, 4100.0])
KC = np.array([-0.21, 0.12, 0.0008, -0.0012, 0.0])
SKEW = 0.0005


def write(folder, records, *, action="Taichi", clip="Taichi_S1", n_joints=19, n_hold=1):
    """Writes one clip, its three videos and their calibrations.

    Args:
      folder: the data set's root.
      records: of one person each, without lens distortion; one is `n_hold` frames of the clip.
      action: folder below `multi_view_data`.
      clip: beginning of the files' names.
      n_joints: 19 or 15 (without toes and hands).
      n_hold: how often each picture is repeated.

    Returns:
      `[n, 19, 3]`, m: the joints in the frame of the cameras, one row a record, in MADS' order.
    """
    poses = np.stack([scene.joints(r.people[0], MADS_19.joint_names) for r in records])
    names = MADS_19.joint_names if n_joints == 19 else NAMES_15
    rows = [MADS_19.index(name) for name in names]
    write_ground_truth(folder, np.repeat(to_world_mm(poses)[:, rows], n_hold, axis=0), action, clip)
    for number in range(3):
        _write_video(folder, records, number, action, clip, n_hold)
        write_calibration(folder, records, number, action)
    return poses


def to_world_mm(points):
    """Camera-frame points in m as the ground truth writes them."""
    return (points * 1000 - T_EXT_MM) @ cv2.Rodrigues(OM_EXT)[0]  # R^T (x - t)


def camera(records, number):
    """Intrinsics `[3, 3]` and the five coefficients of a camera."""
    focal = min(float(r.intrinsics[0][0]) * HEIGHT / r.height for r in records)
    focal *= 1 - 0.1 * number
    intrinsics = np.array(
        [
            [focal, SKEW * focal, WIDTH / 2 + 2.5 - number],
            [0, 1.01 * focal, HEIGHT / 2 - 1.5],
            [0, 0, 1],
        ]
    )
    return intrinsics, KC * (1 - 0.2 * number)


def write_ground_truth(folder, poses_mm, action="Taichi", clip="Taichi_S1"):
    """Writes `*_GT.mat` of poses `[19, 3]` or `[15, 3]`, mm, world frame."""
    cells = np.empty((1, len(poses_mm)), object)
    for i, pose in enumerate(poses_mm):
        cells[0, i] = np.asarray(pose, np.float64)
    scipy.io.savemat(_folder(folder, action) / f"{clip}_GT.mat", {"GTpose2": cells})


def write_calibration(folder, records, number, action="Taichi", **changes):
    """Writes `Calib_Cam<number>.mat`; `changes` replace fields, None removes one."""
    intrinsics, kc = camera(records, number)
    fields = {
        "KK": intrinsics,
        "kc": kc[:, np.newaxis],
        "fc": np.diag(intrinsics)[:2, np.newaxis],
        "cc": intrinsics[:2, 2:],
        "alpha_c": SKEW,
        "om_ext": OM_EXT[:, np.newaxis],
        "T_ext": T_EXT_MM[:, np.newaxis],
        **changes,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    scipy.io.savemat(_folder(folder, action) / f"Calib_Cam{number}.mat", fields)


def _write_video(folder, records, number, action, clip, n_hold):
    path = _folder(folder, action) / f"{clip}_C{number}.avi"
    coding = cv2.VideoWriter_fourcc(*"MJPG")
    video = cv2.VideoWriter(str(path), coding, FPS, (WIDTH, HEIGHT))
    intrinsics, kc = camera(records, number)
    for record in records:
        picture = scene.photographed(record, intrinsics, kc, width=WIDTH, height=HEIGHT)
        for _ in range(n_hold):
            video.write(np.ascontiguousarray(picture[..., ::-1]))
    video.release()


def _folder(folder, action):
    directory = pathlib.Path(folder) / "multi_view_data" / action
    directory.mkdir(parents=True, exist_ok=True)
    return directory
