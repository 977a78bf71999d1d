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
from metrabs_like.data.readers import coco_masks
from metrabs_like.metrics.coco_content import COCO_JOINT_NAMES
from metrabs_like.skeletons import COCO_17

N_KEYPOINT_NUMBERS = 3 * COCO_17.n_joints
CROWDS = "people: crowd regions"
"""What `load` counts regions of crowds as."""


@dataclasses.dataclass
class CocoPerson:
    """One annotated person.

    Attributes:
      box: float32 `[4]`, px.
      keypoints: float32 `[17, 3]`: x, y (px), v (0 not labelled, 1 labelled but hidden, 2 visible).
      segmentation: polygons as float32 arrays, or a run-length code, neither of them checked; None
        if there is none.
      more: what the reader's `convert` made of the row.
      area: px^2 of the segmentation; None if there is none.
    """

    box: np.ndarray
    keypoints: np.ndarray
    segmentation: list | dict | None = None
    more: object = None
    area: float | None = None

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
      crowd_boxes: float32 `[4]` each, px, regions of crowds.
    """

    file_name: str
    image_id: int
    width: int
    height: int
    people: list[CocoPerson] = dataclasses.field(default_factory=list)
    is_empty: bool = True
    crowd_boxes: list[np.ndarray] = dataclasses.field(default_factory=list)


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
    return image_files.confined_path(source_dir, os.path.join("annotations", found[0]))


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
      dropped: counts what is left out, by reason; crowds, which are no people, as `CROWDS`.
      convert: makes `CocoPerson.more` of a row; a ValueError's text is a reason to leave it out.
      progress: show a bar over the rows (rows/s).

    Returns:
      All pictures in the order of their ids, with the people whose rows are whole; of those whose
      id comes twice in one picture, the first.

    Raises:
      ValueError: if the file is no COCO keypoint file.
    """
    content = _content(path)
    person_id = _person_category(content["categories"], path)
    images = _images(content["images"], path, dropped)
    rows = tqdm.tqdm(
        content["annotations"], desc=os.path.basename(path), unit=" rows", disable=not progress
    )
    taken = set()
    for row in rows:
        row = row if isinstance(row, dict) else {}
        image_id = row.get("image_id")
        image = images.get(image_id) if type(image_id) is int else None
        reason = _reason_to_drop(row, image, person_id, taken)
        if image is not None and row.get("category_id", person_id) == person_id:
            image.is_empty = False
        if reason is None:
            try:
                reason = _add(row, image, convert)
                taken.add(_key(row))
            except ValueError as error:
                reason = str(error)
        if reason:
            dropped[f"people: {reason}"] += 1
    return [images[image_id] for image_id in sorted(images)]


def _content(path):
    """The file's content with the three lists it must have."""
    try:
        content = safe_loading.load_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is no COCO keypoint file ({error}); download it again.") from None
    content = content if isinstance(content, dict) else {}
    lists = ("images", "annotations", "categories")
    missing = [name for name in lists if not isinstance(content.get(name), list)]
    if missing:
        raise ValueError(
            f"{path} is no COCO keypoint file: the lists {missing} are missing; download it again, "
            "and take person_keypoints_*, not instances_*."
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
    """The pictures by id; of those listed twice the first, of impossible ones none."""
    images = {}
    for row in rows:
        try:
            image = CocoImage(
                str(row["file_name"]), int(row["id"]), int(row["width"]), int(row["height"])
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{path}: the image {str(row)[:200]} lacks file_name, id, width or height "
                f"({error!r}); download the file again."
            ) from None
        if image.image_id in images:
            dropped["images: listed twice"] += 1
        elif not _is_possible(image):
            dropped["images: no such file name or size can be"] += 1
        else:
            images[image.image_id] = image
    return images


def _is_possible(image):
    """Whether a file may have this name and a picture this size."""
    try:
        image.file_name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    is_size = min(image.width, image.height) > 0
    is_size &= image.width * image.height <= image_files.MAX_PIXELS
    return is_size and "\0" not in image.file_name


def _key(row):
    """The annotation's id and its image's; None without an id: then it cannot be there twice."""
    number = row.get("id")
    return (row["image_id"], number) if type(number) in (int, str) else None


def _reason_to_drop(row, image, person_id, taken):
    """Why a row is no usable person at all; None if it may be one."""
    if image is None:
        return "their image is not listed"
    if row.get("category_id", person_id) != person_id:
        return "of another category"
    key = _key(row)
    return "listed twice" if key is not None and key in taken else None


def _add(row, image, convert):
    """Adds a person, or a crowd, to its image; returns or raises why the row is no person."""
    if not row.get("iscrowd"):
        image.people.append(_person(row, image, convert))
        return None
    box = coco_masks.plain_numbers(row.get("bbox"))
    if box is None or len(box) != 4 or not np.isfinite(box).all():
        return "crowd regions without a box"
    _check_places(np.concatenate([box[:2], box[:2] + box[2:]]), image)
    if min(box[2:]) <= 0:
        return "crowd regions without a box"
    image.crowd_boxes.append(box.astype(np.float32))
    return CROWDS.removeprefix("people: ")


def _person(row, image, convert):
    """Makes a person; a ValueError's text says why the row is none."""
    box, keypoints = (coco_masks.plain_numbers(row.get(name)) for name in ("bbox", "keypoints"))
    if box is None or len(box) != 4 or keypoints is None or len(keypoints) != N_KEYPOINT_NUMBERS:
        raise ValueError("without bbox or 17 keypoints")
    if not (np.isfinite(box).all() and np.isfinite(keypoints).all()):
        raise ValueError("bbox or keypoints are not finite")
    keypoints = keypoints.reshape(-1, 3)
    places = np.concatenate([keypoints[:, :2].ravel(), box[:2], box[:2] + box[2:]])
    _check_places(places, image)
    segmentation = _compact(row.get("segmentation"))
    box, keypoints = box.astype(np.float32), keypoints.astype(np.float32)
    return CocoPerson(box, keypoints, segmentation, convert(row), _area(row.get("area"), image))


def _check_places(places, image):
    side = max(image.width, image.height)
    if places.min() < -side or places.max() > 2 * side:
        raise ValueError("bbox or keypoints far outside the picture")


def _area(value, image):
    """The area of a segmentation, None if there is none or it cannot be."""
    is_number = type(value) in (int, float)
    return float(value) if is_number and 0 < value <= image.width * image.height else None


def _compact(segmentation):
    """Lists as arrays, a tenth of the size: all people wait in memory for their shard."""
    if isinstance(segmentation, dict):
        return segmentation
    polygons = segmentation if isinstance(segmentation, list) else []
    polygons = [coco_masks.plain_numbers(polygon) for polygon in polygons]
    if not polygons or any(polygon is None for polygon in polygons):
        return None
    with np.errstate(over="ignore"):  # becomes infinite, which is no mask
        return [polygon.astype(np.float32) for polygon in polygons]
