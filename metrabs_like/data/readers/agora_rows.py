"""The rows of AGORA's dataframes: one a picture, with its people.

Conventions: 2D joints and boxes are in pixels of the large release, 3840 x 2160; joints in m in the
camera frame; the first 24 of a person's are SMPL's.
"""

from __future__ import annotations

import collections
import dataclasses
import os

import numpy as np

from metrabs_like.data import image_files, plausibility, records
from metrabs_like.data.readers import agora_cameras, counted_fits, projected_people
from metrabs_like.data.safe_loading import as_array
from metrabs_like.skeletons import SMPL_24

SMALL_SUFFIX = "_1280x720"
MIN_BOX_SIDE_PX = 100.0
"""Longer side of a person's box in the large release (PosePile leaves out boxes under 100 px)."""

_MAX_FIT_ERROR_M = 0.6  # between a fit's translation and the pelvis: they differ by 0.2 to 0.4
_COLUMNS = ("imgPath", "gt_joints_2d", "gt_joints_3d", "isValid", "occlusion")
_SCAN_COLUMNS = ("X", "Y", "Z", "Yaw")
_CAMERA_COLUMNS = ("camX", "camY", "camZ", "camYaw")
_N_JOINTS = 24
_MAX_VALUES = 10_000  # coordinates of a person's joints (ours); SMPL-X has 127 joints


@dataclasses.dataclass
class Picture:
    """A picture with the people that are kept of it.

    Attributes:
      path: relative to the source folder.
      name: of the file, without extension and size: what masks are called by.
      view: the camera.
      people: of the large release's size.
      numbers: which of the row's people they are, from 0.
      n_people: of the row.
    """

    path: str
    name: str
    view: agora_cameras.View
    people: list[records.Person]
    numbers: list[int]
    n_people: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """What to keep: at most so much occlusion (0..1), and fits or not."""

    max_occlusion: float = 0.75
    with_fits: bool = True


def check_columns(frame, path: str) -> None:
    """Checks that a frame has what rows are made of.

    Raises:
      ValueError: naming the file and the columns.
    """
    missing = [name for name in _COLUMNS if not isinstance(frame, dict) or name not in frame]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}: it is none of AGORA's "
            "SMPL/<split>_<k>_withjv.pkl, which hold the joints."
        )


def picture_name(file_name: str) -> str:
    """Returns a picture's name without extension and without the small release's size."""
    return os.path.splitext(file_name)[0].removesuffix(SMALL_SUFFIX)


def read_row(
    frame: dict,
    i: int,
    path: str,
    source_dir: str,
    selection: Selection,
    dropped: collections.Counter,
) -> Picture:
    """Reads one row.

    Args:
      frame: columns of a dataframe that `check_columns` accepts.
      i: which row.
      path: of the picture, relative to the source folder.
      source_dir: in which the fits lie.
      selection: what to keep.
      dropped: counts what is left out, by reason.

    Returns:
      The picture; without people if none is kept.

    Raises:
      ValueError: naming picture and column, if lists of people differ in length, the camera's
        columns are missing, or a path leaves the source folder.
    """
    name = picture_name(os.path.basename(checked_text(frame["imgPath"][i], "imgPath")))
    view = agora_cameras.view_of(name, _row_camera(frame, i, name))
    n_people = len(frame["gt_joints_3d"][i])
    picture = Picture(path, name, view, [], [], n_people)
    for column in _COLUMNS[1:]:
        if len(frame[column][i]) != n_people:
            raise ValueError(
                f"{name}: {column} has {len(frame[column][i])} people, gt_joints_3d {n_people}."
            )
    for number in range(n_people):
        row = {column: frame[column][i][number] for column in _COLUMNS[1:]}
        person = _person(row, selection.max_occlusion, name, dropped)
        if person is None:
            continue
        if selection.with_fits:
            person.body = _body(frame, i, number, view, person, source_dir, dropped)
        picture.people.append(person)
        picture.numbers.append(number)
    return picture


def checked_text(value, what):
    """Returns a text as it is.

    Raises:
      ValueError: for anything else; `str` of lists within lists could be of any length.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} holds a {type(value).__name__} in place of a file's name.")
    return value


def _row_camera(frame, i, name):
    """The row's camera; None where the picture's name says it."""
    if agora_cameras.is_fixed(name):
        return None
    missing = [column for column in _CAMERA_COLUMNS if column not in frame]
    if missing:
        raise ValueError(
            f"{name}: its table has no column {', '.join(missing)}, and no rule names its camera; "
            "download the table again."
        )
    return [frame[column][i] for column in _CAMERA_COLUMNS]


def _person(row, max_occlusion, name, dropped):
    """A person, or None with the reason counted."""
    occlusion = float(row["occlusion"]) / 100
    if not bool(row["isValid"]):
        dropped["people: marked invalid"] += 1
        return None
    if not occlusion <= max_occlusion:
        dropped[f"people: more than {max_occlusion:.0%} occluded"] += 1
        return None
    points3d, points2d = _joints(row, name)
    validity3d = np.isfinite(points3d).all(axis=-1)
    is_seen = validity3d & (np.where(validity3d, points3d[:, 2], 0.0) > 0)
    person = projected_people.person_seen(
        points3d, validity3d, points2d, is_seen, agora_cameras.WIDTH, agora_cameras.HEIGHT
    )
    if person is None:
        dropped["people: outside the picture"] += 1
        return None
    if max(person.box[2:]) < MIN_BOX_SIDE_PX:
        dropped[f"people: box under {MIN_BOX_SIDE_PX:.0f} px"] += 1
        return None
    try:
        plausibility.check_person_size(points3d, validity3d, SMPL_24, name)
    except ValueError:
        dropped["people: implausible bones"] += 1
        return None
    person.occlusion = min(max(occlusion, 0.0), 1.0)
    return person


def _joints(row, name):
    """The first 24 joints: `[24, 3]` m and `[24, 2]` px."""
    points = []
    for column, n_dims in (("gt_joints_3d", 3), ("gt_joints_2d", 2)):
        value = as_array(row[column], f"{name}: {column} of a person", _MAX_VALUES)
        if value.dtype.kind not in "fiu":
            raise ValueError(f"{name}: {column} of a person is no array of numbers.")
        if value.ndim != 2 or len(value) < _N_JOINTS or value.shape[1] != n_dims:
            raise ValueError(
                f"{name}: {column} of a person has shape {value.shape}; expected at least "
                f"[{_N_JOINTS}, {n_dims}]."
            )
        points.append(value[:_N_JOINTS].astype(np.float64))
    return points


def _body(frame, i, number, view, person, source_dir, dropped):
    """The person's body parameters, or None with the reason counted."""
    if "gt_path_smpl" not in frame or not set(_SCAN_COLUMNS) <= set(frame):
        dropped["bodies: the table names no fit"] += 1
        return None
    if "kid" in frame and bool(frame["kid"][i][number]):
        dropped["bodies: kids, whose shape SMPL's betas do not describe"] += 1
        return None
    fit_path = checked_text(frame["gt_path_smpl"][i][number], "gt_path_smpl")
    relative = os.path.splitext(fit_path)[0] + ".pkl"
    fit = counted_fits.load_fit(image_files.confined_path(source_dir, relative), dropped)
    if fit is None:
        return None
    x, y, z, yaw = (float(frame[column][i][number]) for column in _SCAN_COLUMNS)
    camera_from_body = view.camera_from_fit((x, y, z), yaw)
    root = camera_from_body[:, :3] @ fit.translation + camera_from_body[:, 3]
    if person.validity3d[0] and np.linalg.norm(root - person.points3d[0]) > _MAX_FIT_ERROR_M:
        dropped["bodies: the fit lies elsewhere than the joints"] += 1
        return None
    return records.BodyParameters(
        pose_rotvecs=fit.pose_rotvecs.astype(np.float32),
        shape_betas=fit.shape_betas.astype(np.float32),
        translation=fit.translation.astype(np.float32),
        camera_from_body=camera_from_body.astype(np.float32),
    )
