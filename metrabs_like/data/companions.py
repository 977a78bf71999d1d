"""What the appearance augmentation needs besides the crop: masks, backgrounds, objects.

Conventions: everything is uint8; `mask_intrinsics` is the image's camera in pixels of the mask, so
that `geometry.warping` samples masks as it samples windows. Choices are a pure function of the
example's number.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.data import augment, banks, records
from metrabs_like.data.masks import MAX_SIDE
from metrabs_like.data.sources import APPEARANCE_CHANGES

OBJECT_SIDE = 96
"""Side of a stored occluding object, px (ours)."""
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
    def names(self) -> tuple[str, ...]:
        """What is added to the examples."""
        if self._is_standard:
            return ()
        names = ["augmentation"]
        if self._backgrounds is not None:
            names += ["mask", "mask_intrinsics", "has_mask", "background"]
        if self._objects is not None:
            names.append("object")
        return tuple(names)

    @property
    def shapes(self) -> dict:
        """Shapes that differ before batching, canvases to which examples are padded."""
        return {"mask": [MAX_SIDE, MAX_SIDE, 1]} if "mask" in self.names else {}

    def plan(self, serialized, person_index, numbers, key: int, probabilities) -> dict:
        """Prepares a batch of one source; `decode` completes each example.

        Args:
          serialized: string `[B]`, records.
          person_index: int32 `[B]`.
          numbers: int64 `[B]`, running numbers, consecutive.
          key: of the source's draws.
          probabilities: of the source, change -> probability.

        Returns:
          Dict of tensors with leading dimension B.
        """
        if self._is_standard:
            return {}
        row = tf.constant([probabilities.get(c, 0.0) for c in APPEARANCE_CHANGES], tf.float32)
        planned = {"augmentation": tf.tile(row[tf.newaxis], [tf.size(numbers), 1])}
        draws = augment.uniform_per_example(key | _STREAM, numbers)
        if self._backgrounds is not None:
            masks, boxes = records.parse_mask_batch(serialized, person_index)
            planned |= {"mask_png": masks, "mask_box": boxes}
            planned["background_index"] = _index(draws[:, 0], len(self._backgrounds))
        if self._objects is not None:
            planned["object_index"] = _index(draws[:, 1], len(self._objects))
        return planned

    def decode(self, example: dict) -> dict:
        """Returns the `names` of one planned example."""
        found = {name: example[name] for name in self.names if name in example}
        if self._backgrounds is not None:
            found |= _decoded_mask(example)
            found["background"] = tf.gather(self._backgrounds, example["background_index"])
        if self._objects is not None:
            found["object"] = tf.gather(self._objects, example["object_index"])
        return found


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


def _decoded_mask(example):
    """Decodes a mask; a person without one gets a black pixel."""
    png, box = example["mask_png"], example["mask_box"]
    has_mask = tf.strings.length(png) > 0
    mask = tf.cond(
        has_mask,
        lambda: tf.io.decode_png(png, channels=1)[:MAX_SIDE, :MAX_SIDE],
        lambda: tf.zeros([1, 1, 1], tf.uint8),
    )
    size = tf.cast(tf.shape(mask)[1::-1], tf.float32)
    # u -> (u - left edge) * scale - 0.5, per axis.
    scale = size / tf.maximum(box[2:], np.float32(1e-3))
    offset = -box[:2] * scale - 0.5
    camera = example["camera_intrinsics"]
    top = camera[:2] * scale[:, tf.newaxis] + offset[:, tf.newaxis] * camera[2:]
    return {
        "mask": mask,
        "mask_intrinsics": tf.concat([top, camera[2:]], axis=0),
        "has_mask": has_mask,
    }
