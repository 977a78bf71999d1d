"""The synthetic people's body in SMPL form: mesh, shape directions, joints, skinning.

Conventions: body frame at rest (x to the person's left, y up, z front, arms hanging, pelvis near
the origin), m. It is the naked body of the generator's coarse mesh, without skirt and long hair,
and its own mirror image. Canonical points are defined with horizontal arms.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from metrabs_like.data.people import BodyParameters
from metrabs_like.data.synthetic.body import PARENTS, Body, sample_body
from metrabs_like.data.synthetic.mesh import rest_vertices
from metrabs_like.data.synthetic.mesh_template import mesh_template
from metrabs_like.data.synthetic.pose import forward_kinematics, local_rotations
from metrabs_like.geometry.body_model import BodyModel, posed_arrays
from metrabs_like.skeletons import SMPL_24

#: What data sets call this body.
NAME = "procedural"
#: Number of shape directions, as many as SMPL's usual ones; the bodies vary in seven ways (ours).
N_BETAS = 10
_N_BODIES = 256
_SEED = 1
_CLOTHES = ("skirt", "long_hair")
#: Nearest vertices from which each joint is computed (ours).
_N_SUPPORT = 200
#: Keeps the regressor's weights small; joints stay within 0.1 mm (ours).
_RIDGE = 4e-11
_MIRROR = np.array([-1.0, 1.0, 1.0])
_MIRRORED_JOINTS = np.array(SMPL_24.mirror_indices)


@cache
def procedural_body() -> BodyModel:
    """Builds the body model, once per process: the same arrays everywhere.

    Returns:
      The model: 24 joints of `smpl_24`, 10 betas of unit variance over the generator's people, no
      pose blend.
    """
    template = mesh_template()
    kept = _body_vertices()
    pairs = _mirrored_vertices(template, kept)
    vertices, joints = _sampled_bodies()
    mean, directions, joint_mean, joint_directions = _shape_space(vertices, joints, pairs)
    regressor = _joint_regressor(mean, directions, joint_mean, joint_directions, pairs)
    weights = template.weights[template.weight_row[kept]]
    weights = 0.5 * (weights + weights[pairs][:, _MIRRORED_JOINTS])
    return BodyModel(
        name=NAME,
        v_template=mean,
        shapedirs=directions,
        joint_regressor=regressor,
        weights=weights,
        faces=_triangles(template, kept, pairs),
        parents=PARENTS,
        canonical_pose_rotvecs=_t_pose(),
    )


def body_parameters(body: Body, pose: np.ndarray, camera_from_body: np.ndarray) -> BodyParameters:
    """Finds the body model's parameters of a synthetic person.

    The pose is exact; betas are the least-squares fit to the person's naked surface at rest;
    the translation aligns the joints' mean.

    Args:
      body: Proportions.
      pose: `[n_angles]`, radians.
      camera_from_body: `[3, 4]`, rigid, from the generator's body frame to the camera frame, m.

    Returns:
      The parameters; see `people.BodyParameters`.
    """
    model = procedural_body()
    betas = _fitting_matrix() @ (_rest_surface(body) - model.v_template).reshape(-1)
    rotvecs = np.stack([cv2.Rodrigues(matrix)[0][:, 0] for matrix in local_rotations(pose)])
    joints, _ = forward_kinematics(body.rest_joints, pose)
    _, model_joints = posed_arrays(model, rotvecs, betas)
    return BodyParameters(
        pose_rotvecs=rotvecs.astype(np.float32),
        shape_betas=betas.astype(np.float32),
        translation=(joints - model_joints).mean(axis=0).astype(np.float32),
        camera_from_body=np.asarray(camera_from_body, np.float32),
    )


def camera_points(parameters: BodyParameters) -> tuple[np.ndarray, np.ndarray]:
    """Poses the procedural body where a person stands.

    Args:
      parameters: of a synthetic person.

    Returns:
      Vertices `[V, 3]` and joints `[24, 3]`, m, camera frame.
    """
    posed = posed_arrays(procedural_body(), parameters.pose_rotvecs, parameters.shape_betas)
    rotation, shift = np.split(parameters.camera_from_body.astype(np.float64), [3], axis=1)
    vertices, joints = ((x + parameters.translation) @ rotation.T + shift[:, 0] for x in posed)
    return vertices, joints


@cache
def _body_vertices():
    """Numbers of the template's vertices that belong to the body itself."""
    template = mesh_template()
    is_body = [name not in _CLOTHES for name in template.tube_names]
    return np.flatnonzero(np.array(is_body)[template.vertex_tube])


def _rest_surface(body):
    """Naked vertices `[V, 3]` of a body at rest."""
    template = mesh_template()
    vertices = rest_vertices(body, np.ones(len(template.girth)), template)
    return vertices[_body_vertices()]


def _mirrored_vertices(template, kept):
    """For each vertex the one at its mirrored place in the mirrored tube."""
    rng = np.random.default_rng(_SEED)
    body = sample_body(rng)
    vertices = _rest_surface(body)
    names, tube = template.tube_names, template.vertex_tube[kept]
    pairs = np.empty(len(kept), dtype=int)
    for index, name in enumerate(names):
        other = {"l": "r", "r": "l"}.get(name[0], name[0]) + name[1:]
        other = names.index(other) if other in names and name not in _CLOTHES else index
        own, opposite = np.flatnonzero(tube == index), np.flatnonzero(tube == other)
        places = vertices[opposite] * _MIRROR
        distances = np.linalg.norm(vertices[own][:, np.newaxis] - places, axis=-1)
        if len(own):
            pairs[own] = opposite[distances.argmin(axis=1)]
    return pairs


def _sampled_bodies():
    """Rest vertices `[N, V, 3]` and joints `[N, 24, 3]` of people of the generator."""
    rng = np.random.default_rng(_SEED)
    bodies = [sample_body(rng) for _ in range(_N_BODIES)]
    return (
        np.stack([_rest_surface(body) for body in bodies]),
        np.stack([body.rest_joints for body in bodies]),
    )


def _shape_space(vertices, joints, pairs):
    """Means and principal directions of the vertices, and what the joints do along them."""
    mean, joint_mean = vertices.mean(axis=0), joints.mean(axis=0)
    centred = (vertices - mean).reshape(len(vertices), -1)
    values, scores = np.linalg.eigh(centred @ centred.T)
    scores = scores[:, ::-1][:, :N_BETAS] * np.sqrt(len(vertices))  # unit variance
    directions = (centred.T @ scores).reshape(*mean.shape, -1) / len(vertices)
    joint_directions = np.einsum("njc,ns->jcs", joints - joint_mean, scores) / len(vertices)
    # Positive where it moves most upwards or forwards; sideways mirrored vertices would tie.
    largest = np.abs(directions[:, 1:]).reshape(-1, N_BETAS).argmax(axis=0)
    signs = np.sign(directions[:, 1:].reshape(-1, N_BETAS)[largest, np.arange(N_BETAS)])
    return (
        _symmetric(mean, pairs),
        _symmetric(directions * signs, pairs),
        _symmetric(joint_mean, _MIRRORED_JOINTS),
        _symmetric(joint_directions * signs, _MIRRORED_JOINTS),
    )


def _symmetric(points, pairs):
    """The mean of points `[n, 3, ...]` and their mirror image."""
    mirror = _MIRROR.reshape(-1, *[1] * (points.ndim - 2))
    return 0.5 * (points + points[pairs] * mirror)


def _joint_regressor(mean, directions, joint_mean, joint_directions, pairs):
    """Weights `[24, V]` of the nearest vertices that give template joints and their directions."""
    shapes = np.concatenate([mean[..., np.newaxis], directions], axis=-1)
    wanted = np.concatenate([joint_mean[..., np.newaxis], joint_directions], axis=-1)
    regressor = np.zeros((len(wanted), len(mean)))
    for joint, row in enumerate(wanted):
        distances = np.linalg.norm(mean - joint_mean[joint], axis=-1)
        near = np.argsort(distances, kind="stable")[:_N_SUPPORT]
        near = np.union1d(near, pairs[near] if _MIRRORED_JOINTS[joint] == joint else near)
        # each vertex' use costs its distance; the last equation: weights add up to 1
        ease = 1.0 / (distances[near] + 0.05)
        ease /= np.linalg.norm(ease)
        equations = np.concatenate([shapes[near].reshape(len(near), -1).T, np.ones((1, len(near)))])
        equations *= ease
        gram = equations @ equations.T + _RIDGE * np.eye(len(equations))
        solution = equations.T @ np.linalg.solve(gram, np.append(row.reshape(-1), 1.0))
        regressor[joint, near] = solution * ease
    return 0.5 * (regressor + regressor[_MIRRORED_JOINTS][:, pairs])


def _triangles(template, kept, pairs):
    """The quads of the left half cut in two, and the mirror images of these triangles."""
    number = np.full(len(template.girth), -1)
    number[kept] = np.arange(len(kept))
    names = np.array(template.tube_names)[template.face_tube]
    is_left_limb = np.array([name[0] == "l" and name not in _CLOTHES for name in names])
    is_middle = np.array([name in ("torso", "neck", "head") for name in names])
    quads = number[template.faces[is_left_limb | (is_middle & (template.face_angle > 0))]]
    left = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return np.concatenate([left, pairs[left][:, ::-1]])


def _t_pose():
    """Rotation vectors `[24, 3]` that raise the hanging arms sideways."""
    rotvecs = np.zeros((SMPL_24.n_joints, 3))
    rotvecs[SMPL_24.index("lsho"), 2] = np.pi / 2
    rotvecs[SMPL_24.index("rsho"), 2] = -np.pi / 2
    return rotvecs


@cache
def _fitting_matrix():
    """From displacements of the vertices `[3 V]` to the betas that fit them best."""
    model = procedural_body()
    return np.linalg.pinv(model.shapedirs.reshape(-1, model.n_betas).astype(np.float64))
