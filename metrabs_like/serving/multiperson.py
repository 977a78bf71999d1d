"""Poses of all the people in whole photographs, from a predictor of single crops.

The methods carry the published MeTRAbs names, arguments, defaults and units, so that programs
written for its SavedModels run on ours.

Conventions: boxes (left, top, width, height) px; poses3d and uncertainties in millimetres; poses2d
in px of the image as passed, lens distortion included; world frame through `extrinsic_matrix`
(world to camera, translation in mm).
"""

import math

import tensorflow as tf

from metrabs_like import units
from metrabs_like.geometry import camera
from metrabs_like.serving.augmentation import ROTATION_RANGE_DEGREES, make_views
from metrabs_like.serving.boxes import (
    CropNetwork,
    CropPredictor,
    PointPredictor,
    checked_crop_predictor,
    checked_point_predictor,
    predict_boxes,
)
from metrabs_like.serving.cameras import (
    DEFAULT_DISTORTION,
    DEFAULT_EXTRINSIC_MATRIX,
    DEFAULT_WORLD_UP,
    UNKNOWN_INTRINSIC_MATRIX,
    camera_to_world,
    resolve,
)
from metrabs_like.serving.checks import checked, checked_boxes, checked_options
from metrabs_like.serving.joints import JointTables
from metrabs_like.skeletons import Skeleton

#: The default of `data.pipeline.PipelineConfig`, on whose crops models train.
BOX_PADDING = 0.25

_IMAGE = tf.TensorSpec((None, None, None, 3), tf.uint8, "images")
_CAMERAS = (
    tf.TensorSpec((None, 3, 3), tf.float32, "intrinsic_matrix"),
    tf.TensorSpec((None, None), tf.float32, "distortion_coeffs"),
    tf.TensorSpec((None, 4, 4), tf.float32, "extrinsic_matrix"),
)
_OPTIONS = (
    tf.TensorSpec((3,), tf.float32, "world_up_vector"),
    tf.TensorSpec((), tf.float32, "default_fov_degrees"),
    tf.TensorSpec((), tf.int32, "internal_batch_size"),
    tf.TensorSpec((), tf.int32, "antialias_factor"),
    tf.TensorSpec((), tf.int32, "num_aug"),
    tf.TensorSpec((), tf.bool, "average_aug"),
    tf.TensorSpec((), tf.string, "skeleton"),
)


class PosePredictor(tf.Module):
    """Estimates the 3D poses of people in photographs, given their boxes.

    Works as it is and, saved by `serving.export.save`, through `tf.saved_model.load` alone.

    Attributes:
      joint_names, joint_edges: variables, string `[P]` and int32 `[E, 2]`.
      per_skeleton_joint_names, per_skeleton_joint_edges, per_skeleton_indices: the same for each
        part of the skeleton by its name, for the `skeleton` argument; indices among all `P`.
      predict: present if a `point_predictor` was given: images float32 `[N, S, S, 3]` 0..1,
        intrinsics `[N, 3, 3]` px and canonical points `[K, 3]` m to that predictor's outputs.
      units: output name to string variable: `mm` or `px`.
    """

    def __init__(
        self,
        crop_predictor: CropPredictor,
        side: int,
        skeleton: Skeleton,
        *,
        box_padding: float = BOX_PADDING,
        rotation_range_degrees: float = ROTATION_RANGE_DEGREES,
        point_predictor: PointPredictor | None = None,
    ):
        """Wraps a crop predictor.

        Args:
          crop_predictor: Function of images float32 `[N, S, S, 3]` 0..1 and crop intrinsics
            `[N, 3, 3]` px, to a dict with `coords3d_abs` `[N, P, 3]` m in the crop camera's frame
            and `uncert` `[N, P]` m. Traceable, inference mode.
          side: `S`, px.
          skeleton: Names of the `P` points.
          box_padding: Share of the box's longer side that is added to it, as in training.
          rotation_range_degrees: Largest rotation of the test-time augmentation.
          point_predictor: Function of crops as above, their intrinsics and canonical points
            `[K, 3]` m, to a dict with `coords3d_abs` `[N, K, 3]` m, `coords2d` `[N, K, 2]` px of
            the crop and `uncert` `[N, K]` m; becomes the method `predict`. None: there is none.

        Raises:
          ValueError: if the crop predictor's outputs have another form.
        """
        super().__init__(name="pose_predictor")
        self._rotation_range_degrees = rotation_range_degrees
        tables = JointTables(skeleton)
        self._tables = tables
        self.joint_names = tables.joint_names
        self.joint_edges = tables.joint_edges
        self.per_skeleton_joint_names = tables.per_skeleton_joint_names
        self.per_skeleton_joint_edges = tables.per_skeleton_joint_edges
        self.per_skeleton_indices = tables.per_skeleton_indices
        self.units = {
            name: tf.Variable(unit, trainable=False)
            for name, unit in {
                "boxes": "px",
                "poses3d": "mm",
                "poses2d": "px",
                "uncertainties": "mm",
            }.items()
        }
        self.predict_crops = checked_crop_predictor(crop_predictor, int(side), skeleton.n_joints)
        self._network = CropNetwork(
            self.predict_crops, int(side), box_padding, skeleton.mirror_indices
        )
        traced = [self.predict_crops]
        if point_predictor is not None:
            self.predict = checked_point_predictor(point_predictor, int(side))
            traced.append(self.predict)
        # A SavedModel stores only variables that it can find from the module's attributes.
        graphs = [function.get_concrete_function().graph for function in traced]
        self._crop_variables = [variable for graph in graphs for variable in graph.variables]

    @property
    def signatures(self):
        """The SavedModel's signatures: name -> function."""
        return {"serving_default": self.serve, "crops": self.predict_crops}

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, None, 3), tf.uint8, "image"),
            tf.TensorSpec((None, None), tf.float32, "boxes"),
            *(tf.TensorSpec(spec.shape[1:], spec.dtype, spec.name) for spec in _CAMERAS),
            *_OPTIONS,
        ],
    )
    def estimate_poses(
        self,
        image,
        boxes,
        intrinsic_matrix=UNKNOWN_INTRINSIC_MATRIX,
        distortion_coeffs=DEFAULT_DISTORTION,
        extrinsic_matrix=DEFAULT_EXTRINSIC_MATRIX,
        world_up_vector=DEFAULT_WORLD_UP,
        default_fov_degrees=55.0,
        internal_batch_size=64,
        antialias_factor=1,
        num_aug=5,
        average_aug=True,
        skeleton="",
    ):
        """Estimates the poses of the people in one photograph.

        Args:
          image: uint8 `[H, W, 3]`, RGB.
          boxes: float `[N, 4]`, (left, top, width, height) px; further columns (a score) are kept
            and not used. A box may reach beyond the image, where everything counts as black; `N`
            may be 0.
          intrinsic_matrix: float `[3, 3]`, px; all -1 = unknown.
          distortion_coeffs: float `[<=12]`, OpenCV order.
          extrinsic_matrix: float `[4, 4]`, world to camera, translation in mm.
          world_up_vector: float `[3]`, world axes; the crops are turned so that it points up.
          default_fov_degrees: field of view of the longer image side for unknown intrinsics.
          internal_batch_size: crops predicted at a time, 0 = all at once; at least one person's
            `num_aug` crops.
          antialias_factor: extra samples per crop pixel and direction. Photographs finer than the
            crop are shrunk by averaging in any case.
          num_aug: views per person that are predicted: rotated, scaled, mirrored; 1 = the plain
            crop.
          average_aug: whether to average them.
          skeleton: name of a part of the skeleton, '' for all points.

        Returns:
          Dict of `boxes` as given, `poses3d` `[N, P, 3]` mm in the world frame, `poses2d`
          `[N, P, 2]` px (NaN for a point behind the camera) and `uncertainties` `[N, P]` mm (the
          model's expected error); with `average_aug=False` an axis `num_aug` after `N`.

        Raises:
          tf.errors.InvalidArgumentError: for values out of range; the message names field and
          remedy.
        """
        result = self._estimate(
            image[tf.newaxis],
            tf.RaggedTensor.from_row_lengths(boxes, tf.shape(boxes)[:1]),
            (
                intrinsic_matrix[tf.newaxis],
                distortion_coeffs[tf.newaxis],
                extrinsic_matrix[tf.newaxis],
            ),
            world_up_vector,
            default_fov_degrees,
            (internal_batch_size, antialias_factor, num_aug),
            average_aug,
            skeleton,
        )
        return {name: ragged.flat_values for name, ragged in result.items()}

    @tf.function(
        autograph=False,
        input_signature=[
            _IMAGE,
            tf.RaggedTensorSpec((None, None, None), tf.float32, ragged_rank=1),
            *_CAMERAS,
            *_OPTIONS,
        ],
    )
    def estimate_poses_batched(
        self,
        images,
        boxes,
        intrinsic_matrix=(UNKNOWN_INTRINSIC_MATRIX,),
        distortion_coeffs=(DEFAULT_DISTORTION,),
        extrinsic_matrix=(DEFAULT_EXTRINSIC_MATRIX,),
        world_up_vector=DEFAULT_WORLD_UP,
        default_fov_degrees=55.0,
        internal_batch_size=64,
        antialias_factor=1,
        num_aug=5,
        average_aug=True,
        skeleton="",
    ):
        """Estimates the poses of the people in several photographs of one size.

        Args:
          images: uint8 `[B, H, W, 3]`, RGB.
          boxes: float `[B, (N), 4]` ragged, as for `estimate_poses`.
          intrinsic_matrix: float `[B or 1, 3, 3]`; images with all -1 take the field of view.
          distortion_coeffs: float `[B or 1, <=12]`.
          extrinsic_matrix: float `[B or 1, 4, 4]`.
          world_up_vector: as for `estimate_poses`, for all images.
          default_fov_degrees: likewise.
          internal_batch_size: likewise; crops of several images share a batch.
          antialias_factor: likewise.
          num_aug: likewise.
          average_aug: likewise.
          skeleton: likewise.

        Returns:
          The dict of `estimate_poses`, each entry ragged with one row per image.

        Raises:
          tf.errors.InvalidArgumentError: for values out of range; the message names field and
          remedy.
        """
        return self._estimate(
            images,
            boxes,
            (intrinsic_matrix, distortion_coeffs, extrinsic_matrix),
            world_up_vector,
            default_fov_degrees,
            (internal_batch_size, antialias_factor, num_aug),
            average_aug,
            skeleton,
        )

    @tf.function(
        autograph=False,
        input_signature=[
            _IMAGE,
            tf.TensorSpec((None, None, 4), tf.float32, "boxes"),
            tf.TensorSpec((None,), tf.int32, "n_boxes"),
            *_CAMERAS,
        ],
    )
    def serve(self, images, boxes, n_boxes, intrinsic_matrix, distortion_coeffs, extrinsic_matrix):
        """Answers a TF Serving request: dense, since Serving cannot return ragged tensors.

        Args:
          images: uint8 `[B, H, W, 3]`.
          boxes: float `[B, N, 4]`; rows from `n_boxes` on are ignored, whatever they hold.
          n_boxes: int32 `[B]`.
          intrinsic_matrix: float `[B or 1, 3, 3]`, px; all -1 = unknown.
          distortion_coeffs: float `[B or 1, <=12]`, OpenCV order.
          extrinsic_matrix: float `[B or 1, 4, 4]`, world to camera, translation in mm.

        Returns:
          Dict of `n_boxes` and, padded with zeros, `poses3d` `[B, N, P, 3]` mm, `poses2d`
          `[B, N, P, 2]` px and `uncertainties` `[B, N, P]` mm. Five averaged views per person.

        Raises:
          tf.errors.InvalidArgumentError: as for `estimate_poses_batched`, and for counts out of
          range.
        """
        n_slots = tf.shape(boxes)[1]
        n_boxes = checked(
            n_boxes,
            "n_boxes",
            (tf.equal(tf.shape(n_boxes)[0], tf.shape(images)[0]), "one count per image"),
            ((n_boxes >= 0) & (n_boxes <= n_slots), "between 0 and the padded number of boxes"),
        )
        is_used = tf.sequence_mask(n_boxes, n_slots)
        result = self.estimate_poses_batched(
            images,
            tf.RaggedTensor.from_row_lengths(
                tf.boolean_mask(boxes, is_used), tf.cast(n_boxes, tf.int64)
            ),
            intrinsic_matrix,
            distortion_coeffs,
            extrinsic_matrix,
        )
        slots = tf.where(is_used)
        dense = {"n_boxes": n_boxes}
        for name in ("poses3d", "poses2d", "uncertainties"):
            values = result[name].flat_values
            shape = tf.concat([tf.shape(is_used), tf.shape(values)[1:]], axis=0)
            dense[name] = tf.scatter_nd(slots, values, tf.cast(shape, tf.int64))
        return dense

    def _estimate(self, images, boxes, camera_arguments, up, fov, options, average_aug, skeleton):
        """What both public forms share; ragged in, ragged out."""
        image_size = tf.shape(images)[1:3]
        image_cameras = resolve(tf.shape(images)[0], image_size, *camera_arguments, up, fov)
        boxes = checked_boxes(boxes, tf.shape(images)[0], image_size)
        batch_size, antialias_factor, n_views = checked_options(*options)
        views = make_views(n_views, self._rotation_range_degrees)
        image_index = tf.cast(boxes.value_rowids(), tf.int32)
        box_cameras = image_cameras.gathered(image_index)
        points, uncertainties = predict_boxes(
            self._network,
            images,
            image_index,
            boxes.flat_values[:, :4],
            box_cameras,
            views,
            tf.where(batch_size > 0, tf.maximum(1, batch_size // n_views), tf.int32.max),
            antialias_factor,
        )
        points, uncertainties = tf.cond(
            average_aug,
            lambda: (tf.reduce_mean(points, axis=1), tf.reduce_mean(uncertainties, axis=1)),
            lambda: (points, uncertainties),
        )
        joints = self._tables.select(skeleton)
        points = tf.gather(points, joints, axis=-2)
        result = _in_world_and_image(points, box_cameras)
        result["uncertainties"] = units.MM_PER_M * tf.gather(uncertainties, joints, axis=-1)
        return {"boxes": boxes, **{k: boxes.with_flat_values(v) for k, v in result.items()}}


def _in_world_and_image(points, cameras):
    """Camera-frame points `[N, ..., P, 3]` m as `poses3d` mm, world, and `poses2d` px, image."""
    flat = tf.reshape(points, [tf.shape(points)[0], -1, 3])
    in_front = flat[..., 2:] > 0
    normalized = camera.project(tf.where(in_front, flat, 1.0))
    normalized = camera.distort_points(normalized, cameras.distortion_coeffs[:, tf.newaxis])
    normalized = tf.where(in_front, normalized, math.nan)
    pixels = camera.to_homogeneous(normalized) @ tf.linalg.matrix_transpose(cameras.intrinsics)
    world = camera_to_world(flat * units.MM_PER_M, cameras.extrinsics)
    shape = tf.shape(points)
    return {
        "poses3d": tf.reshape(world, shape),
        "poses2d": tf.reshape(pixels[..., :2], tf.concat([shape[:-1], [2]], axis=0)),
    }
