"""What the appearance augmentation needs besides the crop: masks, backgrounds, objects.

Conventions: everything is uint8; `mask_intrinsics` is the image's camera in pixels of the mask, so
that `geometry.warping` samples masks as it samples windows. Choices are a pure function of the
example's number.
"""

import cv2
import numpy as np
import tensorflow as tf

from metrabs_like.data import augment, banks, records
from metrabs_like.data.masks import MAX_SIDE
from metrabs_like.data.sources import APPEARANCE_CHANGES

OBJECT_SIDE = 96
"""Side of a stored occluding object, px (ours)."""
_NAMES = ("augmentation", "mask_intrinsics", "has_mask", "background", "object")
_BLACK_PIXEL = cv2.imencode(".png", np.zeros([1, 1], np.uint8))[1].tobytes()
_STREAM = 1 << 40  # draws of their own: those of the placement stay as they are


class Companions:
    """Adds to the examples of a pipeline what its appearance changes need.

    Nothing is added where every source has the standard: colour changes alone.

    Args:
      config: the `PipelineConfig`.
      probabilities: of each source, change -> probability.
    """

    def __init__(self, config, probabilities):
        self._side = config.proc_side
        self._needs = {
            change: any(p.get(change, 0.0) > 0 for p in probabilities)
            for change in APPEARANCE_CHANGES
        }
        all_colour = all(p.get("colour", 0.0) == 1 for p in probabilities)
        others = any(need for change, need in self._needs.items() if change != "colour")
        self._is_standard = all_colour and not others
        self._backgrounds = self._objects = None
        if self._needs["background"]:
            self._backgrounds = _background_bank(config)
        if self._needs["objects"]:
            self._objects = _object_bank(config)

    @property
    def shapes(self) -> dict:
        """Shapes that differ before batching, canvases to which examples are padded."""
        return {} if self._backgrounds is None else {"mask": [MAX_SIDE, MAX_SIDE, 1]}

    def plan(self, serialized, person_index, example: dict, key: int, probabilities) -> dict:
        """Prepares a batch of one source; `decode` and `complete` do the rest.

        Args:
          serialized: string `[B]`, records.
          person_index: int32 `[B]`.
          example: of `ExampleMaker`; read are `numbers` and `camera_intrinsics`.
          key: of the source's draws.
          probabilities: of the source, change -> probability.

        Returns:
          Dict of tensors with leading dimension B.
        """
        if self._is_standard:
            return {}
        numbers = example["numbers"]
        row = tf.constant([probabilities.get(c, 0.0) for c in APPEARANCE_CHANGES], tf.float32)
        planned = {"augmentation": tf.tile(row[tf.newaxis], [tf.size(numbers), 1])}
        draws = augment.uniform_per_example(key | _STREAM, numbers)
        if self._backgrounds is not None:
            planned |= _planned_masks(serialized, person_index, example["camera_intrinsics"])
            planned["background"] = _index(draws[:, 0], len(self._backgrounds))
        if self._objects is not None:
            planned["object"] = _index(draws[:, 1], len(self._objects))
        return planned

    def decode(self, example: dict) -> dict:
        """Decodes what one planned example has of this, apart from pictures out of the banks."""
        found = {name: example[name] for name in _NAMES if name in example}
        if self._backgrounds is not None:
            mask = tf.io.decode_png(example["mask_png"], channels=1)
            found["mask"] = mask[:MAX_SIDE, :MAX_SIDE]
        return found

    def complete(self, batch: dict) -> dict:
        """Puts pictures in the place of their numbers: once a batch, which copies them once."""
        batch = dict(batch)
        if self._backgrounds is not None:
            batch["background"] = tf.gather(self._backgrounds, batch["background"])
        if self._objects is not None:
            batch["object"] = tf.gather(self._objects, batch["object"])
        return batch


def _background_bank(config):
    arguments = (config.proc_side, config.n_backgrounds, 0)
    if config.backgrounds:
        return banks.load_backgrounds(config.backgrounds, *arguments)
    side, n, seed = arguments
    return banks.procedural_backgrounds(n, side, seed)


def _object_bank(config):
    if config.objects:
        return banks.load_objects(config.objects, OBJECT_SIDE, config.n_objects, 0)
    return banks.procedural_objects(config.n_objects, OBJECT_SIDE, 0)


def _index(draw, n):
    return tf.minimum(tf.cast(draw * float(n), tf.int32), n - 1)


def _planned_masks(serialized, person_index, camera):
    """Returns masks, a black pixel for people without, and the camera in their pixels."""
    pngs, boxes = records.parse_mask_batch(serialized, person_index)
    has_mask = tf.strings.length(pngs) > 0
    pngs = tf.where(has_mask, pngs, _BLACK_PIXEL)
    # A PNG's header has its width and height.
    size = tf.io.decode_raw(
        tf.strings.substr(pngs, 16, 8), tf.int32, little_endian=False, fixed_length=8
    )
    # u -> (u - left edge) * scale - 0.5, per axis.
    scale = tf.cast(size, tf.float32) / tf.maximum(boxes[:, 2:], np.float32(1e-3))
    offset = -boxes[:, :2] * scale - 0.5
    top = camera[:, :2] * scale[..., tf.newaxis] + offset[..., tf.newaxis] * camera[:, 2:]
    return {
        "mask_png": pngs,
        "mask_intrinsics": tf.concat([top, camera[:, 2:]], axis=1),
        "has_mask": has_mask,
    }
