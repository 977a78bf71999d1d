"""Which annotated people of a COCO picture are used, and with which box.

Conventions: boxes are (x, y, width, height) in px. The rules "posepile" are those of PosePile's
single-person training sets (posepile/ds/coco/main.py), so that its example counts can be met.
"""

import collections

import numpy as np

from metrabs_like.data.readers.coco_annotations import CocoPerson
from metrabs_like.skeletons import COCO_17

SELECTIONS = ("all", "posepile", "detector")
MIN_BOX_SIDE_PX = 8.0
BOX_FACTOR = 1.25
MIN_POSEPILE_SIDE_PX = 200.0
MAX_POSEPILE_IOU = 0.1
MIN_LIMB_JOINTS = 7  # "more than 6"
LIMB_JOINTS = [
    COCO_17.index(n) for n in "rank rkne rhip lhip lkne lank rwri relb lelb lwri".split()
]


def check_selection(selection: str, known: tuple[str, ...] = SELECTIONS) -> None:
    """Refuses an unknown rule.

    Raises:
      ValueError: naming the known ones.
    """
    if selection not in known:
        raise ValueError(f"selection = {selection!r} is unknown; choose one of {known}.")


def with_min_joints(
    people: list[CocoPerson], min_joints: int, dropped: collections.Counter
) -> list[CocoPerson]:
    """Keeps people with enough labelled joints and a box of some size.

    Args:
      people: of one picture.
      min_joints: fewest labelled joints (v > 0).
      dropped: counts the others by reason.

    Returns:
      The kept people.
    """
    kept = []
    for person in people:
        if np.count_nonzero(person.visibility > 0) < min_joints:
            dropped[f"people: fewer than {min_joints} labelled joints"] += 1
        elif max(person.box[2:]) < MIN_BOX_SIDE_PX or min(person.box[2:]) <= 0:
            dropped[f"people: box smaller than {MIN_BOX_SIDE_PX:g} px"] += 1
        else:
            kept.append(person)
    return kept


def detector_people(people: list[CocoPerson], dropped: collections.Counter) -> list[CocoPerson]:
    """Keeps everybody whose box has an area, also people without a labelled joint."""
    kept = [person for person in people if min(person.box[2:]) > 0]
    dropped["people: box without area"] += len(people) - len(kept)
    return kept


def posepile_people(people: list[CocoPerson], dropped: collections.Counter) -> list[CocoPerson]:
    """Keeps PosePile's single, large, well visible people of a keypoint picture.

    At least a third of the joints visible (v = 2), at least half labelled, more than 6 of the ten
    joints of arms and legs without the shoulders labelled; the box is 1.25 times that of the joints
    and 200 px or more on its longer side; its overlap (IoU) with the box of anybody else with
    enough visible and labelled joints is below 0.1.

    Args:
      people: of one picture.
      dropped: counts the others by reason.

    Returns:
      The kept people, with the box of their joints (it may reach beyond the picture).
    """
    seen = [p for p in people if _is_well_visible(p)]
    boxes = [joint_box(p.keypoints) for p in seen]
    kept = []
    for i, person in enumerate(seen):
        others = boxes[:i] + boxes[i + 1 :]
        if max(boxes[i][2:]) < MIN_POSEPILE_SIDE_PX or min(boxes[i][2:]) <= 0:
            dropped[f"people: box smaller than {MIN_POSEPILE_SIDE_PX:g} px"] += 1
        elif any(_iou(boxes[i], other) >= MAX_POSEPILE_IOU for other in others):
            dropped["people: overlapping others"] += 1
        elif not has_limbs(person):
            dropped[f"people: fewer than {MIN_LIMB_JOINTS} limb joints labelled"] += 1
        else:
            person.box = boxes[i]
            kept.append(person)
    dropped["people: too few joints visible or labelled"] += len(people) - len(seen)
    return kept


def posepile_dense_people(
    people: list[CocoPerson], dropped: collections.Counter
) -> list[CocoPerson]:
    """Keeps those whom PosePile's DensePose set has: the joint rules of `posepile_people` alone."""
    kept = []
    for person in people:
        if not _is_well_visible(person):
            dropped["people: too few joints visible or labelled"] += 1
        elif not has_limbs(person):
            dropped[f"people: fewer than {MIN_LIMB_JOINTS} limb joints labelled"] += 1
        else:
            kept.append(person)
    return kept


def joint_box(keypoints: np.ndarray, factor: float = BOX_FACTOR) -> np.ndarray:
    """Returns the box of the labelled joints, widened about its middle; float32 `[4]`, px."""
    labelled = keypoints[keypoints[:, 2] > 0, :2]
    low, high = labelled.min(axis=0), labelled.max(axis=0)
    size = factor * (high - low)
    return np.concatenate([(low + high - size) / 2, size]).astype(np.float32)


def has_limbs(person: CocoPerson) -> bool:
    """Whether more than 6 of the ten joints of arms and legs are labelled."""
    return np.count_nonzero(person.visibility[LIMB_JOINTS] > 0) >= MIN_LIMB_JOINTS


def _is_well_visible(person):
    n_joints = COCO_17.n_joints
    n_visible = np.count_nonzero(person.visibility == 2)
    n_labelled = np.count_nonzero(person.visibility > 0)
    return 3 * n_visible >= n_joints and 2 * n_labelled >= n_joints


def _iou(a, b):
    """Intersection over union of two boxes."""
    low = np.maximum(a[:2], b[:2])
    high = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return shared / max(np.prod(a[2:]) + np.prod(b[2:]) - shared, 1e-9)
