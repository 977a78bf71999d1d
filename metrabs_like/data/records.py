"""The record of one image with its people, stored as a `tf.train.Example`.

Conventions: metres, pixels (pixel (0,0) = centre of the top-left pixel), camera frame x right,
y down, z forward. Arrays of people are raw little-endian bytes, so that a whole batch of records
parses, and picks one person out of each, without a loop.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from metrabs_like.data.dataset_info import DatasetInfo

__all__ = [
    "DatasetInfo",
    "Person",
    "Record",
    "SkippedImage",
    "encode_record",
    "parse_person_batch",
    "parse_record",
    "parse_usable_people",
]

N_DISTORTION_COEFFS = 12
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
_PEOPLE_FEATURES = {
    "people/boxes": tf.io.FixedLenFeature([], tf.string),
    "people/points3d": tf.io.FixedLenFeature([], tf.string),
    "people/validity3d": tf.io.FixedLenFeature([], tf.string),
    "people/points2d": tf.io.FixedLenFeature([], tf.string),
    "people/validity2d": tf.io.FixedLenFeature([], tf.string),
    "people/occlusions": tf.io.FixedLenFeature([], tf.string),
}


@dataclasses.dataclass
class Person:
    """One annotated person of an image, in the joints of the data set's skeleton.

    Attributes:
      box: float32 `[4]`, px, (x, y, width, height) in the image.
      points3d: float32 `[P, 3]`, m, camera frame of the image.
      validity3d: bool `[P]`; an invalid point's coordinates are stored as zeros.
      points2d: float32 `[P, 2]`, px, in the (distorted) image.
      validity2d: bool `[P]`.
      mask: PNG bytes of a uint8 0/255 mask of the whole image, or None.
      occlusion: share 0..1 of the person that something else hides.
    """

    box: np.ndarray
    points3d: np.ndarray
    validity3d: np.ndarray
    points2d: np.ndarray
    validity2d: np.ndarray
    mask: bytes | None = None
    occlusion: float = 0.0


@dataclasses.dataclass
class Record:
    """One image with N >= 0 people.

    Attributes:
      image_bytes: the encoded JPEG or PNG.
      height: px.
      width: px.
      image_id: unique within the data set.
      dataset: name of the data set.
      intrinsics: float32 `[3, 3]`, px.
      distortion_coeffs: float32 `[12]`, OpenCV order, padded with zeros.
      extrinsics: float32 `[4, 4]`, world to camera, m.
      people: the annotated people.
    """

    image_bytes: bytes
    height: int
    width: int
    image_id: str
    dataset: str
    intrinsics: np.ndarray
    distortion_coeffs: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(N_DISTORTION_COEFFS, np.float32)
    )
    extrinsics: np.ndarray = dataclasses.field(default_factory=lambda: np.eye(4, dtype=np.float32))
    people: list[Person] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class SkippedImage:
    """Stands in a reader's stream for an image that cannot be used; it is counted and named.

    Attributes:
      name: path of the image, relative to the source folder.
      reason: what is wrong with it, and what to do.
    """

    name: str
    reason: str


def encode_record(record: Record) -> bytes:
    """Serializes a record as a `tf.train.Example`.

    Args:
      record: what to store; the coordinates of invalid points become zeros.

    Returns:
      The serialized bytes.

    Raises:
      ValueError: naming image, field and value, if a shape is wrong, a valid number is not finite,
        the focal length is not positive, or a box has no area.
    """
    intrinsics = _checked(record, "intrinsics", record.intrinsics, (3, 3))
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise ValueError(
            f"{record.image_id}: the focal lengths intrinsics[0,0]={intrinsics[0, 0]} and "
            f"intrinsics[1,1]={intrinsics[1, 1]} must be positive (px)."
        )
    distortion = _checked(record, "distortion_coeffs", record.distortion_coeffs, (12,))
    extrinsics = _checked(record, "extrinsics", record.extrinsics, (4, 4))
    feature = {
        "image/encoded": _bytes_feature(record.image_bytes),
        "image/size": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[record.height, record.width])
        ),
        "image/id": _bytes_feature(record.image_id.encode()),
        "image/dataset": _bytes_feature(record.dataset.encode()),
        "camera/intrinsics": _float_feature(intrinsics),
        "camera/distortion_coeffs": _float_feature(distortion),
        "camera/extrinsics": _float_feature(extrinsics),
        **_people_features(record),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Deterministic: equal records give equal bytes, so that a shard's SHA-256 can be compared.
    return example.SerializeToString(deterministic=True)


def parse_record(serialized, n_points: int) -> dict:
    """Parses one record with all its people.

    Args:
      serialized: scalar string tensor.
      n_points: P, the joint count of the data set's skeleton.

    Returns:
      Dict of tensors: `image_bytes` string, `height`, `width` int32, `image_id`, `dataset` string,
      `intrinsics [3,3]`, `distortion_coeffs [12]`, `extrinsics [4,4]`, `boxes [N,4]` px,
      `points3d [N,P,3]` m, `validity3d [N,P]` bool, `points2d [N,P,2]` px, `validity2d [N,P]` bool,
      `occlusions [N]`, `masks [N]` (PNG bytes, empty where there is none).
    """
    mask_feature = {"people/masks": tf.io.VarLenFeature(tf.string)}
    parsed = tf.io.parse_single_example(
        serialized, {**_IMAGE_FEATURES, **_CAMERA_FEATURES, **_PEOPLE_FEATURES, **mask_feature}
    )
    shapes = _person_shapes(n_points)
    people = {
        name: tf.reshape(_decode(parsed[f"people/{name}"], name), (-1, *shape))
        for name, shape in shapes.items()
    }
    masks = tf.sparse.to_dense(parsed["people/masks"])
    return {**_image_tensors(parsed), **people, "masks": masks}


def parse_person_batch(serialized, person_index, n_points: int) -> dict:
    """Parses a batch of records and picks one person out of each, without a loop.

    Args:
      serialized: string `[B]`, records.
      person_index: int32 `[B]`, which person of the record.
      n_points: P, the joint count of the data set's skeleton.

    Returns:
      Dict of tensors as of `parse_record`, with leading dimension B, no N and no masks, and `boxes`
      and `occlusions` as `box [B,4]` and `occlusion [B]`.
    """
    parsed = tf.io.parse_example(
        serialized, {**_IMAGE_FEATURES, **_CAMERA_FEATURES, **_PEOPLE_FEATURES}
    )
    people = {}
    for name, shape in _person_shapes(n_points).items():
        size = int(np.prod(shape)) * _ITEM_BYTES[name]
        raw = tf.strings.substr(
            parsed[f"people/{name}"], person_index * size, tf.fill(tf.shape(person_index), size)
        )
        people[name] = tf.reshape(_decode(raw, name, size), (-1, *shape))
    people["box"] = people.pop("boxes")
    people["occlusion"] = people.pop("occlusions")
    return {**_image_tensors(parsed), **people}


def parse_usable_people(serialized, kind: str, n_points: int):
    """Finds the people of a batch of records that have at least one valid point of a kind.

    Args:
      serialized: string `[B]`, records.
      kind: "kp3d" or "kp2d", which validity counts.
      n_points: P, the joint count of the data set's skeleton.

    Returns:
      `(record_index [M] int32, person_index [M] int32)`, in the order of records, then people.
    """
    name = {"kp3d": "validity3d", "kp2d": "validity2d"}[kind]
    parsed = tf.io.parse_example(serialized, {f"people/{name}": _PEOPLE_FEATURES[f"people/{name}"]})
    raw = parsed[f"people/{name}"]
    n_people = tf.strings.length(raw) // n_points
    record_index = tf.repeat(tf.range(tf.size(raw)), n_people)
    person_index = tf.ragged.range(n_people).flat_values
    size = tf.fill(tf.shape(person_index), n_points)
    mine = tf.strings.substr(tf.gather(raw, record_index), person_index * n_points, size)
    is_usable = tf.reduce_any(_decode(mine, name, n_points), axis=-1)
    return tf.boolean_mask(record_index, is_usable), tf.boolean_mask(person_index, is_usable)


_ITEM_BYTES = {
    "boxes": 4,
    "points3d": 4,
    "validity3d": 1,
    "points2d": 4,
    "validity2d": 1,
    "occlusions": 4,
}


def _person_shapes(n_points):
    return {
        "boxes": (4,),
        "points3d": (n_points, 3),
        "validity3d": (n_points,),
        "points2d": (n_points, 2),
        "validity2d": (n_points,),
        "occlusions": (),
    }


def _decode(raw, name, fixed_length=None):
    """Turns raw bytes into numbers; validity becomes bool."""
    out_type = tf.uint8 if _ITEM_BYTES[name] == 1 else tf.float32
    if fixed_length is None:
        values = tf.io.decode_raw(raw, out_type)
    else:
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


def _people_features(record):
    """Checks the people of a record and packs them field by field."""
    n_points = len(record.people[0].points3d) if record.people else 0
    rows = {name: [] for name in _ITEM_BYTES}
    for i, person in enumerate(record.people):
        where = f"people[{i}]"
        box = _checked(record, f"{where}.box", person.box, (4,))
        if box[2] <= 0 or box[3] <= 0:
            raise ValueError(
                f"{record.image_id}: {where}.box = {box.tolist()} has no area; "
                "a box is (x, y, width, height) in px."
            )
        rows["boxes"].append(box)
        for n_dims in (3, 2):
            points, validity = _checked_points(record, i, n_points, n_dims)
            rows[f"points{n_dims}d"].append(points)
            rows[f"validity{n_dims}d"].append(validity)
        rows["occlusions"].append(np.float32(person.occlusion))
    features = {
        f"people/{name}": _bytes_feature(b"".join(r.tobytes() for r in row))
        for name, row in rows.items()
    }
    masks = [person.mask or b"" for person in record.people]
    features["people/masks"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=masks))
    return features


def _checked_points(record, i, n_points, n_dims):
    """Returns one person's points, zero where invalid, and their validity as uint8."""
    person = record.people[i]
    validity = np.asarray(getattr(person, f"validity{n_dims}d"), bool)
    points = np.asarray(getattr(person, f"points{n_dims}d"), "<f4")
    field = f"people[{i}].points{n_dims}d"
    if points.shape != (n_points, n_dims) or validity.shape != (n_points,):
        raise ValueError(
            f"{record.image_id}: {field} has shape {points.shape} with validity {validity.shape}; "
            f"expected {(n_points, n_dims)} and {(n_points,)}, the same joints for every person."
        )
    points = np.where(validity[:, np.newaxis], points, np.float32(0))
    if not np.all(np.isfinite(points)):
        raise ValueError(
            f"{record.image_id}: {field} is not finite at joint "
            f"{int(np.argmin(np.all(np.isfinite(points), axis=1)))}, which is marked valid; "
            "mark it invalid or mend it."
        )
    return points, validity.astype(np.uint8)


def _checked(record, field, value, shape):
    array = np.asarray(value, "<f4")
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise ValueError(
            f"{record.image_id}: {field} = {np.asarray(value).tolist()} must be finite "
            f"and of shape {shape}, its shape is {array.shape}."
        )
    return array


def _bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _float_feature(array):
    return tf.train.Feature(float_list=tf.train.FloatList(value=array.ravel()))
