"""Relative poses and Procrustes alignment."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import alignment, rotation


def random_motion(rng):
    rotmat = rotation.project_to_so3(rng.normal(size=(3, 3))).numpy()
    return rotmat, rng.normal(size=3) * 3


def procrustes(pred, true, with_scale, with_reflection):
    """The textbook solution of one example, in float64."""
    mean_pred, mean_true = pred.mean(axis=0), true.mean(axis=0)
    y, x = pred - mean_pred, true - mean_true
    u, s, vt = np.linalg.svd(y.T @ x)
    if not with_reflection and np.linalg.det(u @ vt) < 0:
        u[:, -1] *= -1
        s[-1] *= -1
    scale = s.sum() / np.sum(y**2) if with_scale else 1.0
    return scale * y @ u @ vt + mean_true


def test_center_relative_pose_by_hand():
    pose = np.array([[[1.0, 2, 3], [3, 2, 1], [5, 0, -1]]])
    last = alignment.center_relative_pose(pose)
    np.testing.assert_array_equal(last[0], [[-4, 2, 4], [-2, 2, 2], [0, 0, 0]])
    mean = alignment.center_relative_pose(pose, [[True, True, False]], center_is_mean=True)
    np.testing.assert_array_equal(mean[0], [[-1, 0, 1], [1, 0, -1], [3, -2, -3]])
    chosen = alignment.center_relative_pose(pose, [[True, False, True]], True, [0, 1])
    np.testing.assert_array_equal(chosen[0], pose[0] - pose[0, 0])


def test_center_relative_pose_nothing_valid_and_nan_at_masked_points():
    pose = np.ones((2, 3, 3), np.float32)
    mask = np.array([[False] * 3, [True, True, False]])
    pose[1, 2] = np.nan
    result = alignment.center_relative_pose(pose, mask, center_is_mean=True).numpy()
    np.testing.assert_array_equal(result[0], pose[0])
    np.testing.assert_array_equal(result[1], 0)


@pytest.mark.parametrize("with_scale", [False, True])
@pytest.mark.parametrize("with_reflection", [False, True])
def test_rigid_align_equals_the_textbook(with_scale, with_reflection, rng):
    true, pred = rng.normal(size=(2, 8, 10, 3))
    valid = rng.uniform(size=(8, 10)) < 0.8
    result = alignment.rigid_align(
        pred,
        true,
        joint_validity_mask=valid,
        scale_align=with_scale,
        reflection_align=with_reflection,
    ).numpy()
    for i in range(8):
        v = valid[i]
        expected = procrustes(pred[i, v], true[i, v], with_scale, with_reflection)
        np.testing.assert_allclose(result[i, v], expected, atol=1e-9)


@pytest.mark.parametrize("with_scale", [False, True])
def test_rigid_align_undoes_a_motion_also_at_masked_points(with_scale, rng):
    true = rng.normal(size=(3, 7, 3))
    rotmat, shift = random_motion(rng)
    pred = true @ rotmat * (2.5 if with_scale else 1.0) + shift
    valid = np.ones((3, 7), bool)
    valid[:, 5:] = False
    result = alignment.rigid_align(pred, true, joint_validity_mask=valid, scale_align=with_scale)
    np.testing.assert_allclose(result, true, atol=1e-9)


def test_rigid_align_mirrors_only_when_allowed(rng):
    true = rng.normal(size=(1, 7, 3))
    pred = true * [-1, 1, 1]
    mirrored = alignment.rigid_align(pred, true, reflection_align=True)
    np.testing.assert_allclose(mirrored, true, atol=1e-9)
    turned = alignment.rigid_align(pred, true).numpy()
    assert np.abs(turned - true).max() > 0.1
    triple = [[0, 1, 2], [2, 3, 4]]
    for a, b, c in triple:  # handedness of the prediction is kept
        before = np.linalg.det(pred[0, [a, b, c]] - pred[0, 6])
        after = np.linalg.det(turned[0, [a, b, c]] - turned[0, 6])
        assert np.sign(before) == np.sign(after)


def test_rigid_align_does_not_care_about_joint_order_or_the_batch(rng):
    true, pred = rng.normal(size=(2, 4, 6, 3))
    order = rng.permutation(6)
    result = alignment.rigid_align(pred, true, scale_align=True).numpy()
    permuted = alignment.rigid_align(pred[:, order], true[:, order], scale_align=True)
    np.testing.assert_allclose(permuted, result[:, order], atol=1e-9)
    alone = alignment.rigid_align(pred[2:3], true[2:3], scale_align=True)
    np.testing.assert_allclose(alone[0], result[2], atol=1e-12)


@pytest.mark.parametrize("with_scale", [False, True])
@pytest.mark.parametrize("with_reflection", [False, True])
def test_rigid_align_few_valid_points(with_scale, with_reflection, rng):
    true, pred = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    valid = np.zeros((4, 5), bool)
    valid[1, 2] = True
    valid[2, :2] = True
    valid[3] = True
    options = {"scale_align": with_scale, "reflection_align": with_reflection}
    result = alignment.rigid_align(pred, true, joint_validity_mask=valid, **options).numpy()
    np.testing.assert_allclose(result[0], pred[0], atol=1e-6)
    # one valid point: translation only
    np.testing.assert_allclose(result[1], pred[1] - pred[1, 2] + true[1, 2], atol=1e-6)
    # two valid points: on the line of the true ones, with their middle
    true_line = true[2, 1] - true[2, 0]
    line = result[2, 1] - result[2, 0]
    np.testing.assert_allclose(
        line / np.linalg.norm(line), true_line / np.linalg.norm(true_line), atol=1e-5
    )
    np.testing.assert_allclose(result[2, :2].mean(0), true[2, :2].mean(0), atol=1e-6)
    alone = alignment.rigid_align(pred[3:], true[3:], **options)
    np.testing.assert_allclose(result[3:], alone, atol=1e-6)


def test_rigid_align_coincident_points_are_translated():
    pred = np.full((1, 4, 3), 0.5)
    true = np.arange(12.0).reshape(1, 4, 3)
    result = alignment.rigid_align(pred, true, scale_align=True)
    np.testing.assert_allclose(result, np.broadcast_to(true.mean(axis=1), (1, 4, 3)), atol=1e-12)


def test_rigid_align_nan_at_masked_points_is_harmless(rng):
    true, pred = rng.normal(size=(2, 2, 6, 3)).astype(np.float32)
    valid = np.ones((2, 6), bool)
    valid[0, 3:5] = False
    weights = tf.constant(rng.normal(size=(2, 6, 3)).astype(np.float32) * valid[..., np.newaxis])

    def value_and_gradients(pred, true):
        pred, true = tf.constant(pred), tf.constant(true)
        with tf.GradientTape() as tape:
            tape.watch([pred, true])
            aligned = alignment.rigid_align(pred, true, joint_validity_mask=valid, scale_align=True)
            total = tf.reduce_sum(weights * aligned)
        return aligned.numpy(), *(g.numpy() for g in tape.gradient(total, [pred, true]))

    clean = value_and_gradients(pred, true)
    pred[0, 3], pred[0, 4], true[0, 3], true[0, 4] = np.nan, np.inf, -np.inf, np.nan
    dirty = value_and_gradients(pred, true)
    np.testing.assert_array_equal(dirty[0][valid], clean[0][valid])
    np.testing.assert_array_equal(dirty[0][~valid], 0)
    for clean_gradient, dirty_gradient in zip(clean[1:], dirty[1:], strict=True):
        np.testing.assert_array_equal(dirty_gradient, clean_gradient)


def test_rigid_align_nan_at_a_valid_point_stays_in_its_example(rng):
    true, pred = rng.normal(size=(2, 2, 6, 3))
    pred[0, 1, 1] = np.nan
    result = alignment.rigid_align(pred, true).numpy()
    assert np.isnan(result[0]).all()
    assert np.isfinite(result[1]).all()


@pytest.mark.parametrize("with_scale", [False, True])
@pytest.mark.parametrize("with_reflection", [False, True])
def test_rigid_align_gradient(with_scale, with_reflection, rng):
    true, pred = rng.normal(size=(2, 2, 5, 3))
    weights = rng.normal(size=(2, 5, 3))
    valid = np.ones((2, 5), bool)
    valid[0, 4] = False

    def f(pred, true):
        aligned = alignment.rigid_align(
            pred,
            true,
            joint_validity_mask=valid,
            scale_align=with_scale,
            reflection_align=with_reflection,
        )
        return tf.reduce_sum(weights * aligned)

    arguments = [tf.constant(pred), tf.constant(true)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        total = f(*arguments)
    step = 1e-6
    for i, gradient in enumerate(tape.gradient(total, arguments)):
        for index in ((0, 0, 0), (0, 4, 1), (1, 2, 2), (1, 4, 0)):
            values = []
            for sign in (1, -1):
                shifted = [pred.copy(), true.copy()]
                shifted[i][index] += sign * step
                values.append(float(f(*shifted)))
            expected = (values[0] - values[1]) / (2 * step)
            np.testing.assert_allclose(gradient.numpy()[index], expected, rtol=1e-5, atol=1e-6)


def test_rigid_align_gradient_is_finite_where_the_rotation_is_free(rng):
    true, pred = rng.normal(size=(2, 5, 4, 3)).astype(np.float32)
    valid = np.arange(4) < np.array([0, 1, 2, 4, 4])[:, np.newaxis]
    true[3], pred[3] = np.arange(4)[:, np.newaxis] * true[3, :1], 0.3
    pred[4] = true[4] * [-1, 1, 1]
    pred = tf.constant(pred)
    with tf.GradientTape() as tape:
        tape.watch(pred)
        aligned = alignment.rigid_align(pred, true, joint_validity_mask=valid, scale_align=True)
        total = tf.reduce_sum(tf.where(valid[..., np.newaxis], aligned, 0.0) ** 2)
    gradient = tape.gradient(total, pred).numpy()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0], 0)


def test_rigid_align_traces_at_most_twice_when_called_directly(rng):
    traced = alignment._rigid_align.traced
    before = traced.experimental_get_tracing_count()
    for shape in ((2, 5, 3), (3, 5, 3), (4, 6, 3), (1, 7, 3), (0, 5, 3)):
        true, pred = rng.normal(size=(2, *shape)).astype(np.float32)
        assert alignment.rigid_align(pred, true, scale_align=True).shape == shape
    assert traced.experimental_get_tracing_count() - before <= 2


@pytest.mark.parametrize("jit_compile", [False, True])
def test_rigid_align_unknown_shapes(jit_compile, rng):
    points = tf.TensorSpec([None, None, 3])

    @tf.function(
        jit_compile=jit_compile,
        input_signature=[points, points, tf.TensorSpec([None, None], tf.bool)],
    )
    def f(pred, true, valid):
        with tf.GradientTape() as tape:
            tape.watch(pred)
            aligned = alignment.rigid_align(pred, true, joint_validity_mask=valid, scale_align=True)
            relative = alignment.center_relative_pose(aligned, valid, center_is_mean=True)
            total = tf.reduce_sum(relative**2)
        return relative, tape.gradient(total, pred)

    for shape in ((3, 6), (0, 6)):
        true, pred = rng.normal(size=(2, *shape, 3)).astype(np.float32)
        valid = np.ones(shape, bool)
        valid[1:, 2] = False
        relative, gradient = f(pred, true, valid)
        expected = alignment.center_relative_pose(
            alignment.rigid_align(pred, true, joint_validity_mask=valid, scale_align=True),
            valid,
            center_is_mean=True,
        )
        np.testing.assert_allclose(relative, expected, atol=1e-5)
        assert gradient.shape == pred.shape and np.isfinite(gradient).all()


def test_mismatching_shapes_are_named():
    with pytest.raises(ValueError, match="coords_true"):
        alignment.rigid_align(tf.zeros([2, 5, 3]), tf.zeros([2, 6, 3]))
    with pytest.raises(ValueError, match="joint_validity_mask"):
        alignment.center_relative_pose(tf.zeros([2, 5, 3]), tf.ones([2, 4], tf.bool))
