"""Batches of whole images in the form of the pipeline, and the outputs of a perfect network."""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry.affine import affine_from_placement
from metrabs_like.geometry.boxes import pairwise_iou

N_PEOPLE = 3  # of the slots; the others are empty
_SURE = 12.0  # a logit


def make_batch(rng, n, config, share_invalid=0.3, share_mirrored=0.0):
    """Random pictures, a little larger than the input, with three people side by side."""
    side, n_slots, n_joints = config.proc_side, config.max_objects, config.n_joints
    image_size = np.tile(np.array([[side, side * 5 // 4]], np.int32), [n, 1])
    is_mirrored = rng.random(n) < share_mirrored
    center = image_size[:, ::-1].astype(np.float32) / 2
    center[:, 0] -= is_mirrored  # of the mirrored picture
    scale = np.full(n, side * 1.25, np.float32)
    zeros = np.zeros(n, np.float32)
    input_from_image = affine_from_placement(
        center, scale, zeros, (side, side), is_mirrored=is_mirrored, image_width=image_size[:, 1]
    ).numpy()
    boxes, joints = _people(rng, n, config)
    person_validity = np.zeros((n, n_slots), bool)
    person_validity[:, :N_PEOPLE] = True
    validity = rng.random((n, n_slots, n_joints)) >= share_invalid
    people = {
        "window": rng.integers(0, 256, size=(n, side * 3 // 2, side * 3 // 2, 3), dtype=np.uint8),
        "window_from_input": np.linalg.inv(input_from_image).astype(np.float32),
        "input_from_image": input_from_image.astype(np.float32),
        "image_size": image_size,
        "center": center,
        "scale": scale,
        "angle_degrees": zeros,
        "is_mirrored": is_mirrored,
        "boxes": boxes,
        "joints2d": joints,
        "joint_validity": validity & person_validity[..., np.newaxis],
        "person_validity": person_validity,
    }
    if config.n_seg_weights:
        people["masks"] = np.full((n, n_slots, 16, 16), 255, np.uint8)
        people["mask_boxes"] = boxes
        people["mask_validity"] = person_validity
    return {"kp2d": {k: tf.constant(v if v.dtype != np.float64 else v.astype(np.float32))
                     for k, v in people.items()}}  # fmt: skip


def _people(rng, n, config):
    """Boxes and joints of people in columns of the picture; empty slots are zero."""
    n_slots, side = config.max_objects, config.proc_side
    boxes = np.zeros((n, n_slots, 4), np.float32)
    width = side * 1.05 / N_PEOPLE  # the map ends one cell before the picture
    for i in range(N_PEOPLE):
        boxes[:, i, 0] = width * (i + rng.uniform(0.05, 0.15, n)) + 0.1 * side
        boxes[:, i, 1] = rng.uniform(0.05, 0.2, n) * side
        boxes[:, i, 2] = width * rng.uniform(0.7, 0.8, n)
        boxes[:, i, 3] = rng.uniform(0.6, 0.75, n) * side
    share = rng.uniform(0.15, 0.85, (n, n_slots, config.n_joints, 2)).astype(np.float32)
    joints = boxes[:, :, np.newaxis, :2] + share * boxes[:, :, np.newaxis, 2:]
    # All at the same place in their cells: joints of one cell share what is below it.
    cell = side * 1.25 / config.map_side
    middle = np.float32([side * 1.25 / 2, side / 2])
    on_map = np.floor((joints - middle) / cell) + np.float32([0.3, 0.6])
    return boxes, (on_map * cell + middle).astype(np.float32)


def with_masked(batch, value):
    """Puts a value on every joint without a label and every slot without a person."""
    people = dict(batch["kp2d"])
    empty = ~people["person_validity"][..., tf.newaxis]
    people["boxes"] = tf.where(empty, value, people["boxes"])
    people["joints2d"] = tf.where(
        people["joint_validity"][..., tf.newaxis], people["joints2d"], value
    )
    return {"kp2d": people}


def ideal_outputs(truth, config):
    """What a network would say that knows the targets: peaks, and values in the people's cells."""
    del config
    targets = {name: np.asarray(value) for name, value in truth.items()}
    batch, height, width, _ = targets["hm"].shape
    outputs = {"hm": _logits(targets["hm"]), "hm_hp": _logits(targets["hm_hp"])}
    cells = {"wh": "ind", "reg": "ind", "hps": "ind", "hp_offset": "hp_ind"}
    masks = {"wh": "reg_mask", "reg": "reg_mask", "hps": "reg_mask", "hp_offset": "hp_mask"}
    for name, index in cells.items():
        values = targets[name]
        plane = np.zeros((batch, height * width, values.shape[-1]), np.float32)
        for b in range(batch):
            used = targets[masks[name]][b] > 0
            plane[b, targets[index][b][used]] = values[b][used]
        outputs[name] = plane.reshape(batch, height, width, -1)
    return {name: tf.constant(value) for name, value in outputs.items()}


def _logits(heatmap):
    return np.where(heatmap == 1, np.float32(_SURE), np.float32(-_SURE))


def assert_is_truth(decoded, truth):
    """Every person is found, with its joints, and nobody else."""
    overlap = pairwise_iou(truth["boxes"], decoded["boxes"]).numpy()
    best = overlap.argmax(axis=-1)
    is_person = truth["person_validity"].numpy()
    assert overlap.max(axis=-1)[is_person].min() > 0.98
    np.testing.assert_array_equal((decoded["scores"].numpy() > 0.3).sum(1), is_person.sum(1))
    for b, i in zip(*np.nonzero(is_person), strict=True):
        k, labelled = best[b, i], truth["joint_validity"][b, i].numpy()
        found, wanted = (v[b].numpy() for v in (decoded["joints2d"][:, k], truth["joints2d"][:, i]))
        np.testing.assert_allclose(found[labelled], wanted[labelled], atol=0.02)
