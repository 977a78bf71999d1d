"""From stored records to tensors; `records` describes the form.

Conventions: metres, radians, pixels. `B` records, `N` people of one, `P` points, `D` surface
points.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.data.people import N_DISTORTION_COEFFS

BODY_SHAPES = {
    "pose_rotvecs": (24, 3),
    "shape_betas": (10,),
    "translation": (3,),
    "camera_from_body": (3, 4),
}
"""Shapes of the fields of `people.BodyParameters`, in stored order."""

_CAMERA_FEATURES = {
    "camera/intrinsics": tf.io.FixedLenFeature([3, 3], tf.float32),
    "camera/distortion_coeffs": tf.io.FixedLenFeature([N_DISTORTION_COEFFS], tf.float32),
    "camera/extrinsics": tf.io.FixedLenFeature([4, 4], tf.float32),
}
_IMAGE_FEATURES = {
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/size": tf.io.FixedLenFeature([2], tf.int64),
    "image/id": tf.io.FixedLenFeature([], tf.string),
    "image/dataset": tf.io.FixedLenFeature([], tf.string),
}
_CROWD_FEATURE = {"image/crowd_boxes": tf.io.FixedLenFeature([], tf.string, default_value="")}
_ITEM_BYTES = {
    "boxes": 4,
    "points3d": 4,
    "validity3d": 1,
    "points2d": 4,
    "validity2d": 1,
    "occlusions": 4,
}
_SURFACE_FIELDS = {"ids": (3, tf.int32), "weights": (3, tf.float32), "points2d": (2, tf.float32)}
_BOX_BYTES = 16
_NO_BOX = bytes(_BOX_BYTES)
_MASK_FEATURES = {
    "people/masks": tf.io.RaggedFeature(tf.string),
    "people/mask_boxes": tf.io.FixedLenFeature([], tf.string, default_value=""),
}
_N_BODY_NUMBERS = sum(int(np.prod(shape)) for shape in BODY_SHAPES.values())
_FIELD_OF_KIND = {
    "param": "has_body",
    "kp3d": "validity3d",
    "dense": "surface_counts",
    "kp2d": "validity2d",
}


def parse_record(serialized, n_points: int) -> dict:
    """Parses one record with all its people.

    Args:
      serialized: scalar string tensor.
      n_points: P, the joint count of the data set's skeleton.

    Returns:
      Dict of tensors: `image_bytes` string, `height`, `width` int32, `image_id`, `dataset` string,
      `intrinsics [3,3]`, `distortion_coeffs [12]`, `extrinsics [4,4]`, `boxes [N,4]` px,
      `points3d [N,P,3]` m, `validity3d [N,P]` bool, `points2d [N,P,2]` px, `validity2d [N,P]` bool,
      `occlusions [N]`. Where somebody has them: `masks [N]` (PNG bytes, empty for the others) and
      `mask_boxes [N,4]`; `has_body [N]` bool and the fields of `BodyParameters` `[N, ...]`;
      `surface_counts [N]` and `surface_ids [D,3]`, `surface_weights [D,3]`, `surface_points2d
      [D,2]` of all people one after the other; `areas [N]` px^2, 0 for those without. Elsewhere
      these have N = 0 or D = 0. `crowd_boxes [C,4]` px.
    """
    features = {**_IMAGE_FEATURES, **_CAMERA_FEATURES, **_people_features(_ITEM_BYTES)}
    optional = ("mask_boxes", "has_body", "bodies", "surface_counts")
    features |= _people_features(optional) | _people_features(_surface_names())
    features |= _people_features(("areas",)) | _CROWD_FEATURE
    features["people/masks"] = tf.io.VarLenFeature(tf.string)
    parsed = tf.io.parse_single_example(serialized, features)
    people = {
        name: tf.reshape(_decode(parsed[f"people/{name}"], name), (-1, *shape))
        for name, shape in _person_shapes(n_points).items()
    }
    people["masks"] = tf.sparse.to_dense(parsed["people/masks"])
    people["mask_boxes"] = tf.reshape(_floats(parsed["people/mask_boxes"]), [-1, 4])
    people["has_body"] = tf.io.decode_raw(parsed["people/has_body"], tf.uint8) > 0
    people |= _split_bodies(tf.reshape(_floats(parsed["people/bodies"]), [-1, _N_BODY_NUMBERS]))
    people["surface_counts"] = tf.io.decode_raw(parsed["people/surface_counts"], tf.int32)
    for name, (width, dtype) in _SURFACE_FIELDS.items():
        raw = parsed[f"people/surface_{name}"]
        people[f"surface_{name}"] = tf.reshape(tf.io.decode_raw(raw, dtype), [-1, width])
    people["areas"] = _floats(parsed["people/areas"])
    people["crowd_boxes"] = tf.reshape(_floats(parsed["image/crowd_boxes"]), [-1, 4])
    return {**_image_tensors(parsed), **people}


def parse_image_batch(
    serialized, n_points: int, max_people: int, *, with_masks: bool = False
) -> dict:
    """Parses a batch of records with all their people, without a loop.

    Args:
      serialized: string `[B]`, records.
      n_points: P, the joint count of the data set's skeleton.
      max_people: N >= 1; people of an image beyond it are left out, in stored order.
      with_masks: also return the people's masks.

    Returns:
      Dict of tensors, filled up with zeros and False: `image_bytes`, `image_id` string `[B]`,
      `image_size [B,2]` int32 (height, width), `boxes [B,N,4]` px, `points2d [B,N,P,2]` px,
      `validity2d [B,N,P]` bool, `person_validity [B,N]` bool, `areas [B,N]` px^2 (0 where
      unknown); with masks `masks` string `[B,N]` (PNG bytes, empty where there is none) and
      `mask_boxes [B,N,4]` px.
    """
    names = ("boxes", "points2d", "validity2d")
    features = {**_IMAGE_FEATURES, **_people_features((*names, "areas"))}
    if with_masks:
        features |= _MASK_FEATURES
    parsed = tf.io.parse_example(serialized, features)
    shapes = _person_shapes(n_points)
    found = {}
    for name in names:
        size = int(np.prod(shapes[name])) * _ITEM_BYTES[name]
        # Shorter bytes are filled up with zeros, longer ones cut.
        values = _decode(parsed[f"people/{name}"], name, size * max_people)
        found[name] = tf.reshape(values, (-1, max_people, *shapes[name]))
    if with_masks:
        found |= _masks_of_images(parsed, max_people)
    return {
        "image_bytes": parsed["image/encoded"],
        "image_id": parsed["image/id"],
        "image_size": tf.cast(parsed["image/size"], tf.int32),
        "person_validity": _is_filled(parsed["people/boxes"], max_people),
        "areas": _floats(parsed["people/areas"], 4 * max_people),
        **found,
    }


def parse_crowd_batch(serialized, max_crowds: int):
    """Parses the regions of crowds of a batch of records.

    Args:
      serialized: string `[B]`, records.
      max_crowds: C >= 1; regions of an image beyond it are left out.

    Returns:
      `(crowd_boxes [B,C,4] px, crowd_validity [B,C] bool)`, filled up with zeros and False.
    """
    raw = tf.io.parse_example(serialized, _CROWD_FEATURE)["image/crowd_boxes"]
    boxes = tf.reshape(_floats(raw, 16 * max_crowds), [-1, max_crowds, 4])
    return boxes, _is_filled(raw, max_crowds)


def count_in_images(serialized):
    """Counts people and regions of crowds of a batch of records.

    Args:
      serialized: string `[B]`, records.

    Returns:
      int32 `[B, 2]`: people, crowds.
    """
    parsed = tf.io.parse_example(serialized, {**_people_features(("boxes",)), **_CROWD_FEATURE})
    raw = tf.stack([parsed["people/boxes"], parsed["image/crowd_boxes"]], axis=-1)
    return tf.strings.length(raw) // _BOX_BYTES


def parse_person_batch(serialized, person_index, n_points: int, kind: str = "kp3d") -> dict:
    """Parses a batch of records and picks one person out of each, without a loop.

    Args:
      serialized: string `[B]`, records.
      person_index: int32 `[B]`, which person of the record.
      n_points: P, the joint count of the data set's skeleton.
      kind: annotation kind; "param" and "dense" need people that have what it names.

    Returns:
      Dict of tensors as of `parse_record`, with leading dimension B, no N and no masks, and `boxes`
      and `occlusions` as `box [B,4]` and `occlusion [B]`. For "param" also the fields of
      `BodyParameters`; for "dense" the ragged `surface_ids`, `surface_weights` and
      `surface_points2d` `[B, (D), ...]`.
    """
    features = {**_IMAGE_FEATURES, **_CAMERA_FEATURES, **_people_features(_ITEM_BYTES)}
    if kind == "param":
        features |= _people_features(("bodies",))
    if kind == "dense":
        features |= _people_features(("surface_counts", *_surface_names()))
    parsed = tf.io.parse_example(serialized, features)
    people = {}
    for name, shape in _person_shapes(n_points).items():
        size = int(np.prod(shape)) * _ITEM_BYTES[name]
        raw = _fixed_part(parsed[f"people/{name}"], person_index, size)
        people[name] = tf.reshape(_decode(raw, name, size), (-1, *shape))
    people["box"] = people.pop("boxes")
    people["occlusion"] = people.pop("occlusions")
    if kind == "param":
        size = 4 * _N_BODY_NUMBERS
        raw = _fixed_part(parsed["people/bodies"], person_index, size)
        people |= _split_bodies(tf.io.decode_raw(raw, tf.float32, fixed_length=size))
    if kind == "dense":
        people |= _surface_of_person(parsed, person_index)
    return {**_image_tensors(parsed), **people}


def parse_mask_batch(serialized, person_index):
    """Parses the masks of one person out of each of a batch of records.

    Args:
      serialized: string `[B]`, records.
      person_index: int32 `[B]`.

    Returns:
      `(masks [B] PNG bytes, empty where there is none, mask_boxes [B, 4] px)`.
    """
    parsed = tf.io.parse_example(serialized, _MASK_FEATURES)
    masks, boxes = parsed["people/masks"], parsed["people/mask_boxes"]
    # Sets of schema version 1 have masks without boxes: these are left out.
    has_masks = (masks.row_lengths() > 0) & (tf.strings.length(boxes) > 0)
    # An entry in front, which those without masks read.
    flat = tf.concat([[""], masks.flat_values], axis=0)
    index = tf.cast(masks.row_starts(), tf.int32) + person_index + 1
    flat = tf.gather(flat, tf.where(has_masks, index, 0))
    boxes = tf.where(has_masks, boxes, _NO_BOX)
    raw = _fixed_part(boxes, tf.where(has_masks, person_index, 0), 16)
    return flat, tf.reshape(tf.io.decode_raw(raw, tf.float32, fixed_length=16), [-1, 4])


def parse_usable_people(serialized, kind: str, n_points: int):
    """Finds the people of a batch of records that have an annotation of a kind.

    Args:
      serialized: string `[B]`, records.
      kind: "kp3d" or "kp2d": at least one such point is valid; "param": has body parameters;
        "dense": has surface points.
      n_points: P, the joint count of the data set's skeleton.

    Returns:
      `(record_index [M] int32, person_index [M] int32)`, in the order of records, then people.
    """
    name = _FIELD_OF_KIND[kind]
    raw = tf.io.parse_example(serialized, _people_features((name,)))[f"people/{name}"]
    item = {"param": 1, "dense": 4}.get(kind, n_points)  # bytes of one person
    n_people = tf.strings.length(raw) // item
    record_index = tf.repeat(tf.range(tf.size(raw)), n_people)
    person_index = tf.ragged.range(n_people).flat_values
    mine = _fixed_part(tf.gather(raw, record_index), person_index, item)
    # Flags, validity and counts alike: any byte that is not zero.
    is_usable = tf.reduce_any(tf.io.decode_raw(mine, tf.uint8, fixed_length=item) > 0, axis=-1)
    return tf.boolean_mask(record_index, is_usable), tf.boolean_mask(person_index, is_usable)


def _people_features(names):
    """What to parse; the fields that a record may lack come out empty."""
    required = {
        f"people/{name}": tf.io.FixedLenFeature([], tf.string)
        for name in names
        if name in _ITEM_BYTES
    }
    optional = {
        f"people/{name}": tf.io.FixedLenFeature([], tf.string, default_value="")
        for name in names
        if name not in _ITEM_BYTES
    }
    return required | optional


def _surface_names():
    return tuple(f"surface_{name}" for name in _SURFACE_FIELDS)


def _person_shapes(n_points):
    return {
        "boxes": (4,),
        "points3d": (n_points, 3),
        "validity3d": (n_points,),
        "points2d": (n_points, 2),
        "validity2d": (n_points,),
        "occlusions": (),
    }


def _fixed_part(raw, index, size):
    """Cuts the bytes of person `index [B]` out of `raw [B]`, `size` bytes each."""
    return tf.strings.substr(raw, index * size, tf.fill(tf.shape(index), size))


def _split_bodies(numbers):
    """Splits `[..., 97]` into the fields of `BodyParameters`."""
    sizes = [int(np.prod(shape)) for shape in BODY_SHAPES.values()]
    parts = tf.split(numbers, sizes, axis=-1)
    return {
        name: tf.reshape(part, [-1, *shape])
        for (name, shape), part in zip(BODY_SHAPES.items(), parts, strict=True)
    }


def _surface_of_person(parsed, person_index):
    """Returns the ragged surface points of person `person_index [B]` of each record."""
    raw_counts = parsed["people/surface_counts"]
    counts = tf.RaggedTensor.from_row_lengths(
        tf.io.decode_raw(tf.strings.reduce_join(raw_counts), tf.int32),
        tf.strings.length(raw_counts) // 4,
    )
    row = tf.cast(counts.row_starts(), tf.int32) + person_index
    before = tf.cumsum(counts.flat_values, exclusive=True)
    start = tf.gather(before, row) - tf.gather(before, tf.cast(counts.row_starts(), tf.int32))
    count = tf.gather(counts.flat_values, row)
    points = {}
    for name, (width, dtype) in _SURFACE_FIELDS.items():
        size = 4 * width
        raw = tf.strings.substr(parsed[f"people/surface_{name}"], start * size, count * size)
        flat = tf.reshape(tf.io.decode_raw(tf.strings.reduce_join(raw), dtype), [-1, width])
        points[f"surface_{name}"] = tf.RaggedTensor.from_row_lengths(flat, count)
    return points


def _masks_of_images(parsed, max_people):
    """Returns masks and their boxes of the first people; see `parse_image_batch`."""
    raw = parsed["people/mask_boxes"]
    masks = parsed["people/masks"].to_tensor(shape=[None, max_people])
    # Sets of schema version 1 have masks without boxes: these are left out.
    masks = tf.where(tf.strings.length(raw)[:, tf.newaxis] > 0, masks, "")
    boxes = tf.reshape(_floats(raw, _BOX_BYTES * max_people), [-1, max_people, 4])
    return {"masks": masks, "mask_boxes": boxes}


def _is_filled(raw, n_slots):
    """Tells which of the slots `[B, n_slots]` the boxes in the bytes `raw [B]` fill."""
    return tf.range(n_slots)[tf.newaxis] < tf.strings.length(raw)[:, tf.newaxis] // _BOX_BYTES


def _floats(raw, fixed_length=None):
    return tf.io.decode_raw(raw, tf.float32, fixed_length=fixed_length)


def _decode(raw, name, fixed_length=None):
    """Turns raw bytes into numbers; validity becomes bool."""
    out_type = tf.uint8 if _ITEM_BYTES[name] == 1 else tf.float32
    values = tf.io.decode_raw(raw, out_type, fixed_length=fixed_length)
    return values > 0 if out_type == tf.uint8 else values


def _image_tensors(parsed):
    size = tf.cast(parsed["image/size"], tf.int32)
    return {
        "image_bytes": parsed["image/encoded"],
        "height": size[..., 0],
        "width": size[..., 1],
        "image_id": parsed["image/id"],
        "dataset": parsed["image/dataset"],
        "intrinsics": parsed["camera/intrinsics"],
        "distortion_coeffs": parsed["camera/distortion_coeffs"],
        "extrinsics": parsed["camera/extrinsics"],
    }
