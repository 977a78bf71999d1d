"""Writes synthetic people as a COCO keypoint folder, releases of 2014 and 2017."""

import json
import pathlib

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from metrabs_like.skeletons import COCO_17
from tests.native import scene

CATEGORY = {
    "id": 1,
    "name": "person",
    "supercategory": "person",
    "keypoints": [
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder"),
        *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
        *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
    ],
}


def write(folder, records, *, pictures="val2017", rle=False, name=None):
    """Writes `annotations/` and the pictures of records of `scene.people`.

    Args:
      folder: to write to; exists or not.
      records: images whose camera has no lens distortion.
      pictures: folder of the pictures; the names follow its year.
      rle: write masks as run-length codes (exact) and not as polygons.
      name: of the annotation file; None is `person_keypoints_<pictures>.json`.

    Returns:
      The content of the annotation file.
    """
    images, rows = [], []
    for image_id, record in enumerate(records, start=1):
        images.append(image_row(record, image_id, pictures))
        for person in record.people:
            rows.append(person_row(record, person, len(rows) + 1, image_id, rle=rle))
    content = {"images": images, "annotations": rows, "categories": [CATEGORY], "licenses": []}
    write_files(folder, records, content, pictures, name or f"person_keypoints_{pictures}.json")
    return content


def write_files(folder, records, content, pictures, name):
    """Writes the pictures in the order of the content's images, and the annotation file."""
    folder = pathlib.Path(folder)
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for image, record in zip(content["images"], records, strict=True):
        (folder / pictures / image["file_name"]).write_bytes(record.image_bytes)
    (folder / "annotations" / name).write_text(json.dumps(content))


def image_row(record, image_id, pictures):
    """An entry of `images`."""
    prefix = f"COCO_{pictures}_" if pictures.endswith("2014") else ""
    file_name = f"{prefix}{image_id:012d}.jpg"
    size = {"width": record.width, "height": record.height}
    return {"id": image_id, "file_name": file_name, **size, "license": 1}


def person_row(record, person, number, image_id, *, rle=False):
    """An entry of `annotations`: joints rounded to pixels, visible where the mask is near."""
    mask = scene.whole_mask(record, person)
    x, y, width, height = cv2.boundingRect(mask)
    keypoints = _keypoints(record, person, mask)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [float(x), float(y), float(width), float(height)],
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int(np.count_nonzero(keypoints[:, 2])),
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": _codes(mask) if rle else _polygons(mask),
    }


def _keypoints(record, person, mask):
    """`[17, 3]` whole numbers: x, y, v; hidden where nothing of the person is near the joint."""
    points = scene.joints(person, COCO_17.joint_names, suffixes=("coco",))
    points = np.rint(scene.pixels(points, record.intrinsics)).astype(int)
    inside = ((points >= 0) & (points < (record.width, record.height))).all(axis=-1)
    near = cv2.dilate(mask, np.ones((5, 5), np.uint8))
    keypoints = np.zeros((17, 3), int)
    for i in np.flatnonzero(inside):
        x, y = points[i]
        keypoints[i] = x, y, 2 if near[y, x] else 1
    return keypoints


def _codes(mask):
    codes = coco_mask.encode(np.asfortranarray(mask // 255))
    return {"counts": codes["counts"].decode(), "size": codes["size"]}


def _polygons(mask):
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # A contour runs through pixel centres; COCO's origin is the corner of the first pixel.
    return [(c.reshape(-1) + 0.5).tolist() for c in contours if len(c) >= 3]
