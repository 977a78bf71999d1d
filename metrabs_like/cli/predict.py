"""Finds the people of one photograph and estimates their 3D poses.

  metrabs-like-predict --image=photo.jpg --output_dir=poses
  metrabs-like-predict --image=photo.jpg --output_dir=poses --boxes="120,40,180,420;400,60,150,390"
  metrabs-like-predict --image=photo.jpg --output_dir=people --system=centernet

With a pose model it writes `photo_poses.json` (millimetres, pixels; every key tells its unit),
`photo_overlay.png` and `photo_3d.png`. Boxes are left, top, width, height in pixels; without them
the detector looks for people, and with `--detector=none` the whole image counts as one person.
Without `--intrinsics` the field of view is assumed, and absolute distance with it. With a detector
as the model, or `--system=centernet`, it writes boxes, 2D joints and masks: `photo_people.json` and
`photo_people.png`.
"""

import os
import sys

import numpy as np
from absl import flags

from metrabs_like.cli import (
    app,
    estimators,
    photographs,
    predicted_people,
    predicted_poses,
    systems,
)
from metrabs_like.cli.predicted_poses import DEFAULT_FOV_DEGREES

NO_DETECTOR = "none"
_POSE_FLAGS = ("boxes", "intrinsics", "fov_degrees", "skeleton", "num_aug", "detector")
_SEARCH_FLAGS = (
    *("detector", "detector_threshold", "detector_nms_iou_threshold", "detector_flip_aug"),
    *("max_detections", "input_side"),
)


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags."""
    flags.DEFINE_string("image", "", "Photograph, JPEG or PNG.", values)
    flags.DEFINE_string("output_dir", "", "Folder to write into.", values)
    flags.DEFINE_string(
        "model",
        "",
        "SavedModel, export, training run or preset; empty takes the system's shipped preset.",
        values,
    )
    flags.DEFINE_enum(
        "system",
        next(iter(estimators.DEFAULT_PRESETS)),
        sorted(systems.SYSTEMS),
        "Whose preset is taken where --model is empty; otherwise the model decides.",
        values,
    )
    flags.DEFINE_string(
        "boxes", "", "Boxes x,y,width,height in px joined with ;, empty for the detector's.", values
    )
    flags.DEFINE_string(
        "intrinsics", "", "fx,fy,cx,cy or the matrix's nine numbers, row by row, in px.", values
    )
    flags.DEFINE_float(
        "fov_degrees",
        None,
        f"Field of view of the longer side; {DEFAULT_FOV_DEGREES:g} if nothing is known.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "skeleton", "", "Joint set of the model; empty takes coco_17 if it has it.", values
    )
    flags.DEFINE_integer(
        "num_aug", 5, "Test-time views per person, 1 for the plain crop.", 1, flag_values=values
    )
    _define_detector_flags(values)


def _define_detector_flags(values):
    text = "What finds people: as --model; empty takes the shipped preset, none the whole image."
    flags.DEFINE_string("detector", "", text, values)
    text = "Least score of a person, 0 to 1."
    flags.DEFINE_float("detector_threshold", 0.3, text, 0.0, 1.0, flag_values=values)
    text = "Of boxes that overlap more (intersection over union) the surer one is kept."
    flags.DEFINE_float("detector_nms_iou_threshold", 0.7, text, 0.0, 1.0, flag_values=values)
    flags.DEFINE_integer("max_detections", 100, "People at most.", 1, flag_values=values)
    text = "Average with what is seen in the mirrored image."
    flags.DEFINE_boolean("detector_flip_aug", False, text, values)
    text = "Side of the detector's input, px, a multiple of 32; -1: as trained, 0: the image's own."
    flags.DEFINE_integer("input_side", -1, text, -1, flag_values=values)
    text = "Joints of a lower score are not drawn."
    flags.DEFINE_float("joint_threshold", 0.1, text, 0.0, 1.0, flag_values=values)


def run(values: flags.FlagValues) -> None:
    """Predicts.

    Raises:
      ValueError: for a file, box, camera, skeleton or model that does not fit; field, value and
        remedy are named.
    """
    app.require(values, "image", "output_dir")
    image = photographs.read(values.image)
    height, width = image.shape[:2]
    boxes = None
    if values.boxes.strip():
        boxes = predicted_poses.parse_boxes(values.boxes, width, height)
    camera = predicted_poses.camera_matrix(values.intrinsics, values.fov_degrees, width, height)
    output_dir = app.writable_folder(values.output_dir, "output_dir")
    model = estimators.load(values.model, values.system)
    content = {
        "image": os.path.basename(values.image),
        "image_width_px": width,
        "image_height_px": height,
        "model": values.model or estimators.DEFAULT_PRESETS[values.system],
    }
    stem = os.path.join(output_dir, os.path.splitext(os.path.basename(values.image))[0])
    is_detector = estimators.is_detector(model)
    predict = _predict_people if is_detector else _predict_poses
    for path in predict(values, model, image, boxes, camera, content, stem):
        print(f"written: {path}")


def _predict_people(values, model, image, boxes, camera, content, stem):
    """Finds people; boxes and camera are of no use here."""
    del boxes, camera
    reason = f"for pose models, and {content['model']} finds the people of the image itself"
    _check_unset(values, _POSE_FLAGS, reason)
    people = _found(values, model, image)
    n = len(people.boxes)
    print("1 person" if n == 1 else f"{n} people")
    content |= predicted_people.report(people)
    return predicted_people.write(stem, content, image, people, values.joint_threshold)


def _predict_poses(values, model, image, boxes, camera, content, stem):
    """Estimates 3D poses in the given boxes, the detector's, or the whole image."""
    _check_unset(values, ("joint_threshold",), f"for detectors, and {content['model']} is none")
    if boxes is not None:
        _check_unset(values, _SEARCH_FLAGS, "for the search of people, whom --boxes names already")
    boxes, box_source = _boxes(values, image, boxes)
    intrinsics, camera_source = camera
    poses = estimators.estimate(model, image, boxes, intrinsics, values.skeleton, values.num_aug)
    print(f"{len(boxes)} box(es): {box_source}")
    print(f"camera: {camera_source}")
    content |= {"box_source": box_source, "intrinsics_source": camera_source}
    content |= predicted_poses.report(poses, intrinsics)
    return predicted_poses.write(stem, content, image, poses)


def _check_unset(values, names, reason):
    """Refuses flags that would have no effect."""
    for name in names:
        if values[name].value != values[name].default:
            raise ValueError(f"--{name}={values[name].value} is {reason}: leave it out")


def _boxes(values, image, boxes):
    """Returns boxes `[N, 4]` and a sentence that tells where they come from."""
    if boxes is not None:
        return boxes, "--boxes"
    if values.detector == NO_DETECTOR:
        height, width = image.shape[:2]
        whole = np.array([[0, 0, width, height]], np.float32)
        return whole, "--detector=none, the whole image is taken as one person"
    name = values.detector or estimators.DEFAULT_PRESETS["centernet"]
    detector = estimators.load(name, "centernet", flag="detector")
    if not estimators.is_detector(detector):
        raise ValueError(f"--detector={name} finds no people: name a model of system centernet")
    people = _found(values, detector, image)
    source = f"found by the detector {name}, score >= {values.detector_threshold:g}"
    if not len(people.boxes):
        source += (
            "; nobody was found: give --boxes, a lower --detector_threshold, or --detector=none "
            "to take the whole image as one person"
        )
    return people.boxes, source


def _found(values, detector, image):
    """Asks a detector with the options of the flags."""
    return estimators.detect(
        detector,
        image,
        detector_threshold=values.detector_threshold,
        detector_nms_iou_threshold=values.detector_nms_iou_threshold,
        max_detections=values.max_detections,
        detector_flip_aug=values.detector_flip_aug,
        input_side=values.input_side,
    )


def main(argv=None) -> int:
    """Runs the command; returns its exit code."""
    return app.run_command(define_flags, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main())
