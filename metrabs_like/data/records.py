"""The record of one image with its people, stored as a `tf.train.Example`.

Conventions: metres, radians, pixels (pixel (0,0) = centre of the top-left pixel), camera frame x
right, y down, z forward. Arrays of people are raw little-endian bytes, so that a whole batch of
records parses, and picks one person out of each, without a loop. What only some data sets have
(masks, body parameters, surface points, areas, crowd regions) is absent where the image has none.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.data.dataset_info import DatasetInfo
from metrabs_like.data.masks import MAX_SIDE, png_size
from metrabs_like.data.people import BodyParameters, Person, Record, SkippedImage, SurfacePoints
from metrabs_like.data.record_parsing import (
    BODY_SHAPES,
    count_in_images,
    parse_crowd_batch,
    parse_image_batch,
    parse_mask_batch,
    parse_person_batch,
    parse_record,
    parse_usable_people,
)

__all__ = [
    "BodyParameters",
    "DatasetInfo",
    "Person",
    "Record",
    "SkippedImage",
    "SurfacePoints",
    "count_in_images",
    "encode_record",
    "parse_crowd_batch",
    "parse_image_batch",
    "parse_mask_batch",
    "parse_person_batch",
    "parse_record",
    "parse_usable_people",
]

_MAX_WEIGHT_ERROR = 1e-3  # of the sum of a surface point's weights
_PEOPLE_FIELDS = ("boxes", "points3d", "validity3d", "points2d", "validity2d", "occlusions")


def encode_record(record: Record) -> bytes:
    """Serializes a record as a `tf.train.Example`.

    Args:
      record: what to store; the coordinates of invalid points become zeros.

    Returns:
      The serialized bytes.

    Raises:
      ValueError: naming image, field and value, if a shape is wrong, a valid number is not finite,
        the focal length is not positive, or a box or an outline has no area.
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
    if len(record.crowd_boxes):
        feature["image/crowd_boxes"] = _bytes_feature(_crowd_boxes(record).tobytes())
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    # Deterministic: equal records give equal bytes, so that a shard's SHA-256 can be compared.
    return example.SerializeToString(deterministic=True)


def _people_features(record):
    """Checks the people of a record and packs them field by field."""
    n_points = len(record.people[0].points3d) if record.people else 0
    rows = {name: [] for name in _PEOPLE_FIELDS}
    for i, person in enumerate(record.people):
        where = f"people[{i}]"
        rows["boxes"].append(_checked_box(record, f"{where}.box", person.box))
        for n_dims in (3, 2):
            points, validity = _checked_points(record, i, n_points, n_dims)
            rows[f"points{n_dims}d"].append(points)
            rows[f"validity{n_dims}d"].append(validity)
        rows["occlusions"].append(np.float32(person.occlusion))
    features = {
        f"people/{name}": _bytes_feature(b"".join(r.tobytes() for r in row))
        for name, row in rows.items()
    }
    if any(person.mask is not None for person in record.people):
        features |= _mask_features(record)
    if any(person.body is not None for person in record.people):
        features |= _body_features(record)
    if any(person.surface is not None for person in record.people):
        features |= _surface_features(record)
    if any(person.area is not None for person in record.people):
        features["people/areas"] = _bytes_feature(_areas(record).tobytes())
    return features


def _areas(record):
    """The outlines' areas, 0 for people without one."""
    areas = np.array([0 if p.area is None else p.area for p in record.people], "<f4")
    for i, (person, area) in enumerate(zip(record.people, areas, strict=True)):
        if person.area is not None and not (np.isfinite(area) and area > 0):
            raise ValueError(
                f"{record.image_id}: people[{i}].area = {person.area} must be finite and "
                "positive (px^2); leave it None where it is unknown."
            )
    return areas


def _crowd_boxes(record):
    return np.stack(
        [_checked_box(record, f"crowd_boxes[{i}]", box) for i, box in enumerate(record.crowd_boxes)]
    )


def _mask_features(record):
    """Packs the masks, and the part of the image that each covers."""
    whole = np.array([-0.5, -0.5, record.width, record.height], "<f4")
    boxes = []
    for i, person in enumerate(record.people):
        sides = png_size(person.mask or b"")
        if max(sides) > MAX_SIDE:
            raise ValueError(
                f"{record.image_id}: people[{i}].mask has {sides[0]} x {sides[1]} px, more than "
                f"{MAX_SIDE}; encode it with masks.encode_mask."
            )
        box = whole if person.mask_box is None else person.mask_box
        boxes.append(_checked(record, f"people[{i}].mask_box", box, (4,)))
    masks = [person.mask or b"" for person in record.people]
    return {
        "people/masks": tf.train.Feature(bytes_list=tf.train.BytesList(value=masks)),
        "people/mask_boxes": _bytes_feature(b"".join(box.tobytes() for box in boxes)),
    }


def _body_features(record):
    """Packs the body parameters; zeros stand for people without them."""
    rows = []
    for i, person in enumerate(record.people):
        for name, shape in BODY_SHAPES.items():
            value = np.zeros(shape) if person.body is None else getattr(person.body, name)
            rows.append(_checked(record, f"people[{i}].body.{name}", value, shape))
    has_body = np.array([person.body is not None for person in record.people], np.uint8)
    return {
        "people/has_body": _bytes_feature(has_body.tobytes()),
        "people/bodies": _bytes_feature(b"".join(row.tobytes() for row in rows)),
    }


def _surface_features(record):
    """Packs the surface points of all people one after the other, and how many each has."""
    counts, ids, weights, points = [], [], [], []
    for i, person in enumerate(record.people):
        counts.append(0 if person.surface is None else len(person.surface.points2d))
        if not counts[-1]:
            continue
        field = f"people[{i}].surface"
        surface, n = person.surface, counts[-1]
        ids.append(_checked(record, f"{field}.vertex_ids", surface.vertex_ids, (n, 3), "<i4"))
        weights.append(_checked(record, f"{field}.weights", surface.weights, (n, 3)))
        points.append(_checked(record, f"{field}.points2d", surface.points2d, (n, 2)))
        error = np.abs(weights[-1].sum(axis=1) - 1).max()
        if error > _MAX_WEIGHT_ERROR or weights[-1].min() < 0 or ids[-1].min() < 0:
            raise ValueError(
                f"{record.image_id}: {field} has negative entries or weights whose sum is off by "
                f"{error:.3g}; barycentric weights add up to 1."
            )
    packed = {"ids": ids, "weights": weights, "points2d": points}
    return {
        "people/surface_counts": _bytes_feature(np.array(counts, "<i4").tobytes()),
        **{
            f"people/surface_{name}": _bytes_feature(b"".join(row.tobytes() for row in rows))
            for name, rows in packed.items()
        },
    }


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


def _checked_box(record, field, value):
    box = _checked(record, field, value, (4,))
    if box[2] <= 0 or box[3] <= 0:
        raise ValueError(
            f"{record.image_id}: {field} = {box.tolist()} has no area; "
            "a box is (x, y, width, height) in px."
        )
    return box


def _checked(record, field, value, shape, dtype="<f4"):
    array = np.asarray(value, dtype)
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
