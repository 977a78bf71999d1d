"""Writes synthetic people as AGORA: pictures, dataframes with joints, SMPL fits, masks.

The fits are of the procedural body: read them with `body_model="procedural"`.
"""

import pathlib
import pickle

import cv2
import numpy as np
import pandas

from metrabs_like.skeletons import SMPL_24
from tests.native import fits, scene

WIDTH, HEIGHT = 3840, 2160
SMALL = (1280, 720)
SMALL_SUFFIX = "_1280x720"
# Beginning of the pictures' names, focal length in mm: each case of the camera's rule.
CAMERAS = {
    "ag_trainset_3dpeople_bfh_archviz_5_10_cam00": 18.0,
    "ag_trainset_3dpeople_bfh_archviz_5_10_cam01": 18.0,
    "ag_trainset_3dpeople_bfh_archviz_5_10_cam02": 18.0,
    "ag_trainset_3dpeople_bfh_archviz_5_10_cam03": 18.0,
    "ag_trainset_axyz_bfh_hdri_50mm_5_10": 50.0,
    "ag_trainset_humanalloy_bfh_ag2_5_15": 28.0,
    "ag_trainset_renderpeople_bfh_flowers_5_15": 28.0,
}
CAM00 = "ag_trainset_3dpeople_bfh_archviz_5_10_cam00"
ROW_CAMERA = {"camX": 120.0, "camY": -80.0, "camZ": 5.0, "camYaw": 25.0}
# The camera from the world, as FORMATS' table says: position cm (Unreal), yaw, pitch, offset m.
PLACES = {
    "hdri": ((0, 0, 170), 0, 0, 0),
    "cam00": ((400, -275, 265), 135, 30, 0),
    "cam01": ((400, 225, 265), -135, 30, 0),
    "cam02": ((-490, 170, 265), -45, 30, 0),
    "cam03": ((-490, -275, 265), 45, 30, 0),
    "ag2": ((0, 0, 170), 0, 15, 0),
    "flowers": ((120, -80, 5), 25, 0, -1.7),
}
# Some colours of AirSim's palette, RGB.
PALETTE = [(153, 108, 6), (112, 105, 191), (89, 121, 72), (190, 225, 64), (206, 190, 59)]
RED = (255, 0, 0)


def write(
    folder, records, *, split="train", names=(CAM00,), small=True, with_masks=True, **changes
):
    """Writes the data set.

    Args:
      folder: its root.
      records: with bodies and masks, without lens distortion; one is one picture.
      split: "train" or "validation".
      names: beginnings of the pictures' names, keys of `CAMERAS`; taken in turn.
      small: the release of 1280 x 720 px.
      with_masks: write masks too, those of 1280 x 720 px.
      changes: column -> function of the row's number and value, to change what is written.

    Returns:
      The pictures' names without extension and size.
    """
    pictures = pathlib.Path(folder) / (f"{split}_0" if split == "train" else split)
    pictures.mkdir(parents=True, exist_ok=True)
    rows, written = [], []
    for i, record in enumerate(records):
        begin = names[i % len(names)]
        name = f"{begin}_{i:05d}"
        written.append(name)
        path = pictures / f"{name}{SMALL_SUFFIX if small else ''}.png"
        picture = scene.photographed(
            record, intrinsics(begin, *SMALL), width=SMALL[0], height=SMALL[1]
        )
        if not small:  # only stretched: it shows the same people at the same places
            picture = cv2.resize(picture, (WIDTH, HEIGHT))
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        rows.append(_row(folder, record, begin, name))
        if with_masks:
            _write_masks(folder, record, begin, name, split)
    for column, change in changes.items():
        for i, row in enumerate(rows):
            row[column] = change(i, row.get(column))
    write_table(folder, rows, split)
    return written


def write_table(folder, rows, split="train"):
    """Writes the dataframe of a list of rows (dicts)."""
    path = pathlib.Path(folder) / "SMPL" / f"{split}_0_withjv.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_pickle(path, protocol=4)


def intrinsics(begin, width, height):
    """The camera matrix of a picture."""
    focal = CAMERAS[begin] / 36 * width
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def camera_from_world(begin):
    """The camera of a picture's name, `[4, 4]`, m."""
    place = next(place for part, place in PLACES.items() if part in begin)
    (x, y, z), yaw, pitch, offset = place
    centre = np.array([y, -z, x]) / 100 + [0, offset, 0]
    rotation = turned("x", pitch) @ turned("y", -yaw)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ centre
    return matrix


def turned(axis, degrees):
    """A rotation matrix about x or y."""
    vector = np.radians(degrees) * np.array([axis == "x", axis == "y", 0.0])
    return cv2.Rodrigues(vector)[0]


def _row(folder, record, begin, name):
    """A row of the dataframe; writes the fits that it names."""
    camera = camera_from_world(begin)
    inverse = np.linalg.inv(camera)
    row = {"imgPath": f"{name}.png", **ROW_CAMERA}
    people = {column: [] for column in ("X", "Y", "Z", "Yaw", "gt_joints_2d", "gt_joints_3d")}
    people |= {column: [] for column in ("gender", "kid", "occlusion", "isValid", "gt_path_smpl")}
    for number, person in enumerate(record.people):
        joints = scene.joints(person, SMPL_24.joint_names)
        joints = np.concatenate([joints, joints[[0] * 21]])  # the 21 landmarks that follow
        position = inverse[:3, :3] @ joints[0] + inverse[:3, 3] + [0.1, 0.2, -0.3]
        yaw = 40.0 * number - 70.0
        path = f"smpl_gt/{name}_{number}.obj"
        _write_fit(folder, path, person, camera, position, yaw)
        values = {
            "X": 100 * position[2],
            "Y": 100 * position[0],
            "Z": -100 * position[1],
            "Yaw": yaw,
            "gt_joints_3d": joints,
            "gt_joints_2d": scene.pixels(joints, intrinsics(begin, WIDTH, HEIGHT)),
            "gender": "female" if number % 2 else "male",
            "kid": False,
            "occlusion": 100 * float(person.occlusion),
            "isValid": person.occlusion <= 0.9,
            "gt_path_smpl": path,
        }
        for column, value in values.items():
            people[column].append(value)
    return {**row, **people}


def _write_fit(folder, path, person, camera, position, yaw):
    """Writes the SMPL parameters as the evaluation code places them."""
    world_from_fit = np.eye(4)
    world_from_fit[:3, :3] = turned("y", yaw - 90) @ np.diag([1, -1, -1])
    world_from_fit[:3, 3] = position
    pose, betas, translation = fits.in_frame(person.body, (camera @ world_from_fit)[:3])
    content = {
        "root_pose": pose[:1].astype(np.float32),
        "body_pose": pose[np.newaxis, 1:].astype(np.float32),
        "betas": betas[np.newaxis].astype(np.float32),
        "translation": translation[np.newaxis].astype(np.float32),
    }
    target = (pathlib.Path(folder) / path).with_suffix(".pkl")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(pickle.dumps(content))


def mask_path(folder, begin, name, number, split="train"):
    """The path of a mask: 0 is everybody, i + 1 person i."""
    stem, picture = name.rsplit("_", 1)
    if "archviz" in begin:
        stem, camera = stem.rsplit("_", 1)
        stem = f"{stem}_mask_{camera}"
    else:
        stem = f"{stem}_mask"
    scene_folder = "_".join(name.split("_")[:5])
    root = pathlib.Path(folder) / f"{split}_masks_1280x720" / split / scene_folder
    return root / f"{stem}_{int(picture):06d}_{number:05d}.png"


def _write_masks(folder, record, begin, name, split):
    """Each whole silhouette, and everybody in colours with some noise.

    What is hidden of a person is unknown here: their silhouette gets the others' pixels near them.
    """
    seen = [visible_mask(record, person, begin) > 0 for person in record.people]
    everybody = np.empty((*SMALL[::-1], 3), np.uint8)
    everybody[:] = RED
    noise = np.random.default_rng(len(name)).integers(-4, 5, everybody.shape)
    for number, mask in enumerate(seen):
        everybody[mask] = PALETTE[number]
        near = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
        others = np.any([m for i, m in enumerate(seen) if i != number] or [mask], axis=0)
        whole = np.where(mask | (near & others), 255, 0).astype(np.uint8)
        path = mask_path(folder, begin, name, number + 1, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), whole)
    everybody = np.clip(everybody + noise, 0, 255).astype(np.uint8)
    cv2.imwrite(str(mask_path(folder, begin, name, 0, split)), everybody[..., ::-1])


def visible_mask(record, person, begin):
    """What shows of a person in a small picture of that camera, uint8 0/255."""
    width, height = SMALL
    return scene.mask_as_seen(
        record, person, intrinsics(begin, width, height), width=width, height=height
    )
