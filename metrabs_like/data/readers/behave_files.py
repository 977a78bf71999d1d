"""BEHAVE's files: splits, calibrations, poses of the Kinects, OpenPose's 3D joints.

Conventions: metres; the world is the colour camera of Kinect 1. Paths in `info.json` are relative
to the sequence's folder and must stay inside the data set's.
"""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np

from metrabs_like.data import image_files
from metrabs_like.data.people import N_DISTORTION_COEFFS
from metrabs_like.data.safe_loading import load_json
from metrabs_like.geometry.lens import fold_radius

N_KINECTS = 3
"""Where `info.json` lists no Kinects."""

MAX_ANNOTATION_BYTES = 16 << 20
"""JSON files of one frame or camera have some kB (ours)."""

_ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")  # of OpenCV's rational model
_MAX_ROTATION_ERROR = 1e-3


@dataclasses.dataclass(frozen=True)
class Kinect:
    """The colour camera of a Kinect.

    Attributes:
      number: 0 ... 3.
      width: of its pictures, px.
      height: px.
      intrinsics: `[3, 3]`, px.
      distortion_coeffs: `[12]`, OpenCV order.
      camera_from_world: `[4, 4]`, m.
      max_radius: normalized radius up to which the lens model holds.
    """

    number: int
    width: int
    height: int
    intrinsics: np.ndarray
    distortion_coeffs: np.ndarray
    camera_from_world: np.ndarray
    max_radius: float


def sequences(source_dir: str, split: str) -> list[str]:
    """Returns the names of a split's sequences, in the order of `split.json`.

    Raises:
      ValueError: if the file is missing or not what it should be.
    """
    path = image_files.confined_path(source_dir, "split.json")
    content = load_json(path, max_bytes=MAX_ANNOTATION_BYTES)
    names = content.get(split) if isinstance(content, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} has no list {split!r} of sequences; copy it again.")
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name) or set(name) == {"."}:
            raise ValueError(f"{path}: the sequence {name!r} is no plain folder name.")
    return names


def load_kinects(source_dir: str, sequence: str, cache: dict) -> list[Kinect]:
    """Reads the cameras of a sequence.

    Args:
      source_dir: the data set's folder.
      sequence: name of the sequence.
      cache: keeps cameras that several sequences share.

    Returns:
      One entry a Kinect of `info.json`.

    Raises:
      ValueError: naming file and field.
    """
    folder = f"sequences/{sequence}"
    path = image_files.confined_path(source_dir, f"{folder}/info.json")
    info = _dict(path)
    kinects = info.get("kinects", N_KINECTS)
    numbers = list(range(kinects)) if type(kinects) is int else kinects
    if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n < 16 for n in numbers):
        raise ValueError(f"{path}: kinects = {str(kinects)[:60]} is no list of numbers.")
    folders = []
    for field in ("config", "intrinsic"):
        if not isinstance(info.get(field), str):
            raise ValueError(f"{path}: {field} = {str(info.get(field))[:60]} is no path.")
        folders.append(os.path.normpath(os.path.join(folder, info[field])))
    keys = [(source_dir, number, *folders) for number in numbers]
    for key in keys:
        if key not in cache:
            cache[key] = _load_kinect(*key)
    return [cache[key] for key in keys]


def _load_kinect(source_dir, number, config_folder, intrinsic_folder):
    path = image_files.confined_path(source_dir, f"{config_folder}/{number}/config.json")
    camera_from_world = _load_pose(path)
    path = image_files.confined_path(source_dir, f"{intrinsic_folder}/{number}/calibration.json")
    colour = _dict(path).get("color")
    if not isinstance(colour, dict):
        raise ValueError(f"{path}: color is missing; copy the calibration again.")
    fx, fy, cx, cy, width, height = (
        _numbers(colour, name, 1, path)[0] for name in ("fx", "fy", "cx", "cy", "width", "height")
    )
    if min(fx, fy, width, height) <= 0:
        raise ValueError(f"{path}: fx = {fx}, fy = {fy}, {width} x {height} px is no camera.")
    distortion = np.zeros(N_DISTORTION_COEFFS)
    distortion[: len(_ORDER)] = [_numbers(colour, name, 1, path)[0] for name in _ORDER]
    return Kinect(
        number=number,
        width=int(width),
        height=int(height),
        intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]),
        distortion_coeffs=distortion,
        camera_from_world=camera_from_world,
        max_radius=float(fold_radius(distortion[np.newaxis])[0]),
    )


def _load_pose(path):
    """World to camera from a file that holds camera to world."""
    content = _dict(path)
    rotation = _numbers(content, "rotation", 9, path).reshape(3, 3)
    centre = _numbers(content, "translation", 3, path)
    is_rotation = np.allclose(rotation @ rotation.T, np.eye(3), atol=_MAX_ROTATION_ERROR)
    if not is_rotation or np.linalg.det(rotation) < 0:
        raise ValueError(f"{path}: rotation = {rotation.tolist()} is no rotation matrix.")
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.T
    matrix[:3, 3] = -rotation.T @ centre
    return matrix


def load_joints(path: str, min_score: float) -> np.ndarray | None:
    """Reads OpenPose's 3D joints.

    Args:
      path: of a `person_J3d.json`.
      min_score: joints with a lower score are unknown.

    Returns:
      `[25, 3]`, m, world, NaN where unknown; None if there is no such file.

    Raises:
      ValueError: naming the file, if it holds something else.
    """
    if not os.path.exists(path):
        return None
    rows = _numbers(_dict(path), "body_joints3d", 100, path, finite=False).reshape(25, 4)
    is_known = np.isfinite(rows).all(axis=-1) & (rows[:, 3] >= min_score)
    return np.where(is_known[:, np.newaxis], rows[:, :3], np.nan)


def _dict(path):
    content = load_json(path, max_bytes=MAX_ANNOTATION_BYTES)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no object with named fields; copy it again.")
    return content


def _numbers(content, name, size, path, finite=True):
    """A field as float64 `[size]`."""
    try:
        value = np.asarray(content.get(name), np.float64).ravel()
    except (TypeError, ValueError):
        value = np.zeros(0)
    if value.size != size or (finite and not np.isfinite(value).all()):
        raise ValueError(
            f"{path}: {name} = {str(content.get(name))[:80]} must be {size} finite numbers; "
            "copy the file again."
        )
    return value
