"""From boxes to points in camera space: views rendered, predicted and turned back in chunks.

Conventions: camera frame x right, y down, z forward, metres; `A` is the number of views of one
person.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from metrabs_like.geometry import rotation, warping
from metrabs_like.serving.augmentation import Views
from metrabs_like.serving.cameras import Cameras
from metrabs_like.serving.crops import render_crops

CropPredictor = Callable[[tf.Tensor, tf.Tensor], Mapping[str, tf.Tensor]]
PointPredictor = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], Mapping[str, tf.Tensor]]

_MIN_SINE_TO_UP = 0.05


@dataclass(frozen=True)
class CropNetwork:
    """A crop predictor and how it wants its crops.

    Attributes:
      predict: images float32 `[N, S, S, 3]` 0..1 and intrinsics `[N, 3, 3]` px to `coords3d_abs`
        `[N, P, 3]` m and `uncert` `[N, P]` m.
      side: `S`, px.
      box_padding: share of the box's longer side that is added to it.
      mirror_indices: permutation of the `P` points that swaps left and right.
    """

    predict: CropPredictor
    side: int
    box_padding: float
    mirror_indices: tuple[int, ...]


def crop_predictor(network: Callable, decode: Callable) -> CropPredictor:
    """Joins a network and its decoder.

    Args:
      network: Keras model, dict of `image` `[N, S, S, 3]` 0..1 and `intrinsics` `[N, 3, 3]` px to a
        dict of outputs.
      decode: function of outputs and inputs to `coords3d_abs` `[N, P, 3]` and `uncert` `[N, P]`, m.

    Returns:
      What `PosePredictor` takes; the network runs in inference mode.

    Gradient: flows.
    """

    def predict(images, intrinsics):
        inputs = {"image": images, "intrinsics": intrinsics}
        return decode(network(inputs, training=False), inputs)

    return predict


def checked_crop_predictor(predictor: CropPredictor, side: int, n_points: int) -> tf.function:
    """Gives a crop predictor a fixed signature and checks what it returns.

    Args:
      predictor: see `CropNetwork.predict`; further outputs are dropped. Control flow on tensors
        must be TensorFlow's (`tf.cond`): nothing is rewritten.
      side: `S`, px.
      n_points: `P`.

    Returns:
      The traced function of the same form.

    Raises:
      ValueError: if an output is missing or has another shape.
    """
    wanted = {"coords3d_abs": (None, n_points, 3), "uncert": (None, n_points)}

    def predict_crops(images, intrinsics):
        outputs = predictor(images, intrinsics)
        for key, shape in wanted.items():
            if key not in outputs or not outputs[key].shape.is_compatible_with(shape):
                found = outputs[key].shape if key in outputs else "missing"
                raise ValueError(
                    f"crop_predictor output {key!r} is {found}, wanted {shape}: it must return "
                    f"points for the {n_points} joints of the skeleton"
                )
        return {
            key: tf.ensure_shape(tf.cast(outputs[key], tf.float32), shape)
            for key, shape in wanted.items()
        }

    specs = (
        tf.TensorSpec((None, side, side, 3), tf.float32, "images"),
        tf.TensorSpec((None, 3, 3), tf.float32, "intrinsics"),
    )
    traced = tf.function(predict_crops, input_signature=specs, autograph=False)
    traced.get_concrete_function()
    return traced


def checked_point_predictor(predictor: PointPredictor, side: int) -> tf.function:
    """Gives a predictor of canonical points a fixed signature.

    Args:
      predictor: images `[N, S, S, 3]` 0..1, intrinsics `[N, 3, 3]` px and canonical points `[K, 3]`
        m to `coords3d_abs` `[N, K, 3]` m, `coords2d` `[N, K, 2]` crop px and `uncert` `[N, K]` m.
      side: `S`, px.

    Returns:
      The traced function of the same form.

    Raises:
      ValueError: if an output has another shape.
    """
    shapes = {"coords3d_abs": (None, None, 3), "coords2d": (None, None, 2), "uncert": (None, None)}

    def predict(image, intrinsics, canonical_points):
        outputs = predictor(image, intrinsics, canonical_points)
        return {key: tf.ensure_shape(outputs[key], shape) for key, shape in shapes.items()}

    specs = (
        tf.TensorSpec((None, side, side, 3), tf.float32, "image"),
        tf.TensorSpec((None, 3, 3), tf.float32, "intrinsics"),
        tf.TensorSpec((None, 3), tf.float32, "canonical_points"),
    )
    return tf.function(predict, input_signature=specs, autograph=False)


def predict_boxes(
    network: CropNetwork,
    images: tf.Tensor,
    image_index: tf.Tensor,
    boxes: tf.Tensor,
    cameras: Cameras,
    views: Views,
    boxes_at_a_time: tf.Tensor,
    antialias_factor: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Predicts every view of every box, in chunks, so that memory does not grow with the crowd.

    Args:
      network: the crop predictor.
      images: uint8 `[B, H, W, 3]`.
      image_index: int32 `[N]`, the image of each box.
      boxes: float `[N, 4]`, (left, top, width, height) px; `N` may be 0.
      cameras: one per box.
      views: the `A` views of each box.
      boxes_at_a_time: int scalar >= 1.
      antialias_factor: int scalar >= 1, see `render_crops`.

    Returns:
      Points float `[N, A, P, 3]`, m, camera frame, and uncertainties `[N, A, P]`, m.

    Gradient: none to the images.
    """
    n_boxes, n_points = tf.shape(boxes)[0], len(network.mirror_indices)
    crop_cameras = _crop_cameras(boxes, cameras, views, network.side, network.box_padding)
    parts = tf.TensorArray(
        tf.float32, 0, dynamic_size=True, element_shape=(None, n_points, 4), infer_shape=False
    )

    def predict_next(start, parts):
        stop = start + tf.minimum(boxes_at_a_time, n_boxes - start)
        per_box = (image_index, cameras.intrinsics, cameras.distortion_coeffs, *crop_cameras)
        chunk = tuple(values[start:stop] for values in per_box)
        predicted = _predict_chunk(network, images, chunk, views.mirror, antialias_factor)
        return stop, parts.write(parts.size(), predicted)

    _, parts = tf.while_loop(
        lambda start, _: start < n_boxes, predict_next, (0, parts), parallel_iterations=1
    )
    predicted = tf.reshape(parts.concat(), [n_boxes, tf.shape(views.roll)[0], n_points, 4])
    return predicted[..., :3], predicted[..., 3]


def _predict_chunk(network, images, chunk, mirror, antialias_factor):
    """Camera-frame points and uncertainty, m, for the views of a few boxes: `[N * A, P, 4]`."""
    *_, turns, crop_intrinsics = chunk
    side, n_views = network.side, tf.shape(mirror)[0]

    def render(box):
        index, intrinsics, coeffs, turn, crop_k = box
        intrinsics = tf.repeat(intrinsics[tf.newaxis], n_views, axis=0)
        coeffs = tf.repeat(coeffs[tf.newaxis], n_views, axis=0)
        return render_crops(images, index, intrinsics, coeffs, turn, crop_k, side, antialias_factor)

    crops = tf.map_fn(
        render,
        chunk,
        fn_output_signature=tf.TensorSpec((None, side, side, 3), tf.float32),
        parallel_iterations=2,
    )
    predicted = network.predict(
        tf.reshape(crops, [-1, side, side, 3]), tf.reshape(crop_intrinsics, [-1, 3, 3])
    )
    # The transpose undoes an orthogonal turn, mirrored or not; a mirrored person's left is right.
    points = predicted["coords3d_abs"] @ tf.reshape(turns, [-1, 3, 3])
    points = tf.concat([points, predicted["uncert"][..., tf.newaxis]], axis=-1)
    is_mirrored = tf.tile(mirror, [tf.shape(turns)[0]])[:, tf.newaxis, tf.newaxis]
    return tf.where(is_mirrored, tf.gather(points, network.mirror_indices, axis=1), points)


def _crop_cameras(boxes, cameras, views, side, padding):
    """Rotation and intrinsics of every view's virtual camera: `[N, A, 3, 3]` each."""
    looking, intrinsics = warping.crop_camera(
        boxes, cameras.intrinsics, cameras.distortion_coeffs, side, padding=padding
    )
    up = tf.linalg.matvec(looking, cameras.up)
    # Looking along the up direction, no roll is right, and the camera's own is kept.
    is_seen = tf.norm(up[:, :2], axis=-1) > _MIN_SINE_TO_UP
    upright = tf.where(is_seen, -tf.atan2(up[:, 0], -up[:, 1]), 0.0)
    in_plane = rotation.rotation_mat(upright[:, tf.newaxis] + views.roll, "z")
    # A mirrored crop's x axis points the other way.
    flip = tf.stack([tf.where(views.mirror, -1.0, 1.0), *[tf.ones_like(views.scale)] * 2], axis=-1)
    zoom = tf.stack([views.scale, views.scale, tf.ones_like(views.scale)], axis=-1)
    turns = flip[..., tf.newaxis] * in_plane @ looking[:, tf.newaxis]
    # The zoom scales focal lengths and skew and leaves the principal point in the middle.
    middle = intrinsics[:, tf.newaxis] * [[0.0, 0, 1], [0, 0, 1], [0, 0, 1]]
    return turns, (intrinsics[:, tf.newaxis] - middle) * zoom[:, :, tf.newaxis] + middle
