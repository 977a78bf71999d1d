"""Better people from more looks at an image: mirrored, and at several scales.

Conventions: maps `[B, H, W, C]` after the sigmoid; `mirror_indices` is the skeleton's: joint i of a
mirrored person is joint `mirror_indices[i]` of the original one.
"""

import tensorflow as tf

from metrabs_like.geometry.arguments import as_float
from metrabs_like.systems.centernet.soft_nms import soft_nms_order

_AVERAGED = ("hm", "wh")
_OF_PEOPLE = ("boxes", "joints2d", "joint_scores", "classes")


def merge_flipped(outputs, mirrored_outputs, mirror_indices):
    """Averages the maps of images with those of the mirrored images.

    Args:
      outputs: dict of float maps `[B, H, W, C]`, see `decoding.activated`.
      mirrored_outputs: the same of the mirrored images; heads that are not averaged may be missing.
      mirror_indices: J ints.

    Returns:
      Dict like `outputs`: `hm`, `wh`, `hps` and `hm_hp` are means, all others (`reg`, `hp_offset`,
      masks) are those of the images as they are.

    Raises:
      ValueError: if a head that is averaged is missing.

    Gradient: to the maps.

    References:
      Released code of Objects as Points, `multi_pose` detector with `flip_test`.
    """
    mirrors = dict.fromkeys(_AVERAGED, mirrored_map)
    mirrors["hps"] = lambda maps: mirrored_offsets(maps, mirror_indices)
    mirrors["hm_hp"] = lambda maps: mirrored_joint_maps(maps, mirror_indices)
    mirrors = {name: mirror for name, mirror in mirrors.items() if name in outputs}
    missing = [name for name in mirrors if name not in mirrored_outputs]
    if missing:
        raise ValueError(
            f"`mirrored_outputs` lacks {missing}: run the network on the mirrored images, too"
        )
    merged = {
        name: (as_float(outputs[name]) + mirror(mirrored_outputs[name])) / 2
        for name, mirror in mirrors.items()
    }
    return {**outputs, **merged}


def mirrored_map(maps):
    """Mirrors maps left to right.

    Args:
      maps: float `[B, H, W, C]`.

    Returns:
      float32 of the same shape.

    Gradient: to the maps.
    """
    return tf.reverse(as_float(maps), axis=[2])


def mirrored_joint_maps(maps, mirror_indices):
    """Mirrors maps with one channel a joint: left joints become right ones.

    Args:
      maps: float `[B, H, W, J]`.
      mirror_indices: J ints.

    Returns:
      float32 of the same shape.

    Raises:
      ValueError: if there are not J indices.

    Gradient: to the maps.
    """
    _check_joints(maps, mirror_indices, 1)
    return tf.gather(mirrored_map(maps), list(mirror_indices), axis=3)


def mirrored_offsets(maps, mirror_indices):
    """Mirrors maps of vectors to joints: left joints become right ones, x changes its sign.

    Args:
      maps: float `[B, H, W, 2 J]`, x and y in turn.
      mirror_indices: J ints.

    Returns:
      float32 of the same shape.

    Raises:
      ValueError: if there are not J indices.

    Gradient: to the maps.
    """
    _check_joints(maps, mirror_indices, 2)
    channels = [2 * joint + axis for joint in mirror_indices for axis in (0, 1)]
    signs = tf.constant([-1.0, 1.0] * len(mirror_indices))
    return tf.gather(mirrored_map(maps), channels, axis=3) * signs


def merge_scales(people_of_scales, *, max_people=None, **options):
    """Joins the people that were found at several scales of the same images.

    Args:
      people_of_scales: list of dicts of `decoding.to_image`, image px: `boxes` `[B, K, 4]`,
        `scores` `[B, K]`, `joints2d` `[B, K, J, 2]`, `joint_scores`, `classes`; K may differ. A
        score of 0 is no person.
      max_people: int, only so many are returned; None for all.
      **options: of `soft_nms.soft_nms_order`.

    Returns:
      Dict with the same entries, `[B, N, ...]` in descending order of the reduced scores (N is the
      sum of all K, or `max_people` if that is less), 0 after the people; and `n_people` int32
      `[B]`. Cells and masks have no meaning for other scales and are left out.

    Raises:
      ValueError: if there is no scale, or `max_people` is not positive.

    Gradient: none is wanted.

    References:
      Released code of Objects as Points, `merge_outputs` with `test_scales`: Gaussian soft-NMS.
    """
    if not people_of_scales:
        raise ValueError("people_of_scales=[]: pass the people of one scale or more")
    if max_people is not None and max_people < 1:
        raise ValueError(f"max_people={max_people}: must be >= 1, or None for all")
    joined = {
        name: tf.concat([people[name] for people in people_of_scales], axis=1)
        for name in ("scores", *_OF_PEOPLE)
    }
    order, scores, counts = soft_nms_order(
        joined["boxes"],
        joined["scores"],
        joined["scores"] > 0,
        groups=joined["classes"],
        **options,
    )
    order, scores = order[:, :max_people], scores[:, :max_people]
    counts = tf.minimum(counts, tf.shape(order)[1])
    is_kept = tf.range(tf.shape(order)[1]) < counts[:, tf.newaxis]
    merged = {"scores": scores, "n_people": counts}
    for name in _OF_PEOPLE:
        values = tf.gather(joined[name], order, batch_dims=1)
        mask = tf.reshape(is_kept, tf.concat([tf.shape(is_kept), [1] * (values.shape.rank - 2)], 0))
        merged[name] = tf.where(mask, values, tf.zeros([], values.dtype))
    return merged


def _check_joints(maps, mirror_indices, n_per_joint):
    n_channels = maps.shape[3]
    if n_channels != n_per_joint * len(mirror_indices):
        raise ValueError(
            f"maps have {n_channels} channels for {len(mirror_indices)} mirror_indices: must be "
            f"{n_per_joint} a joint"
        )
