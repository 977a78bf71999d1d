"""People and detections in the form of COCO's annotation and result files, and their checks.

Conventions: px of the image, pixel (0, 0) is the centre of the top-left pixel; boxes are (x, y,
width, height). Image ids of the files are integers if all of them are digits alone, else texts.
"""

import numpy as np

from metrabs_like.skeletons import COCO_17, Skeleton

COCO_JOINT_NAMES = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
).split()
"""The joints of `COCO_17` as a category of COCO's files lists them."""
PERSON_ID = 1
AREA_OF_BOX = 0.53
"""Area of an outline whose area is unknown, as a share of its box (customary for COCO)."""
SHOWN_SCORE = 0.1
"""Joints with a higher score are reported as visible; released code of centerpose."""


def ground_truth_content(images, skeleton: Skeleton) -> dict:
    """Writes annotated people as the content of an annotation file.

    Args:
      images: mappings, one per image: `image_id` (text, bytes or integer), `image_size` (height,
        width) px, `boxes [N, 4]`, `joints2d [N, J, 2]`, `joint_validity [N, J]`; optional `areas
        [N]` px^2 of the outlines, 0 or absent where unknown, and `crowd_boxes [C, 4]`.
      skeleton: of the J joints; `COCO_17` gets the names of COCO's files.

    Returns:
      Dict with the lists `images`, `annotations`, `categories`. Labelled joints have v = 2,
      others 0; regions of crowds are annotations with `iscrowd` 1.

    Raises:
      ValueError: naming image and field, if an id comes twice or a number is not finite.
    """
    images = list(images)
    ids = json_ids([image["image_id"] for image in images])
    rows, annotations = [], []
    for image_id, image in zip(ids, images, strict=True):
        height, width = (int(n) for n in image["image_size"])
        row = {"id": image_id, "file_name": str(image_id), "height": height, "width": width}
        rows.append(row)
        annotations += _people_rows(image, image_id, skeleton.n_joints)
    for number, row in enumerate(annotations, start=1):
        row["id"] = number
    names = COCO_JOINT_NAMES if skeleton == COCO_17 else list(skeleton.joint_names)
    edges = [[a + 1, b + 1] for a, b in skeleton.edges]
    person = {"id": PERSON_ID, "name": "person", "keypoints": names, "skeleton": edges}
    return {"images": rows, "annotations": annotations, "categories": [person]}


def results_content(detections) -> list:
    """Writes detections as the content of a results file, of boxes and keypoints at once.

    Args:
      detections: mapping image id -> dict with `boxes [K, 4]`, `scores [K]` and, unless only boxes
        are there, `joints2d [K, J, 2]` and `joint_scores [K, J]`. Images without detections are
        listed too: the form of the ids depends on all of them.

    Returns:
      List of rows; coordinates and scores have two decimals, as those of the released code. A
      joint's v is 1 where its score is above `SHOWN_SCORE`, else 0.

    Raises:
      ValueError: naming image and field, if an id comes twice or a number is not finite.
    """
    rows = []
    for image_id, found in zip(json_ids(list(detections)), detections.values(), strict=True):
        boxes = _checked(found["boxes"], (-1, 4), image_id, "boxes")
        columns = {"bbox": boxes, "score": _checked(found["scores"], (-1,), image_id, "scores")}
        if "joints2d" in found:
            columns["keypoints"] = _keypoints(found, image_id)
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"image {image_id!r}: numbers of detections differ: {lengths}")
        lists = [np.round(values.astype(np.float64), 2).tolist() for values in columns.values()]
        for values in zip(*lists, strict=True):
            fields = dict(zip(columns, values, strict=True))
            rows.append({"image_id": image_id, "category_id": PERSON_ID, **fields})
    return rows


def images_of_batch(batch) -> list[dict]:
    """Splits a batch of the pipeline of whole images into what `ground_truth_content` takes.

    Args:
      batch: dict of arrays or tensors with `image_id`, `image_size`, `boxes`, `joints2d`,
        `joint_validity`, `person_validity`, and where they are `areas`, `crowd_boxes`,
        `crowd_validity`.

    Returns:
      One dict per image, with the valid people alone.
    """
    batch = {name: np.asarray(values) for name, values in batch.items() if name in _OF_BATCH}
    images = []
    for i, is_person in enumerate(batch["person_validity"]):
        image = {name: batch[name][i] for name in ("image_id", "image_size")}
        for name in ("boxes", "joints2d", "joint_validity", "areas"):
            if name in batch:
                image[name] = batch[name][i][is_person]
        if "crowd_boxes" in batch:
            image["crowd_boxes"] = batch["crowd_boxes"][i][batch["crowd_validity"][i]]
        images.append(image)
    return images


def detections_of_batch(image_ids, decoded) -> dict:
    """Splits decoded people of a batch into what `results_content` takes.

    Args:
      image_ids: `[B]`.
      decoded: dict of arrays or tensors `boxes [B, K, 4]`, `scores [B, K]`, and where they are
        `joints2d [B, K, J, 2]`, `joint_scores [B, K, J]`.

    Returns:
      Dict image id -> dict without the batch dimension.
    """
    names = [n for n in ("boxes", "scores", "joints2d", "joint_scores") if n in decoded]
    columns = {name: np.asarray(decoded[name]) for name in names}
    return {
        image_text(image_id): {name: values[i] for name, values in columns.items()}
        for i, image_id in enumerate(np.asarray(image_ids).tolist())
    }


def json_ids(image_ids) -> list:
    """Returns image ids as the files have them: integers if all are digits alone, else texts.

    Args:
      image_ids: texts, bytes or integers.

    Raises:
      ValueError: if two are the same.
    """
    texts = [image_text(image_id) for image_id in image_ids]
    if all(text.isascii() and text.isdecimal() for text in texts):
        found = [int(text) for text in texts]
    else:
        found = texts
    if len(set(found)) < len(found):
        double = next(i for n, i in enumerate(found) if i in found[:n])
        raise ValueError(
            f"image id {double!r} comes twice; every image of an evaluation needs its own"
        )
    return found


def image_text(image_id) -> str:
    """Returns an image id, text, bytes or integer, as text."""
    return image_id.decode() if isinstance(image_id, bytes) else str(image_id)


_OF_BATCH = (
    *("image_id", "image_size", "boxes", "joints2d", "joint_validity", "person_validity"),
    *("areas", "crowd_boxes", "crowd_validity"),
)


def _people_rows(image, image_id, n_joints):
    """Annotations of one image, without ids."""
    boxes = _checked(image["boxes"], (-1, 4), image_id, "boxes")
    validity = np.asarray(image["joint_validity"], bool).reshape(len(boxes), n_joints)
    joints = np.where(validity[..., np.newaxis], image["joints2d"], 0.0)
    joints = _checked(joints, (len(boxes), n_joints, 2), image_id, "joints2d")
    known = np.asarray(image.get("areas", np.zeros(len(boxes))), np.float64)
    areas = np.where(known > 0, known, AREA_OF_BOX * np.prod(boxes[:, 2:], axis=1))
    keypoints = np.concatenate([joints, 2 * validity[..., np.newaxis]], axis=-1)
    rows = [
        _row(image_id, box, float(area), points.ravel().tolist(), 0)
        for box, area, points in zip(boxes, areas, keypoints, strict=True)
    ]
    crowds = _checked(image.get("crowd_boxes", np.zeros((0, 4))), (-1, 4), image_id, "crowd_boxes")
    nowhere = [0.0] * (3 * n_joints)
    return rows + [_row(image_id, box, float(np.prod(box[2:])), nowhere, 1) for box in crowds]


def _row(image_id, box, area, keypoints, iscrowd):
    return {
        "image_id": image_id,
        "category_id": PERSON_ID,
        "bbox": box.tolist(),
        "area": area,
        "keypoints": keypoints,
        "num_keypoints": int(np.count_nonzero(keypoints[2::3])),
        "iscrowd": iscrowd,
    }


def _keypoints(found, image_id):
    """x, y, v of detected joints, `[K, 3 J]`."""
    scores = _checked(found["joint_scores"], (len(found["scores"]), -1), image_id, "joint_scores")
    joints = _checked(found["joints2d"], (*scores.shape, 2), image_id, "joints2d")
    shown = (scores > SHOWN_SCORE)[..., np.newaxis]
    return np.concatenate([joints, shown], axis=-1).reshape(len(scores), 3 * scores.shape[1])


def _checked(values, shape, image_id, name):
    """Returns float64 of a shape."""
    values = np.asarray(values, np.float64)
    if values.size == 0:  # an empty list has one dimension
        values = values.reshape([0 if n < 0 else n for n in shape])
    fits = values.ndim == len(shape) and all(
        n in (-1, m) for n, m in zip(shape, values.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"image {image_id!r}: {name} has shape {values.shape}, not {shape}")
    if not np.isfinite(values).all():
        number = int(np.argwhere(~np.isfinite(values))[0][0])
        raise ValueError(
            f"image {image_id!r}: {name}[{number}] = {values[number].tolist()} is not finite; "
            "leave it out or mend it"
        )
    return values
