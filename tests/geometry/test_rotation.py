"""Rotations: values by hand, conventions, round trips, gradients at the singular points."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import rotation


def numeric_gradient(f, x, step=1e-6):
    """Central differences of a scalar function of a float64 array."""
    x = np.asarray(x, np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        shifted = x.copy()
        shifted[index] += step
        above = float(f(tf.constant(shifted)))
        shifted[index] -= 2 * step
        gradient[index] = (above - float(f(tf.constant(shifted)))) / (2 * step)
    return gradient


def tape_gradient(f, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x).numpy()


def svd_projection(a):
    """The textbook form, in float64."""
    u, _, vt = np.linalg.svd(np.asarray(a, np.float64))
    u[..., -1] *= np.sign(np.linalg.det(u @ vt))[..., np.newaxis]
    return u @ vt


def random_rotvecs(rng, n, largest=np.pi):
    axis = rng.normal(size=(n, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    return axis * rng.uniform(0, largest, (n, 1))


def test_convention_rotation_mat_has_opposite_handedness_about_x_and_y():
    quarter = np.pi / 2
    expected = {
        "x": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        "y": [[0, 0, -1], [0, 1, 0], [1, 0, 0]],
        "z": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
    }
    for axis, matrix in expected.items():
        result = rotation.rotation_mat(np.float64(quarter), axis)
        np.testing.assert_allclose(result, matrix, atol=1e-12)
    right_handed = rotation.rotvec_to_rotmat(np.eye(3) * quarter).numpy()
    np.testing.assert_allclose(right_handed[2], expected["z"], atol=1e-12)
    np.testing.assert_allclose(right_handed[0], np.transpose(expected["x"]), atol=1e-12)
    np.testing.assert_allclose(right_handed[1], np.transpose(expected["y"]), atol=1e-12)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_rotation_mat_composes_angles(axis, rng):
    a, b = rng.normal(size=(2, 5))
    product = rotation.rotation_mat(a, axis) @ rotation.rotation_mat(b, axis)
    np.testing.assert_allclose(product, rotation.rotation_mat(a + b, axis), atol=1e-12)
    assert rotation.rotation_mat(0.3, axis).shape == (3, 3)
    assert rotation.rotation_mat(tf.zeros([0, 2]), axis).shape == (0, 2, 3, 3)


def test_rotation_mat_names_a_wrong_axis():
    with pytest.raises(ValueError, match="'w'"):
        rotation.rotation_mat(0.1, "w")


def test_convention_new_rotation_matrix_takes_forward_to_the_optical_axis():
    up = np.array([0.0, -1.0, 0.0])
    straight = rotation.get_new_rotation_matrix(np.array([0.0, 0.0, 3.0]), up)
    np.testing.assert_allclose(straight, np.eye(3), atol=1e-12)
    to_the_right = rotation.get_new_rotation_matrix(np.array([2.0, 0.0, 0.0]), up)
    np.testing.assert_allclose(to_the_right, [[0, 0, -1], [0, 1, 0], [1, 0, 0]], atol=1e-12)


def test_new_rotation_matrix_is_a_rotation_for_any_direction(rng):
    forward, up = rng.normal(size=(2, 20, 3))
    result = rotation.get_new_rotation_matrix(forward, up).numpy()
    identity = np.broadcast_to(np.eye(3), result.shape)
    np.testing.assert_allclose(result @ result.transpose(0, 2, 1), identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(result), 1, atol=1e-12)
    turned = np.einsum("bij,bj->bi", result, forward)
    np.testing.assert_allclose(turned[:, :2], 0, atol=1e-12)
    # the projection of up stays on the vertical axis of the picture, pointing up (-y)
    turned_up = np.einsum("bij,bj->bi", result, up)
    np.testing.assert_allclose(turned_up[:, 0], 0, atol=1e-12)
    assert (turned_up[:, 1] < 0).all()
    longer = rotation.get_new_rotation_matrix(5 * forward, 0.1 * up)
    np.testing.assert_allclose(longer, result, atol=1e-12)


def test_new_rotation_matrix_forward_parallel_to_up():
    forward = np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
    result = rotation.get_new_rotation_matrix(forward, forward).numpy()
    np.testing.assert_allclose(result[0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(result), 1, atol=1e-12)
    weights = np.arange(9.0).reshape(3, 3)
    gradient = tape_gradient(
        lambda f: tf.reduce_sum(weights * rotation.get_new_rotation_matrix(f, forward)),
        np.zeros((2, 3)),
    )
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rotvec_round_trip(dtype, rng):
    rotvec = random_rotvecs(rng, 200, np.pi - 1e-3).astype(dtype)
    rotvec[:3] = [[0, 0, 0], [1e-12, 0, 0], [0, -1e-4, 1e-4]]
    rotmat = rotation.rotvec_to_rotmat(rotvec)
    assert rotmat.dtype == dtype
    np.testing.assert_allclose(np.linalg.det(rotmat), 1, atol=1e-5)
    tolerance = 2e-3 if dtype == np.float32 else 1e-9
    # 1e-3 before pi the float32 matrix itself is only known to 1e-7 of a turn
    np.testing.assert_allclose(rotation.rotmat_to_rotvec(rotmat), rotvec, atol=tolerance)


def test_rotmat_round_trip_at_half_turns(rng):
    axis = random_rotvecs(rng, 50)
    axis[:3] = np.eye(3)
    half_turns = axis / np.linalg.norm(axis, axis=-1, keepdims=True) * np.pi
    rotmat = rotation.rotvec_to_rotmat(half_turns)
    back = rotation.rotmat_to_rotvec(rotmat)
    np.testing.assert_allclose(np.linalg.norm(back, axis=-1), np.pi, atol=1e-9)
    np.testing.assert_allclose(rotation.rotvec_to_rotmat(back), rotmat, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.0999, 0.1001, 1.0, np.pi, 5.0])
def test_rotvec_gradient(angle, rng):
    weights = rng.normal(size=(3, 3))
    rotvec = np.array([2.0, -1.0, 2.0]) / 3 * angle

    def f(x):
        return tf.reduce_sum(weights * rotation.rotvec_to_rotmat(x))

    np.testing.assert_allclose(tape_gradient(f, rotvec), numeric_gradient(f, rotvec), atol=1e-8)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, 3.0, np.pi - 1e-4])
def test_rotmat_to_rotvec_gradient_along_rotations(angle, rng):
    weights = rng.normal(size=3)
    rotvec = np.array([2.0, -1.0, 2.0]) / 3 * angle

    def f(x):
        # the round trip is the identity, so its gradient is known exactly
        there_and_back = rotation.rotmat_to_rotvec(rotation.rotvec_to_rotmat(x))
        return tf.reduce_sum(weights * there_and_back)

    np.testing.assert_allclose(tape_gradient(f, rotvec), weights, atol=1e-7)


def test_rotmat_to_rotvec_gradient_is_finite_at_pi():
    rotmat = np.stack([np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])])
    gradient = tape_gradient(lambda r: tf.reduce_sum(rotation.rotmat_to_rotvec(r)), rotmat)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_project_to_so3_equals_svd(dtype, rng):
    a = rng.normal(size=(500, 3, 3)).astype(dtype)
    singular = np.linalg.svd(a.astype(np.float64))[1]
    signed_last = singular[:, 2] * np.sign(np.linalg.det(a.astype(np.float64)))
    well_posed = (singular[:, 1] + signed_last) > 0.05 * singular[:, 0]
    assert well_posed.sum() > 400
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    result = rotation.project_to_so3(a).numpy()
    assert result.dtype == dtype
    expected = svd_projection(a)
    np.testing.assert_allclose(result[well_posed], expected[well_posed], atol=tolerance)
    # where the answer is not unique it is still a rotation, and as near as any
    np.testing.assert_allclose(np.linalg.det(result), 1, atol=1e-5)
    distance = np.linalg.norm(result - a, axis=(1, 2))
    best = np.linalg.norm(expected - a, axis=(1, 2))
    np.testing.assert_allclose(distance, best, rtol=1e-5)


def test_project_to_so3_invariances(rng):
    a = rng.normal(size=(10, 3, 3))
    left, right = rotation.rotvec_to_rotmat(random_rotvecs(rng, 2)).numpy()
    projected = rotation.project_to_so3(a).numpy()
    turned = rotation.project_to_so3(left @ a @ right)
    np.testing.assert_allclose(turned, left @ projected @ right, atol=1e-9)
    for scale in (1e-200, 1e-30, 7.0, 1e200):
        np.testing.assert_allclose(rotation.project_to_so3(scale * a), projected, atol=1e-9)
    np.testing.assert_allclose(rotation.project_to_so3(projected), projected, atol=1e-12)


def test_project_to_so3_degenerate_matrices():
    rank_one = np.outer([1.0, 2, 3], [0.5, -1, 0])
    a = np.stack([np.zeros((3, 3)), np.eye(3), -np.eye(3), np.diag([1.0, 1, -1]), rank_one])
    result = rotation.project_to_so3(a).numpy()
    np.testing.assert_allclose(result[:2], [np.eye(3)] * 2, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(result), 1, atol=1e-12)
    np.testing.assert_allclose(
        np.sum(result * a, axis=(1, 2)), np.sum(svd_projection(a) * a, axis=(1, 2)), atol=1e-12
    )
    weights = np.arange(9.0).reshape(3, 3)
    gradient = tape_gradient(lambda x: tf.reduce_sum(weights * rotation.project_to_so3(x)), a)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0], 0)


def test_project_to_so3_gradient(rng):
    a = rng.normal(size=(6, 3, 3))
    a[3] = rotation.rotvec_to_rotmat(np.array([0.2, 0.3, -0.1]))  # three equal singular values
    a[4] = np.diag([3.0, 2.0, -1.0])  # a reflection
    a[5] = np.diag([2.0, 1.0, 0.0])  # singular, yet unique
    weights = rng.normal(size=(6, 3, 3))

    def f(x):
        return tf.reduce_sum(weights * rotation.project_to_so3(x))

    np.testing.assert_allclose(tape_gradient(f, a), numeric_gradient(f, a), rtol=1e-5, atol=1e-6)


def test_one_bad_matrix_leaves_the_others_alone(rng):
    a = rng.normal(size=(3, 3, 3)).astype(np.float32)
    expected = rotation.project_to_so3(a).numpy()
    a[1, 0, 2] = np.nan
    result = rotation.project_to_so3(a).numpy()
    assert np.isnan(result[1]).all()
    np.testing.assert_array_equal(result[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_unknown_and_zero_batch_compile_with_gradients(jit_compile, rng):
    traces = []

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([None, 3, 3]), tf.TensorSpec([None, 3])],
    )
    def f(a, v):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch([a, v])
            rotmat = rotation.project_to_so3(a) @ rotation.rotvec_to_rotmat(v)
            turned = rotmat @ rotation.get_new_rotation_matrix(v, [0.0, -1.0, 0.0])
            out = rotation.rotmat_to_rotvec(turned)
            total = tf.reduce_sum(out)
        return out, *tape.gradient(total, [a, v])

    for n in (0, 4):
        a = rng.normal(size=(n, 3, 3)).astype(np.float32)
        v = rng.normal(size=(n, 3)).astype(np.float32)
        out, grad_a, grad_v = f(a, v)
        assert out.shape == (n, 3) and grad_a.shape == (n, 3, 3) and grad_v.shape == (n, 3)
        assert np.isfinite(out).all() and np.isfinite(grad_a).all() and np.isfinite(grad_v).all()
    assert len(traces) <= 2


def test_half_precision_is_computed_in_float32():
    assert rotation.rotvec_to_rotmat(tf.zeros([3], tf.float16)).dtype == tf.float32
    assert rotation.project_to_so3(tf.eye(3, dtype=tf.bfloat16)).dtype == tf.float32


@pytest.mark.parametrize(
    "function",
    [rotation.project_to_so3, rotation.rotmat_to_rotvec, rotation.rotvec_to_rotmat],
)
def test_wrong_shapes_are_named(function):
    with pytest.raises(ValueError, match=r"must have shape \[\.\.\., 3"):
        function(tf.zeros([5, 4]))
