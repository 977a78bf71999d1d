"""Anything that finds people or their poses in images, behind one plain call each.

Conventions: poses in millimetres in the camera frame (x right, y down, z forward), image points in
px; joints in the order of the chosen skeleton.
"""

import dataclasses
import os
import re

import numpy as np

from metrabs_like.skeletons import Skeleton

DEFAULT_PRESETS = {"metrabs": "synthetic_long", "centernet": "synthetic_crowds"}
"""What is taken where no model is named."""
PREFERRED_SKELETON = "coco_17"
_SAVED_MODEL_FILE = "saved_model.pb"
_EXPORTED = "saved_model"


@dataclasses.dataclass(frozen=True)
class Poses:
    """What was estimated.

    Attributes:
      boxes: float `[N, 4]`, (left, top, width, height) px.
      poses3d: float `[N, P, 3]`, mm, camera frame.
      poses2d: float `[N, P, 2]`, px; NaN where a point has no place in the image.
      uncertainties: float `[N, P]`, mm, or None where the model does not tell.
      skeleton: names and edges of the `P` joints.
    """

    boxes: np.ndarray
    poses3d: np.ndarray
    poses2d: np.ndarray
    uncertainties: np.ndarray | None
    skeleton: Skeleton


@dataclasses.dataclass(frozen=True)
class People:
    """Who was found in an image.

    Attributes:
      boxes: float `[N, 4]`, (left, top, width, height) px.
      scores: float `[N]`, 0..1, descending.
      poses2d: float `[N, J, 2]`, px.
      joint_scores: float `[N, J]`.
      masks: bool `[N, H, W]`, or None where the model has none.
      skeleton: names and edges of the J joints.
    """

    boxes: np.ndarray
    scores: np.ndarray
    poses2d: np.ndarray
    joint_scores: np.ndarray
    masks: np.ndarray | None
    skeleton: Skeleton


def load(name: str, system: str, flag: str = "model"):
    """Loads a model with a method `estimate_poses` (people in boxes) or `detect` (all people).

    Args:
      name: folder of a SavedModel (ours or a published one) or of an export, folder of a training
        run or a preset, or name of a shipped preset; empty means the system's default preset.
      system: name of a system, see `name`.
      flag: that named the model, for messages.

    Returns:
      The object with the method and its attributes.

    Raises:
      ValueError: if there is no such model, it is damaged, or it has neither method.
    """
    for folder in (name, os.path.join(name, _EXPORTED)):
        if name and os.path.isfile(os.path.join(folder, _SAVED_MODEL_FILE)):
            return _load_saved_model(folder, flag)
    return _build(name or DEFAULT_PRESETS[system], flag)


def is_detector(model) -> bool:
    """Whether a loaded model finds people (otherwise it estimates those in given boxes)."""
    return callable(getattr(model, "detect", None))


def detect(detector, image: np.ndarray, **options) -> People:
    """Finds the people of an image.

    Args:
      detector: from `load`.
      image: uint8 `[H, W, 3]`, RGB.
      **options: arguments of `serving.PersonDetector.detect`.

    Raises:
      ValueError: for an argument that the detector refuses.
    """
    import tensorflow as tf

    try:
        answer = detector.detect(tf.constant(image)[tf.newaxis], **options)
    except tf.errors.OpError as error:
        raise ValueError(f"the detector refuses its input: {_reason(error)}") from error
    found = {name: np.asarray(_numpy(ragged[0])) for name, ragged in answer.items()}
    names = ("boxes", "scores", "poses2d", "joint_scores")
    return People(
        **{name: found[name] for name in names},
        masks=found.get("masks"),
        skeleton=_named("", detector.joint_names, detector.joint_edges),
    )


def estimate(
    model, image: np.ndarray, boxes: np.ndarray, intrinsics: np.ndarray, skeleton: str, n_views: int
) -> Poses:
    """Estimates the people in boxes.

    Args:
      model: from `load`.
      image: uint8 `[H, W, 3]`, RGB.
      boxes: float `[N, 4]`, px.
      intrinsics: float `[3, 3]`, px.
      skeleton: name of one of the model's skeletons; empty means `PREFERRED_SKELETON` if the model
        has it, otherwise all joints.
      n_views: test-time views per person (the published `num_aug`).

    Returns:
      The poses.

    Raises:
      ValueError: for a skeleton that the model does not have, an argument that it refuses, or an
        answer of another form.
    """
    import tensorflow as tf

    chosen = _skeleton(model, skeleton)
    arguments = {"intrinsic_matrix": tf.constant(intrinsics, tf.float32), "num_aug": n_views}
    if chosen.name:
        arguments["skeleton"] = tf.constant(chosen.name)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    try:
        answer = model.estimate_poses(tf.constant(image), tf.constant(boxes), **arguments)
    except tf.errors.OpError as error:
        raise ValueError(f"the model refuses its input: {_reason(error)}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(
            "--model: its estimate_poses does not take the published arguments "
            f"(image, boxes, {', '.join(arguments)}): {str(error).strip().splitlines()[0]}"
        ) from error
    return _poses(answer, boxes, chosen)


def _load_saved_model(folder, flag):
    """Loads with TensorFlow alone."""
    import tensorflow as tf

    try:
        model = tf.saved_model.load(folder)
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"--{flag}={folder} is a damaged SavedModel ({reason}): export it again"
        ) from error
    if not (is_detector(model) or callable(getattr(model, "estimate_poses", None))):
        raise ValueError(
            f"--{flag}={folder} is a SavedModel without the method estimate_poses or detect: give "
            "one that `metrabs-like-export` wrote, or one with the published MeTRAbs interface"
        )
    return model


def _build(name, flag):
    """Puts a run's or preset's network behind the interface, in this process."""
    from metrabs_like.cli import models

    try:
        return models.load(name, flag=flag).predictor()
    except ValueError as error:
        raise ValueError(f"{error} (nor is it the folder of a SavedModel)") from error


def _skeleton(model, name):
    """The joints that the answer will have; nameless if the model is not asked for a part."""
    parts = dict(getattr(model, "per_skeleton_joint_names", {}))
    if name and name not in parts:
        raise ValueError(
            f"--skeleton={name}: the model does not have it; one of "
            f"{', '.join(parts) or 'none: it has only one set of joints, leave the flag out'}"
        )
    if not name and PREFERRED_SKELETON in parts:
        name = PREFERRED_SKELETON
    if name:
        edges = dict(getattr(model, "per_skeleton_joint_edges", {})).get(name, ())
        return _named(name, parts[name], edges)
    joint_names = getattr(model, "joint_names", None)
    if joint_names is None:
        raise ValueError("--model: it has no attribute joint_names, so its points have no meaning")
    return _named("", joint_names, getattr(model, "joint_edges", ()))


def _named(name, joint_names, edges):
    """Turns variables or tensors into a skeleton."""
    names = [value.decode() for value in np.asarray(_numpy(joint_names)).tolist()]
    pairs = np.asarray(_numpy(edges), np.int64).reshape(-1, 2).tolist()
    return Skeleton(name, tuple(names), tuple((a, b) for a, b in pairs))


def _poses(answer, boxes, skeleton):
    """Checks the answer's form: a model may have been written by any program."""
    n_people, n_joints = len(boxes), skeleton.n_joints
    shapes = {"poses3d": (n_people, n_joints, 3), "poses2d": (n_people, n_joints, 2)}
    shapes["uncertainties"] = (n_people, n_joints)
    arrays = {key: np.asarray(_numpy(answer[key])) for key in shapes if key in answer}
    for key, shape in shapes.items():
        found = arrays[key].shape if key in arrays else "missing"
        if found != shape and not (key == "uncertainties" and found == "missing"):
            raise ValueError(
                f"--model: its estimate_poses answers {key} of shape {found}, not {shape} "
                "(people, joints of the skeleton, coordinates)"
            )
    uncertainties = arrays.get("uncertainties")
    return Poses(boxes, arrays["poses3d"], arrays["poses2d"], uncertainties, skeleton)


def _numpy(value):
    """NumPy of a variable or tensor; anything else as it is."""
    return value.numpy() if hasattr(value, "numpy") else value


def _reason(error):
    """The text of an assertion in the graph, without the locations around it."""
    message = str(error.message)
    found = re.search(r"assertion failed: \[(.*)\]", message)
    text = found.group(1) if found else message.strip().splitlines()[0]
    return text.replace("It is] [", "It is ")
