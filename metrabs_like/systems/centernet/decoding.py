"""From maps to people: boxes, joints, scores, masks.

Conventions: maps `[B, H, W, C]`, positions in cells of the map, x right, y down, the centre of cell
(0, 0) at 0. Boxes are x1 y1 x2 y2. What the release does, number by number.
"""

import tensorflow as tf

from metrabs_like.geometry.affine import transform_points
from metrabs_like.geometry.arguments import as_float, check_shapes
from metrabs_like.systems.centernet import peaks
from metrabs_like.systems.centernet.segmentation import conditional_convolution

#: Default score above which a candidate may move a joint (released code).
JOINT_THRESHOLD = 0.1
_NOWHERE = -10000.0  # place of candidates that do not count (released code)
_REACH = 0.3  # of the box: how far a candidate may be from the regressed joint (released code)
_REQUIRED = ("hm", "wh", "hps")
_VECTORS = ("wh", "reg", "hp_offset")  # maps of two channels


def activated(outputs, *, mse_loss=False):
    """Turns the network's heat maps into probabilities.

    Args:
      outputs: dict head -> float `[B, H, W, C]`, of the network.
      mse_loss: whether the joint heat maps were trained by squared error: then they are taken as
        they are.

    Returns:
      The dict in float32, `hm` and `hm_hp` through a sigmoid.

    Gradient: to the outputs.
    """
    with_sigmoid = ("hm",) if mse_loss else ("hm", "hm_hp")
    outputs = {name: as_float(value) for name, value in outputs.items()}
    return outputs | {name: tf.sigmoid(outputs[name]) for name in with_sigmoid if name in outputs}


def decode_people(outputs, *, top_k=100, joint_threshold=JOINT_THRESHOLD):
    """Finds the people of each image.

    People are the best peaks of `hm`. Their joints are regressed from there, and moved to the
    nearest peak of the joint's own heat map if that is within the box, near enough and sure enough.

    Args:
      outputs: dict of float maps `[B, H, W, C]`, see `activated`: `hm` (C classes), `wh` (2), `hps`
        (2 J); optionally `reg` (2), `hm_hp` (J), `hp_offset` (2), `seg_feat` and `seg`.
      top_k: K, number of people of an image, and of candidates of a joint.
      joint_threshold: candidates must have a higher score.

    Returns:
      Dict: `boxes` `[B, K, 4]`, `scores` `[B, K]` (descending), `joints2d` `[B, K, J, 2]`,
      `joint_scores` `[B, K, J]`, `classes` int32 `[B, K]`, `cells` int32 `[B, K]` (of the peaks);
      with `seg` also `mask_logits` `[B, K, H, W]`. Of a joint, the score is that of the nearest
      candidate, whether or not it moved the joint, -1 if there is none; without `hm_hp` it is the
      person's score. Where there are fewer than K peaks, the rest has score 0.

    Raises:
      ValueError: if a map is missing or shapes disagree, or `top_k` is not positive.

    Gradient: none is wanted. An empty batch is ordinary; sizes may be unknown.

    References:
      Zhou et al., Objects as Points, sec. 4 and 6.2; released code, `multi_pose_decode`; the
      joints' scores and masks: released code of centerpose.
    """
    outputs = _checked(outputs)
    hm = outputs["hm"]
    scores, cells, classes = peaks.top_k_over_channels(peaks.suppress_non_peaks(hm), top_k)
    xy = peaks.cell_coordinates(cells, tf.shape(hm)[2])
    boxes = _boxes(outputs, cells, xy)
    n_joints = outputs["hps"].shape[3] // 2
    joints = peaks.gather_cells(outputs["hps"], cells)
    joints = tf.reshape(joints, [-1, top_k, n_joints, 2]) + xy[:, :, tf.newaxis]
    joint_scores = tf.tile(scores[..., tf.newaxis], [1, 1, n_joints])
    if "hm_hp" in outputs:
        candidates = _joint_candidates(outputs, top_k, joint_threshold)
        joints, joint_scores = _moved_joints(joints, boxes, *candidates, joint_threshold)
    people = {
        "boxes": boxes,
        "scores": scores,
        "joints2d": joints,
        "joint_scores": joint_scores,
        "classes": classes,
        "cells": cells,
    }
    if "seg" in outputs:
        filters = peaks.gather_cells(outputs["seg"], cells)
        people["mask_logits"] = conditional_convolution(outputs["seg_feat"], filters)
    return people


def to_image(people, image_from_map):
    """Carries people from the map to the image.

    Args:
      people: of `decode_people`, or any dict with `boxes` `[B, K, 4]` and `joints2d`
        `[B, K, J, 2]`.
      image_from_map: float `[B, 3, 3]`, affine, without rotation or mirroring: the corners of a box
        remain its corners.

    Returns:
      The dict with `boxes` and `joints2d` in image px; all else as it was.

    Raises:
      ValueError: if shapes disagree.

    Gradient: to both.

    References:
      Released code of Objects as Points, `multi_pose_post_process`.
    """
    boxes, joints = as_float(people["boxes"]), as_float(people["joints2d"])
    matrices = as_float(image_from_map)
    check_shapes(
        boxes=(boxes, "B K 4"), joints2d=(joints, "B K J 2"), image_from_map=(matrices, "B 3 3")
    )
    corners = tf.reshape(boxes, tf.concat([tf.shape(boxes)[:2], [2, 2]], axis=0))
    # Computed in float64, kept in float32, as the release does.
    corners, joints = (
        tf.cast(transform_points(matrices, points), tf.float32) for points in (corners, joints)
    )
    return {**people, "boxes": tf.reshape(corners, tf.shape(boxes)), "joints2d": joints}


def _checked(outputs):
    """Returns the maps in float32; they must be there and agree in size."""
    missing = [name for name in _REQUIRED if name not in outputs]
    if "seg" in outputs and "seg_feat" not in outputs:
        missing.append("seg_feat")
    if missing:
        raise ValueError(
            f"`outputs` lacks the maps {missing}, it has {sorted(outputs)}: pass the heads' maps"
        )
    outputs = {name: as_float(value) for name, value in outputs.items()}
    check_shapes(
        **{
            name: (value, "B H W 2" if name in _VECTORS else f"B H W {name}")
            for name, value in outputs.items()
        }
    )
    n_values, n_maps = outputs["hps"].shape[3], "hm_hp" in outputs and outputs["hm_hp"].shape[3]
    if n_values is None or n_values % 2 or n_maps not in (False, n_values // 2):
        raise ValueError(
            f"`hps` has {n_values} channels and `hm_hp` {n_maps}: must be 2 J and J, both known"
        )
    return outputs


def _boxes(outputs, cells, xy):
    """Boxes `[B, K, 4]` around the centres."""
    offset = peaks.gather_cells(outputs["reg"], cells) if "reg" in outputs else 0.5
    half = peaks.gather_cells(outputs["wh"], cells) / 2
    center = xy + offset
    return tf.concat([center - half, center + half], axis=-1)


def _joint_candidates(outputs, top_k, threshold):
    """Peaks of the joints' heat maps: places `[B, J, K, 2]` and scores `[B, J, K]`."""
    hm_hp = outputs["hm_hp"]
    scores, cells = peaks.top_k_per_channel(peaks.suppress_non_peaks(hm_hp), top_k)
    offset = 0.5
    if "hp_offset" in outputs:
        flat = tf.reshape(cells, [-1, cells.shape[1] * top_k])
        offset = peaks.gather_cells(outputs["hp_offset"], flat)
        offset = tf.reshape(offset, [-1, cells.shape[1], top_k, 2])
    places = peaks.cell_coordinates(cells, tf.shape(hm_hp)[2]) + offset
    is_sure = scores > threshold
    return tf.where(is_sure[..., tf.newaxis], places, _NOWHERE), tf.where(is_sure, scores, -1.0)


def _moved_joints(joints, boxes, places, scores, threshold):
    """Moves joints `[B, K, J, 2]` to their candidates; returns them and scores `[B, K, J]`."""
    regressed = tf.transpose(joints, [0, 2, 1, 3])  # B J K 2
    # Person by candidate, `[B, J, K, K]`: the largest array of all, hence one axis at a time.
    dx2, dy2 = (
        tf.math.squared_difference(regressed[..., i, tf.newaxis], places[:, :, tf.newaxis, :, i])
        for i in (0, 1)
    )
    squares = dx2 + dy2
    # Of candidates equally near, the first is taken: the surest.
    nearest = tf.argmin(squares, axis=-1, output_type=tf.int32)
    distance = tf.sqrt(tf.gather(squares, nearest, batch_dims=3))
    place = tf.gather(places, nearest, batch_dims=2)
    score = tf.gather(scores, nearest, batch_dims=2)
    corner1, corner2 = boxes[:, tf.newaxis, :, :2], boxes[:, tf.newaxis, :, 2:]
    is_outside = tf.reduce_any((place < corner1) | (place > corner2), axis=-1)
    is_far = distance > tf.reduce_max(corner2 - corner1, axis=-1) * _REACH
    is_rejected = is_outside | is_far | (score < threshold)
    moved = tf.where(is_rejected[..., tf.newaxis], regressed, place)
    return tf.transpose(moved, [0, 2, 1, 3]), tf.transpose(score, [0, 2, 1])
