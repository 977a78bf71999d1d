"""Training targets from people: heat maps, boxes, regressed joints, offsets.

Conventions: people come in pixels of the original image, with the placement of that image in the
network's input; targets are in cells of the map. Arithmetic is rounded to float32 where the
released code stores float32: that decides the cells. Names of the targets are the released code's.
"""

import tensorflow as tf

from metrabs_like.geometry.affine import affine_from_placement, transform_points
from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.systems.centernet import gaussians

NO_TRAINING = 0.9999
"""Value of the centres' heat map in turned images: no positives, negatives of no weight."""

_PEOPLE = ("boxes", "joints2d", "joint_validity", "person_validity", "image_size")
_PLACEMENT = ("center", "scale", "angle_degrees", "is_mirrored")


def encode_targets(people, config, *, map_size=None, jit_compile: bool = True):
    """Encodes people as the network's training targets.

    Boxes are mapped without the turn, joints with it. People whose clipped box is empty leave their
    slot empty (all zero, drawn nowhere), unless the image is turned. People without a labelled
    joint are drawn but their box is not trained. In turned images centres, boxes and joints are
    not trained (`NO_TRAINING`), joint heat maps and their offsets are. A joint's Gaussian has the
    radius of its person's box.

    Args:
      people: dict of tensors; others are ignored:
        `boxes` float `[B, N, 4]`, px, (x, y, width, height);
        `joints2d` float `[B, N, J, 2]`, px;
        `joint_validity` bool `[B, N, J]`, labelled (occluded ones too);
        `person_validity` bool `[B, N]`; what is not valid may be NaN, and so may the joints of
        people; people with a NaN box or a negative size do not count;
        `image_size` int `[B, 2]`, (height, width), px;
        and the placement: `center` `[B, 2]`, `scale` `[B]`, `angle_degrees` `[B]`, `is_mirrored`
        bool `[B]`, as of `data.image_placement`.
      config: `Config`: n_joints, reg_offset, hm_hp, reg_hp_offset, dense_hp, mse_loss, hm_gauss.
      map_size: (height, width), cells; None is `config.map_side` for both.
      jit_compile: whether XLA compiles it, once a shape; on a CPU that is several times faster.

    Returns:
      Dict of float32 tensors (masks are 0 or 1), indices int32 (`y * width + x`):
        `hm` `[B, h, w, 1]`; `wh` `[B, N, 2]`, cells; `ind` `[B, N]`; `reg_mask` `[B, N]`;
        `reg` `[B, N, 2]`, the part of the centre below one cell (with `reg_offset`);
        `hps`, `hps_mask` `[B, N, 2 J]`, joints relative to the centre's cell; with `dense_hp`
        instead `dense_hps`, `dense_hps_mask` `[B, h, w, 2 J]`;
        `hm_hp` `[B, h, w, J]` (with `hm_hp`); `hp_offset` `[B, N J, 2]`, `hp_ind`, `hp_mask`
        `[B, N J]`, entry `n J + j` (with `reg_hp_offset`);
        `gt_det` `[B, N, 4 + 1 + 2 J + 1]`: box corners, score 1, joints (unlabelled ones in image
        px) and class 0, cells, and `gt_det_mask` `[B, N]`, who is drawn: for debugging.

    Raises:
      ValueError: if a tensor is missing or shapes disagree.

    Gradient: none is wanted.

    References:
      Zhou et al., Objects as Points, 2019; released code, `datasets/sample/multi_pose.py`.
    """
    missing = [name for name in (*_PEOPLE, *_PLACEMENT) if name not in people]
    if missing:
        raise ValueError(f"people lacks {', '.join(missing)}; encode_targets needs them")
    people = {name: tf.convert_to_tensor(people[name]) for name in (*_PEOPLE, *_PLACEMENT)}
    check_shapes(
        boxes=(people["boxes"], "B N 4"),
        joints2d=(people["joints2d"], f"B N {config.n_joints} 2"),
        joint_validity=(people["joint_validity"], f"B N {config.n_joints}"),
        person_validity=(people["person_validity"], "B N"),
        image_size=(people["image_size"], "B 2"),
        center=(people["center"], "B 2"),
        scale=(people["scale"], "B"),
    )
    map_size = tuple(map_size or (config.map_side, config.map_side))
    return (_compiled_encode if jit_compile else _encode)(people, config, map_size)


def _encode(people, config, map_size):
    """Encodes people; see `encode_targets`."""
    corners, joints, is_labelled, is_person = _mirrored_people(people, config)
    corners = _boxes_on_map(corners, people, map_size)
    size, is_turned = corners[..., 2:] - corners[..., :2], people["angle_degrees"] != 0
    has_area = tf.reduce_all(size > 0, axis=-1)
    is_flat = tf.reduce_all(size >= 0, axis=-1) & is_turned[:, tf.newaxis]
    is_object = is_person & (has_area | is_flat)
    size = tf.where(is_object[..., tf.newaxis], size, 0.0)
    center = tf.where(is_object[..., tf.newaxis], (corners[..., :2] + corners[..., 2:]) / 2, 0.0)
    cell = tf.cast(center, tf.int32)
    is_labelled &= is_object[..., tf.newaxis]
    joints = tf.where(
        is_labelled[..., tf.newaxis], _joints_on_map(joints, people, map_size), joints
    )
    limit = tf.constant(map_size[::-1], tf.float32)
    is_shown = is_labelled & tf.reduce_all((joints >= 0) & (joints < limit), axis=-1)
    is_trained = is_object & tf.reduce_any(is_labelled, axis=-1) & ~is_turned[:, tf.newaxis]
    targets = {
        "wh": size,
        "ind": cell[..., 1] * map_size[1] + cell[..., 0],
        "reg_mask": tf.cast(is_trained, tf.float32),
        **_debugging_detections(center, size, joints, is_object),
    }
    if config.reg_offset:
        targets["reg"] = center - tf.cast(cell, tf.float32)
    radii = _radii(size, config)
    targets |= _heatmaps(cell, joints, radii, is_object, is_shown, is_turned, config, map_size)
    targets |= _regressed(cell, joints, radii, is_object, is_shown, is_turned, config, map_size)
    if config.reg_hp_offset:
        targets |= _joint_offsets(joints, is_shown, map_size)
    return targets


_compiled_encode = tf.function(_encode, jit_compile=True, reduce_retracing=True, autograph=False)


def _mirrored_people(people, config):
    """Returns corners, joints and who is labelled, mirrored where the image is, free of NaN."""
    boxes = tf.cast(people["boxes"], tf.float64)
    is_person = people["person_validity"] & tf.reduce_all(tf.math.is_finite(boxes), axis=-1)
    boxes = tf.where(is_person[..., tf.newaxis], boxes, 0.0)
    corners = tf.cast(tf.concat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1), tf.float32)
    joints = tf.cast(people["joints2d"], tf.float32)
    is_known = is_person[..., tf.newaxis] & tf.reduce_all(tf.math.is_finite(joints), axis=-1)
    joints = tf.where(is_known[..., tf.newaxis], joints, 0.0)
    is_labelled = people["joint_validity"] & is_known
    is_mirrored = people["is_mirrored"][:, tf.newaxis, tf.newaxis]
    width = tf.cast(people["image_size"][:, 1], tf.float32)[:, tf.newaxis, tf.newaxis]
    x1, y1, x2, y2 = tf.split(corners, 4, axis=-1)
    turned_box = tf.concat([width - x2 - 1, y1, width - x1 - 1, y2], axis=-1)
    order = list(config.joints.mirror_indices)
    turned = tf.stack([width - joints[..., 0] - 1, joints[..., 1]], axis=-1)
    turned = tf.gather(turned, order, axis=2)
    joints = tf.where(is_mirrored[..., tf.newaxis], turned, joints)
    is_labelled = tf.where(is_mirrored, tf.gather(is_labelled, order, axis=2), is_labelled)
    return tf.where(is_mirrored, turned_box, corners), joints, is_labelled, is_person


def _boxes_on_map(corners, people, map_size):
    """Maps corners `[B, N, 4]` without the turn, and clips them to the map's cells."""
    size = map_size[::-1]
    matrix = affine_from_placement(people["center"], people["scale"], 0.0, size)
    points = tf.reshape(corners, [tf.shape(corners)[0], tf.shape(corners)[1], 2, 2])
    mapped = tf.cast(transform_points(matrix, points), tf.float32)
    mapped = tf.clip_by_value(mapped, 0.0, tf.constant(size, tf.float32) - 1)
    return tf.reshape(mapped, tf.shape(corners))


def _joints_on_map(joints, people, map_size):
    """Maps joints with the turn."""
    matrix = affine_from_placement(
        people["center"], people["scale"], people["angle_degrees"], map_size[::-1]
    )
    return tf.cast(transform_points(matrix, joints), tf.float32)


def _radii(size, config):
    """Returns the radius of each person's Gaussians (with `mse_loss` their standard deviation)."""
    if config.mse_loss:
        return tf.fill(tf.shape(size)[:2], config.hm_gauss)
    sides = tf.math.ceil(size)
    radius = gaussians.gaussian_radius(sides[..., 1], sides[..., 0])
    return tf.maximum(tf.cast(radius, tf.int32), 0)


def _heatmaps(cell, joints, radii, is_object, is_shown, is_turned, config, map_size):
    """Draws the centres and, in the same pass, the joints."""
    centers, is_drawn = cell[:, :, tf.newaxis], is_object[..., tf.newaxis]
    if config.hm_hp:
        centers = tf.concat([centers, tf.cast(joints, tf.int32)], axis=2)
        is_drawn = tf.concat([is_drawn, is_shown], axis=2)
    maps = _draw(config)(centers, radii, is_drawn, map_size)
    is_turned = is_turned[:, tf.newaxis, tf.newaxis, tf.newaxis]
    heatmaps = {"hm": tf.where(is_turned, NO_TRAINING, maps[..., :1])}
    if config.hm_hp:
        heatmaps["hm_hp"] = maps[..., 1:]
    return heatmaps


def _regressed(cell, joints, radii, is_object, is_shown, is_turned, config, map_size):
    """Returns the joints relative to the centre's cell, at the centres or around them."""
    relative = joints - tf.cast(cell, tf.float32)[:, :, tf.newaxis]
    relative = tf.where(is_shown[..., tf.newaxis], relative, 0.0)
    if config.dense_hp:
        sigma = radii if config.mse_loss else None
        dense = gaussians.dense_regression(
            cell, radii, relative, is_object, is_shown, map_size, sigma=sigma
        )
        centers = tf.broadcast_to(cell[:, :, tf.newaxis], tf.shape(joints))
        weights = _draw(config)(centers, radii, is_shown, map_size)
        return {"dense_hps": _flat_pairs(dense), "dense_hps_mask": _repeated(weights)}
    mask = tf.cast(is_shown & ~is_turned[:, tf.newaxis, tf.newaxis], tf.float32)
    return {"hps": _flat_pairs(relative), "hps_mask": _repeated(mask)}


def _joint_offsets(joints, is_shown, map_size):
    """Returns the part of the joints below one cell, and where they are."""
    joints = tf.where(is_shown[..., tf.newaxis], joints, 0.0)
    cell = tf.cast(joints, tf.int32)
    shape = [tf.shape(joints)[0], tf.shape(joints)[1] * joints.shape[2]]
    return {
        "hp_offset": tf.reshape(joints - tf.cast(cell, tf.float32), [*shape, 2]),
        "hp_ind": tf.reshape(cell[..., 1] * map_size[1] + cell[..., 0], shape),
        "hp_mask": tf.reshape(tf.cast(is_shown, tf.float32), shape),
    }


def _debugging_detections(center, size, joints, is_object):
    """Returns the people as ideal detections."""
    one = tf.ones_like(size[..., :1])
    columns = [center - size / 2, center + size / 2, one, _flat_pairs(joints), 0 * one]
    detections = tf.where(is_object[..., tf.newaxis], tf.concat(columns, axis=-1), 0.0)
    return {"gt_det": detections, "gt_det_mask": tf.cast(is_object, tf.float32)}


def _draw(config):
    """Returns the function that draws the config's kind of Gaussian."""
    return gaussians.draw_msra_gaussians if config.mse_loss else gaussians.draw_umich_gaussians


def _flat_pairs(tensor):
    """Joins the last two dimensions, joints and coordinates."""
    n_joints = tensor.shape[-2]
    return tf.reshape(tensor, tf.concat([tf.shape(tensor)[:-2], [2 * n_joints]], axis=0))


def _repeated(tensor):
    """Repeats each entry of the last dimension, for x and y."""
    return tf.repeat(tensor, 2, axis=-1)
