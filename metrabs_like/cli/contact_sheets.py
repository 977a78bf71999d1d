"""What a model sees of a source, as one picture: crops with their points, images with their people.

Conventions: examples come out of the pipeline and the system's preparation, augmentation included.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from metrabs_like.cli import systems
from metrabs_like.cli.run_folder import Run
from metrabs_like.data.dataset_info import DatasetInfo
from metrabs_like.data.sources import SourceConfig
from metrabs_like.data.whole_images import KIND
from metrabs_like.viz import overlay, palette
from metrabs_like.viz.contact_sheet import draw_contact_sheet, enlargement, tile_pictures


def of_crops(
    run_: Run, source: SourceConfig, info: DatasetInfo, index: int, n_images: int, title: str
) -> tuple[np.ndarray, list[str]]:
    """Draws crops of single people, with joints and points of the surface.

    Args:
      run_: what would be trained.
      source: the source.
      info: its description.
      index: its place among the sources.
      n_images: crops, or as many as the source has people.
      title: of the sheet.

    Returns:
      The sheet, uint8 `[H, W, 3]`, and sentences about the source.
    """
    n_people = info.n_usable(source.kind)
    inputs, targets = _prepared(run_, source, min(n_images, max(n_people, 1)), index)
    labels = targets[source.kind]
    points, validity = (labels[name].numpy() for name in ("coords2d_true", "point_validity"))
    settings = run_.pipeline.probabilities(source)
    changes = ", ".join(f"{name} {share:g}" for name, share in settings.items() if share > 0)
    facts = [
        f"{n_people} people in {info.counts['n_images']} images",
        f"{source.count} in every batch",
        f"changes asked for: {changes or 'none'}",
    ]
    joints = run_.model.joints
    n_others = validity.shape[1] - joints.n_joints
    sheet = draw_contact_sheet(
        inputs["image"].numpy(),
        points,
        validity,
        f"{title}: {'; '.join(facts)}",
        edges=joints.edges,
        sides=palette.joint_sides(joints) + ("middle",) * n_others,
    )
    return sheet, [*facts, _validity_text(validity, joints)]


def of_images(
    run_: Run, source: SourceConfig, info: DatasetInfo, index: int, n_images: int, title: str
) -> tuple[np.ndarray, list[str]]:
    """Draws whole images with the boxes and joints of their people.

    Args:
      run_: what would be trained.
      source: the source.
      info: its description.
      index: its place among the sources.
      n_images: images, or as many as the source has.
      title: of the sheet.

    Returns:
      The sheet, uint8 `[H, W, 3]`, and sentences about the source.
    """
    n_all = info.counts["n_images"]
    inputs, targets = _prepared(run_, source, min(n_images, max(n_all, 1)), index)
    facts = [
        f"{info.counts['n_people']} people in {n_all} images",
        f"{source.count} images in every batch",
    ]
    people = {name: value.numpy() for name, value in targets[KIND].items()}
    images, matrices = (inputs[name].numpy() for name in ("image", "input_from_image"))
    pictures = [
        _with_people(image, matrix, {name: value[i] for name, value in people.items()}, run_.model)
        for i, (image, matrix) in enumerate(zip(images, matrices, strict=True))
    ]
    sheet = tile_pictures(pictures, f"{title}: {'; '.join(facts)}")
    validity = people["joint_validity"][people["person_validity"]]
    return sheet, [*facts, _validity_text(validity, run_.model.joints)]


def _prepared(run_, source, n_images, index):
    """Returns inputs and targets of some examples of a source, as the training makes them."""
    one = dataclasses.replace(source, count=n_images)
    dataset = systems.PIPELINES[run_.system].make_train_dataset(
        [one], run_.pipeline, skeleton=run_.model.joints, seed=run_.train.seed
    )
    seed = tf.constant([run_.train.seed % 2**31, index], tf.int32)
    return run_.module.prepare(next(iter(dataset)), run_.model, seed)


def _with_people(image, matrix, people, config):
    """Draws the people of one image, enlarged; boxes are those around their turned corners."""
    factor = enlargement(len(image))
    image = overlay.to_uint8(image).repeat(factor, axis=0).repeat(factor, axis=1)
    matrix = factor * matrix
    matrix[:2, 2] += (factor - 1) / 2
    is_person = people["person_validity"]
    boxes, joints = people["boxes"][is_person], people["joints2d"][is_person]
    corners = np.stack([boxes[:, [0, 2]], boxes[:, [1, 3]]], axis=-1)
    corners[:, 1] += corners[:, 0]  # of x, width to the right; of y, height to the bottom
    every = corners[:, [0, 0, 1, 1]]
    every[:, :, 1] = corners[:, [0, 1, 0, 1], 1]
    shown = every @ matrix[:2, :2].T + matrix[:2, 2]
    low, high = shown.min(axis=1), shown.max(axis=1)
    validity = people["joint_validity"][is_person]
    # a mirrored left is a right
    order = config.joints.mirror_indices if np.linalg.det(matrix[:2, :2]) < 0 else slice(None)
    return overlay.draw_poses(
        image,
        (joints @ matrix[:2, :2].T + matrix[:2, 2])[:, order],
        config.joints.edges,
        np.concatenate([low, high - low], axis=-1),
        sides=palette.joint_sides(config.joints),
        validity=validity[:, order],
    )


def _validity_text(validity, joints):
    """Tells which share of the points is annotated; those after the joints are surface."""
    parts = {"joints": validity[:, : joints.n_joints], "surface": validity[:, joints.n_joints :]}
    shares = [f"{np.mean(v):.1%} of {v.shape[1]} {name}" for name, v in parts.items() if v.size]
    return f"valid points: {', '.join(shares)}"
