"""Posing of body models: by hand, invariances, points of the surface, gradients, graphs."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import rotation, smpl
from tests.geometry.bodies import random_corners, random_model, random_people
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.derivatives import assert_gradients_match

QUARTER = np.pi / 2


def two_joints(**fields):
    """A forearm of 1 m along x behind an elbow at x = 1; vertex 2 follows both halfway."""
    return smpl.BodyModel(
        name="arm",
        v_template=[[0, 0, 0], [1, 0, 0], [1.5, 0, 0], [2, 0, 0]],
        shapedirs=np.zeros((4, 3, 0)),
        joint_regressor=[[1, 0, 0, 0], [0, 1, 0, 0]],
        weights=[[1, 0], [1, 0], [0.5, 0.5], [0, 1]],
        faces=[[0, 1, 2]],
        parents=(-1, 0),
        **fields,
    )


def test_two_joints_by_hand():
    pose = np.array([[[0, 0, 0], [0, 0, QUARTER]], [[0, 0, QUARTER], [0, 0, 0]]])
    posed = smpl.pose_body(two_joints(), pose.astype(np.float32), np.zeros((2, 0)))
    bent = [[0, 0, 0], [1, 0, 0], [1.25, 0.25, 0], [1, 1, 0]]
    turned = [[0, 0, 0], [0, 1, 0], [0, 1.5, 0], [0, 2, 0]]
    np.testing.assert_allclose(posed.vertices, [bent, turned], atol=1e-6)
    np.testing.assert_allclose(
        posed.joints, [[[0, 0, 0], [1, 0, 0]], [[0, 0, 0], [0, 1, 0]]], atol=1e-6
    )
    # the elbow's transform keeps the elbow: R x + t with t = (1, -1, 0)
    elbow = [[0, -1, 0, 1], [1, 0, 0, -1], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(posed.transforms[0, 1], elbow, atol=1e-6)


def test_pose_blend_by_hand():
    """Entry (row 0, column 1) of the elbow's R - I moves the last vertex along z."""
    posedirs = np.zeros((4, 3, 9))
    posedirs[3, 2, 1] = 0.1
    pose = np.array([[[0, 0, 0], [0, 0, QUARTER]]], np.float32)
    posed = smpl.pose_body(two_joints(posedirs=posedirs), pose, np.zeros((1, 0)))
    np.testing.assert_allclose(posed.vertices[0, 3], [1, 1, -0.1], atol=1e-6)


def test_no_rotation_gives_the_shaped_template(rng):
    model = random_model(rng)
    betas = rng.normal(size=(2, 4)).astype(np.float32)
    betas[0] = 0
    posed = smpl.pose_body(model, np.zeros((2, 5, 3), np.float32), betas)
    np.testing.assert_allclose(posed.vertices[0], model.v_template, atol=1e-6)
    shaped = model.v_template + model.shapedirs @ betas[1]
    for vertices in (posed.vertices, posed.shaped_vertices):
        np.testing.assert_allclose(vertices[1], shaped, atol=1e-6)
    for joints in (posed.joints, posed.rest_joints):
        np.testing.assert_allclose(joints[1], model.joint_regressor @ shaped, atol=1e-6)
    np.testing.assert_allclose(posed.transforms, np.tile(np.eye(4), (2, 5, 1, 1)), atol=1e-6)
    np.testing.assert_array_equal(posed.rotations, np.tile(np.eye(3), (2, 5, 1, 1)))


def test_fewer_betas_are_the_first_ones(rng):
    model = random_model(rng)
    pose, betas, _ = random_people(rng, model)
    betas[:, 2:] = 0
    np.testing.assert_allclose(
        smpl.pose_body(model, pose, betas[:, :2]).vertices,
        smpl.pose_body(model, pose, betas).vertices,
        atol=1e-6,
    )


def test_root_rotation_turns_everything_about_the_root_joint(rng):
    model = random_model(rng)
    pose, betas, _ = random_people(rng, model)
    upright = pose.copy()
    upright[:, 0] = 0
    posed, before = smpl.pose_body(model, pose, betas), smpl.pose_body(model, upright, betas)
    root = before.joints[:, :1]
    rotmat = rotation.rotvec_to_rotmat(pose[:, 0])
    for after, points in ((posed.vertices, before.vertices), (posed.joints, before.joints)):
        expected = tf.einsum("bij,bpj->bpi", rotmat, points - root) + root
        np.testing.assert_allclose(after, expected, atol=2e-6)


def test_translation_moves_vertices_and_joints_alike(rng):
    model = random_model(rng)
    pose, betas, translation = random_people(rng, model)
    moved = smpl.pose_body(model, pose, betas, translation)
    posed = smpl.pose_body(model, pose, betas)
    for after, before in zip(moved[:2], posed[:2], strict=True):
        np.testing.assert_allclose(after, before + translation[:, np.newaxis], atol=1e-6)
    np.testing.assert_array_equal(moved.transforms, posed.transforms)
    joints = smpl.pose_joints(model, pose, betas, translation)
    np.testing.assert_allclose(joints, moved.joints, atol=1e-6)


def test_rotate_base_multiplies_the_root_from_the_right(rng):
    """A half turn about x at the root is then no turn; pose blend and `rotations` stay."""
    model = random_model(rng)
    pose, betas, _ = random_people(rng, model)
    pose[:, 0] = [np.pi, 0, 0]
    flipped = smpl.pose_body(model, pose, betas, rotate_base=True)
    np.testing.assert_allclose(flipped.rotations[:, 0], [np.diag([1, -1, -1])] * 3, atol=1e-6)
    pose[:, 0] = 0
    posed = smpl.pose_body(model, pose, betas)
    np.testing.assert_allclose(flipped.vertices, posed.vertices, atol=2e-6)


def test_agrees_with_the_numpy_version(rng):
    model = random_model(rng)
    pose, betas, _ = random_people(rng, model)
    posed = smpl.pose_body(model, pose, betas)
    for i in range(3):
        vertices, joints = smpl.posed_arrays(model, pose[i], betas[i])
        np.testing.assert_allclose(posed.vertices[i], vertices, atol=2e-6)
        np.testing.assert_allclose(posed.joints[i], joints, atol=2e-6)


@pytest.mark.parametrize("n_vertices", [20, smpl.SMALL_MESH + 1])
@pytest.mark.parametrize("is_shared", [False, True])
def test_points_are_combinations_of_the_vertices(rng, n_vertices, is_shared):
    model = random_model(rng, n_vertices)
    pose, betas, translation = random_people(rng, model)
    ids, weights = random_corners(rng, model, *([7] if is_shared else [3, 7]))
    points = smpl.pose_points(model, pose, betas, ids, weights, translation)
    vertices = smpl.pose_body(model, pose, betas, translation).vertices.numpy()
    for i in range(3):
        corners = vertices[i][ids if is_shared else ids[i]]
        share = (weights if is_shared else weights[i])[..., np.newaxis]
        np.testing.assert_allclose(points[i], (corners * share).sum(axis=1), atol=3e-6)


def test_padded_points_are_the_translation(rng):
    model = random_model(rng)
    pose, betas, translation = random_people(rng, model)
    nothing = np.zeros((3, 2, 3), np.int32)
    points = smpl.pose_points(model, pose, betas, nothing, nothing, translation)
    np.testing.assert_allclose(points, np.tile(translation[:, np.newaxis], (1, 2, 1)), atol=1e-6)


def test_canonical_points(rng):
    canonical = rng.normal(0.0, 0.5, (5, 3))
    model = random_model(rng, canonical_pose_rotvecs=canonical)
    posed = smpl.pose_body(model, canonical[np.newaxis].astype(np.float32), np.zeros((1, 0)))
    np.testing.assert_allclose(smpl.canonical_vertices(model), posed.vertices[0], atol=2e-6)
    np.testing.assert_allclose(smpl.canonical_joints(model), posed.joints[0], atol=2e-6)
    ids, weights = random_corners(rng, model, 4, 6)
    np.testing.assert_allclose(
        smpl.canonical_points(model, ids[0, 0], weights[0, 0]),
        weights[0, 0] @ smpl.canonical_vertices(model)[ids[0, 0]],
        atol=1e-6,
    )
    points = smpl.canonical_points(model, ids, weights)
    corners = posed.vertices[0].numpy()[ids] * weights[..., np.newaxis]
    np.testing.assert_allclose(points, corners.sum(axis=2), atol=2e-6)
    with pytest.raises(ValueError):
        smpl.canonical_vertices(model)[0] = 1


@pytest.mark.parametrize("n_vertices", [6, smpl.SMALL_MESH + 1])
def test_gradients_against_finite_differences(rng, n_vertices):
    model = random_model(rng, n_vertices, n_betas=2, parents=(-1, 0, 0, 1))
    pose, betas, translation = random_people(rng, model, n=1)
    pose[:, 1] = 0  # the singular point of the angle
    ids, weights = random_corners(rng, model, 1, 2)
    coefficients = rng.normal(size=(4, 12, 3))

    def total(pose, betas, translation, weights):
        points = smpl.pose_points(model, pose, betas, ids, weights, translation)
        shared = smpl.pose_points(model, pose, betas, ids[0], weights[0], translation)
        joints = smpl.pose_joints(model, pose, betas, translation)
        value = sum(
            tf.reduce_sum(x * tf.cast(c[: x.shape[1]], x.dtype))
            for x, c in zip((points, shared, joints), coefficients, strict=False)
        )
        if n_vertices < 10:
            posed = smpl.pose_body(model, pose, betas, translation)
            value += tf.reduce_sum(posed.vertices * coefficients[3][:n_vertices])
        return value

    assert_gradients_match(total, [pose, betas, translation, weights], atol=1e-6)


def float32_gradients(function, *arrays):
    tensors = [tf.constant(x) for x in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
        scalar = tf.reduce_sum(value * tf.cos(tf.range(value.shape[1], dtype=value.dtype))[:, None])
    return [value, *tape.gradient(scalar, tensors)]


@pytest.mark.parametrize("n_vertices", [20, smpl.SMALL_MESH + 1])
def test_nan_in_one_example_stays_there(rng, n_vertices):
    model = random_model(rng, n_vertices)
    pose, betas, translation = random_people(rng, model)
    ids, weights = random_corners(rng, model, 3, 7)

    def vertices(pose, betas, translation):
        return smpl.pose_body(model, pose, betas, translation).vertices

    def points(pose, betas, translation):
        return smpl.pose_points(model, pose, betas, ids, weights, translation)

    for function in (vertices, points):
        clean = float32_gradients(function, pose, betas, translation)
        for bad in range(3):
            dirty = [pose.copy(), betas.copy(), translation.copy()]
            dirty[bad][1] = np.nan
            for ours, reference in zip(float32_gradients(function, *dirty), clean, strict=True):
                for i in (0, 2):
                    np.testing.assert_allclose(ours[i], reference[i], rtol=1e-5, atol=1e-5)
        assert np.isnan(function(*dirty)[1]).all()


def test_one_graph_for_all_batches_also_under_xla(rng):
    model = random_model(rng)

    def posed(pose, betas, translation):
        return smpl.pose_body(model, pose, betas, translation)

    batches = [random_people(rng, model, n) for n in (2, 3)]
    assert_compiles_once(posed, batches, atol=2e-6)


@pytest.mark.parametrize("n_vertices", [20, smpl.SMALL_MESH + 1])
def test_one_graph_for_all_points_also_under_xla(rng, n_vertices):
    model = random_model(rng, n_vertices, parents=(-1, 0, 0))

    def points(pose, betas, ids, weights):
        own = smpl.pose_points(model, pose, betas, ids, weights)
        return own, smpl.pose_points(model, pose, betas, ids[0], weights[0])

    batches = [
        [*random_people(rng, model, n)[:2], *random_corners(rng, model, n, 4 + n)] for n in (1, 2)
    ]
    assert_compiles_once(points, batches, atol=2e-6)


@pytest.mark.parametrize("n_vertices", [20, smpl.SMALL_MESH + 1])
def test_no_examples_and_no_points(rng, n_vertices):
    model = random_model(rng, n_vertices)
    pose, betas, translation = random_people(rng, model, n=0)
    posed = smpl.pose_body(model, pose, betas, translation)
    assert [x.shape[0] for x in posed] == [0] * 6
    assert posed.vertices.shape == (0, n_vertices, 3) and posed.transforms.shape == (0, 5, 4, 4)
    ids, weights = random_corners(rng, model, 0, 4)
    assert smpl.pose_points(model, pose, betas, ids, weights).shape == (0, 4, 3)
    pose, betas, _ = random_people(rng, model, n=2)
    ids, weights = random_corners(rng, model, 2, 0)
    assert smpl.pose_points(model, pose, betas, ids, weights).shape == (2, 0, 3)
    assert smpl.pose_points(model, pose, betas, ids[0], weights[0]).shape == (2, 0, 3)


def test_a_direct_call_traces_once_per_model(rng):
    model = random_model(rng)
    before = smpl._pose_joints.traced.experimental_get_tracing_count()
    for n in (1, 2, 5):
        smpl.pose_joints(model, *random_people(rng, model, n)[:2])
    assert smpl._pose_joints.traced.experimental_get_tracing_count() == before + 1


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"pose_rotvecs": np.zeros((2, 4, 3))}, "pose_rotvecs.*5"),
        ({"shape_betas": np.zeros((3, 2))}, "shape_betas.*B = 2"),
        ({"shape_betas": np.zeros((2, 9))}, "only 4 shape directions"),
        ({"translation": np.zeros((2, 2))}, "translation"),
        ({"vertex_ids": np.zeros((2, 6, 3), int)}, "equal shapes"),
        ({"vertex_ids": np.zeros((7, 3), int)}, "equal shapes"),
        (
            {"vertex_ids": np.zeros((1, 6, 3), int), "weights": np.zeros((1, 6, 3))},
            "vertex_ids.*B = 2",
        ),
    ],
)
def test_wrong_shapes_are_named(rng, changed, message):
    model = random_model(rng)
    arguments = {
        "pose_rotvecs": np.zeros((2, 5, 3)),
        "shape_betas": np.zeros((2, 4)),
        "vertex_ids": np.zeros((2, 7, 3), int),
        "weights": np.zeros((2, 7, 3)),
        "translation": np.zeros((2, 3)),
    }
    with pytest.raises(ValueError, match=message):
        smpl.pose_points(model, **(arguments | changed))
