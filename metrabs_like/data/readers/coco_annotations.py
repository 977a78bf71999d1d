"""Annotation files in COCO's form: images and people with keypoints.

Conventions: COCO writes integer pixel indices, which are pixel centres here too; boxes are (x, y,
width, height) in px.
"""

import collections
import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tqdm

from metrabs_like.data import image_files, safe_loading
from metrabs_like.skeletons import COCO_17

COCO_JOINT_NAMES = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow "
    "right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle"
).split()
"""The joints of `COCO_17` as a category of the annotation files lists them."""

N_KEYPOINT_NUMBERS = 3 * COCO_17.n_joints


@dataclasses.dataclass
class CocoPerson:
    """One annotated person.

    Attributes:
      box: float32 `[4]`, px.
      keypoints: float32 `[17, 3]`: x, y (px), v (0 not labelled, 1 labelled but hidden, 2 visible).
      segmentation: polygons as float32 arrays, or a run-length code; None if there is none.
      more: what the reader's `convert` made of the row.
    """

    box: np.ndarray
    keypoints: np.ndarray
    segmentation: list | dict | None = None
    more: object = None

    @property
    def visibility(self) -> np.ndarray:
        """Returns v of the joints, `[17]`."""
        return self.keypoints[:, 2]


@dataclasses.dataclass
class CocoImage:
    """One picture.

    Attributes:
      file_name: as annotated, without folder.
      image_id: COCO's number.
      width: px.
      height: px.
      people: usable ones.
      is_empty: no row of any kind, not even a crowd, says that somebody is in it.
    """

    file_name: str
    image_id: int
    width: int
    height: int
    people: list[CocoPerson] = dataclasses.field(default_factory=list)
    is_empty: bool = True


def find(source_dir: str, annotations: str, prefix: str) -> str:
    """Finds the annotation file of a COCO folder.

    Args:
      source_dir: folder with `annotations/`.
      annotations: file there; empty takes the only one that starts with `prefix`.
      prefix: of the file's name.

    Returns:
      Its path.

    Raises:
      ValueError: if it is missing, or there are several.
    """
    folder = os.path.join(source_dir, "annotations")
    if annotations:
        found = [annotations] if os.path.isfile(os.path.join(folder, annotations)) else []
    else:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        found = [n for n in names if n.startswith(prefix) and n.endswith(".json")]
    if len(found) != 1:
        raise ValueError(
            f"source_dir = {source_dir}: {len(found)} annotation files match in {folder} "
            f"({', '.join(found) or 'none'}); name one of its {prefix}*.json."
        )
    return image_files.confined_path(folder, found[0])


def load(
    path: str,
    dropped: collections.Counter,
    *,
    convert: Callable[[dict], object] = lambda row: None,
    progress: bool = False,
) -> list[CocoImage]:
    """Reads an annotation file.

    Args:
      path: of the file.
      dropped: counts what is left out, by reason.
      convert: makes `CocoPerson.more` of a row; a ValueError's text is a reason to leave it out.
      progress: show a bar over the rows (rows/s).

    Returns:
      All pictures in the order of their ids, with the people whose rows are whole.

    Raises:
      ValueError: if the file is no COCO keypoint file.
    """
    content = _content(path)
    person_id = _person_category(content["categories"], path)
    images = _images(content["images"], path, dropped)
    rows = tqdm.tqdm(
        content["annotations"], desc=os.path.basename(path), unit=" rows", disable=not progress
    )
    for row in rows:
        image = images.get(row.get("image_id"))
        reason = _reason_to_drop(row, image, person_id)
        if image is not None and row.get("category_id", person_id) == person_id:
            image.is_empty = False
        if reason is None:
            try:
                image.people.append(_person(row, convert))
                continue
            except (ValueError, TypeError) as error:
                reason = str(error)
        dropped[f"people: {reason}"] += 1
    return [images[image_id] for image_id in sorted(images)]


def _content(path):
    """The file's content with the three lists it must have."""
    try:
        content = safe_loading.load_json(path)
        missing = {"images", "annotations", "categories"} - set(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no COCO keypoint file ({error}); download it again.") from None
    if missing or not all(isinstance(content[k], list) for k in ("images", "annotations")):
        raise ValueError(
            f"{path} is no COCO keypoint file: the lists {sorted(missing) or 'images, annotations'}"
            " are missing; download it again, and take person_keypoints_*, not instances_*."
        )
    return content


def _person_category(categories, path):
    """The number of the category `person`, whose joints must be COCO's."""
    people = [c for c in categories if isinstance(c, dict) and c.get("name") == "person"]
    if len(people) != 1 or "id" not in people[0]:
        raise ValueError(
            f"{path}: categories = {str(categories)[:200]} does not hold one category 'person'; "
            "it says which annotations are people. Download the file again."
        )
    names = people[0].get("keypoints", COCO_JOINT_NAMES)
    if names != COCO_JOINT_NAMES:
        raise ValueError(
            f"{path}: the keypoints of 'person' are {names}; this reader knows COCO's 17. "
            "Convert other joint sets to the layout `custom`."
        )
    return people[0]["id"]


def _images(rows, path, dropped):
    """The pictures by id; of those listed twice the first."""
    images = {}
    for row in rows:
        try:
            image = CocoImage(
                str(row["file_name"]), int(row["id"]), int(row["width"]), int(row["height"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: the image {str(row)[:200]} lacks file_name, id, width or height "
                f"({error!r}); download the file again."
            ) from None
        if image.image_id in images:
            dropped["images: listed twice"] += 1
        else:
            images[image.image_id] = image
    return images


def _reason_to_drop(row, image, person_id):
    """Why a row is no usable person at all; None if it may be one."""
    if image is None:
        return "their image is not listed"
    if row.get("category_id", person_id) != person_id:
        return "of another category"
    if row.get("iscrowd"):
        return "crowd regions"
    if len(row.get("keypoints") or ()) != N_KEYPOINT_NUMBERS or len(row.get("bbox") or ()) != 4:
        return "without bbox or 17 keypoints"
    return None


def _person(row, convert):
    box = np.asarray(row["bbox"], np.float32)
    keypoints = np.asarray(row["keypoints"], np.float32).reshape(-1, 3)
    if not (np.isfinite(box).all() and np.isfinite(keypoints).all()):
        raise ValueError("bbox or keypoints are not finite")
    segmentation = row.get("segmentation") or None
    if isinstance(segmentation, list):
        # Arrays are a tenth of the size of lists: all people wait in memory for their shard.
        segmentation = [np.asarray(polygon, np.float32) for polygon in segmentation]
    return CocoPerson(box, keypoints, segmentation, convert(row))
