"""Masks of people as training targets on the network's map.

Conventions: as `targets`; masks are mapped like boxes, without the turn of a turned image (where
they are not trained).
"""

import tensorflow as tf

from metrabs_like.geometry.affine import affine_from_placement
from metrabs_like.geometry.arguments import check_shapes
from metrabs_like.geometry.warping import warp_affine
from metrabs_like.losses.segmentation import IGNORED
from metrabs_like.systems.centernet.segmentation import inside_boxes


def warp_masks(people, map_size, *, jit_compile: bool = True):
    """Shows the people's masks on the map.

    Args:
      people: dict: `masks` uint8 `[B, N, M, M']`, 0..255, each stretched over its box `mask_boxes`
        float `[B, N, 4]`, px of the image, (x, y, width, height), as of `data.whole_images`;
        `mask_validity` bool `[B, N]`; `image_size`, `center`, `scale`, `is_mirrored` as of
        `encode_targets`.
      map_size: (height, width), cells.
      jit_compile: see `geometry.warping.warp_images`.

    Returns:
      float32 `[B, N, height, width]`, 0..1, the covered share; 0 where there is no mask.

    Raises:
      ValueError: if known dimensions disagree.

    Gradient: none is wanted.
    """
    masks, is_valid = tf.convert_to_tensor(people["masks"]), people["mask_validity"]
    boxes = tf.cast(people["mask_boxes"], tf.float64)
    check_shapes(masks=(masks, "B N M W"), mask_boxes=(boxes, "B N 4"))
    # A box without area has no mask; its place does not matter.
    is_valid &= tf.reduce_all(boxes[..., 2:] > 0, axis=-1)
    boxes = tf.where(is_valid[..., tf.newaxis], boxes, tf.ones([], tf.float64))
    image_from_map = affine_from_placement(
        people["center"],
        people["scale"],
        0.0,
        map_size[::-1],
        is_mirrored=people["is_mirrored"],
        image_width=tf.convert_to_tensor(people["image_size"])[:, 1],
        inverse=True,
    )
    mask_from_map = _mask_from_image(boxes, tf.shape(masks)) @ image_from_map[:, tf.newaxis]
    n_images, n_people, height, width = tf.unstack(tf.shape(masks))
    flat = tf.reshape(masks, [n_images * n_people, height, width, 1])
    warped = warp_affine(
        flat, tf.reshape(mask_from_map, [-1, 3, 3]), map_size, jit_compile=jit_compile
    )
    warped = tf.reshape(warped, [n_images, n_people, *map_size])
    return tf.where(is_valid[..., tf.newaxis, tf.newaxis], warped, 0.0)


def encode_masks(people, targets, map_size, *, jit_compile: bool = True):
    """Encodes masks as labels of the map's cells.

    A mask is trained inside the person's box enlarged by 1.3; outside it counts for nothing. (The
    released code doubles the corners of that part and often misses the person: not so here.)

    Args:
      people: see `warp_masks`.
      targets: of `encode_targets` for the same people.
      map_size: (height, width), cells.
      jit_compile: see `geometry.warping.warp_images`.

    Returns:
      uint8 `[B, N, height, width]`: 1 the person, 0 background, `IGNORED` outside of the part that
      is trained. Slots that are not drawn are 0 everywhere, as released; people without a mask
      are `IGNORED` everywhere.

    Gradient: none is wanted.

    References:
      Released code of centerpose (an older version).
    """
    warped = warp_masks(people, map_size, jit_compile=jit_compile)
    is_object = targets["gt_det_mask"] > 0
    is_trained = inside_boxes(tf.ones_like(warped), targets["gt_det"][..., :4])
    is_trained &= people["mask_validity"][..., tf.newaxis, tf.newaxis]
    labels = tf.where(is_trained, tf.cast(warped > 0.5, tf.uint8), tf.constant(IGNORED, tf.uint8))
    is_object = is_object[..., tf.newaxis, tf.newaxis]
    return tf.where(is_object, labels, tf.constant(0, tf.uint8))


def _mask_from_image(boxes, shape):
    """Returns float64 `[B, N, 3, 3]`: from px of the image to px of the masks."""
    size = tf.cast(tf.stack([shape[3], shape[2]]), tf.float64)
    factor = size / boxes[..., 2:]
    offset = -boxes[..., :2] * factor - 0.5
    x, y = tf.unstack(factor, axis=-1)
    zero, one = tf.zeros_like(x), tf.ones_like(x)
    entries = [x, zero, offset[..., 0], zero, y, offset[..., 1], zero, zero, one]
    return tf.reshape(tf.stack(entries, axis=-1), tf.concat([tf.shape(x), [3, 3]], axis=0))
