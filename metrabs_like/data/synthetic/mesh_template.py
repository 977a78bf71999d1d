"""Topology of the body mesh: rings, skinning weights and faces, built once from the tubes.

Conventions: body frame at rest (x left, y up, z front, arms hanging). `position` runs along a tube:
0, 1, 2 ... at its joints. `angle` runs around it: 0 front, pi/2 towards the person's left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from metrabs_like.data.synthetic.tubes import TUBES, Tube
from metrabs_like.skeletons import SMPL_24

#: What the radii of a tube are multiplied by; `MeshTemplate.girth` counts in this order.
GIRTHS = ("trunk", "limb", "head", "extremity")


@dataclass(frozen=True)
class MeshTemplate:
    """Constant arrays of the mesh: `V` vertices in rings, `F` quads.

    Attributes:
      detail: Multiplier of rings and corners.
      tube_names: Names of the tubes, sides spelled out.
      joint_a: `[V]` joint at the lower end of the centre line's piece.
      joint_b: `[V]` joint at its upper end.
      fraction: `[V]` place between the two; beyond 0..1 extrapolates.
      offset: `[V, 3]` of the ring's centre, m.
      radial: `[V, 3]` from the ring's centre to the vertex, m.
      weights: `[U, 24]` different rows of skinning weights; each adds up to 1.
      weight_row: `[V]` index into `weights`.
      girth: `[V]` index into trunk, limb, head, extremity.
      at_hips: `[V]` 1 at the hips, falling to 0 at waist and knees.
      vertex_tube: `[V]` index into `tube_names`.
      vertex_position: `[V]` along the tube.
      faces: `[F, 4]` vertex indices, outward normal by the right-hand rule.
      face_tube: `[F]` index into `tube_names`.
      face_position: `[F]` along the tube, of the quad's middle.
      face_angle: `[F]` around the tube, of the quad's middle.
    """

    detail: int
    tube_names: tuple[str, ...]
    joint_a: np.ndarray
    joint_b: np.ndarray
    fraction: np.ndarray
    offset: np.ndarray
    radial: np.ndarray
    weights: np.ndarray
    weight_row: np.ndarray
    girth: np.ndarray
    at_hips: np.ndarray
    vertex_tube: np.ndarray
    vertex_position: np.ndarray
    faces: np.ndarray
    face_tube: np.ndarray
    face_position: np.ndarray
    face_angle: np.ndarray


def _mirrored_tube(tube: Tube) -> Tube:
    """The right limb for a left one."""

    def other(name):
        return SMPL_24.joint_names[SMPL_24.mirror_indices[SMPL_24.index(name)]]

    return Tube(
        "r" + tube.name[1:],
        tuple(other(joint) for joint in tube.joints),
        tuple((*row[:3], -row[3], *row[4:]) for row in tube.profile),
        tuple((p, {other(joint): w for joint, w in shares.items()}) for p, shares in tube.weights),
        tube.n_sides,
        tube.n_rings,
        tube.girth,
    )


@cache
def mesh_template(detail: int = 1) -> MeshTemplate:
    """Builds the template, once per process.

    Args:
      detail: Multiplier of rings and corners.

    Returns:
      The template.
    """
    tubes = []
    for tube in TUBES:
        tubes.append(tube)
        if tube.joints[0].startswith("l"):
            tubes.append(_mirrored_tube(tube))
    pieces = [_tube_arrays(_refined(tube, detail)) for tube in tubes]
    starts = np.cumsum([0] + [len(piece["fraction"]) for piece in pieces])
    for index, (piece, start) in enumerate(zip(pieces, starts[:-1], strict=True)):
        piece["faces"] = piece["faces"] + start
        piece["vertex_tube"] = np.full(len(piece["fraction"]), index)
        piece["face_tube"] = np.full(len(piece["faces"]), index)
    arrays = {key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]}
    weights, rows = np.unique(arrays["weights"], axis=0, return_inverse=True)
    arrays |= {"weights": weights, "weight_row": rows.reshape(-1)}
    return MeshTemplate(detail, tuple(tube.name for tube in tubes), **arrays)


def _refined(tube, detail):
    """The tube with more rings and corners."""
    n_rings = (tube.n_rings - 1) * detail + 1
    return replace(tube, n_sides=tube.n_sides * detail, n_rings=n_rings)


def _tube_arrays(tube: Tube) -> dict[str, np.ndarray]:
    """Vertices, weights and faces of one tube."""
    profile = np.array(tube.profile, dtype=np.float64)
    if profile[0, 0] > profile[-1, 0]:
        profile = profile[::-1]
    positions = _ring_positions(profile, tube.n_rings)
    columns = [np.interp(positions, profile[:, 0], profile[:, c]) for c in range(1, 6)]
    radius_x, radius_other = columns[:2]
    angles = np.arange(tube.n_sides) * 2 * np.pi / tube.n_sides
    radial = np.zeros((tube.n_rings, tube.n_sides, 3))
    radial[..., 0] = np.sin(angles) * radius_x[:, np.newaxis]
    is_foot = tube.name.endswith("foot")
    radial[..., 1 if is_foot else 2] = np.cos(angles) * radius_other[:, np.newaxis]
    joints = np.array([SMPL_24.index(joint) for joint in tube.joints])
    piece = np.clip(np.floor(positions).astype(int), 0, max(len(joints) - 2, 0))
    upper = np.minimum(piece + 1, len(joints) - 1)
    faces, face_position, face_angle = _tube_faces(positions, angles)
    if is_foot or joints[0] != joints[-1] and tube.name not in ("torso", "neck", "skirt"):
        faces = faces[:, ::-1]  # these run downwards or forwards, the others upwards
    if tube.name == "long_hair":
        faces = faces[:, ::-1]
    per_ring = {
        "joint_a": joints[piece],
        "joint_b": joints[upper],
        "fraction": np.where(len(joints) > 1, positions - piece, 0.0),
        "offset": np.stack(columns[2:], axis=-1),
        "girth": np.full(tube.n_rings, GIRTHS.index(tube.girth)),
        "vertex_position": positions,
        "at_hips": _closeness_to_hips(tube, positions),
    }
    arrays = {key: np.repeat(value, tube.n_sides, axis=0) for key, value in per_ring.items()}
    return arrays | {
        "radial": radial.reshape(-1, 3),
        "weights": _skinning(tube, positions, angles).reshape(-1, SMPL_24.n_joints),
        "faces": faces,
        "face_position": face_position,
        "face_angle": face_angle,
    }


def _closeness_to_hips(tube, positions):
    """1 at the hip joints, 0 from the waist up and from the knees down."""
    if tube.name in ("torso", "skirt"):
        return np.interp(positions, (-1.0, 0.0, 1.0), (1.0, 1.0, 0.0))
    if tube.name.endswith("leg"):
        return np.interp(positions, (0.0, 0.8), (1.0, 0.0))
    return np.zeros(len(positions))


def _ring_positions(profile, n_rings):
    """Positions of the rings: the profile's own spacing, refined evenly."""
    rows = np.linspace(0, len(profile) - 1, n_rings)
    return np.interp(rows, np.arange(len(profile)), profile[:, 0])


def _tube_faces(positions, angles):
    """Quads between neighbouring rings with the place of their middle."""
    n_rings, n_sides = len(positions), len(angles)
    ring, side = np.meshgrid(np.arange(n_rings - 1), np.arange(n_sides), indexing="ij")
    following = (side + 1) % n_sides
    corners = [
        ring * n_sides + side,
        ring * n_sides + following,
        (ring + 1) * n_sides + following,
        (ring + 1) * n_sides + side,
    ]
    faces = np.stack(corners, axis=-1).reshape(-1, 4)
    middle = 0.5 * (positions[:-1] + positions[1:])
    angle = angles + 0.5 * (angles[1] - angles[0])
    angle = np.arctan2(np.sin(angle), np.cos(angle))
    return faces, np.repeat(middle, n_sides), np.tile(angle, n_rings - 1)


def _skinning(tube, positions, angles):
    """Skinning weights `[rings, sides, 24]`, interpolated between the tube's rows."""
    rows = sorted(tube.weights, key=lambda row: row[0])
    table = np.zeros((len(rows), SMPL_24.n_joints))
    for row, (_, shares) in zip(table, rows, strict=True):
        for joint, weight in shares.items():
            row[SMPL_24.index(joint)] = weight
    knots = [position for position, _ in rows]
    per_ring = np.stack([np.interp(positions, knots, column) for column in table.T], axis=-1)
    weights = np.repeat(per_ring[:, np.newaxis], len(angles), axis=1)
    if tube.name == "skirt":  # the left half follows the left leg, the right half the right one
        left, right = SMPL_24.index("lhip"), SMPL_24.index("rhip")
        share = 0.5 + 0.5 * np.sin(angles)
        weights[..., right] = weights[..., left] * (1 - share)
        weights[..., left] *= share
    return weights
