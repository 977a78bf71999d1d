"""Training targets from people: heat maps, boxes, regressed joints, offsets.

Conventions: people come in pixels of the original image, with the placement of that image in the
network's input; targets are in cells of the map. Arithmetic is rounded to float32 where the
released code stores float32: that decides the cells. Names of the targets are the released code's.
"""

import typing

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


class _OnMap(typing.NamedTuple):
    """People on the map, cells; sizes and centres of empty slots are 0."""

    size: tf.Tensor  # [B, N, 2], of the clipped boxes
    center: tf.Tensor  # [B, N, 2]
    cell: tf.Tensor  # int32 [B, N, 2], of the centre
    joints: tf.Tensor  # [B, N, J, 2]; unlabelled ones stay in px of the image
    is_object: tf.Tensor  # [B, N], slots that are not empty
    is_labelled: tf.Tensor  # [B, N, J]
    is_shown: tf.Tensor  # [B, N, J], labelled and inside the map
    is_turned: tf.Tensor  # [B]
    map_size: tuple  # (height, width)


def _encode(people, config, map_size):
    """Encodes people; see `encode_targets`."""
    mapped = _people_on_map(people, config, map_size)
    radii = _radii(mapped.size, config)
    encoders = [_heatmaps, _dense_joints if config.dense_hp else _joints_at_centers]
    targets = _boxes(mapped, config)
    for encoder in encoders:
        targets |= encoder(mapped, radii, config)
    if config.reg_hp_offset:
        targets |= _joint_offsets(mapped)
    return targets


_compiled_encode = tf.function(_encode, jit_compile=True, reduce_retracing=True, autograph=False)


def _mirrored_people(people, config):
    """Returns corners, joints and who is labelled, mirrored where the image is, free of NaN."""
    boxes = tf.cast(people["boxes"], tf.float64)
    is_box = tf.reduce_all(tf.math.is_finite(boxes), axis=-1)
    is_box &= tf.reduce_all(boxes[..., 2:] >= 0, axis=-1)
    is_person = people["person_validity"] & is_box
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


def _people_on_map(people, config, map_size):
    """Maps people into the map: boxes without the turn, joints with it."""
    corners, joints, is_labelled, is_person = _mirrored_people(people, config)
    is_turned = people["angle_degrees"] != 0
    placement = people["center"], people["scale"]
    corners = _boxes_on_map(corners, placement, map_size)
    size = corners[..., 2:] - corners[..., :2]
    has_area = tf.reduce_all(size > 0, axis=-1)
    is_object = is_person & (has_area | is_turned[:, tf.newaxis])
    size = tf.where(is_object[..., tf.newaxis], size, 0.0)
    center = tf.where(is_object[..., tf.newaxis], (corners[..., :2] + corners[..., 2:]) / 2, 0.0)
    is_labelled &= is_object[..., tf.newaxis]
    matrix = affine_from_placement(*placement, people["angle_degrees"], map_size[::-1])
    on_map = tf.cast(transform_points(matrix, joints), tf.float32)
    joints = tf.where(is_labelled[..., tf.newaxis], on_map, joints)
    is_inside = (joints >= 0) & (joints < tf.constant(map_size[::-1], tf.float32))
    is_shown = is_labelled & tf.reduce_all(is_inside, axis=-1)
    cell = tf.cast(center, tf.int32)
    return _OnMap(size, center, cell, joints, is_object, is_labelled, is_shown, is_turned, map_size)


def _boxes_on_map(corners, placement, map_size):
    """Maps corners `[B, N, 4]` without a turn, and clips them to the map's cells."""
    size = map_size[::-1]
    matrix = affine_from_placement(*placement, 0.0, size)
    points = tf.reshape(corners, [tf.shape(corners)[0], tf.shape(corners)[1], 2, 2])
    mapped = tf.cast(transform_points(matrix, points), tf.float32)
    mapped = tf.clip_by_value(mapped, 0.0, tf.constant(size, tf.float32) - 1)
    return tf.reshape(mapped, tf.shape(corners))


def _radii(size, config):
    """Returns the radius of each person's Gaussians (with `mse_loss` their standard deviation)."""
    if config.mse_loss:
        return tf.fill(tf.shape(size)[:2], config.hm_gauss)
    sides = tf.math.ceil(size)
    radius = gaussians.gaussian_radius(sides[..., 1], sides[..., 0])
    return tf.maximum(tf.cast(radius, tf.int32), 0)


def _boxes(mapped, config):
    """Returns what is trained at the centres, and the people as ideal detections."""
    size, center, cell = mapped.size, mapped.center, mapped.cell
    is_trained = mapped.is_object & ~mapped.is_turned[:, tf.newaxis]
    is_trained &= tf.reduce_any(mapped.is_labelled, axis=-1)
    one = tf.ones_like(size[..., :1])
    columns = [center - size / 2, center + size / 2, one, _flat_pairs(mapped.joints), 0 * one]
    detections = tf.concat(columns, axis=-1)
    targets = {
        "wh": size,
        "ind": _index(cell, mapped.map_size),
        "reg_mask": tf.cast(is_trained, tf.float32),
        "gt_det": tf.where(mapped.is_object[..., tf.newaxis], detections, 0.0),
        "gt_det_mask": tf.cast(mapped.is_object, tf.float32),
    }
    return targets | ({"reg": center - tf.cast(cell, tf.float32)} if config.reg_offset else {})


def _heatmaps(mapped, radii, config):
    """Draws the centres and, in the same pass, the joints."""
    centers, is_drawn = mapped.cell[:, :, tf.newaxis], mapped.is_object[..., tf.newaxis]
    if config.hm_hp:
        centers = tf.concat([centers, tf.cast(mapped.joints, tf.int32)], axis=2)
        is_drawn = tf.concat([is_drawn, mapped.is_shown], axis=2)
    maps = _draw(config)(centers, radii, is_drawn, mapped.map_size)
    is_turned = mapped.is_turned[:, tf.newaxis, tf.newaxis, tf.newaxis]
    heatmaps = {"hm": tf.where(is_turned, NO_TRAINING, maps[..., :1])}
    return heatmaps | ({"hm_hp": maps[..., 1:]} if config.hm_hp else {})


def _relative_joints(mapped):
    """Returns the joints relative to the centre's cell, 0 where they are not trained."""
    relative = mapped.joints - tf.cast(mapped.cell, tf.float32)[:, :, tf.newaxis]
    return tf.where(mapped.is_shown[..., tf.newaxis], relative, 0.0)


def _joints_at_centers(mapped, radii, config):
    """Returns the joints that are regressed at the centres."""
    del radii, config
    is_trained = mapped.is_shown & ~mapped.is_turned[:, tf.newaxis, tf.newaxis]
    mask = tf.repeat(tf.cast(is_trained, tf.float32), 2, axis=-1)
    return {"hps": _flat_pairs(_relative_joints(mapped)), "hps_mask": mask}


def _dense_joints(mapped, radii, config):
    """Returns the joints that are regressed around the centres."""
    dense = gaussians.dense_regression(
        mapped.cell,
        radii,
        _relative_joints(mapped),
        mapped.is_object,
        mapped.is_shown,
        mapped.map_size,
        sigma=radii if config.mse_loss else None,
    )
    centers = tf.broadcast_to(mapped.cell[:, :, tf.newaxis], tf.shape(mapped.joints))
    weights = _draw(config)(centers, radii, mapped.is_shown, mapped.map_size)
    return {"dense_hps": _flat_pairs(dense), "dense_hps_mask": tf.repeat(weights, 2, axis=-1)}


def _joint_offsets(mapped):
    """Returns the part of the joints below one cell, and where they are."""
    joints = tf.where(mapped.is_shown[..., tf.newaxis], mapped.joints, 0.0)
    cell = tf.cast(joints, tf.int32)
    shape = [tf.shape(joints)[0], tf.shape(joints)[1] * joints.shape[2]]
    return {
        "hp_offset": tf.reshape(joints - tf.cast(cell, tf.float32), [*shape, 2]),
        "hp_ind": tf.reshape(_index(cell, mapped.map_size), shape),
        "hp_mask": tf.reshape(tf.cast(mapped.is_shown, tf.float32), shape),
    }


def _draw(config):
    """Returns the function that draws the config's kind of Gaussian."""
    return gaussians.draw_msra_gaussians if config.mse_loss else gaussians.draw_umich_gaussians


def _index(cell, map_size):
    """Returns the number of a cell (x, y) of the map, row by row."""
    return cell[..., 1] * map_size[1] + cell[..., 0]


def _flat_pairs(tensor):
    """Joins the last two dimensions, joints and coordinates."""
    return tf.reshape(tensor, tf.concat([tf.shape(tensor)[:-2], [2 * tensor.shape[-2]]], axis=0))
