"""From a body and its pose to posed vertices and labelled points.

Conventions: body frame (x left, y up, z front), m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metrabs_like.data.synthetic.body import Body
from metrabs_like.data.synthetic.mesh_template import MeshTemplate
from metrabs_like.data.synthetic.pose import forward_kinematics
from metrabs_like.skeletons import COCO_17, SMPL_24

#: Facial keypoints relative to the template's head joint, m; the right ones are mirrored.
FACE_POINTS = {
    "nose": (0.0, 0.040, 0.116),
    "leye": (0.032, 0.072, 0.092),
    "lear": (0.072, 0.060, 0.000),
}
#: COCO annotators mark hips and shoulders nearer to the outline than SMPL's joints, m.
_HIP_OFFSET = (0.030, 0.018, 0.004)
_SHOULDER_OFFSET = (0.010, -0.008, 0.004)


@dataclass(frozen=True)
class PosedBody:
    """A person in some pose, in the body frame.

    Attributes:
      points: `[41, 3]`, m, in the order of `smpl_24+coco_17`.
      vertices: `[V, 3]`, m, in the order of the mesh template.
      head_rotation: `[3, 3]` from the head's axes at rest to the body frame.
      head_joint: `[3]`, m.
      head_scale: Size of the head relative to the template.
      template: The mesh.
    """

    points: np.ndarray
    vertices: np.ndarray
    head_rotation: np.ndarray
    head_joint: np.ndarray
    head_scale: float
    template: MeshTemplate


def posed_body(
    body: Body, pose: np.ndarray, looseness: np.ndarray, template: MeshTemplate
) -> PosedBody:
    """Poses the mesh by linear blend skinning.

    Args:
      body: Proportions.
      pose: `[n_angles]`, radians.
      looseness: `[V]`, multiplier of each vertex' radius: how loose the clothes are.
      template: The mesh.

    Returns:
      Points and vertices with the pelvis at the origin.
    """
    joints, rotations = forward_kinematics(body.rest_joints, pose)
    vertices = _skinned(
        rest_vertices(body, looseness, template), body.rest_joints, joints, rotations, template
    )
    points = np.concatenate([joints, _coco_points(body, joints, rotations)])
    return PosedBody(points, vertices, rotations[_HEAD], joints[_HEAD], body.head_scale, template)


def rest_vertices(body: Body, looseness: np.ndarray, template: MeshTemplate) -> np.ndarray:
    """Gives the mesh the body's proportions.

    Args:
      body: Proportions.
      looseness: `[V]`, multiplier of each vertex' radius.
      template: The mesh.

    Returns:
      Vertices `[V, 3]` at rest, m.
    """
    start, end = body.rest_joints[template.joint_a], body.rest_joints[template.joint_b]
    girths = np.array([body.trunk_girth, body.limb_girth, body.head_scale, body.scale])
    sizes = np.array([body.scale, body.scale, body.head_scale, body.scale])
    centre = start + template.fraction[:, np.newaxis] * (end - start)
    centre += template.offset * sizes[template.girth][:, np.newaxis]
    girth = girths[template.girth] * looseness
    girth *= 1.0 + (body.hip_girth - 1.0) * template.at_hips
    return centre + template.radial * girth[:, np.newaxis]


def _skinned(vertices, rest_joints, joints, rotations, template):
    """Linear blend skinning, `[V, 3]`."""
    translations = joints - (rotations @ rest_joints[..., np.newaxis])[..., 0]
    transforms = np.concatenate([rotations, translations[..., np.newaxis]], axis=-1)
    # Blended once per different row of weights: rings share them.
    blended = (template.weights @ transforms.reshape(-1, 12))[template.weight_row]
    x, y, z = vertices.T
    columns = blended.T.reshape(3, 4, -1)
    return np.stack([a * x + b * y + c * z + d for a, b, c, d in columns], axis=-1)


_HEAD = SMPL_24.index("head")
_MIRROR = np.array([-1.0, 1.0, 1.0])


def _local_points():
    """For each COCO keypoint the joint that carries it and its offset."""
    carriers, offsets, is_face = [], [], []
    for name in COCO_17.joint_names:
        left = "l" + name[1:] if name != "nose" else name
        if left in FACE_POINTS:
            carrier, offset = "head", FACE_POINTS[left]
        elif left == "lhip":
            carrier, offset = "pelv", _HIP_OFFSET
        elif left == "lsho":
            carrier, offset = name[0] + "cla", _SHOULDER_OFFSET
        else:
            carrier, offset = name, (0.0, 0.0, 0.0)
        carriers.append(SMPL_24.index(carrier))
        offsets.append(np.array(offset) * (_MIRROR if name.startswith("r") else 1.0))
        is_face.append(left in FACE_POINTS)
    return np.array(carriers), np.array(offsets), np.array(is_face)


_CARRIERS, _CARRIED_OFFSETS, _IS_FACE = _local_points()
_BASES = np.array(
    [
        _HEAD if face else SMPL_24.index(name)
        for name, face in zip(COCO_17.joint_names, _IS_FACE, strict=True)
    ]
)


def _coco_points(body, joints, rotations):
    """COCO keypoints `[17, 3]`."""
    scales = np.where(_IS_FACE, body.head_scale, body.scale)
    local = _CARRIED_OFFSETS * scales[:, np.newaxis]
    return joints[_BASES] + (rotations[_CARRIERS] @ local[..., np.newaxis])[..., 0]
