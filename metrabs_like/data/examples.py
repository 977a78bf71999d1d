"""From records to examples: the crop camera, the labels in it and the plan of the window, batched.

Conventions: labels are in the crop camera's frame (m) and in crop pixels, points in the order of
the model's skeleton; points the data set lacks are invalid and zero. Body parameters stay in their
own frame, with the way from there into the crop camera's.
"""

import tensorflow as tf

from metrabs_like.data import augment, cropping, records
from metrabs_like.geometry import warping
from metrabs_like.skeletons import Skeleton, index_map

CAMERA_LABELS = (
    "window_intrinsics",
    "distortion_coeffs",
    "crop_from_camera",
    "intrinsics",
    "box",
)
"""What the examples of every kind have."""
_JOINT_LABELS = ("coords3d_true", "coords2d_true", "point_validity")
LABELS_OF_KIND = {
    "param": ("pose_rotvecs", "shape_betas", "translation", "crop_from_body"),
    "kp3d": _JOINT_LABELS,
    "dense": ("surface_ids", "surface_weights", "coords2d_true", "point_validity"),
    "kp2d": _JOINT_LABELS,
}
"""What the examples of a kind have besides."""
_MIN_DEPTH_M = 1e-3
_SURFACE_DRAW = 5  # the geometric augmentation leaves this one of an example's uniform numbers


class ExampleMaker:
    """Turns batches of (record, person index, example number) into labels and window plans.

    Args:
      info: description of the source.
      kind: one of `dataset_info.KINDS`: which annotation to use.
      config: the `PipelineConfig`.
      skeleton: the model's.
      key: names the stream of augmentation draws; None for no augmentation.
      probabilities: change -> probability, of the source.
    """

    def __init__(self, info, kind, config, skeleton: Skeleton, key: int | None, probabilities=None):
        self._n_points = info.n_points
        self._kind = kind
        self._config = config
        self._key = key
        self._probabilities = probabilities or {}
        source = Skeleton.from_dict(info.skeleton)
        self._joints = index_map(source, skeleton)
        self._mirrored_joints = [self._joints[i] for i in skeleton.mirror_indices]

    def __call__(self, serialized, person_index, numbers) -> dict:
        """Makes labels and window plans of a batch.

        Args:
          serialized: string `[B]`, records.
          person_index: int32 `[B]`.
          numbers: int64 `[B]`, running numbers, consecutive.

        Returns:
          Dict of tensors with leading dimension B: `CAMERA_LABELS` and the kind's `LABELS_OF_KIND`,
          the plan of `cropping.plan_windows`, `image_bytes`, `image_id`, `numbers`.
        """
        config = self._config
        parsed = records.parse_person_batch(serialized, person_index, self._n_points, self._kind)
        box, draws = self._placement(parsed["box"], numbers)
        crop_from_camera, crop_intrinsics = warping.crop_camera(
            box,
            parsed["intrinsics"],
            parsed["distortion_coeffs"],
            config.proc_side,
            padding=config.box_padding,
            **draws,
        )
        copied = ("box", "intrinsics", "distortion_coeffs", "image_bytes", "image_id")
        example = {
            **{name: parsed[name] for name in copied},
            "crop_from_camera": crop_from_camera,
            "crop_intrinsics": crop_intrinsics,
            "numbers": numbers,
        }
        labels = self._labels(parsed, example, draws["mirror"], numbers)
        image_size = tf.stack([parsed["height"], parsed["width"]], axis=-1)
        plan = cropping.plan_windows(
            example,
            image_size,
            config.proc_side,
            config.window_side,
            scaled_decoding=not config.linear_light,
        )
        example["camera_intrinsics"] = example["intrinsics"]
        example["intrinsics"] = example.pop("crop_intrinsics")
        return {**example, **labels, **plan}

    def _placement(self, box, numbers):
        """Draws what the crop looks at: the box, and the arguments of `crop_camera`."""
        if self._key is None:
            return box, {"mirror": tf.zeros_like(numbers, tf.bool)}
        draws = augment.draw_geometric(self._key, numbers, self._config)
        partial, full = (self._probabilities.get(n, 0.0) for n in ("partial", "full_rotation"))
        if partial or full:
            placed = augment.draw_placement(
                self._key, numbers, partial_probability=partial, full_rotation_probability=full
            )
            part = augment.partial_box(box, placed["part"])
            box = tf.where(placed["is_partial"][:, tf.newaxis], part, box)
            draws["roll"] += placed["full_roll"]
        return box, draws

    def _labels(self, parsed, example, mirror, numbers):
        """Returns the kind's `LABELS_OF_KIND`."""
        if self._kind == "param":
            return _body_labels(parsed, example)
        if self._kind == "dense":
            return self._surface_labels(parsed, example, numbers)
        return self._joint_labels(parsed, example, mirror)

    def _joint_labels(self, parsed, example, mirror):
        """Maps the joints into the crop and into the model's order."""
        names = {"kp3d": ("points3d", "validity3d"), "kp2d": ("points2d", "validity2d")}
        points, validity = (parsed[name] for name in names[self._kind])
        joints = tf.where(mirror[:, tf.newaxis], self._mirrored_joints, self._joints)
        available = tf.maximum(joints, 0)
        validity = tf.gather(validity, available, batch_dims=1) & (joints >= 0)
        points = tf.gather(points, available, batch_dims=1)
        if self._kind == "kp3d":
            coords3d = tf.einsum("bpc,bdc->bpd", points, example["crop_from_camera"])
            coords2d = _projected(coords3d, example["crop_intrinsics"])
        else:
            coords2d, is_seen = _in_crop(points, example)
            validity &= is_seen
            coords3d = tf.zeros_like(tf.concat([coords2d, coords2d[..., :1]], axis=-1))
        select = validity[..., tf.newaxis]
        return {
            "coords3d_true": tf.where(select, coords3d, 0.0),
            "coords2d_true": tf.where(select, coords2d, 0.0),
            "point_validity": validity,
        }

    def _surface_labels(self, parsed, example, numbers):
        """Chooses some of the marked surface points and maps them into the crop."""
        offset = tf.fill(tf.shape(numbers), 0.5)
        if self._key is not None:
            offset = augment.uniform_per_example(self._key, numbers)[:, _SURFACE_DRAW]
        ragged = [parsed[f"surface_{name}"] for name in ("ids", "weights", "points2d")]
        index, validity = _chosen(ragged[0], self._config.n_surface_points, offset)
        ids, weights, points = (tf.gather(r.flat_values, index) for r in ragged)
        coords2d, is_seen = _in_crop(points, example)
        validity &= is_seen
        select = validity[..., tf.newaxis]
        return {
            "surface_ids": tf.where(select, ids, 0),
            "surface_weights": tf.where(select, weights, 0.0),
            "coords2d_true": tf.where(select, coords2d, 0.0),
            "point_validity": validity,
        }


def _body_labels(parsed, example):
    """Returns the body parameters and the way from their frame into the crop camera's."""
    turned = tf.einsum("bij,bjk->bik", example["crop_from_camera"], parsed["camera_from_body"])
    names = ("pose_rotvecs", "shape_betas", "translation")
    return {**{name: parsed[name] for name in names}, "crop_from_body": turned}


def _chosen(ragged, n_chosen, offset):
    """Picks `[B, K]` places in the flat values: all of a short row, of a long one evenly spaced."""
    count = tf.cast(ragged.row_lengths(), tf.int32)[:, tf.newaxis]
    place = tf.range(n_chosen)[tf.newaxis]
    spread = (tf.cast(place, tf.float32) + offset[:, tf.newaxis]) / n_chosen
    spread = tf.cast(spread * tf.cast(count, tf.float32), tf.int32)
    chosen = tf.where(count > n_chosen, tf.minimum(spread, count - 1), place)
    validity = place < count
    start = tf.cast(ragged.row_starts(), tf.int32)[:, tf.newaxis]
    return tf.where(validity, start + chosen, 0), validity


def _in_crop(points, example):
    """Maps image pixels into the crop, and tells which of them it can see at all."""
    coords2d = warping.image_to_crop_points(
        points,
        example["intrinsics"],
        example["distortion_coeffs"],
        example["crop_from_camera"],
        example["crop_intrinsics"],
    )
    return coords2d, tf.reduce_all(coords2d > warping.UNSEEN_PX, axis=-1)


def _projected(coords3d, intrinsics):
    """Projects `[B, P, 3]` with crop intrinsics; points behind the camera land far away."""
    depth = tf.maximum(coords3d[..., 2:], _MIN_DEPTH_M)
    focal = intrinsics[:, tf.newaxis, 0, 0, tf.newaxis]
    return coords3d[..., :2] / depth * focal + intrinsics[:, tf.newaxis, :2, 2]
