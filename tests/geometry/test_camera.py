"""Cameras: hand-computed projections, field of view, lens distortion."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import camera
from metrabs_like.geometry.camera import CropGrid
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match
from tests.geometry.scenes import make_scene

LENS = np.array([-0.28, 0.07, 0.0012, -0.0008, 0.02, 0.01, 0.004, 0.001, 5e-4, -2e-4, 3e-4, 1e-4])


def test_convention_x_right_y_down_z_forward():
    intrinsics = np.array([[[500.0, 0, 100], [0, 500, 80], [0, 0, 1]]])
    right_of_axis, below_axis = [1.0, 0, 5], [0, 1.0, 5]
    pixels = camera.project_pose(np.array([[right_of_axis, below_axis]]), intrinsics)
    np.testing.assert_allclose(pixels, [[[200, 80], [100, 180]]])


def test_depth_is_clamped_to_a_millimetre_and_scales_the_principal_point():
    intrinsics = np.array([[[10.0, 0, 3], [0, 10, 4], [0, 0, 1]]])
    pixels = camera.project_pose(np.array([[[0.002, 0.0, -0.001]]]), intrinsics)
    np.testing.assert_allclose(pixels, [[[10 * 2 - 3, -4]]], rtol=1e-6)


def test_no_gradient_through_the_clamped_denominator():
    points = tf.constant([[[0.3, 0.2, -1.0]]])
    intrinsics = np.array([[[10.0, 0, 0], [0, 10, 0], [0, 0, 1]]])
    with tf.GradientTape() as tape:
        tape.watch(points)
        pixels = camera.project_pose(points, intrinsics)
    np.testing.assert_allclose(tape.gradient(pixels, points), [[[1e4, 1e4, 0.0]]])


def test_back_projection_inverts_projection(rng):
    scene = make_scene(rng)
    truth = scene["coords3d_abs"]
    offset = truth[:, 0, 2]
    normalized = camera.project(truth)
    lifted = camera.back_project(normalized, truth[..., 2] - offset[:, np.newaxis], offset)
    np.testing.assert_allclose(lifted, truth, atol=2e-6)


def test_normalizing_inverts_general_intrinsics(rng):
    matrix = rng.normal(size=(3, 3, 3)) + 4 * np.eye(3)
    matrix[:, 2] = [0, 0, 1]
    normalized = rng.normal(size=(3, 6, 2))
    homogeneous = camera.to_homogeneous(normalized).numpy()
    pixels = np.einsum("bij,bpj->bpi", matrix, homogeneous)[..., :2]
    x, y = camera.normalized_planes(*tf.unstack(tf.constant(pixels), axis=-1), tf.constant(matrix))
    np.testing.assert_allclose(np.stack([x, y], -1), normalized, atol=1e-12)


def test_intrinsics_and_pixels_scale_together(rng):
    scene = make_scene(rng)
    scale = camera.corner_aligned_scale_mat(0.25).numpy()
    small = camera.project_pose(scene["coords3d_abs"], scale @ scene["intrinsics"])
    full = camera.project_pose(scene["coords3d_abs"], scene["intrinsics"])
    np.testing.assert_allclose(small, 0.25 * (full + 0.5) - 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("grid", "border", "low", "high"),
    [
        (CropGrid(), 0.75, 24, 232),
        (CropGrid(), -20, -640, 896),
        (CropGrid(centered_stride=False), 1, 16, 208),
        (CropGrid(384, 16, False), 1.5, 16, 352),
    ],
)
def test_field_of_view_includes_its_ends(grid, border, low, high):
    below, above = np.nextafter(np.float32([low, high]), np.float32([-1e9, 1e9]))
    xs = [low, high, below, above, np.nan]
    points = np.array([[x, (low + high) / 2] for x in xs], np.float32)
    for coords in (points, points[:, ::-1]):
        inside = camera.is_within_fov(coords, grid, border)
        np.testing.assert_array_equal(inside, [True, True, False, False, False])


def test_intrinsics_from_a_right_angle():
    matrix = camera.intrinsic_matrix_from_field_of_view(90.0, [100, 200])
    np.testing.assert_allclose(matrix, [[[100, 0, 100], [0, 100, 50], [0, 0, 1]]], rtol=1e-6)


def test_distortion_equals_opencv(rng):
    points = rng.uniform(-0.6, 0.6, (50, 2))
    homogeneous = np.concatenate([points, np.ones((50, 1))], axis=1)
    expected, _ = cv2.projectPoints(homogeneous, np.zeros(3), np.zeros(3), np.eye(3), LENS)
    distorted = camera.distort_points(points, LENS)
    np.testing.assert_allclose(distorted, expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("n_coeffs", [4, 5, 8, 12])
def test_undistortion_inverts_distortion(rng, n_coeffs):
    points = rng.uniform(-0.5, 0.5, (2, 9, 2))
    coeffs = np.stack([LENS[:n_coeffs], 0.5 * LENS[:n_coeffs]])
    distorted = camera.distort_points(points, coeffs)
    restored = camera.undistort_points(distorted, coeffs, n_steps=30)
    np.testing.assert_allclose(restored, points, atol=1e-8)


def test_fisheye_round_trip_and_axis():
    coeffs = np.array([0.03, -0.01, 0.005, -0.0006])
    points = np.array([[0.0, 0.0], [0.7, -0.2], [1.5, 1.0]])
    distorted = camera.distort_points(points, coeffs, "fisheye")
    restored = camera.undistort_points(distorted, coeffs, "fisheye")
    np.testing.assert_allclose(restored, points, atol=1e-9)
    equidistant = camera.distort_points(points, np.zeros(4), "fisheye")
    np.testing.assert_allclose(np.linalg.norm(equidistant[1]), np.arctan(np.hypot(0.7, 0.2)))


def test_no_distortion_is_the_identity(rng):
    points = rng.normal(size=(2, 5, 2)).astype(np.float32)
    np.testing.assert_array_equal(camera.distort_points(points, np.zeros((2, 5))), points)
    np.testing.assert_array_equal(camera.undistort_points(points, np.zeros((2, 12))), points)


def test_gradients_match_finite_differences(rng):
    scene = make_scene(rng, 1, 3, dtype=np.float64)
    weights = rng.normal(size=(1, 3, 2))

    def pixels(points, intrinsics):
        return tf.reduce_sum(camera.project_pose(points, intrinsics) * weights)

    def lens(points, coeffs):
        there = camera.distort_points(points, coeffs)
        back = camera.undistort_points(points, coeffs)
        return tf.reduce_sum(there * weights + back**2)

    assert_gradients_match(pixels, [scene["coords3d_abs"], scene["intrinsics"]])
    assert_gradients_match(lens, [scene["normalized"], LENS])


def test_projections_compile_once_over_all_shapes(rng):
    def run(points, intrinsics, pixels):
        normalized = camera.normalized_planes(*tf.unstack(pixels, 2, axis=-1), intrinsics)
        offset = points[:, 0, 2]
        lifted = camera.back_project(tf.stack(normalized, -1), points[..., 2], offset)
        projected = camera.project_pose(points, intrinsics)
        is_inside = camera.is_within_fov(projected, CropGrid())
        return camera.project(points), projected, lifted, camera.to_homogeneous(pixels), is_inside

    keys = ("coords3d_abs", "intrinsics", "coords2d")
    scenes = [make_scene(rng, *shape) for shape in ((4, 24), (1, 5))]
    scenes[0]["coords3d_abs"][0, 0, 2] = -1.0  # behind the camera: the clamp's branch
    assert_compiles_once(run, [[scene[key] for key in keys] for scene in scenes])


@pytest.mark.parametrize(("model", "n_coeffs"), [("opencv", 12), ("fisheye", 4)])
def test_lenses_compile_once_over_all_shapes(rng, model, n_coeffs):
    def run(points, coeffs):
        distorted = camera.distort_points(points, coeffs, model)
        return distorted, camera.undistort_points(points, coeffs, model)

    batches = []
    for shape in ((4, 9), (1, 5)):
        points = rng.uniform(-0.4, 0.4, (*shape, 2)).astype(np.float32)
        batches.append([points, np.tile(np.float32(LENS[:n_coeffs]), (shape[0], 1))])
    assert_compiles_once(run, batches)


def test_making_intrinsics_compiles_once_over_all_sizes():
    def run(fov_degrees, imshape, factors):
        return (
            camera.intrinsic_matrix_from_field_of_view(fov_degrees, imshape),
            tf.map_fn(camera.corner_aligned_scale_mat, factors),
        )

    shapes = np.float32([100, 200]), np.float32([300, 50])
    factors = np.float32([0.5, 2.0, 1.5]), np.float32([0.25])
    batches = [
        [np.float32(fov), imshape, factor]
        for fov, imshape, factor in zip((55, 90), shapes, factors, strict=True)
    ]
    assert_compiles_once(run, batches)


def test_an_empty_batch_is_an_ordinary_batch():
    pixels = camera.project_pose(np.zeros((0, 5, 3)), np.zeros((0, 3, 3)))
    assert pixels.shape == (0, 5, 2)
    assert camera.distort_points(np.zeros((0, 5, 2)), np.zeros((0, 12))).shape == (0, 5, 2)
    assert camera.is_within_fov(pixels, CropGrid()).shape == (0, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CropGrid(proc_side=0), "proc_side=0"),
        (lambda: CropGrid(stride=300), "stride=300"),
        (lambda: camera.project_pose(np.zeros((2, 5, 3)), np.zeros((3, 3, 3))), "B = 2"),
        (
            lambda: camera.back_project(np.zeros((2, 5, 2)), np.zeros((2, 4)), np.zeros(2)),
            "delta_z",
        ),
        (lambda: camera.distort_points(np.zeros((2, 2)), np.zeros(5), "fisheye"), "exactly 4"),
        (lambda: camera.distort_points(np.zeros((2, 2)), np.zeros(14)), "at most 12"),
        (lambda: camera.distort_points(np.zeros((2, 2)), np.zeros(4), "kb"), "model='kb'"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
