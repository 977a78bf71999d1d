"""The procedural body model: symmetry, joints, shapes, and that synthetic people lie on it."""

import cv2
import numpy as np

from metrabs_like.data.synthetic import body_model
from metrabs_like.data.synthetic.body import sample_body
from metrabs_like.data.synthetic.mesh import posed_body
from metrabs_like.data.synthetic.mesh_template import mesh_template
from metrabs_like.data.synthetic.pose_library import sample_pose
from metrabs_like.geometry import smpl
from metrabs_like.geometry.surface import face_areas
from metrabs_like.skeletons import SMPL_24

MODEL = body_model.procedural_body()
MIRROR = np.array([-1, 1, 1], np.float32)
JOINTS = list(SMPL_24.mirror_indices)


def mirrored_vertex_numbers():
    """For each vertex the one whose place and shape directions are exactly mirrored."""
    rows = np.concatenate(
        [MODEL.v_template[..., np.newaxis], MODEL.shapedirs], axis=-1, dtype=np.float32
    )
    mirrored = rows * MIRROR[:, np.newaxis] + np.float32(0)  # no negative zeros
    number = {row.tobytes(): i for i, row in enumerate(rows + np.float32(0))}
    assert len(number) == len(rows)
    return np.array([number[row.tobytes()] for row in mirrored])


def test_is_a_body_of_moderate_size():
    assert 500 < MODEL.n_vertices < 2500 and len(MODEL.faces) > 1000
    assert (MODEL.n_joints, MODEL.n_betas, MODEL.name) == (24, 10, "procedural")
    assert MODEL.posedirs.size == 0
    assert 1.6 < np.ptp(MODEL.v_template[:, 1]) < 1.85
    np.testing.assert_allclose(MODEL.weights.sum(axis=1), 1.0, atol=1e-6)
    assert body_model.procedural_body() is MODEL
    used = np.unique(MODEL.faces)
    np.testing.assert_array_equal(used, np.arange(MODEL.n_vertices))


def test_is_its_own_mirror_image():
    pairs = mirrored_vertex_numbers()
    np.testing.assert_array_equal(pairs[pairs], np.arange(len(pairs)))
    np.testing.assert_array_equal(MODEL.weights[pairs][:, JOINTS], MODEL.weights)
    np.testing.assert_array_equal(MODEL.joint_regressor[JOINTS][:, pairs], MODEL.joint_regressor)
    # a mirrored face runs the other way round; it may start at any of its corners
    faces = {tuple(np.roll(face, -face.argmin())) for face in MODEL.faces}
    image = {tuple(np.roll(face, -face.argmin())) for face in pairs[MODEL.faces][:, ::-1]}
    assert faces == image and len(faces) == len(MODEL.faces)
    rotvecs = MODEL.canonical_pose_rotvecs
    np.testing.assert_array_equal(rotvecs[JOINTS] * (1, -1, -1), rotvecs)


def test_faces_look_outwards():
    corners = MODEL.v_template[MODEL.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume = (corners[:, 0] * normals).sum() / 6  # of the closed tubes, by the divergence theorem
    assert 0.04 < volume < 0.12
    assert face_areas(MODEL.v_template, MODEL.faces).sum() > 1.5


def test_has_no_clothes():
    """Every part of the generator's mesh but skirt and long hair."""
    template, kept = mesh_template(), body_model._body_vertices()
    names = {template.tube_names[i] for i in template.vertex_tube[kept]}
    assert not names & {"skirt", "long_hair"}
    assert names == set(template.tube_names) - {"skirt", "long_hair"}


def test_regressed_joints_are_those_of_the_bodies(rng):
    """To 0.1 mm for the template and on average over people, from moderate weights."""
    vertices, joints = body_model._sampled_bodies()
    betas = (vertices - MODEL.v_template).reshape(
        len(vertices), -1
    ) @ body_model._fitting_matrix().T
    np.testing.assert_allclose(MODEL.joint_template, joints.mean(axis=0), atol=1e-4)
    regressed = MODEL.joint_template + np.einsum("jcs,ns->njc", MODEL.joint_shapedirs, betas)
    assert np.abs(regressed - joints).mean() < 1e-4
    np.testing.assert_allclose(MODEL.joint_regressor.sum(axis=1), 1.0, atol=1e-5)
    assert (MODEL.joint_regressor != 0).sum(axis=1).max() < MODEL.n_vertices / 3
    assert np.abs(MODEL.joint_regressor).sum(axis=1).max() < 12


def test_betas_have_unit_variance_and_the_first_is_size(rng):
    identity = np.eye(3, 4)
    people = [sample_body(rng) for _ in range(200)]
    pose = sample_pose(rng)
    betas = np.array([body_model.body_parameters(b, pose, identity).shape_betas for b in people])
    assert (0.7 < betas.std(axis=0)).all() and (betas.std(axis=0) < 1.4).all()
    heights = [b.height_m for b in people]
    assert abs(np.corrcoef(betas[:, 0], heights)[0, 1]) > 0.9


def test_synthetic_people_lie_on_the_body(rng):
    template, kept = mesh_template(), body_model._body_vertices()
    rotation = cv2.Rodrigues(np.array([0.3, 2.0, -1.0]))[0]
    camera_from_body = np.concatenate([rotation, [[0.5], [-0.2], [4.0]]], axis=1)
    joint_errors, vertex_errors = [], []
    for _ in range(200):
        body, pose = sample_body(rng), sample_pose(rng)
        parameters = body_model.body_parameters(body, pose, camera_from_body)
        vertices, joints = body_model.camera_points(parameters)
        real = posed_body(body, pose, np.ones(len(template.girth)), template)
        moved = [x @ rotation.T + (0.5, -0.2, 4.0) for x in (real.points[:24], real.vertices[kept])]
        joint_errors.append(np.linalg.norm(joints - moved[0], axis=-1))
        vertex_errors.append(np.linalg.norm(vertices - moved[1], axis=-1))
    assert np.mean(joint_errors) < 1e-4 and np.max(joint_errors) < 2e-3
    assert np.mean(vertex_errors) < 1e-4 and np.max(vertex_errors) < 2e-3


def test_parameters_agree_with_the_tensor_version(rng):
    camera_from_body = np.concatenate([np.diag([1, -1, -1]), [[0.0], [0.0], [3.0]]], axis=1)
    parameters = body_model.body_parameters(sample_body(rng), sample_pose(rng), camera_from_body)
    assert parameters.pose_rotvecs.shape == (24, 3) and parameters.shape_betas.shape == (10,)
    posed = smpl.pose_body(
        MODEL,
        parameters.pose_rotvecs[np.newaxis],
        parameters.shape_betas[np.newaxis],
        parameters.translation[np.newaxis],
    )
    vertices, joints = body_model.camera_points(parameters)
    for tensor, array in ((posed.vertices, vertices), (posed.joints, joints)):
        moved = tensor[0].numpy() * (1, -1, -1) + (0, 0, 3)
        np.testing.assert_allclose(moved, array, atol=1e-5)


def test_canonical_arms_are_horizontal():
    joints = smpl.canonical_joints(MODEL)
    for side, sign in (("l", 1), ("r", -1)):
        shoulder, wrist = (joints[SMPL_24.index(side + name)] for name in ("sho", "wri"))
        arm = wrist - shoulder
        assert sign * arm[0] > 0.45 and np.abs(arm[1:]).max() < 0.06
    # everything but the arms stays at rest
    still = [SMPL_24.index(name) for name in ("pelv", "head", "ltoe", "rank", "lsho")]
    np.testing.assert_allclose(joints[still], MODEL.joint_template[still], atol=1e-6)
