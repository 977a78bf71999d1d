"""The 24 charts of DensePose: from chart coordinates to points of the body model's mesh.

Conventions: a chart point is (I, U, V): part 1 to 24, U and V in 0..1. A mesh point is three vertex
ids (0-based) with barycentric weights. The charts' file `UV_Processed.mat` comes from DensePose's
authors and is 1-based.
"""

from __future__ import annotations

import functools
import os

import numpy as np

from metrabs_like.data import safe_loading

CHART_NAMES = (
    "torso_1 torso_2 right_hand left_hand left_foot right_foot right_thigh_1 left_thigh_1 "
    "right_thigh_2 left_thigh_2 right_calf_1 left_calf_1 right_calf_2 left_calf_2 "
    "left_upper_arm_1 right_upper_arm_1 left_upper_arm_2 right_upper_arm_2 left_forearm_1 "
    "right_forearm_1 left_forearm_2 right_forearm_2 head_1 head_2"
).split()
"""Name of part I at index I - 1; where two charts cover a limb, their numbers are ours.

Source: facebookresearch/DensePose, challenge/2019_COCO_DensePose/data_format.md.
"""

N_CHARTS = len(CHART_NAMES)
N_SMPL_VERTICES = 6890
_N_CELLS = 48  # a side of the grid that finds the triangles near a point (ours)
_TOLERANCE = 1e-6  # in U and V: points on an edge are inside


class SurfaceCharts:
    """Triangles of the charts, arranged so that the one around a point is found at once.

    Attributes:
      n_vertices: of the body model's mesh, as far as the charts use it.
    """

    def __init__(self, face_parts, face_vertices, face_uv):
        """Arranges the charts.

        Args:
          face_parts: int `[F]`, 1 to 24.
          face_vertices: int `[F, 3]`, 0-based vertex ids of the mesh.
          face_uv: float `[F, 3, 2]`, chart coordinates of the corners.
        """
        self.n_vertices = int(face_vertices.max()) + 1
        self._parts = face_parts.astype(np.int64)
        self._vertices = face_vertices.astype(np.int32)
        self._uv = face_uv.astype(np.float64)
        first, second, third = np.moveaxis(self._uv, 1, 0)
        self._edges = np.stack([second - first, third - first], axis=-1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # A triangle without area gets NaN or infinities: nothing lies in it.
            self._inverse = _inverted(self._edges)
        self._starts, self._counts, self._faces = _cell_lists(self._parts, self._uv)

    def locate(self, parts, uv):
        """Finds the mesh points of chart points.

        Args:
          parts: int `[N]`, 1 to 24.
          uv: float `[N, 2]`, 0..1.

        Returns:
          `(vertex_ids int32 [N, 3], weights float32 [N, 3], is_inside bool [N])`. Of the part's
          triangles the first that holds the point gives its corners and barycentric weights; a
          point in none gets the nearest corner, with weight 1.

        Raises:
          ValueError: if a part or a coordinate is out of its range.

        References:
          facebookresearch/DensePose, detectron/utils/densepose_methods.py, IUV2FBC.
        """
        parts, uv = np.asarray(parts, np.int64), np.asarray(uv, np.float64).reshape(-1, 2)
        if not (((parts >= 1) & (parts <= N_CHARTS)).all() and ((uv >= 0) & (uv <= 1)).all()):
            raise ValueError(f"parts must be 1 to {N_CHARTS} and uv in 0..1; drop other points.")
        faces, weights = self._faces_around(parts, uv)
        is_inside = faces >= 0
        for part in np.unique(parts[~is_inside]):
            chosen = np.flatnonzero(~is_inside & (parts == part))
            faces[chosen], weights[chosen] = self._nearest_corners(part, uv[chosen])
        return self._vertices[faces], weights.astype(np.float32), is_inside

    def _faces_around(self, parts, uv):
        """The triangle around each point, -1 where there is none, and the weights in it."""
        faces, weights = np.full(len(parts), -1), np.zeros((len(parts), 3))
        cells = _cell_index(parts, uv)
        counts, todo = self._counts[cells], np.arange(len(parts))
        for i in range(counts.max(initial=0)):
            todo = todo[(faces[todo] < 0) & (i < counts[todo])]
            candidates = self._faces[self._starts[cells[todo]] + i]
            found = self._barycentric(candidates, uv[todo])
            is_inside = (found >= -_TOLERANCE).all(axis=-1)
            faces[todo[is_inside]] = candidates[is_inside]
            weights[todo[is_inside]] = found[is_inside]
        weights = np.maximum(weights, 0)
        return faces, weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-12)

    def _barycentric(self, faces, uv):
        """Weights `[N, 3]` of a point in a triangle, NaN in one without area."""
        with np.errstate(invalid="ignore"):
            two = np.einsum("nij,nj->ni", self._inverse[faces], uv - self._uv[faces, 0])
            return np.concatenate([1 - two.sum(axis=-1, keepdims=True), two], axis=-1)

    def _nearest_corners(self, part, uv):
        """The nearest corner of a part's triangles, as triangle and weights."""
        mine = np.flatnonzero(self._parts == part)
        corners = self._uv[mine].reshape(-1, 2)
        nearest = np.empty(len(uv), np.int64)
        for i in range(0, len(uv), 4096):
            # |a - b|^2 without |a|^2, which is the same for all corners.
            distances = (corners**2).sum(axis=-1) - 2 * uv[i : i + 4096] @ corners.T
            nearest[i : i + 4096] = distances.argmin(axis=-1)
        return mine[nearest // 3], np.eye(3)[nearest % 3]


def _inverted(matrices):
    """Inverses of `[N, 2, 2]`, spelled out so that singular ones stay alone."""
    (a, b), (c, d) = np.moveaxis(matrices, 0, -1)
    adjugate = np.array([[d, -b], [-c, a]])
    return np.moveaxis(adjugate / (a * d - b * c), -1, 0)


def _cell_index(parts, uv):
    """The cell of the grid of its part in which a point lies."""
    column, row = np.clip((uv * _N_CELLS).astype(np.int64), 0, _N_CELLS - 1).T
    return ((parts - 1) * _N_CELLS + row) * _N_CELLS + column


def _cell_lists(parts, uv):
    """For each cell the triangles whose bounding box touches it: starts, counts, list."""
    margin = 2 * _TOLERANCE * np.maximum(1, np.ptp(uv, axis=1))
    low = np.clip(((uv.min(axis=1) - margin) * _N_CELLS).astype(int), 0, _N_CELLS - 1)
    high = np.clip(((uv.max(axis=1) + margin) * _N_CELLS).astype(int), 0, _N_CELLS - 1)
    cells, faces = [], []
    for face, (part, (u0, v0), (u1, v1)) in enumerate(zip(parts, low, high, strict=True)):
        rows, columns = np.arange(v0, v1 + 1)[:, np.newaxis], np.arange(u0, u1 + 1)
        mine = (((part - 1) * _N_CELLS + rows) * _N_CELLS + columns).ravel()
        cells.append(mine)
        faces.append(np.full(mine.size, face))
    cells, faces = np.concatenate(cells), np.concatenate(faces)
    order = np.argsort(cells, kind="stable")  # stable: the first triangle of the file comes first
    counts = np.bincount(cells, minlength=N_CHARTS * _N_CELLS**2)
    return np.cumsum(counts) - counts, counts, faces[order]


def load_charts(path: str) -> SurfaceCharts:
    """Reads `UV_Processed.mat`; the last one read is remembered.

    Args:
      path: of the file, which holds `All_FaceIndices` (part of each face), `All_Faces` (1-based,
        into the unwrapped vertices), `All_U_norm`, `All_V_norm` and `All_vertices` (1-based mesh
        vertex of each unwrapped one).

    Returns:
      The charts.

    Raises:
      ValueError: naming file and field, if it is missing or a shape or index is wrong.
    """
    if not os.path.exists(path):
        raise ValueError(
            f"{path} is missing: the charts of the body model. Download DensePose's UV_data "
            "(see its INSTALL.md) and name the file with --uv_processed."
        )
    state = os.stat(path)
    return _load(path, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=1)
def _load(path, *state_of_file):
    """Reads and checks the file; another state of it is another file."""
    content = safe_loading.load_mat(path)
    vertices = _integers(content, "All_vertices", path)
    u, v = (_coordinates(content, name, len(vertices), path) for name in ("U", "V"))
    parts = _integers(content, "All_FaceIndices", path)
    faces = _integers(content, "All_Faces", path)
    if np.shape(content["All_Faces"]) != (len(parts), 3):
        raise ValueError(
            f"{path}: All_Faces has shape {np.shape(content['All_Faces'])} for {len(parts)} "
            "All_FaceIndices; it is one row of three corners a face."
        )
    faces = faces.reshape(-1, 3) - 1
    if faces.max() >= len(vertices):
        raise ValueError(
            f"{path}: All_Faces names vertex {faces.max() + 1}, but All_vertices has "
            f"{len(vertices)} entries."
        )
    if set(parts.tolist()) != set(range(1, N_CHARTS + 1)):
        raise ValueError(
            f"{path}: All_FaceIndices holds the parts {sorted(set(parts.tolist()))}; "
            f"it must hold each of 1 to {N_CHARTS}."
        )
    uv = np.stack([u, v], axis=-1)
    return SurfaceCharts(parts, (vertices - 1)[faces], uv[faces])


def _integers(content, name, path):
    """A field as positive whole numbers, flat."""
    values = np.asarray(content.get(name, ())).ravel()
    is_whole = values.dtype.kind in "iu" or (
        values.dtype.kind == "f" and np.isfinite(values).all() and (values % 1 == 0).all()
    )
    if not values.size or not is_whole or values.min() < 1:
        raise ValueError(
            f"{path}: {name} has shape {np.shape(content.get(name))} and type {values.dtype}; "
            "it must be whole numbers from 1. Is it DensePose's UV_Processed.mat?"
        )
    return values.astype(np.int64)


def _coordinates(content, axis, n_vertices, path):
    name = f"All_{axis}_norm"
    values = np.asarray(content.get(name, ())).ravel()
    if values.size != n_vertices or values.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: {name} has shape {np.shape(content.get(name))}; it must be one number for "
            f"each of the {n_vertices} All_vertices."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: {name} is not finite; download the file again.")
    return values.astype(np.float64)
