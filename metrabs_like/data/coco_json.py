"""COCO's annotation and result files of our people: written, read and evaluated.

Conventions: see `metrics.coco_content`; the files suit the official tool (pycocotools), too.
"""

import json
import os

from metrabs_like.data import safe_loading
from metrabs_like.metrics import coco_ap
from metrabs_like.metrics.coco_content import ground_truth_content, results_content
from metrabs_like.skeletons import Skeleton


def save_ground_truth(path: str, images, skeleton: Skeleton) -> None:
    """Writes annotated people as an annotation file, by way of a temporary file.

    Args:
      path: of the file.
      images: see `coco_content.ground_truth_content`.
      skeleton: of the joints.

    Raises:
      ValueError: if an image id comes twice, a number is not finite, or the file cannot be written.
    """
    _save(path, ground_truth_content(images, skeleton))


def save_results(path: str, detections) -> None:
    """Writes detections as a results file, for boxes and keypoints at once.

    Args:
      path: of the file.
      detections: see `coco_content.results_content`: image id -> boxes, scores and joints, px.

    Raises:
      ValueError: as of `save_ground_truth`.
    """
    _save(path, results_content(detections))


def evaluate_files(ground_truth_path: str, results_path: str, kind: str, *, sigmas=None) -> dict:
    """Computes average precision of two files.

    Args:
      ground_truth_path: annotation file.
      results_path: results file.
      kind: "bbox" or "keypoints".
      sigmas: see `coco_ap.average_precision`.

    Returns:
      As of `coco_ap.average_precision`.

    Raises:
      ValueError: naming the files, if one is missing or broken or they do not fit each other.
    """
    ground_truth, results = _loaded(ground_truth_path), _loaded(results_path)
    try:
        return coco_ap.average_precision(ground_truth, results, kind, sigmas=sigmas)
    except ValueError as error:
        raise ValueError(f"{ground_truth_path} and {results_path}: {error}") from None


def _loaded(path):
    if not os.path.isfile(path):
        raise ValueError(f"{path} does not exist; name a JSON file in COCO's form")
    return safe_loading.load_json(path)


def _save(path, content):
    temporary = f"{path}.tmp-{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, allow_nan=False)
        os.replace(temporary, path)
    except OSError as error:
        raise ValueError(
            f"{path} cannot be written ({error.strerror}); choose another place"
        ) from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
