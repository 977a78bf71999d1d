"""Measures a detector on a prepared data set: who is found, how exactly, in numbers and pictures.

Conventions: px of the images; shares lie in 0..1.
"""

import dataclasses
import math
import os

import numpy as np
import tensorflow as tf
from absl import flags

from metrabs_like.cli import result_files
from metrabs_like.cli.models import TrainedModel
from metrabs_like.data import coco_json, whole_images
from metrabs_like.data.dataset_info import DatasetInfo, write_json_atomically
from metrabs_like.data.pipeline import damage_named
from metrabs_like.metrics import coco_ap, coco_content
from metrabs_like.metrics.accumulate import MetricSums
from metrabs_like.skeletons import COCO_17
from metrabs_like.viz.contact_sheet import squared, tile_pictures

_VALIDATION_BATCH = 16
_PICTURE_SIDE = 256  # of smaller inputs, px
# What the table shows, and in which words; everything is in the JSON.
ROWS = {
    "box_ap": "box AP, IoU 0.50 to 0.95",
    "box_ap50": "box AP at IoU 0.5",
    "box_recall50": "box recall at IoU 0.5",
    "keypoint_ap": "keypoint AP, OKS 0.50 to 0.95",
    "keypoint_ap50": "keypoint AP at OKS 0.5",
    "recall_at_50_iou": "people found at score 0.3, IoU 0.5",
    "precision_at_50_iou": "detections of score 0.3 that are right",
    "joint_error_of_box": "joint error of those found / box side",
}


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of what is done at test time."""
    flags.DEFINE_boolean("flip_test", False, "Detectors: average with the mirrored images.", values)
    text = "Detectors: images keep their size, as in the released code's test."
    flags.DEFINE_boolean("keep_resolution", False, text, values)
    text = "Detectors: sizes of the input relative to the usual one, merged by soft-NMS."
    flags.DEFINE_list("test_scales", ["1"], text, values)
    text = "Detectors: images of the contact sheet."
    flags.DEFINE_integer("n_pictures", 12, text, 0, flag_values=values)


def run(trained: TrainedModel, values: flags.FlagValues, output_dir: str) -> None:
    """Measures a detector; prints a table, writes report, results and pictures.

    Args:
      trained: the model.
      values: the flags of the command.
      output_dir: an existing folder.

    Raises:
      ValueError: for a data set that is damaged or does not fit.
    """
    scales = parse_scales(values.test_scales)
    keeps = _keeps_resolution(trained, values)
    # images of one size are measured together, of several scales only one by one
    batch_size = 1 if keeps and len(scales) > 1 else values.batch_size
    datasets = [_images(trained, values.dataset, batch_size, keeps, scale) for scale in scales]
    with damage_named([values.dataset]):
        measured = measure(trained, datasets, values.flip_test, values.n_pictures)
    content = {
        "model": trained.name,
        "dataset": values.dataset,
        "n_images": len(measured.images),
        "n_people": sum(len(image["boxes"]) for image in measured.images),
        "protocol": _protocol(trained, values, scales),
        "metrics": measured.metrics,
    }
    print(f"{trained.name} on {content['n_people']} people in {content['n_images']} images")
    for key, words in ROWS.items():
        print(f"{words:42}{_number(measured.metrics.get(key))}")
    for path in _write(output_dir, content, measured, trained.config.joints):
        print(f"written: {path}")


def parse_scales(texts) -> tuple[float, ...]:
    """Reads `--test_scales`.

    Raises:
      ValueError: for what is no list of numbers above 0.
    """
    try:
        scales = tuple(float(text) for text in texts)
    except ValueError:
        scales = ()
    if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
        raise ValueError(f"--test_scales={','.join(texts)}: give numbers above 0, e.g. 1,1.5")
    return scales


@dataclasses.dataclass
class Measured:
    """What a detector did on a data set.

    Attributes:
      metrics: name -> number, None where nothing was counted.
      images: the annotated people, as `coco_content.images_of_batch` gives them.
      detections: image id -> what was found.
      pictures: uint8 pictures of the first images with what was found.
    """

    metrics: dict
    images: list
    detections: dict
    pictures: list


def measure(trained: TrainedModel, datasets, flip_test: bool, n_pictures: int) -> Measured:
    """Runs a detector over a data set.

    Args:
      trained: the model.
      datasets: its images, at inputs of one or more sizes.
      flip_test: whether the mirrored images count too.
      n_pictures: how many images are drawn.
    """
    system, config = trained.system, trained.config
    finder = system.evaluation_finder(trained.model, config, flip_test=flip_test)
    find = tf.function(finder, reduce_retracing=True, autograph=False)
    sums, images, detections, pictures = MetricSums(), [], {}, []
    for batches in tf.data.Dataset.zip(tuple(datasets)):
        decoded, targets = find(batches)
        sums.add(system.evaluate(decoded, targets, config))
        truth = targets["kp2d"]
        images += coco_content.images_of_batch(truth)
        detections |= coco_content.detections_of_batch(truth["image_id"], decoded)
        for index in range(min(n_pictures - len(pictures), len(truth["image_id"]))):
            pictures.append(_drawn(trained, batches[0], decoded, index))
    metrics = _average_precision(images, detections, config.joints) | sums.result()
    finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
    return Measured(finite, images, detections, pictures)


def _average_precision(images, detections, joints):
    """COCO's numbers; of keypoints only for its own joints, for which the sigmas are known."""
    if joints != COCO_17:
        boxes = ("boxes", "scores")
        detections = {k: {name: v[name] for name in boxes} for k, v in detections.items()}
    return coco_ap.evaluate_people(images, detections, joints)


def make_validation(trained: TrainedModel, folder: str):
    """Makes the function that training calls now and then.

    Args:
      trained: the model.
      folder: a prepared data set.

    Returns:
      Function without arguments to a dict of numbers, JSON values.

    Raises:
      ValueError: for a data set that is damaged or does not fit.
    """
    keeps = trained.pipeline.keep_resolution
    dataset = _images(trained, folder, _VALIDATION_BATCH, keeps)
    return lambda: measure(trained, [dataset], flip_test=False, n_pictures=0).metrics


def _images(trained, folder, batch_size, keeps, scale=1.0):
    """The images of a data set, and all that is said of the people in them.

    Masks are not measured, so that a set without them does for a network that draws them.
    """
    info = DatasetInfo.load(folder)
    kinds = whole_images.KINDS
    pipeline = dataclasses.replace(trained.pipeline, keep_resolution=keeps, with_masks=False)
    return whole_images.make_eval_dataset(
        folder,
        next((kind for kind in kinds if info.n_usable(kind)), info.evaluation_kind),
        pipeline,
        skeleton=trained.config.joints,
        batch_size=batch_size,
        scale=scale,
    )


def _keeps_resolution(trained, values):
    """Whether images keep their size: the flag, or the run's own setting."""
    return values.keep_resolution or trained.pipeline.keep_resolution


def _drawn(trained, batch, decoded, index):
    """The input of one image with what was found, in px of the input."""
    config = trained.config
    one = {key: value[index : index + 1] for key, value in batch["kp2d"].items()}
    inputs, _ = trained.system.prepare({"kp2d": one}, config, None)
    matrix = inputs["input_from_image"][0].numpy()
    people = {k: v[index].numpy() for k, v in decoded.items() if k != "mask_logits"}
    scale = matrix[0, 0]
    people["boxes"] = np.concatenate(
        [people["boxes"][:, :2] * scale + matrix[:2, 2], people["boxes"][:, 2:] * scale], axis=-1
    )
    people["joints2d"] = people["joints2d"] * scale + matrix[:2, 2]
    picture = trained.system.draw(inputs["image"][0].numpy(), people, config)
    return squared(picture, max(config.proc_side, _PICTURE_SIDE))


def _protocol(trained, values, scales):
    """Says how the numbers were measured; only those of one protocol may be compared."""
    keeps = _keeps_resolution(trained, values)
    return {
        "ap": "COCO's, by pycocotools: mean over overlaps 0.50, 0.55, ..., 0.95",
        "box_overlap": "intersection over union; crowds ignored; 100 detections an image",
        "keypoint_overlap": "OKS, coco_17 only, COCO's sigmas; people with a labelled joint",
        "area": f"as annotated; elsewhere (rendered people) {coco_content.AREA_OF_BOX} of the box",
        "input_side_px": None if keeps else trained.config.proc_side,
        "images": "whole, as large as they are" if keeps else "whole, fitted into the input",
        "flip_test": values.flip_test,
        "test_scales": list(scales),
    }


def _write(output_dir, content, measured, skeleton):
    """Writes the report, files for the official tool, and pictures."""
    paths = {
        name: os.path.join(output_dir, name)
        for name in ("evaluation.json", "ground_truth.json", "results.json", "pictures.png")
    }
    write_json_atomically(paths["evaluation.json"], content)
    coco_json.save_ground_truth(paths["ground_truth.json"], measured.images, skeleton)
    coco_json.save_results(paths["results.json"], measured.detections)
    if measured.pictures:
        caption = f"{content['model']} on {content['dataset']}: people of a score of at least 0.3"
        sheet = tile_pictures(measured.pictures, caption)
        result_files.write({paths["pictures.png"]: result_files.png_bytes(sheet)})
    else:
        del paths["pictures.png"]
    return paths.values()


def _number(value):
    return f"{'-':>10}" if value is None else f"{value:>10.3f}"
