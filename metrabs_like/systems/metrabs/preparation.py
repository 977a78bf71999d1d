"""From a batch of the pipeline to network inputs and loss targets, on the device.

Conventions: the annotation kinds are concatenated in the order of `KINDS` for one forward pass;
targets keep them apart. Geometry in float32.
"""

import tensorflow as tf

from metrabs_like.data.augment import photometric
from metrabs_like.geometry.warping import warp_images

KINDS = ("kp3d", "kp2d")
_CAMERA_KEYS = ("window_intrinsics", "distortion_coeffs", "crop_from_camera", "intrinsics")
_TARGET_KEYS = (
    "coords3d_true",
    "coords2d_true",
    "point_validity",
    "intrinsics",
    "box",
    "image_id",
)


def prepare(batch, config, seed):
    """Warps the crops, augments their colours and sorts the annotations.

    Args:
      batch: dict kind -> sub-batch of the pipeline, at least one of `KINDS`; each with `window`
        uint8 `[B, W, W, 3]`, `window_intrinsics` `[B, 3, 3]`, `distortion_coeffs` `[B, 12]`,
        `crop_from_camera` `[B, 3, 3]`, `intrinsics` `[B, 3, 3]` (of the crop), `point_validity`
        `[B, P]`, `coords3d_true` `[B, P, 3]` (kp3d) and `coords2d_true` `[B, P, 2]`.
      config: `Config`.
      seed: int32 `[2]`: draws the augmentation and the mixing of the two reconstructions; None is
        evaluation: neither is random.

    Returns:
      (inputs, targets): `image` float32 `[sum B, S, S, 3]` in 0..1 and `intrinsics`; kind -> the
      annotations, and `mix_3d_inside_fov` `[sum B, 1, 1]`, uniform in 0..1, 0.5 in evaluation.

    Raises:
      ValueError: for a batch without a known kind.

    Gradient: none is wanted.
    """
    kinds = present_kinds(batch)
    if not kinds:
        raise ValueError(f"the batch has kinds {sorted(batch)}; it needs at least one of {KINDS}")
    camera = {key: tf.concat([batch[k][key] for k in kinds], 0) for key in _CAMERA_KEYS}
    image = warp_images(
        tf.concat([batch[k]["window"] for k in kinds], 0),
        camera["window_intrinsics"],
        camera["distortion_coeffs"],
        camera["crop_from_camera"],
        camera["intrinsics"],
        config.proc_side,
    )
    n = tf.shape(image)[0]
    if seed is None:
        mix = tf.fill([n, 1, 1], 0.5)
    else:
        # philox: the same numbers with and without XLA
        mix_seed = tf.random.experimental.stateless_fold_in(seed, 1, alg="philox")
        mix = tf.random.stateless_uniform([n, 1, 1], mix_seed, alg="philox")
        if config.photometric:
            image = photometric(image, seed)
    targets = {k: {key: batch[k][key] for key in _TARGET_KEYS if key in batch[k]} for k in kinds}
    inputs = {"image": image, "intrinsics": camera["intrinsics"]}
    return inputs, {**targets, "mix_3d_inside_fov": mix}


def present_kinds(batch_or_targets):
    """Returns the kinds that a batch or a dict of targets holds, in the order of the network."""
    return tuple(k for k in KINDS if k in batch_or_targets)


def split_by_kind(tensors, targets):
    """Cuts tensors of the whole batch into the kinds' parts.

    Args:
      tensors: dict of tensors `[sum B, ...]`.
      targets: what `prepare` returned.

    Returns:
      Dict kind -> dict of tensors `[B, ...]`.
    """
    parts, start = {}, 0
    for kind in present_kinds(targets):
        stop = start + tf.shape(targets[kind]["point_validity"])[0]
        parts[kind] = {key: value[start:stop] for key, value in tensors.items()}
        start = stop
    return parts
