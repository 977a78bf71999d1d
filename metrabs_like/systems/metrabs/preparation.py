"""From a batch of the pipeline to network inputs and loss targets, on the device.

Conventions: the annotation kinds are concatenated in the order of `supervision.KINDS` for one
forward pass; targets keep them apart. Geometry in float32.
"""

import tensorflow as tf

from metrabs_like.data.appearance import change_appearance
from metrabs_like.data.augment import photometric
from metrabs_like.geometry.warping import warp_images
from metrabs_like.systems.metrabs.field import POINTS
from metrabs_like.systems.metrabs.supervision import KINDS, POINT_KINDS, make_targets

_CAMERA_KEYS = ("window_intrinsics", "distortion_coeffs", "crop_from_camera", "intrinsics")
_APPEARANCE_KEYS = {"background": "backgrounds", "object": "objects", "has_mask": "has_mask"}
_JOINED = (
    "window",
    *_CAMERA_KEYS,
    *_APPEARANCE_KEYS,
    *("augmentation", "mask", "mask_intrinsics"),
)
_POINT_STREAM = 2  # of the seed: stream 1 is the mixing's


def prepare(batch, config, seed):
    """Warps the crops, changes their appearance and sorts the annotations.

    Args:
      batch: dict kind -> sub-batch of `data.pipeline`, at least one of `supervision.KINDS`.
      config: `Config`.
      seed: int32 `[2]`: draws the augmentation, surface points and the mixing of the two
        reconstructions; None is evaluation: nothing is random.

    Returns:
      (inputs, targets): `image` float32 `[sum B, S, S, 3]` in 0..1, `intrinsics`, and with
      `head="field"` `canonical_points` `[A, K, 3]` m of the kinds that have them, which come first;
      kind -> `supervision.make_targets`, and `mix_3d_inside_fov` `[sum B, 1, 1]`, uniform in 0..1,
      0.5 in evaluation.

    Raises:
      ValueError: for a batch without a known kind, or a kind that the head cannot learn from.

    Gradient: none is wanted.
    """
    kinds = present_kinds(batch)
    if not kinds:
        raise ValueError(f"the batch has kinds {sorted(batch)}; it needs at least one of {KINDS}")
    joined = {
        key: tf.concat([batch[kind][key] for kind in kinds], 0)
        for key in _JOINED
        if all(key in batch[kind] for kind in kinds)
    }
    camera = [joined[key] for key in _CAMERA_KEYS]
    image = warp_images(joined["window"], *camera, config.proc_side)
    n = tf.shape(image)[0]
    point_seed = tf.zeros([2], tf.int32)
    mix = tf.fill([n, 1, 1], 0.5)
    if seed is not None:
        # philox: the same numbers with and without XLA
        mix_seed, point_seed = (
            tf.random.experimental.stateless_fold_in(seed, stream, alg="philox")
            for stream in (1, _POINT_STREAM)
        )
        mix = tf.random.stateless_uniform([n, 1, 1], mix_seed, alg="philox")
        if config.photometric:
            image = _changed(image, joined, camera, seed)
    targets = {kind: make_targets(kind, batch[kind], config, point_seed) for kind in kinds}
    inputs = {"image": image, "intrinsics": joined["intrinsics"]}
    if config.head == "field":
        points = [targets[kind]["canonical_points"] for kind in kinds if kind in POINT_KINDS]
        inputs["canonical_points"] = tf.concat(points, 0) if points else tf.zeros([n, 0, 3])
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


def split_predictions(values, targets):
    """Cuts outputs, or what was decoded from them, into the kinds' parts.

    Args:
      values: dict of tensors of joints `[sum B, P, ...]`, and with the prefix `points_` of the
        canonical points `[A, K, ...]`.
      targets: what `prepare` returned.

    Returns:
      Dict kind -> dict of tensors `[B, P + K, ...]`, K = 0 for kinds without canonical points.
    """
    joints = split_by_kind({k: v for k, v in values.items() if POINTS not in k}, targets)
    with_points = {kind: targets[kind] for kind in joints if kind in POINT_KINDS}
    points = split_by_kind({k: v for k, v in values.items() if POINTS in k}, with_points)
    for kind, of_kind in points.items():
        joints[kind] = {
            key: tf.concat([value, of_kind[POINTS + key]], 1) if POINTS + key in of_kind else value
            for key, value in joints[kind].items()
        }
    return joints


def _changed(image, joined, camera, seed):
    """Changes the crops' appearance as the sources ask for; without a wish only the colours."""
    if "augmentation" not in joined:
        return photometric(image, seed)
    companions = {
        argument: joined[key] for key, argument in _APPEARANCE_KEYS.items() if key in joined
    }
    if "mask" in joined:
        mask_camera = (joined["mask_intrinsics"], *camera[1:])
        companions["masks"] = warp_images(joined["mask"], *mask_camera, image.shape[1])
    # Compiled like the warp: 2.5 times faster on a CPU, for some seconds at the start.
    return change_appearance(image, joined["augmentation"], seed, jit_compile=True, **companions)
