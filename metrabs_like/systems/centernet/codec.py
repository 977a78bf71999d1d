"""What the network is asked to say about people, and what its answer says: inverse of each other.

Conventions: pixels of the original image outside; cells of the map, `down_ratio` times smaller than
the input, inside.
"""

import tensorflow as tf

from metrabs_like.systems.centernet.decoding import activated, decode_people, to_image
from metrabs_like.systems.centernet.targets import encode_targets

__all__ = ["decode", "encode_targets", "image_from_map", "with_sizes"]


def decode(outputs, inputs, config):
    """Finds the people of a batch of images.

    Args:
      outputs: of the model: head name -> `[B, h, w, channels]`, raw.
      inputs: of the model; `input_from_image` `[B, 3, 3]` is read.
      config: `Config`.

    Returns:
      Dict, K = `config.top_k` (the best first): `boxes` float32 `[B, K, 4]`, (x, y, width, height)
      px of the image; `scores` `[B, K]`, 0..1; `joints2d` `[B, K, J, 2]`, px of the image;
      `joint_scores` `[B, K, J]`; with segmentation `mask_logits` `[B, K, h, w]`, on the map, above
      0 inside. Nobody in the picture is an ordinary answer: K low scores. Inputs may be mirrored;
      the boxes of turned ones mean little.

    Gradient: none is wanted.

    References:
      Zhou et al., Objects as Points, 2019; released code, `models/decode.py`. The joint scores are
      those of the released centerpose.
    """
    people = decode_people(
        activated(outputs, mse_loss=config.mse_loss),
        top_k=config.top_k,
        joint_threshold=config.joint_threshold,
    )
    people = to_image(people, image_from_map(inputs["input_from_image"], config.down_ratio))
    return with_sizes(people)


def with_sizes(people):
    """Turns the corners of decoded boxes into (x, y, width, height); drops what refers to the map.

    Args:
      people: of `decoding.to_image`.

    Returns:
      The dict of `decode`.

    Gradient: to the boxes.
    """
    corners = tf.stack(tf.split(people["boxes"], 2, axis=-1))
    low, high = tf.reduce_min(corners, axis=0), tf.reduce_max(corners, axis=0)
    kept = ("scores", "joints2d", "joint_scores", "mask_logits")
    return {
        "boxes": tf.concat([low, high - low], axis=-1),
        **{name: people[name] for name in kept if name in people},
    }


def image_from_map(input_from_image, down_ratio):
    """Returns the affine maps from cells of the map to pixels of the image.

    Args:
      input_from_image: float `[B, 3, 3]`, affine.
      down_ratio: px of the input per cell.

    Returns:
      float64 `[B, 3, 3]`.

    Gradient: none is wanted.
    """
    a, b, x, c, d, y = (
        tf.cast(input_from_image[:, i, j], tf.float64) for i in (0, 1) for j in (0, 1, 2)
    )
    determinant = a * d - b * c
    inverse = [d, -b, b * y - d * x, -c, a, c * x - a * y]
    factors = [down_ratio, down_ratio, 1.0] * 2
    entries = [f * value / determinant for f, value in zip(factors, inverse, strict=True)]
    last = [0 * a, 0 * a, 0 * a + 1]
    return tf.reshape(tf.stack(entries + last, axis=-1), [-1, 3, 3])
