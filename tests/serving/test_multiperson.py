import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import serving
from metrabs_like.data.pipeline import PipelineConfig
from metrabs_like.serving import multiperson
from metrabs_like.skeletons import Skeleton

# Centroids of bilinearly resampled 5 px discs; the rest of the way is float32.
DISC_TOLERANCE_PX = 0.15


def rays(centers, intrinsics):
    """Unit vectors through undistorted pixels."""
    homogeneous = np.concatenate([centers, np.ones_like(centers[:, :1])], axis=-1)
    directions = homogeneous @ np.linalg.inv(intrinsics).T
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


@pytest.mark.parametrize("num_aug", [1, 2, 5])
@pytest.mark.parametrize("antialias_factor", [1, 2])
def test_points_come_back_where_they_are(predictor, scene, num_aug, antialias_factor):
    image, centers, box, intrinsics = scene
    result = predictor.estimate_poses(
        image, box, intrinsics, num_aug=num_aug, antialias_factor=antialias_factor
    )
    np.testing.assert_allclose(result["poses2d"][0], centers, atol=DISC_TOLERANCE_PX)
    expected = 3000 * rays(centers, intrinsics)
    np.testing.assert_allclose(result["poses3d"][0], expected, atol=3000 / 300 * DISC_TOLERANCE_PX)


def test_views_agree_one_by_one_also_when_mirrored(predictor, scene):
    image, centers, box, intrinsics = scene
    result = predictor.estimate_poses(image, box, intrinsics, average_aug=False)
    assert result["poses2d"].shape == (1, 5, 3, 2)
    assert result["uncertainties"].shape == (1, 5, 3)
    expected = np.broadcast_to(centers, [5, 3, 2])
    np.testing.assert_allclose(result["poses2d"][0], expected, atol=DISC_TOLERANCE_PX)
    # The second and fourth views are mirrored: left and right trade their uncertainties.
    np.testing.assert_allclose(result["uncertainties"][0, 1], [10, 30, 20], rtol=1e-5)
    np.testing.assert_allclose(result["uncertainties"][0, 2], [10, 20, 30], rtol=1e-5)


def test_average_is_the_mean_over_views(predictor, scene):
    image, _, box, intrinsics = scene
    views = predictor.estimate_poses(image, box, intrinsics, average_aug=False)
    mean = predictor.estimate_poses(image, box, intrinsics)
    np.testing.assert_allclose(mean["poses3d"], np.mean(views["poses3d"], axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        mean["uncertainties"], np.mean(views["uncertainties"], axis=1), rtol=1e-5
    )


def test_lens_distortion_is_removed_and_put_back(predictor, scene):
    image, centers, box, intrinsics = scene
    coeffs = np.array([-0.25, 0.08, 0.002, -0.001, 0.01], np.float32)
    result = predictor.estimate_poses(image, box, intrinsics, distortion_coeffs=coeffs)
    np.testing.assert_allclose(result["poses2d"][0], centers, atol=DISC_TOLERANCE_PX)
    rotation = translation = np.zeros(3)
    projected, _ = cv2.projectPoints(
        result["poses3d"][0].numpy(), rotation, translation, intrinsics, coeffs
    )
    np.testing.assert_allclose(result["poses2d"][0], projected[:, 0], atol=0.01)
    plain = predictor.estimate_poses(image, box, intrinsics)
    assert np.abs(plain["poses3d"] - result["poses3d"]).max() > 2


def test_convention_extrinsics_map_world_to_camera_in_mm(predictor, scene):
    image, _, box, intrinsics = scene
    angle = 0.3
    rotation = np.array(
        [
            [np.cos(angle), 0, np.sin(angle)],
            [0, 1, 0],
            [-np.sin(angle), 0, np.cos(angle)],
        ]
    )
    extrinsics = np.eye(4, dtype=np.float32)
    extrinsics[:3, :3], extrinsics[:3, 3] = rotation, [100, 200, 300]
    camera = predictor.estimate_poses(image, box, intrinsics)
    world = predictor.estimate_poses(image, box, intrinsics, extrinsic_matrix=extrinsics)
    back = world["poses3d"].numpy() @ rotation.T + extrinsics[:3, 3]
    np.testing.assert_allclose(back, camera["poses3d"], atol=0.5)
    np.testing.assert_allclose(world["poses2d"], camera["poses2d"], atol=0.02)


@pytest.fixture(scope="module")
def looker():
    """A predictor whose uncertainties tell where in the crop, from its centre, the red disc is."""

    def look(images, intrinsics):
        axis = tf.range(64.0) - 31.5
        grid = tf.stack(tf.meshgrid(axis, axis), axis=-1)
        mass = tf.reduce_sum(images[..., 0], axis=[1, 2])[:, tf.newaxis]
        center = tf.einsum("nhw,hwd->nd", images[..., 0], grid) / mass
        return {"coords3d_abs": tf.ones([tf.shape(images)[0], 2, 3]), "uncert": center}

    return serving.PosePredictor(look, 64, Skeleton("two", ("x", "y")))


@pytest.mark.parametrize(
    "world_up, image_up",
    [
        ((0, -3, 0), (0, -1)),
        ((1, 0, 0), (1, 0)),
        ((0, 1, 0), (0, 1)),
        ((-2, 3, 0), (-2, 3)),
        ((0, 0, 1), (-45.5, 9.5)),  # up lies in the principal point, seen from the box
    ],
)
def test_world_up_is_up_in_the_crop(looker, scene, world_up, image_up):
    image, _, box, intrinsics = scene
    options = {"num_aug": 1, "world_up_vector": np.array(world_up, np.float32)}
    plain = looker.estimate_poses(image, box, intrinsics, num_aug=1)["uncertainties"][0] / 1000
    turned = looker.estimate_poses(image, box, intrinsics, **options)["uncertainties"][0] / 1000
    angle = -np.arctan2(image_up[0], -image_up[1])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.linalg.norm(plain) > 8
    np.testing.assert_allclose(turned, rotation @ np.array(plain), atol=1.0)


def test_boxes_and_images_do_not_influence_each_other(predictor, scene, draw):
    image, centers, box, intrinsics = scene
    shifted = draw(240, 320, centers + [-60, 40], 5.0)
    boxes = tf.ragged.constant(
        [box.tolist() * 2, [], (box + [-60, 40, 0, 0]).tolist()], ragged_rank=1
    )
    result = predictor.estimate_poses_batched(
        np.stack([image, image, shifted]), boxes, intrinsics[np.newaxis]
    )
    alone = predictor.estimate_poses(image, box, intrinsics)
    assert result["poses3d"].row_lengths().numpy().tolist() == [2, 0, 1]
    for name in ("poses3d", "poses2d", "uncertainties"):
        np.testing.assert_allclose(result[name][0, 0], alone[name][0], rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(result[name][0, 1], alone[name][0], rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(result["poses2d"][2, 0], centers + [-60, 40], atol=DISC_TOLERANCE_PX)


@pytest.mark.parametrize("internal_batch_size", [0, 1, 5, 12])
def test_internal_batches_change_nothing(predictor, scene, internal_batch_size):
    image, _, box, intrinsics = scene
    boxes = np.repeat(box, 5, axis=0) + np.arange(5)[:, np.newaxis] * [2, 1, 0, 0]
    expected = predictor.estimate_poses(image, boxes, intrinsics)
    result = predictor.estimate_poses(
        image, boxes, intrinsics, internal_batch_size=internal_batch_size
    )
    np.testing.assert_allclose(result["poses3d"], expected["poses3d"], rtol=1e-4, atol=1e-2)


def test_zero_boxes_are_an_ordinary_answer(predictor, scene):
    image = scene[0]
    result = predictor.estimate_poses(image, np.zeros([0, 4], np.float32))
    assert result["poses3d"].shape == (0, 3, 3) and result["poses2d"].shape == (0, 3, 2)
    result = predictor.estimate_poses(image, np.zeros([0, 4], np.float32), average_aug=False)
    assert result["uncertainties"].shape == (0, 5, 3)
    none = tf.RaggedTensor.from_row_lengths(tf.zeros([0, 4]), [0, 0])
    result = predictor.estimate_poses_batched(np.stack([image, image]), none)
    assert result["poses3d"].flat_values.shape == (0, 3, 3) and result["poses3d"].nrows() == 2
    no_images = tf.RaggedTensor.from_row_lengths(tf.zeros([0, 4]), tf.zeros([0], tf.int64))
    assert predictor.estimate_poses_batched(image[np.newaxis][:0], no_images)["boxes"].nrows() == 0


def test_unknown_intrinsics_take_the_field_of_view(predictor, scene):
    image, _, box, _ = scene
    result = predictor.estimate_poses(image, box, default_fov_degrees=40)
    focal = 320 / 2 / np.tan(np.deg2rad(20))
    matrix = np.array([[focal, 0, 160], [0, focal, 120], [0, 0, 1]], np.float32)
    expected = predictor.estimate_poses(image, box, matrix)
    np.testing.assert_allclose(result["poses3d"], expected["poses3d"], rtol=1e-4)


def test_known_and_unknown_intrinsics_mix_in_one_batch(predictor, scene):
    image, _, box, intrinsics = scene
    unknown = np.full([3, 3], -1, np.float32)
    boxes = tf.ragged.constant([box.tolist()] * 2, ragged_rank=1)
    result = predictor.estimate_poses_batched(
        np.stack([image, image]), boxes, np.stack([intrinsics, unknown])
    )
    for row, matrix in enumerate([intrinsics, unknown]):
        expected = predictor.estimate_poses(image, box, matrix)
        np.testing.assert_allclose(result["poses3d"][row], expected["poses3d"], rtol=1e-4)


def test_whole_image_is_a_box_and_looking_past_the_border_is_black(predictor, scene):
    image, centers, _, intrinsics = scene
    result = predictor.estimate_poses(image, [[0.0, 0, 320, 240]], intrinsics)
    np.testing.assert_allclose(result["poses2d"][0], centers, atol=0.5)
    beyond = predictor.estimate_poses(image, [[100.0, 20, 400, 500]], intrinsics)
    assert np.isfinite(beyond["poses3d"]).all()


def test_scores_beside_the_boxes_are_kept_and_not_used(predictor, scene):
    image, _, box, intrinsics = scene
    scored = np.concatenate([box, [[0.9]]], axis=1).astype(np.float32)
    result = predictor.estimate_poses(image, scored, intrinsics)
    expected = predictor.estimate_poses(image, box, intrinsics)
    np.testing.assert_array_equal(result["boxes"], scored)
    np.testing.assert_array_equal(result["poses3d"], expected["poses3d"])


def test_point_behind_the_camera_has_no_pixel(scene):
    def behind(images, intrinsics):
        n = tf.shape(images)[0]
        return {
            "coords3d_abs": tf.tile(tf.constant([[[0.0, 0, 2], [0, 0, -1]]]), [n, 1, 1]),
            "uncert": tf.ones([n, 2]),
        }

    image, _, box, intrinsics = scene
    looker = serving.PosePredictor(behind, 32, Skeleton("two", ("front", "back")))
    result = looker.estimate_poses(image, box, intrinsics, num_aug=1)
    assert np.isfinite(result["poses2d"][0, 0]).all()
    assert np.isnan(result["poses2d"][0, 1]).all()


def test_padding_is_the_training_crops_own():
    assert multiperson.BOX_PADDING == PipelineConfig(proc_side=64).box_padding


def test_crop_predictor_of_another_skeleton_is_refused():
    def four_points(images, intrinsics):
        n = tf.shape(images)[0]
        return {"coords3d_abs": tf.zeros([n, 4, 3]), "uncert": tf.zeros([n, 4])}

    with pytest.raises(ValueError, match="coords3d_abs.*2 joints"):
        serving.PosePredictor(four_points, 32, Skeleton("two", ("a", "b")))
    with pytest.raises(ValueError, match="uncert.*missing"):
        serving.PosePredictor(
            lambda images, k: {"coords3d_abs": tf.zeros([tf.shape(images)[0], 2, 3])},
            32,
            Skeleton("two", ("a", "b")),
        )


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"intrinsic_matrix": [[np.nan, 0, 1], [0, 1, 1], [0, 0, 1]]}, "intrinsic_matrix.*finite"),
        ({"intrinsic_matrix": [[-5.0, 0, 1], [0, 5, 1], [0, 0, 1]]}, "intrinsic_matrix.*above 0"),
        ({"intrinsic_matrix": [[5.0, 0, 0], [0, 5, 0], [1, 1, 1]]}, "intrinsic_matrix.*last row"),
        ({"distortion_coeffs": [np.nan]}, "distortion_coeffs.*finite"),
        ({"distortion_coeffs": [0.0] * 14}, "distortion_coeffs.*at most 12"),
        ({"extrinsic_matrix": np.eye(4, dtype=np.float32) * 2}, "extrinsic_matrix.*rotation"),
        ({"world_up_vector": [0.0, 0, 0]}, "world_up_vector.*not zero"),
        ({"default_fov_degrees": 180.0}, "default_fov_degrees.*between 0 and 180"),
        ({"internal_batch_size": -1}, "internal_batch_size.*or more"),
        ({"antialias_factor": 0}, "antialias_factor.*between 1 and 8"),
        ({"num_aug": 0}, "num_aug.*1 .no augmentation"),
        ({"skeleton": "h36m_17"}, "skeleton.*discs.*h36m_17"),
        ({"boxes": [[np.nan, 0, 5, 5]]}, "boxes.*finite"),
        ({"boxes": [[0.0, 0, 0, 5]]}, "boxes.*above 0 px"),
        ({"boxes": [[400.0, 0, 5, 5]]}, "boxes.*outside its image"),
        ({"boxes": [[-50.0, 0, 50, 5]]}, "boxes.*outside its image"),
        ({"boxes": [[1.0, 2, 3]]}, "boxes.*4 numbers"),
    ],
)
def test_bad_input_names_field_and_remedy(saved_predictor, scene, changes, field):
    image, _, box, _ = scene
    changes = dict(changes)
    boxes = np.array(changes.pop("boxes", box), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match=field):
        saved_predictor[0].estimate_poses(image, boxes, **changes)


def test_wrong_number_of_cameras_is_refused(predictor, scene):
    image, _, box, intrinsics = scene
    boxes = tf.ragged.constant([box.tolist()] * 3, ragged_rank=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="intrinsic_matrix: give one for all"):
        predictor.estimate_poses_batched(np.stack([image] * 3), boxes, np.stack([intrinsics] * 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one row of boxes per image"):
        predictor.estimate_poses_batched(np.stack([image] * 2), boxes)
