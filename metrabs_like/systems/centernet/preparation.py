"""From a batch of the pipeline to network inputs and training targets, on the device.

Conventions: the network sees RGB in 0..1, black beyond the image; people are in px of the image as
it is stored, targets in cells of the map.
"""

import tensorflow as tf

from metrabs_like.data.appearance.eigen_colour import eigen_colour
from metrabs_like.data.whole_images import KIND, KINDS
from metrabs_like.geometry.warping import warp_affine
from metrabs_like.systems.centernet.mask_targets import encode_masks
from metrabs_like.systems.centernet.targets import encode_targets

_TRUTH = (
    *("boxes", "joints2d", "joint_validity", "person_validity", "image_size", "image_id"),
    *("center", "scale", "angle_degrees", "is_mirrored"),
    *("areas", "crowd_boxes", "crowd_validity"),
)


def check_source(kind, info, config):
    """Checks that a model can learn from a data set's annotations of a kind.

    Args:
      kind: kind of annotation.
      info: `data.dataset_info.DatasetInfo` of the set.
      config: `Config`.

    Raises:
      ValueError: for a kind without 2D joints, or masks that are wanted and not there.
    """
    if kind not in KINDS:
        raise ValueError(
            f"kind={kind!r} of the data set {info.name!r}: a detector learns from whole images of "
            f"kind {' or '.join(KINDS)}; write {KINDS[0]}:FOLDER:COUNT"
        )
    if config.n_seg_weights and not info.counts.get("n_people_mask", 1):
        raise ValueError(
            f"the data set {info.name!r} has no masks, but segmentation={config.segmentation!r} "
            "learns from them; prepare it with masks, or set segmentation='none'"
        )


def prepare(batch, config, seed):
    """Renders the images and encodes the people.

    Args:
      batch: `{"kp2d": dict}` of `data.whole_images`.
      config: `Config`.
      seed: int32 `[2]`: draws the colours; None is evaluation: nothing is random.

    Returns:
      (inputs, targets): `image` float32 `[B, S, S, 3]` and `input_from_image` `[B, 3, 3]`;
      `{"kp2d": dict}` with what `encode_targets` gives, of a batch with masks `seg`
      uint8 `[B, N, h, w]`, and the people themselves (`boxes`, `joints2d`, `joint_validity`,
      `person_validity`, px of the image) and how the image was placed (`center`, `scale`,
      `angle_degrees`, `is_mirrored`, `image_size`, in evaluation `image_id`). Images that are not
      shown in the size of training (`input_size` is there: evaluation with `keep_resolution` or at
      a scale) have inputs `[B, h, w, 3]` and people, but no targets of a loss.

    Raises:
      ValueError: for a batch of another pipeline.

    Gradient: none is wanted.
    """
    if KIND not in batch:
        raise ValueError(f"the batch has kinds {sorted(batch)}; it needs {KIND!r}: whole images")
    people = batch[KIND]
    image = _rendered(people, config)
    if seed is not None and config.photometric:
        image = eigen_colour(image, seed)
    inputs = {"image": image, "input_from_image": people["input_from_image"]}
    targets = {name: people[name] for name in _TRUTH if name in people}
    if _is_fixed(people):
        encoded = encode_targets(people, config)
        if "masks" in people:
            map_size = (config.map_side, config.map_side)
            encoded["seg"] = encode_masks(people, encoded, map_size)
        targets |= encoded
    return inputs, {KIND: targets}


def _is_fixed(people):
    """Whether the images are shown in the size of training."""
    return "input_size" not in people


def _rendered(people, config):
    """The inputs `[B, h, w, 3]`."""
    if _is_fixed(people):
        size = (config.proc_side, config.proc_side)
    else:
        size = tf.unstack(people["input_size"][0])
    matrices = people["window_from_input"]
    return warp_affine(people["window"], matrices, size, jit_compile=_is_fixed(people))
