"""Body models in SMPL form as constant arrays: what they hold and how they look when canonical.

Conventions: metres in the model's own frame. A pose is one rotation vector a joint relative to its
parent, the root first; zeros are the pose of the template. A point of the surface is three vertices
and their barycentric weights.
"""

import dataclasses
import functools

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class BodyModel:
    """A linear blend-skinned mesh with shape and pose blend shapes.

    The arrays are converted to float32 (faces to int32) and made read-only. Models compare and hash
    by identity, also as arguments of a `tf.function`: load a model once and pass it around.

    Attributes:
      name: what data sets call it, e.g. "smpl".
      v_template: `[V, 3]`, m.
      shapedirs: `[V, 3, S]`, m per unit of beta.
      joint_regressor: `[J, V]`; rest joints are its product with the shaped vertices.
      weights: `[V, J]` of the skinning; rows add up to 1.
      faces: int32 `[F, 3]`, outward normal by the right-hand rule.
      parents: parent of each joint, before the joint itself; -1 for the root, which is joint 0.
      posedirs: `[V, 3, 9 (J - 1)]`, m per unit of R - I of joints 1 ... (matrices row by row), or
        None for no pose blend.
      canonical_pose_rotvecs: `[J, 3]`, rad; the pose in which canonical points are defined, a
        T-pose; None for zeros.

    Raises:
      ValueError: naming the array whose shape or content does not fit.
    """

    name: str
    v_template: np.ndarray
    shapedirs: np.ndarray
    joint_regressor: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    parents: tuple[int, ...]
    posedirs: np.ndarray | None = None
    canonical_pose_rotvecs: np.ndarray | None = None

    def __post_init__(self):
        parents = tuple(int(parent) for parent in self.parents)
        object.__setattr__(self, "parents", parents)
        _check_parents(parents)
        n_vertices, n_joints = len(self.v_template), len(parents)
        if self.posedirs is None or np.size(self.posedirs) == 0:
            object.__setattr__(self, "posedirs", np.zeros((n_vertices, 3, 0)))
        if self.canonical_pose_rotvecs is None:
            object.__setattr__(self, "canonical_pose_rotvecs", np.zeros((n_joints, 3)))
        n_pose = 9 * (n_joints - 1) if self.posedirs.shape[-1] else 0
        shapes = {
            "v_template": (n_vertices, 3),
            "shapedirs": (n_vertices, 3, None),
            "posedirs": (n_vertices, 3, n_pose),
            "joint_regressor": (n_joints, n_vertices),
            "weights": (n_vertices, n_joints),
            "canonical_pose_rotvecs": (n_joints, 3),
        }
        for field, shape in shapes.items():
            self._store(field, shape, np.float32)
        self._store("faces", (None, 3), np.int32)
        if self.faces.size and not 0 <= self.faces.min() <= self.faces.max() < n_vertices:
            raise ValueError(
                f"BodyModel.faces has vertex numbers from {self.faces.min()} to {self.faces.max()},"
                f" but there are {n_vertices} vertices (v_template): they count from 0."
            )

    def _store(self, field, shape, dtype):
        """Replaces an array by its checked, read-only copy."""
        array = np.array(getattr(self, field), dtype)
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        fits = array.ndim == len(shape) and all(
            size in (None, actual) for size, actual in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"BodyModel.{field} has shape {array.shape}, [{wanted}] is expected: "
                f"{len(self.v_template)} vertices in v_template, {len(self.parents)} joints in "
                "parents."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"BodyModel.{field} holds NaN or infinity; the file is damaged.")
        array.flags.writeable = False
        object.__setattr__(self, field, array)

    @property
    def n_vertices(self) -> int:
        """Returns V."""
        return len(self.v_template)

    @property
    def n_joints(self) -> int:
        """Returns J."""
        return len(self.parents)

    @property
    def n_betas(self) -> int:
        """Returns S, the number of shape coefficients."""
        return self.shapedirs.shape[-1]

    @functools.cached_property
    def joint_template(self) -> np.ndarray:
        """Rest joints of the template, float32 `[J, 3]`, m."""
        product = self.joint_regressor.astype(np.float64) @ self.v_template.astype(np.float64)
        return product.astype(np.float32)

    @functools.cached_property
    def joint_shapedirs(self) -> np.ndarray:
        """What the shape coefficients do to the rest joints, float32 `[J, 3, S]`, m."""
        rows = self.shapedirs.reshape(self.n_vertices, -1).astype(np.float64)
        product = self.joint_regressor.astype(np.float64) @ rows
        return product.reshape(self.n_joints, 3, -1).astype(np.float32)


def _check_parents(parents):
    """Raises ValueError unless joint 0 is the only root and parents come first."""
    is_tree = parents[:1] == (-1,) and all(
        0 <= parent < joint for joint, parent in enumerate(parents[1:], start=1)
    )
    if not is_tree:
        raise ValueError(
            f"BodyModel.parents = {parents} is no tree with its root (-1) first and every parent "
            "before its children."
        )


def posed_arrays(model: BodyModel, pose_rotvecs, shape_betas=()) -> tuple[np.ndarray, np.ndarray]:
    """Poses one body in NumPy float64: for labels and constants, without a graph.

    Args:
      model: the body model.
      pose_rotvecs: `[J, 3]`, rad.
      shape_betas: up to S coefficients, the missing ones are 0.

    Returns:
      Vertices `[V, 3]` and joints `[J, 3]`, m, as `smpl.pose_body` gives them.
    """
    betas = np.asarray(shape_betas, np.float64)
    rotations = _rotation_matrices(np.asarray(pose_rotvecs, np.float64))
    vertices = model.v_template + model.shapedirs[..., : len(betas)] @ betas
    rest = model.joint_regressor.astype(np.float64) @ vertices
    if model.posedirs.shape[-1]:
        vertices = vertices + model.posedirs @ (rotations[1:] - np.eye(3)).reshape(-1)
    turned, joints = [rotations[0]], [rest[0]]
    for joint, parent in enumerate(model.parents[1:], start=1):
        turned.append(turned[parent] @ rotations[joint])
        joints.append(joints[parent] + turned[parent] @ (rest[joint] - rest[parent]))
    turned, joints = np.array(turned), np.array(joints)
    shifts = joints - (turned @ rest[..., np.newaxis])[..., 0]
    transforms = np.concatenate([turned, shifts[..., np.newaxis]], axis=-1).reshape(-1, 12)
    blended = (model.weights.astype(np.float64) @ transforms).reshape(-1, 3, 4)
    vertices = (blended[..., :3] @ vertices[..., np.newaxis])[..., 0] + blended[..., 3]
    return vertices, joints


def _rotation_matrices(rotvecs):
    """Rodrigues' formula for `[J, 3]`."""
    angle = np.linalg.norm(rotvecs, axis=-1)[:, np.newaxis, np.newaxis]
    x, y, z = (rotvecs / np.maximum(angle[:, 0], 1e-30)).T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


@functools.lru_cache(maxsize=8)
def _canonical_arrays(model):
    """Canonical vertices and joints, float32, read-only."""
    arrays = [x.astype(np.float32) for x in posed_arrays(model, model.canonical_pose_rotvecs)]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def canonical_vertices(model: BodyModel) -> np.ndarray:
    """Returns the vertices `[V, 3]` of the mean body in the canonical pose, m, read-only."""
    return _canonical_arrays(model)[0]


def canonical_joints(model: BodyModel) -> np.ndarray:
    """Returns the joints `[J, 3]` of the mean body in the canonical pose, m, read-only."""
    return _canonical_arrays(model)[1]
