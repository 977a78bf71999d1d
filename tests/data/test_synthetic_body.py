"""Synthetic bodies and poses: proportions, kinematics, limits, symmetry."""

import numpy as np
import pytest

from metrabs_like.data.synthetic.body import PARENTS, sample_body
from metrabs_like.data.synthetic.mesh import posed_body
from metrabs_like.data.synthetic.mesh_template import mesh_template
from metrabs_like.data.synthetic.pose import (
    ANGLE_LIMITS,
    ANGLE_NAMES,
    elevation_limit,
    forward_kinematics,
    limited,
    local_rotations,
    mirrored,
)
from metrabs_like.data.synthetic.pose_library import sample_pose
from metrabs_like.skeletons import COCO_17, SMPL_24, get

REST = np.zeros(len(ANGLE_NAMES))
UNION = get("smpl_24+coco_17")


def angles(**degrees):
    """A pose with some angles set."""
    pose = REST.copy()
    for name, value in degrees.items():
        pose[ANGLE_NAMES.index(name)] = np.radians(value)
    return pose


def bone_lengths(joints):
    return np.linalg.norm(joints[1:] - joints[list(PARENTS[1:])], axis=-1)


def unclothed(body, pose, detail=1):
    template = mesh_template(detail)
    return posed_body(body, pose, np.ones(len(template.girth)), template)


def test_heights_and_proportions(rng):
    bodies = [sample_body(rng) for _ in range(400)]
    heights = np.array([body.height_m for body in bodies])
    assert heights.min() >= 1.5 and heights.max() <= 2.0
    assert 1.66 < heights.mean() < 1.78 and 0.05 < heights.std() < 0.12
    legs = np.array([np.linalg.norm(b.rest_joints[1] - b.rest_joints[7]) for b in bodies]) / heights
    assert 0.4 < legs.mean() < 0.53 and 0.005 < legs.std() < 0.03
    widths = np.array([np.ptp(body.rest_joints[[16, 17], 0]) for body in bodies])
    assert 0.28 < widths.min() and widths.max() < 0.48


def test_rest_mesh_is_as_tall_as_the_body(rng):
    for _ in range(5):
        body = sample_body(rng)
        posed = unclothed(body, REST)
        assert np.ptp(posed.vertices[:, 1]) == pytest.approx(body.height_m, abs=0.01)
        np.testing.assert_allclose(posed.points[:24], body.rest_joints, atol=1e-12)


def test_bone_lengths_do_not_depend_on_the_pose(rng):
    body = sample_body(rng)
    expected = bone_lengths(body.rest_joints)
    for _ in range(50):
        joints, _ = forward_kinematics(body.rest_joints, sample_pose(rng))
        np.testing.assert_allclose(bone_lengths(joints), expected, rtol=1e-12)


def test_face_and_hips_are_rigid(rng):
    body = sample_body(rng)
    rigid = [UNION.index(f"{name}_coco") for name in COCO_17.joint_names[:5]]
    hips = [UNION.index("lhip_coco"), UNION.index("rhip_coco"), UNION.index("pelv_smpl")]

    def distances(points):
        return [
            np.linalg.norm(points[group][:, None] - points[group], axis=-1)
            for group in (rigid, hips)
        ]

    expected = distances(unclothed(body, REST).points)
    for _ in range(10):
        actual = distances(unclothed(body, sample_pose(rng)).points)
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_rotations_are_proper(rng):
    for _ in range(20):
        rotations = local_rotations(sample_pose(rng))
        products = rotations @ rotations.transpose(0, 2, 1)
        np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(rotations), 1.0)


def test_poses_keep_the_joint_limits(rng):
    poses = np.stack([sample_pose(rng) for _ in range(2000)])
    assert (poses >= ANGLE_LIMITS[:, 0] - 1e-9).all()
    assert (poses <= ANGLE_LIMITS[:, 1] + 1e-9).all()
    for side in "lr":
        elevation = poses[:, ANGLE_NAMES.index(f"{side}_shoulder_elevation")]
        azimuth = poses[:, ANGLE_NAMES.index(f"{side}_shoulder_azimuth")]
        assert (elevation <= elevation_limit(azimuth) + 1e-9).all()
    assert np.ptp(poses, axis=0).min() > np.radians(20)  # every joint is used


def test_limited_clips_and_couples_the_shoulder():
    wild = limited(angles(l_elbow_flexion=-30, r_knee_flexion=400))
    assert wild[ANGLE_NAMES.index("l_elbow_flexion")] == 0
    assert np.degrees(wild[ANGLE_NAMES.index("r_knee_flexion")]) == pytest.approx(145)
    behind = limited(angles(l_shoulder_elevation=150, l_shoulder_azimuth=150))
    assert np.degrees(behind[ANGLE_NAMES.index("l_shoulder_elevation")]) == pytest.approx(50)


@pytest.mark.parametrize(
    "pose, joint, direction",
    [
        (angles(l_elbow_flexion=90), "lwri", (0, 0.25, 0.25)),
        (angles(r_knee_flexion=90), "rank", (0, 0.42, -0.42)),
        (angles(l_hip_flexion=90), "lkne", (0, 0.4, 0.4)),
        (angles(l_hip_abduction=30), "lank", (0.4, 0, 0)),
        (angles(r_hip_abduction=30), "rank", (-0.4, 0, 0)),
        (angles(l_shoulder_elevation=50, l_shoulder_azimuth=90), "lwri", (0.4, 0, 0)),
        (angles(r_shoulder_elevation=50, r_shoulder_azimuth=90), "rwri", (-0.4, 0, 0)),
        (angles(l_shoulder_elevation=50), "lwri", (0, 0, 0.4)),
        (angles(spine_flexion=40), "head", (0, 0, 0.3)),
        (angles(root_pitch=40), "head", (0, 0, 0.3)),
        (angles(l_ankle_extension=40), "ltoe", (0, -0.08, 0)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_convention_positive_angles(rng, pose, joint, direction):
    rest_joints = sample_body(rng).rest_joints
    joints, _ = forward_kinematics(rest_joints, pose)
    moved = joints[SMPL_24.index(joint)] - rest_joints[SMPL_24.index(joint)]
    wanted = np.array(direction)
    assert moved @ wanted > 0.6 * wanted @ wanted


def test_mirrored_pose_is_the_mirror_image(rng):
    body = sample_body(rng)
    pose = sample_pose(rng)
    points = unclothed(body, pose).points
    image = unclothed(body, mirrored(pose)).points
    np.testing.assert_allclose(image, points[list(UNION.mirror_indices)] * (-1, 1, 1), atol=1e-12)
    np.testing.assert_array_equal(mirrored(mirrored(pose)), pose)


def test_left_and_right_have_one_distribution(rng):
    poses = np.stack([sample_pose(rng) for _ in range(4000)])
    difference = poses - np.stack([mirrored(pose) for pose in poses])
    z_scores = difference.mean(axis=0) / (difference.std(axis=0) / np.sqrt(len(poses)) + 1e-12)
    assert np.abs(z_scores).max() < 4.5


@pytest.mark.parametrize("detail", [1, 2])
def test_mesh_template_is_closed_and_turned_outwards(rng, detail):
    template = mesh_template(detail)
    np.testing.assert_allclose(template.weights.sum(axis=1), 1.0)
    body = sample_body(rng)
    quads = unclothed(body, REST, detail).vertices[template.faces]
    normals = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
    start, end = body.rest_joints[template.joint_a], body.rest_joints[template.joint_b]
    centres = start + template.fraction[:, None] * (end - start) + template.offset
    outward = quads.mean(axis=1) - centres[template.faces].mean(axis=1)
    assert ((normals * outward).sum(axis=-1) > 0).mean() > 0.98


def test_joints_lie_inside_the_limbs(rng):
    body = sample_body(rng)
    template = mesh_template()
    for _ in range(10):
        posed = unclothed(body, sample_pose(rng))
        for joint in ("lkne", "lelb", "rwri", "rank"):
            distance = np.linalg.norm(posed.vertices - posed.points[SMPL_24.index(joint)], axis=-1)
            assert distance.min() < 0.09
    assert template.weight_row.max() < len(template.weights)
