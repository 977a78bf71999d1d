"""From records to examples: the crop camera, the labels in it and the plan of the window, batched.

Conventions: labels are in the crop camera's frame (m) and in crop pixels, points in the order of
the model's skeleton; points the data set lacks are invalid and zero.
"""

import tensorflow as tf

from metrabs_like.data import augment, cropping, records
from metrabs_like.geometry import warping
from metrabs_like.skeletons import Skeleton, index_map

LABELS = (
    "window_intrinsics",
    "distortion_coeffs",
    "crop_from_camera",
    "intrinsics",
    "coords3d_true",
    "coords2d_true",
    "point_validity",
    "box",
)
_MIN_DEPTH_M = 1e-3


class ExampleMaker:
    """Turns batches of (record, person index, example number) into labels and window plans.

    Args:
      info: description of the source.
      kind: "kp3d" or "kp2d", which annotation to use.
      config: the `PipelineConfig`.
      skeleton: the model's.
      key: names the stream of augmentation draws; None for no augmentation.
    """

    def __init__(self, info, kind, config, skeleton: Skeleton, key: int | None):
        self._n_points = info.n_points
        self._kind = kind
        self._config = config
        self._key = key
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
          Dict of tensors with leading dimension B: `LABELS`, the plan of `cropping.plan_windows`,
          `image_bytes`, `image_id`, `numbers`.
        """
        config = self._config
        parsed = records.parse_person_batch(serialized, person_index, self._n_points)
        draws = {"mirror": tf.zeros_like(person_index, tf.bool)}
        if self._key is not None:
            draws = augment.draw_geometric(self._key, numbers, config)
        camera_names = ("box", "intrinsics", "distortion_coeffs")
        crop_from_camera, crop_intrinsics = warping.crop_camera(
            *(parsed[name] for name in camera_names),
            config.proc_side,
            padding=config.box_padding,
            **draws,
        )
        example = {
            **{name: parsed[name] for name in (*camera_names, "image_bytes", "image_id")},
            "crop_from_camera": crop_from_camera,
            "crop_intrinsics": crop_intrinsics,
            "numbers": numbers,
        }
        labels = self._labels(parsed, example, draws["mirror"])
        image_size = tf.stack([parsed["height"], parsed["width"]], axis=-1)
        plan = cropping.plan_windows(example, image_size, config.proc_side, config.window_side)
        example["intrinsics"] = example.pop("crop_intrinsics")
        return {**example, **labels, **plan}

    def _labels(self, parsed, example, mirror):
        """Maps the points into the crop and into the model's joint order."""
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
            coords2d = warping.image_to_crop_points(
                points,
                example["intrinsics"],
                example["distortion_coeffs"],
                example["crop_from_camera"],
                example["crop_intrinsics"],
            )
            validity &= tf.reduce_all(coords2d > warping.UNSEEN_PX, axis=-1)
            coords3d = tf.zeros_like(tf.concat([coords2d, coords2d[..., :1]], axis=-1))
        select = validity[..., tf.newaxis]
        return {
            "coords3d_true": tf.where(select, coords3d, 0.0),
            "coords2d_true": tf.where(select, coords2d, 0.0),
            "point_validity": validity,
        }


def _projected(coords3d, intrinsics):
    """Projects `[B, P, 3]` with crop intrinsics; points behind the camera land far away."""
    depth = tf.maximum(coords3d[..., 2:], _MIN_DEPTH_M)
    focal = intrinsics[:, tf.newaxis, 0, 0, tf.newaxis]
    return coords3d[..., :2] / depth * focal + intrinsics[:, tf.newaxis, :2, 2]
