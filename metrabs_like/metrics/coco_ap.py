"""Average precision of detected people, by COCO's protocol: boxes (IoU) and keypoints (OKS).

Conventions: contents of files are as in `coco_content`; boxes are (x, y, width, height) px. The
numbers are those of the official tool (pycocotools): AP is the mean over the overlaps 0.50, 0.55,
..., 0.95 and 101 points of recall. Boxes: all people but crowds, 100 detections an image.
Keypoints: people with at least one labelled joint, 20 detections an image. Detections that match
only ignored people or regions of crowds count neither for nor against.
"""

import contextlib
import io
import warnings

import numpy as np

from metrabs_like.metrics import coco_checks
from metrabs_like.metrics.coco_content import (
    COCO_JOINT_NAMES,
    ground_truth_content,
    image_text,
    results_content,
)
from metrabs_like.skeletons import Skeleton

COCO_SIGMAS = tuple(
    n / 1000 for n in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
)
"""Spread of annotators' clicks per joint of COCO's 17, as a share of the person's size."""
KINDS = ("bbox", "keypoints")
_AREAS = {"bbox": ("small", "medium", "large"), "keypoints": ("medium", "large")}


def evaluate_people(images, detections, skeleton: Skeleton, *, sigmas=None) -> dict[str, float]:
    """Computes average precision of boxes and keypoints.

    Args:
      images: annotated people, see `coco_content.ground_truth_content`.
      detections: see `coco_content.results_content`; images without an entry have none.
      skeleton: of the joints.
      sigmas: float `[J]`, see `average_precision`.

    Returns:
      Dict of the numbers of `average_precision`, their names preceded by `box_` and, if the
      detections have joints (or there are none), `keypoint_`.

    Raises:
      ValueError: for broken input; see `ground_truth_content`, `results_content` and
        `average_precision`.
    """
    images = list(images)
    truth = ground_truth_content(images, skeleton)
    results = results_content(_of_all_images(detections, images))
    found = average_precision(truth, results, "bbox")
    numbers = {f"box_{name}": value for name, value in found.items()}
    if not results or "keypoints" in results[0]:
        found = average_precision(truth, results, "keypoints", sigmas=sigmas)
        numbers |= {f"keypoint_{name}": value for name, value in found.items()}
    return numbers


def average_precision(ground_truth: dict, results: list, kind: str, *, sigmas=None) -> dict:
    """Runs the official evaluation of people on the contents of two files.

    Args:
      ground_truth: content of an annotation file; with several categories, `person` counts.
      results: content of a results file.
      kind: "bbox" or "keypoints".
      sigmas: float `[J]`, for keypoints: spread of each joint as a share of the person's size (the
        root of the outline's area). None takes COCO's for COCO's 17 joints, others have none.

    Returns:
      Dict of floats 0..1: `ap`, `ap50`, `ap75` (at one overlap), `ap_small` (boxes only),
      `ap_medium`, `ap_large` (outlines below 32^2, 96^2 px^2 and above), `ar` (mean greatest
      recall) and `recall50` (greatest recall at an overlap of 0.5); NaN where nobody is to be
      found, with a warning if that holds for all. No detections are an AP of 0.

    Raises:
      ValueError: naming what is wrong: a missing category or list, an id that comes twice, an
        annotation or a result of an unknown image, a number that is not finite, missing sigmas.

    References:
      Lin et al., Microsoft COCO, ECCV 2014; cocodataset.org, "keypoints eval".
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r} must be one of {', '.join(KINDS)}")
    person = coco_checks.person_category(ground_truth)
    sigmas = _sigmas(person, sigmas) if kind == "keypoints" else None
    truth = coco_checks.checked_ground_truth(ground_truth, person["id"], kind, sigmas)
    rows = coco_checks.checked_results(results, ground_truth, person["id"], kind, sigmas)
    if not any(_counts(row, kind) for row in truth["annotations"]):
        warnings.warn(_nobody(truth, kind), stacklevel=2)
    from pycocotools.coco import COCO  # here, because importing it takes long
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it reports every step
        evaluation = COCOeval(_indexed(COCO, truth), _indexed(COCO, rows), kind)
        evaluation.params.catIds = [person["id"]]
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
    return _summary(evaluation.eval, kind)


def _of_all_images(detections, images):
    """The detections with an entry for each image: their ids then get one form."""
    detections = {image_text(image_id): found for image_id, found in detections.items()}
    ids = [image_text(image["image_id"]) for image in images]
    unknown = sorted(set(detections) - set(ids))
    if unknown:
        raise ValueError(
            f"detections of {len(unknown)} images that do not exist: {', '.join(unknown[:5])}; "
            f"there are {len(ids)} annotated images"
        )
    return {image_id: detections.get(image_id, {"boxes": [], "scores": []}) for image_id in ids}


def _sigmas(person, sigmas):
    """The sigmas to use; they must belong to the joints."""
    names = person.get("keypoints")
    if not isinstance(names, list) or not names:
        raise ValueError(
            "categories: 'person' has no list of keypoints, so that there are none to evaluate; "
            "take person_keypoints_*, or evaluate boxes"
        )
    if sigmas is None:
        if names != COCO_JOINT_NAMES:
            raise ValueError(
                f"sigmas is missing: COCO defines them for its 17 joints only, these are {names}; "
                "pass one number per joint (about 0.025 for eyes to 0.107 for hips)"
            )
        return COCO_SIGMAS
    sigmas = np.asarray(sigmas, np.float64)
    if sigmas.shape != (len(names),) or not (np.isfinite(sigmas) & (sigmas > 0)).all():
        raise ValueError(
            f"sigmas = {sigmas.tolist()}: pass {len(names)} positive numbers, one per joint"
        )
    return tuple(sigmas.tolist())


def _counts(row, kind):
    return not row["iscrowd"] and (kind == "bbox" or row["num_keypoints"] > 0)


def _nobody(truth, kind):
    what = "with a labelled joint " if kind == "keypoints" else ""
    return (
        f"no person {what}is annotated in {len(truth['images'])} images "
        f"({len(truth['annotations'])} annotations): average precision is NaN"
    )


def _indexed(coco_class, content):
    coco = coco_class()
    coco.dataset = content
    coco.createIndex()
    return coco


def _summary(found, kind):
    """Means of the tables `[overlaps, recalls, 1, areas, limits]`, the last limit's."""
    precision, recall = found["precision"][:, :, 0, :, -1], found["recall"][:, 0, :, -1]
    overlaps = np.asarray(found["params"].iouThrs)
    at50, at75 = (int(np.argmin(np.abs(overlaps - t))) for t in (0.5, 0.75))
    numbers = {
        "ap": precision[:, :, 0],
        "ap50": precision[at50, :, 0],
        "ap75": precision[at75, :, 0],
        **{f"ap_{a}": precision[:, :, i] for i, a in enumerate(_AREAS[kind], start=1)},
        "ar": recall[:, 0],
        "recall50": recall[at50, 0],
    }
    # The tool writes -1 where nobody is to be found.
    return {name: float(np.mean(np.where(v < 0, np.nan, v))) for name, v in numbers.items()}
