import cv2
import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import lens, warping

COEFFS = np.array([-0.25, 0.09, 0.001, -0.002, 0.01, 0.02, 0.01, 0, 1e-3, 5e-4, -1e-3, 4e-4])
K = np.array([[1400, 0.0, 955], [0, 1390, 540], [0, 0, 1]])
SIDE = 128


def make_cameras(rng, n=8, coeffs=COEFFS):
    box = np.stack(
        [rng.uniform(0, 1500, n), rng.uniform(0, 600, n), *rng.uniform(100, 400, (2, n))], axis=1
    )
    k, d = np.tile(K, (n, 1, 1)), np.tile(coeffs, (n, 1))
    crop = warping.crop_camera(
        box,
        k,
        d,
        SIDE,
        padding=0.2,
        roll=rng.uniform(-0.5, 0.5, n),
        scale=rng.uniform(0.8, 1.2, n),
        shift=rng.uniform(-0.1, 0.1, (n, 2)),
        mirror=np.arange(n) % 2 == 0,
    )
    return box, k, d, *crop


def project64(points, k, d):
    """Projects camera-space points with OpenCV in float64."""
    zero = np.zeros(3)
    pairs = zip(points.astype(np.float64), k, d, strict=True)
    return np.stack([cv2.projectPoints(p, zero, zero, k_, d_)[0][:, 0] for p, k_, d_ in pairs])


def test_crop_camera_by_hand():
    box = [[955 - 70, 540 - 140, 140, 280.0]]
    k = np.array([[[1400, 0, 955], [0, 1400, 540], [0, 0, 1.0]]])
    rotation, intrinsics = warping.crop_camera(box, k, np.zeros((1, 12)), 256, padding=0.25)
    np.testing.assert_allclose(rotation[0], np.eye(3), atol=1e-6)
    focal = 1400 * 256 / (280 * 1.25)
    expected = [[focal, 0, 127.5], [0, focal, 127.5], [0, 0, 1]]
    np.testing.assert_allclose(intrinsics[0], expected, rtol=1e-6)


def test_convention_roll_shift_scale_and_mirror():
    box = [[955 - 50, 540 - 50, 100, 100.0]]
    k, d = np.array([[[1400, 0, 955], [0, 1400, 540], [0, 0, 1.0]]]), np.zeros((1, 12))
    right_of_center = tf.constant([[[955 + 40.0, 540]]])

    def crop_point(**kwargs):
        crop = warping.crop_camera(box, k, d, 101, padding=0.0, **kwargs)
        return warping.image_to_crop_points(right_of_center, k, d, *crop)[0, 0].numpy() - 50

    assert crop_point()[0] > 39 and abs(crop_point()[1]) < 1e-3
    rolled = crop_point(roll=np.pi / 2)  # clockwise: right becomes down
    assert abs(rolled[0]) < 1e-3 and rolled[1] > 39
    assert crop_point(mirror=True)[0] == pytest.approx(-crop_point()[0], abs=1e-3)
    assert crop_point(scale=1.1)[0] == pytest.approx(1.1 * crop_point()[0], rel=1e-4)
    assert crop_point(shift=[[0.4, 0.0]])[0] == pytest.approx(0, abs=0.1)


def test_crop_camera_keeps_up_and_is_orthogonal(rng):
    box, k, d, rotation, _ = make_cameras(rng)
    np.testing.assert_allclose(
        rotation @ tf.transpose(rotation, [0, 2, 1]), [np.eye(3)] * 8, atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(rotation), [-1, 1] * 4, atol=1e-5)
    upright, intrinsics = warping.crop_camera(box, k, d, SIDE, padding=0.2)
    np.testing.assert_allclose(upright[:, 0, 1], 0, atol=1e-6)  # the x axis stays horizontal
    assert np.all(upright[:, 1, 1] > 0)
    center = tf.constant(box[:, :2] + box[:, 2:] / 2, tf.float32)
    mapped = warping.image_to_crop_points(center, k, d, upright, intrinsics)
    np.testing.assert_allclose(mapped, np.full((8, 2), (SIDE - 1) / 2), atol=0.01)


def test_padded_box_fills_the_crop(rng):
    box, k, d, _, _ = make_cameras(rng)
    crop = warping.crop_camera(box, k, d, SIDE, padding=0.2)
    middle = box[:, np.newaxis, :2] + box[:, np.newaxis, 2:] / 2
    ends = np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]]) * box[:, np.newaxis, 2:] + middle
    mapped = warping.image_to_crop_points(ends, k, d, *crop).numpy()
    extent = np.linalg.norm(mapped[:, 1::2] - mapped[:, 0::2], axis=-1).max(axis=-1)
    np.testing.assert_allclose(extent, SIDE / 1.2, rtol=1e-4)


def test_points_match_float64_opencv_and_return(rng):
    _, k, d, rotation, intrinsics = make_cameras(rng)
    points = rng.uniform(0, SIDE - 1, (8, 30, 2))
    mapped = warping.crop_to_image_points(points, k, d, rotation, intrinsics)
    ones = np.ones_like(points[..., :1])
    rays = np.concatenate([points, ones], -1) @ np.linalg.inv(np.float64(intrinsics)).swapaxes(1, 2)
    rays = rays @ np.float64(rotation)
    # 1e-3 px: float32 keeps seven digits of coordinates near 2000 px.
    np.testing.assert_allclose(mapped, project64(rays, k, d), atol=1e-3)
    back = warping.image_to_crop_points(mapped, k, d, rotation, intrinsics)
    np.testing.assert_allclose(back, points, atol=2e-3)


@pytest.mark.parametrize("strength", [0.0, 1.0, 2.0, 4.0])
def test_undistort_exactly_inverts_strong_lenses(rng, strength):
    coeffs = np.tile(COEFFS * strength, (4, 1))
    fold = np.minimum(lens.fold_radius(coeffs).numpy(), 1.2)
    radius = rng.uniform(0, 0.8, (4, 20)) * fold[:, np.newaxis]
    angle = rng.uniform(0, 2 * np.pi, (4, 20))
    points = np.stack([np.cos(angle), np.sin(angle)], -1) * radius[..., np.newaxis]
    points3d = np.concatenate([points, np.ones((4, 20, 1))], -1)
    distorted = project64(points3d, np.tile(np.eye(3), (4, 1, 1)), coeffs)
    np.testing.assert_allclose(lens.undistort_exactly(distorted, coeffs), points, atol=2e-5)


def test_fold_is_found_and_nothing_is_seen_beyond():
    coeffs = np.zeros((2, 12), np.float32)
    coeffs[0, 0] = -0.3  # r (1 - 0.3 r^2) turns at r = 1 / sqrt(0.9)
    radius = lens.fold_radius(coeffs).numpy()
    assert radius[0] == pytest.approx(1 / np.sqrt(0.9), abs=0.04)
    assert radius[1] > 1e5
    k = np.array([[[100, 0, 0], [0, 100, 0], [0, 0, 1.0]]] * 2)
    eye = np.tile(np.eye(3), (2, 1, 1))
    mapped = warping.crop_to_image_points([[[150.0, 0]]] * 2, k, coeffs, eye, k)
    assert float(mapped[0, 0, 0]) == warping.UNSEEN_PX
    assert float(mapped[1, 0, 0]) == pytest.approx(150)
    finite = lens.undistort_exactly([[[5.0, 0]]] * 2, coeffs)
    assert np.all(np.isfinite(finite))


def test_rays_behind_the_camera_are_unseen():
    k = np.array([[[100, 0, 50], [0, 100, 50], [0, 0, 1.0]]])
    back = np.diag([-1.0, 1, -1])[np.newaxis]
    points = warping.crop_to_image_points([[[50.0, 50]]], k, np.zeros((1, 12)), back, k)
    assert np.all(points == warping.UNSEEN_PX)
    points = warping.image_to_crop_points([[[50.0, 50]]], k, np.zeros((1, 12)), back, k)
    assert np.all(points == warping.UNSEEN_PX)


def test_bilinear_sample_by_hand():
    image = tf.constant([[[[0.0], [1]], [[2], [4]]]])
    points = [[[0, 0], [1, 1], [0.5, 0], [0.5, 0.5], [1.5, 1], [-1, 0], [np.nan, 0], [1e9, 0]]]
    values = warping.bilinear_sample(image, points)[0, :, 0]
    np.testing.assert_allclose(values, [0, 4, 0.5, 1.75, 2, 0, 0, 0], atol=1e-6)
    bytes_ = tf.constant([[[[0], [255]], [[51], [102]]]], tf.uint8)
    np.testing.assert_allclose(warping.bilinear_sample(bytes_, points)[0, :2, 0], [0, 0.4])


def test_bilinear_sample_gradient(rng):
    image = tf.constant(rng.uniform(size=(2, 5, 6, 3)), tf.float32)
    points = tf.constant(rng.uniform(0.1, 3.9, (2, 7, 2)), tf.float32)
    for argument in (0, 1):

        def loss(x, argument=argument):
            arguments = [image, points]
            arguments[argument] = x
            return tf.reduce_sum(tf.sin(5 * warping.bilinear_sample(*arguments)))

        theoretical, numerical = tf.test.compute_gradient(loss, [[image, points][argument]], 1e-3)
        np.testing.assert_allclose(theoretical[0], numerical[0], atol=2e-2, rtol=2e-2)


def draw_blobs(points, width, height, sigma):
    """Draws Gaussian spots at real-valued pixels."""
    y, x = np.mgrid[:height, :width]
    image = np.zeros((height, width))
    for px, py in points:
        image += np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    return np.repeat(np.clip(image, 0, 1)[..., np.newaxis], 3, axis=-1)


def blob_center(image, near, radius):
    """Returns the brightness centroid around a point."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    weight = image[..., 0] * ((x - near[0]) ** 2 + (y - near[1]) ** 2 < radius**2)
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
def test_warped_markers_are_where_float64_projection_puts_them(jit_compile, mirror):
    k = np.array([[[300, 0, 160], [0, 300, 120], [0, 0, 1.0]]])
    d = COEFFS[np.newaxis] * np.array([1.5])
    box = [[150.0, 70, 110, 120]]
    crop = warping.crop_camera(box, k, d, SIDE, padding=0.3, roll=0.3, mirror=mirror)
    rotation, intrinsics = (np.float64(c[0]) for c in crop)
    expected = np.array([[30.2, 25.7], [64.1, 64.4], [100.6, 30.3], [35, 99.5], [98.3, 96.2]])
    rays = np.concatenate([expected, np.ones((5, 1))], -1) @ np.linalg.inv(intrinsics).T @ rotation
    image = draw_blobs(project64(rays[np.newaxis], k, d)[0], 320, 240, 2.0)
    warped = warping.warp_images(
        np.uint8(image * 255)[np.newaxis], k, d, *crop, SIDE, jit_compile=jit_compile
    )[0].numpy()
    found = np.array([blob_center(warped, point, 9) for point in expected])
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_warp_of_identity_camera_is_the_window(rng):
    image = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    k = np.tile([[20, 0, 7.5], [0, 20, 7.5], [0, 0, 1.0]], (2, 1, 1))
    eye = np.tile(np.eye(3), (2, 1, 1))
    warped = warping.warp_images(image, k, np.zeros((2, 12)), eye, k, 16)
    np.testing.assert_allclose(warped, image / 255, atol=2e-5)
    mirrored = warping.warp_images(image, k, np.zeros((2, 12)), eye * [[-1], [1], [1]], k, 16)
    np.testing.assert_allclose(mirrored, image[:, :, ::-1] / 255, atol=2e-5)


def test_unknown_and_zero_batch_trace_once():
    n_traces = []

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.uint8),
            tf.TensorSpec([None, 3, 3]),
            tf.TensorSpec([None, 12]),
            tf.TensorSpec([None, 4]),
        ]
    )
    def crop(images, k, d, box):
        n_traces.append(1)
        camera = warping.crop_camera(box, k, d, 8, padding=0.1)
        return warping.warp_images(images, k, d, *camera, 8, jit_compile=False)

    for n in (0, 1, 3):
        k = tf.repeat([[[20, 0, 7.5], [0, 20, 7.5], [0, 0, 1.0]]], n, axis=0)
        out = crop(tf.zeros([n, 16, 16, 3], tf.uint8), k, tf.zeros([n, 12]), tf.ones([n, 4]))
        assert out.shape == (n, 8, 8, 3)
    assert len(n_traces) == 1
    k = tf.zeros([0, 3, 3])
    out = warping.warp_images(tf.zeros([0, 16, 16, 3]), k, tf.zeros([0, 12]), k, k, 8)
    assert out.shape == (0, 8, 8, 3)


def test_mismatching_shapes_are_refused():
    with pytest.raises(ValueError):
        warping.crop_camera(
            tf.zeros([2, 4]), tf.zeros([3, 3, 3]), tf.zeros([2, 12]), 8, padding=0.1
        )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_affine_warp_samples_where_the_matrix_points(rng, jit_compile):
    images = rng.uniform(size=(2, 9, 7, 3)).astype(np.float32)
    matrices = np.stack(
        [
            np.array([[1.0, 0, 2], [0, 1, 3], [0, 0, 1]]),  # a shift by whole pixels
            np.array([[0.6, -0.7, 3.2], [0.8, 0.5, 0.4], [0, 0, 1]]),
        ]
    )
    warped = warping.warp_affine(images, matrices, (5, 6), jit_compile=jit_compile).numpy()
    assert warped.shape == (2, 5, 6, 3)
    np.testing.assert_allclose(warped[0, :, :5], images[0, 3:8, 2:7], atol=1e-6)
    np.testing.assert_array_equal(warped[0, :, 5:], 0)  # beyond the right border
    y, x = np.mgrid[:5, :6]
    points = (np.stack([x, y, np.ones_like(x)], axis=-1) @ matrices[1].T)[..., :2]
    expected = warping.bilinear_sample(images[1:], points[np.newaxis])
    np.testing.assert_allclose(warped[1:], expected, atol=1e-5)


def test_affine_warp_takes_two_rows_grey_levels_and_no_images():
    images = np.full((1, 4, 4, 1), 255, np.uint8)
    two_rows = np.eye(3)[np.newaxis, :2]
    np.testing.assert_allclose(warping.warp_affine(images, two_rows, (4, 4)), 1.0, atol=1e-6)
    assert warping.warp_affine(images[:0], two_rows[:0], (4, 4)).shape == (0, 4, 4, 1)
