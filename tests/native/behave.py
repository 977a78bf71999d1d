"""Writes synthetic people as BEHAVE: Kinect pictures, calibrations, 3D joints, fits, masks.

The Kinects stand in one place and differ in lens and in how they are turned about their axis, so
that one 3D annotation fits the pictures of all. The fits are of the procedural body: read them with
`body_model="procedural"`.
"""

import json
import pathlib
import pickle

import cv2
import numpy as np

from metrabs_like.skeletons import BODY_25
from tests.native import fits, scene

WIDTH, HEIGHT = 512, 384
# Those of a real Kinect 4, by magnitude.
LENS = dict(k1=0.5, k2=-2.7, k3=1.6, k4=0.38, k5=-2.5, k6=1.5, p1=0.0006, p2=-0.0003)
ORDER = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
CENTRE = np.array([0.4, -1.1, 0.6])
ROTVEC = np.array([0.2, -0.7, 0.1])
SEQUENCE = "Date01_Sub01_backpack_hand"
# Joints that the synthetic skeleton lacks are left unknown.
UNKNOWN = ("lto2", "lto3", "lhee", "rto2", "rto3", "rhee")
KNOWN = [name for name in BODY_25.joint_names if name not in UNKNOWN]


def write(folder, records, *, sequence=SEQUENCE, split="train", n_kinects=3, object_box=None):
    """Writes one sequence; a record is one frame.

    Args:
      folder: the data set's root.
      records: of one person each, with body and mask, without lens distortion.
      sequence: its name.
      split: "train" or "test".
      n_kinects: number of cameras.
      object_box: (x, y, width, height), px, of a part of each picture that an object hides.

    Returns:
      `[n, 25, 3]`, m: joints in the frame of the cameras, NaN where unknown.
    """
    root = pathlib.Path(folder)
    lists = {"train": [], "test": []}
    if (root / "split.json").exists():
        lists = json.loads((root / "split.json").read_text())
    lists[split].append(sequence)
    write_json(root / "split.json", lists)
    write_info(root, sequence, n_kinects)
    for number in range(n_kinects):
        write_camera(root, records, number)
    joints = np.stack([_joints(record.people[0]) for record in records])
    for i, record in enumerate(records):
        frame = root / "sequences" / sequence / f"t{i + 1:04d}.000"
        _write_person(frame, record.people[0], joints[i])
        for number in range(n_kinects):
            _write_pictures(frame, record, records, number, object_box)
    return joints


def write_info(root, sequence=SEQUENCE, n_kinects=3, **changes):
    """Writes `info.json`; a value None removes a field."""
    info = {
        "config": "../../calibs/Date01/config",
        "empty": "../../calibs/Date01/background",
        "intrinsic": "../../calibs/intrinsics",
        "cat": "backpack",
        "gender": "male",
        "kinects": list(range(n_kinects)),
        "beta": "male",
        **changes,
    }
    info = {name: value for name, value in info.items() if value is not None}
    write_json(pathlib.Path(root) / "sequences" / sequence / "info.json", info)


def write_camera(root, records, number, config=None, color=None):
    """Writes the pose and the lens of a Kinect; `config` and `color` replace fields."""
    root = pathlib.Path(root) / "calibs"
    matrix, lens = camera(records, number)
    rotation = _world_from_camera()
    pose = {"rotation": rotation.ravel().tolist(), "translation": CENTRE.tolist()}
    write_json(root / "Date01" / "config" / f"{number}" / "config.json", {**pose, **(config or {})})
    sizes = {"width": WIDTH, "height": HEIGHT}
    pinhole = {"fx": matrix[0, 0], "fy": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
    values = {**pinhole, **dict(zip(ORDER, lens.tolist(), strict=True)), **sizes}
    values["opencv"] = [*pinhole.values(), *lens.tolist()]
    content = {"color": {**values, **(color or {})}, "depth": values}
    write_json(root / "intrinsics" / f"{number}" / "calibration.json", content)


def camera(records, number):
    """Intrinsics `[3, 3]` and the eight coefficients of a Kinect."""
    focal = min(float(r.intrinsics[0][0]) * HEIGHT / r.height for r in records)
    focal *= 1 - 0.08 * number
    matrix = [[focal, 0, WIDTH / 2 + 3 - number], [0, 1.004 * focal, HEIGHT / 2 - 2], [0, 0, 1]]
    return np.array(matrix), np.array([LENS[name] for name in ORDER]) * (1 - 0.1 * number)


def to_world(points):
    """Camera-frame points in BEHAVE's world."""
    return points @ _world_from_camera().T + CENTRE


def frame_folder(folder, index, sequence=SEQUENCE):
    """The folder of a frame."""
    return pathlib.Path(folder) / "sequences" / sequence / f"t{index + 1:04d}.000"


def write_joints(frame, rows):
    """Writes `person_J3d.json` of `[25, 4]`: x, y, z and score."""
    write_json(frame / "person" / "person_J3d.json", {"body_joints3d": np.ravel(rows).tolist()})


def write_json(path, content):
    """Writes a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _world_from_camera():
    return cv2.Rodrigues(ROTVEC)[0]


def _joints(person):
    """The 25 joints, NaN where the synthetic person has none."""
    joints = np.full((25, 3), np.nan)
    rows = [BODY_25.index(name) for name in KNOWN]
    joints[rows] = scene.joints(person, KNOWN, suffixes=("coco", "smpl"))
    return joints


def _write_person(frame, person, joints):
    scores = np.where(np.isfinite(joints[:, :1]), 0.8, 0.0)
    rows = np.concatenate([np.nan_to_num(to_world(joints)), scores], axis=1)
    write_joints(frame, rows)
    camera_from_world = np.linalg.inv(
        np.block([[_world_from_camera(), CENTRE[:, None]], [0, 0, 0, 1]])
    )
    pose, betas, translation = fits.in_frame(person.body, camera_from_world[:3])
    smplh = np.zeros(156)
    smplh[:66] = pose[:22].ravel()
    smplh[66:] = 0.1  # fingers
    target = frame / "person" / "fit02" / "person_fit.pkl"
    target.parent.mkdir(parents=True, exist_ok=True)
    content = {"pose": smplh, "betas": betas, "trans": translation}
    target.write_bytes(pickle.dumps(content, 2))


def _write_pictures(frame, record, records, number, object_box):
    matrix, lens = camera(records, number)
    size = {"width": WIDTH, "height": HEIGHT}
    picture = scene.photographed(record, matrix, lens, **size)[..., ::-1].copy()
    mask = scene.mask_as_seen(record, record.people[0], matrix, lens, **size)
    thing = np.zeros_like(mask)
    if object_box is not None:
        x, y, width, height = object_box
        for target, value in ((picture, (20, 90, 160)), (mask, 0), (thing, 255)):
            target[y : y + height, x : x + width] = value
    quality = [cv2.IMWRITE_JPEG_QUALITY, 97]
    for what, content in (("color", picture), ("person_mask", mask), ("obj_rend_mask", thing)):
        cv2.imwrite(str(frame / f"k{number}.{what}.jpg"), content, quality)
