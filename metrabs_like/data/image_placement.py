"""Random placement of whole images in the network's input: crop or shift, size, turn, mirroring.

Conventions: stateless; the draws of an example depend on the key and its number alone. A placement
is what `geometry.affine` takes: the released code's `c`, `s` and `rot`, the centre in pixels of the
mirrored image where it is mirrored.
"""

import dataclasses
import math

import tensorflow as tf

from metrabs_like.data.augment import uniform_per_example

_STREAM = 1 << 61  # beside the streams of `data.augment`
_CROP_SCALES = tuple(n / 10 for n in range(6, 14))  # released code
_CROP_BORDER = 128  # px, released code
_CLIP = 2.0  # standard deviations at which shift and turn end; released code


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlacementConfig:
    """How training images are placed. Defaults are those of the released code (multi_pose).

    Attributes:
      random_crop: the centre is any pixel that is not near the border, the size one of 0.6, 0.7,
        ..., 1.3 times the longer side. Otherwise centre and size vary by `shift` and `scale`.
      shift: standard deviation of the centre as a share of the longer side, cut at twice this.
      scale: standard deviation of the size relative to the longer side, cut at once this.
      rotate_probability: share of turned images.
      rotate_degrees: standard deviation of their angle, cut at twice this.
      flip_probability: share of mirrored images.

    Raises:
      ValueError: naming the field, its value and what it may be.
    """

    random_crop: bool = True
    shift: float = 0.1
    scale: float = 0.4
    rotate_probability: float = 0.0
    rotate_degrees: float = 0.0
    flip_probability: float = 0.5

    def __post_init__(self):
        for field in ("shift", "rotate_degrees"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{field}={value}: must be finite and >= 0")
        if not 0 <= self.scale < 1:
            raise ValueError(f"scale={self.scale}: must be >= 0 and < 1, or sizes could vanish")
        for field in ("rotate_probability", "flip_probability"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field}={getattr(self, field)}: must be between 0 and 1")


def draw_placement(key, numbers, image_size, settings: PlacementConfig) -> dict:
    """Draws the placements of consecutive examples.

    Args:
      key: names the stream of draws, an integer or an int64 scalar, 0 or more.
      numbers: int64 `[B]`, running numbers of the examples, consecutive.
      image_size: int32 `[B, 2]`, (height, width), px.
      settings: a `PlacementConfig`.

    Returns:
      Dict: `center` float32 `[B, 2]`, px (after mirroring); `scale` float32 `[B]`, px;
      `angle_degrees` float32 `[B]`, 0 for images that are not turned; `is_mirrored` bool `[B]`.

    References:
      Zhou et al., Objects as Points, 2019; released code, `datasets/sample/multi_pose.py`.
    """
    key = tf.bitwise.bitwise_xor(tf.cast(key, tf.int64), tf.constant(_STREAM, tf.int64))
    draws = uniform_per_example(key, numbers)
    place = _random_crop if settings.random_crop else _shifted_and_scaled
    center, scale = place(draws[:, :3], image_size, settings)
    angle = settings.rotate_degrees * _clipped_normal(draws[:, 3], _CLIP)
    is_mirrored = draws[:, 4] < settings.flip_probability
    mirrored_x = tf.cast(image_size[:, 1], tf.float32) - center[:, 0] - 1
    x = tf.where(is_mirrored, mirrored_x, center[:, 0])
    return {
        "center": tf.stack([x, center[:, 1]], axis=-1),
        "scale": scale,
        "angle_degrees": tf.where(draws[:, 5] < settings.rotate_probability, angle, 0.0),
        "is_mirrored": is_mirrored,
    }


def fixed_placement(image_size) -> dict:
    """Returns the placement that shows whole images, for evaluation.

    Args:
      image_size: int32 `[B, 2]`, (height, width), px.

    Returns:
      Dict as of `draw_placement`: the image's middle, its longer side, no turn, not mirrored.
    """
    size = tf.cast(image_size, tf.float32)
    scale = tf.reduce_max(size, axis=-1)
    return {
        "center": size[:, ::-1] / 2,
        "scale": scale,
        "angle_degrees": tf.zeros_like(scale),
        "is_mirrored": tf.zeros_like(scale, tf.bool),
    }


def crop_border(size):
    """Returns the width of the border where no crop is centred.

    Args:
      size: int32 tensor, px, a side of an image, above 0.

    Returns:
      int32 of the same shape: 128, halved until less than half of the side is border on each side.
    """
    border = tf.zeros_like(size)
    for width in (1 << bit for bit in range(_CROP_BORDER.bit_length())):
        border = tf.where(size > 2 * width, width, border)
    return border


def _random_crop(draws, image_size, settings):
    """Returns whole-numbered centres `[B, 2]` off the border, and sizes `[B]`."""
    del settings
    index = tf.cast(tf.floor(draws[:, 0] * len(_CROP_SCALES)), tf.int32)
    longer = tf.cast(tf.reduce_max(image_size, axis=-1), tf.float32)
    size = image_size[:, ::-1]
    border = crop_border(size)
    n_places = tf.cast(size - 2 * border, tf.float32)
    # The product rounds up to n_places for draws next to 1.
    place = tf.minimum(tf.floor(draws[:, 1:] * n_places), n_places - 1)
    return tf.cast(border, tf.float32) + place, longer * tf.gather(_CROP_SCALES, index)


def _shifted_and_scaled(draws, image_size, settings):
    """Returns centres `[B, 2]` near the middle, and sizes `[B]` near the longer side."""
    fixed = fixed_placement(image_size)
    longer = fixed["scale"]
    shift = settings.shift * _clipped_normal(draws[:, 1:], _CLIP)
    factor = 1 + settings.scale * _clipped_normal(draws[:, 0], 1.0)
    return fixed["center"] + longer[:, tf.newaxis] * shift, longer * factor


def _clipped_normal(uniform, limit):
    """Turns uniform numbers into standard normal ones whose tails are piled up at the limits."""
    inside = tf.clip_by_value(uniform, 2.0**-25, 1 - 2.0**-24)  # finite at 0 too
    return tf.clip_by_value(tf.math.ndtri(inside), -limit, limit)
