"""Writes `UV_Processed.mat` as DensePose's authors do, for meshes that tests know.

A chart may consist of several islands: each is a planar projection of faces that look to one side,
so that none of its triangles folds over.
"""

import pathlib

import numpy as np
import scipy.io

from metrabs_like.skeletons import SMPL_24

# Part by joint: (front or first, back or second); hands and feet have one chart.
_PARTS = {
    **dict.fromkeys("pelv bell spin thor lcla rcla".split(), (2, 1)),
    **dict.fromkeys("neck head".split(), (23, 24)),
    **dict.fromkeys("lwri lhan".split(), (4, 4)),
    **dict.fromkeys("rwri rhan".split(), (3, 3)),
    **dict.fromkeys("lank ltoe".split(), (5, 5)),
    **dict.fromkeys("rank rtoe".split(), (6, 6)),
    "lhip": (8, 10),
    "rhip": (7, 9),
    "lkne": (12, 14),
    "rkne": (11, 13),
    "lsho": (15, 17),
    "rsho": (16, 18),
    "lelb": (19, 21),
    "relb": (20, 22),
}


def toy_charts(n=3):
    """24 flat patches of `n` x `n` quads; vertices and unwrapped vertices count alike.

    Returns:
      `(face_parts [F], face_vertices [F, 3], face_uv [F, 3, 2])`; patch I fills the unit square of
      its chart, its vertices are numbered row by row from `(I - 1) (n + 1)^2`.
    """
    parts, vertices, uv = [], [], []
    for part in range(1, 25):
        first = (part - 1) * (n + 1) ** 2
        for row in range(n):
            for column in range(n):
                corners = np.array([(row, column), (row, column + 1), (row + 1, column + 1)])
                for triangle in (corners, corners[[0, 2, 1]] + [[0, 0], [0, 0], [1, -1]]):
                    parts.append(part)
                    vertices.append(first + triangle[:, 0] * (n + 1) + triangle[:, 1])
                    uv.append(triangle[:, ::-1] / n)
    return np.array(parts), np.array(vertices), np.array(uv)


def body_charts(body):
    """Cuts a body of 24 SMPL joints into DensePose's parts and unwraps each.

    Args:
      body: a `BodyModel` at rest: x to its left, y up, z front.

    Returns:
      `(face_parts [F], face_vertices [F, 3], face_uv [F, 3, 2])`, in the order of the body's faces.
    """
    corners = body.v_template[body.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    joints = body.weights[body.faces].sum(axis=1).argmax(axis=-1)
    parts, sides = np.empty(len(joints), int), np.empty(len(joints), int)
    for face, joint in enumerate(joints):
        name = SMPL_24.joint_names[joint]
        axis = _cutting_axis(name)
        sides[face] = normals[face, axis] < 0
        is_second = corners[face, :, 0].mean() < 0 if axis == 0 else sides[face]
        parts[face] = _PARTS[name][int(is_second)]
    uv = np.empty((len(parts), 3, 2))
    for part in range(1, 25):
        mine = np.flatnonzero(parts == part)
        axis = _cutting_axis(SMPL_24.joint_names[joints[mine[0]]])
        islands = _islands(body.faces, mine, sides)
        n_columns = int(np.ceil(np.sqrt(len(islands))))
        for number, island in enumerate(islands):
            flat = np.delete(corners[island], axis, axis=-1)
            low, high = flat.min(axis=(0, 1)), flat.max(axis=(0, 1))
            cell = np.array([number % n_columns, number // n_columns])
            uv[island] = (cell + 0.02 + 0.96 * (flat - low) / (high - low)) / n_columns
    return parts, body.faces.copy(), uv


def _cutting_axis(name):
    """Coordinate whose sign cuts the part: the head into left and right, feet into top and sole."""
    if name in ("neck", "head"):
        return 0
    return 1 if name[1:] in ("ank", "toe") else 2


def _islands(faces, mine, sides):
    """Connected groups of a part's faces that look to one side."""
    groups = []
    for side in (0, 1):
        todo = {int(f) for f in mine if sides[f] == side}
        while todo:
            island, reached = [], set(faces[min(todo)].tolist())
            while grown := [f for f in todo if reached & set(faces[f].tolist())]:
                todo -= set(grown)
                island += grown
                reached |= set(faces[grown].ravel().tolist())
            groups.append(np.array(sorted(island)))
    return groups


def write_uv_processed(path, parts, vertices, uv, **changes):
    """Writes `UV_Processed.mat`; `changes` replace fields, None removes one."""
    rows = np.concatenate([vertices.reshape(-1, 1), uv.reshape(-1, 2)], axis=1)
    # Corners of the same vertex and place are one unwrapped vertex.
    unwrapped, places = np.unique(np.round(rows, 12), axis=0, return_inverse=True)
    fields = {
        "All_FaceIndices": parts[:, np.newaxis],
        "All_Faces": places.reshape(-1, 3) + 1,
        "All_U_norm": unwrapped[:, 1:2],
        "All_V_norm": unwrapped[:, 2:],
        "All_vertices": unwrapped[np.newaxis, :, 0].astype(int) + 1,
        **changes,
    }
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: value for name, value in fields.items() if value is not None})
