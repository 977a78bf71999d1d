"""Body-model fits of other people's pickles as the 24 rotation vectors of SMPL.

Conventions: radians, metres. SMPL-H and SMPL-X poses keep their 22 body joints; the two hand joints
of SMPL become zero rotations.
"""

import os
from typing import NamedTuple

import numpy as np

from metrabs_like.data import body_models
from metrabs_like.data.safe_loading import as_array, load_pickle

N_VERTICES_SMPL = 6890
BODY_MODELS = ("smpl", "procedural")
N_BETAS = 10
_MAX_VALUES = 10_000  # in one entry (ours); SMPL-X has 165 rotations and 400 betas
_N_BODY_VALUES = 66  # 22 joints that all of SMPL, SMPL-H and SMPL-X have
_NAMES = {
    "root": ("global_orient", "root_pose"),
    "body": ("body_pose",),
    "pose": ("pose", "poses"),
    "betas": ("betas", "shape"),
    "translation": ("translation", "transl", "trans"),
}


class Fit(NamedTuple):
    """Parameters of one person: `pose_rotvecs [24, 3]`, `shape_betas [10]`, `translation [3]`."""

    pose_rotvecs: np.ndarray
    shape_betas: np.ndarray
    translation: np.ndarray


def described_model(name: str) -> dict:
    """Returns a body model's entry for `DatasetInfo.body_model`.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in BODY_MODELS:
        raise ValueError(f"body_model = {name!r} is unknown; choose one of {BODY_MODELS}.")
    is_smpl = name == "smpl"
    n_vertices = N_VERTICES_SMPL if is_smpl else body_models.get_body_model(name).n_vertices
    return {"name": name, "n_vertices": n_vertices}


def load_fit(path: str) -> Fit | None:
    """Reads a fit.

    Args:
      path: of a pickled dict with `pose` (72, or 156 and 165 with hands) or `global_orient` and
        `body_pose`, `betas` and `translation` (also under the names `root_pose`, `transl`,
        `trans`); NumPy or chumpy.

    Returns:
      The fit; None if there is no such file.

    Raises:
      ValueError: naming file and entry; `UnsafeFile` where the file holds PyTorch tensors or other
        objects.
    """
    if not os.path.exists(path):
        return None
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of a dict of a fit.")
    found = {key: _numbers(content, names, path) for key, names in _NAMES.items()}
    if found["pose"] is None and found["root"] is not None and found["body"] is not None:
        found["pose"] = np.concatenate([found["root"], found["body"]])
    for key, size in (("pose", _N_BODY_VALUES), ("betas", 1), ("translation", 3)):
        if found[key] is None or len(found[key]) < size:
            raise ValueError(
                f"{path}: its {key} ({', '.join(_NAMES[key])}) is missing or too short; "
                f"it has {', '.join(sorted(map(str, content)))[:200]}."
            )
    betas = np.zeros(N_BETAS)
    n_betas = min(len(found["betas"]), N_BETAS)
    betas[:n_betas] = found["betas"][:n_betas]
    return Fit(_smpl_pose(found["pose"], path), betas, found["translation"][:3])


def _smpl_pose(pose, path):
    """The 24 rotation vectors of SMPL from those of SMPL, SMPL-H or SMPL-X."""
    if len(pose) not in (66, 72, 156, 165):
        raise ValueError(
            f"{path}: the pose has {len(pose)} numbers; rotation vectors of SMPL are 72, of "
            "SMPL-H 156, of SMPL-X 165."
        )
    rotvecs = np.zeros((24, 3))
    n_values = 72 if len(pose) == 72 else _N_BODY_VALUES
    rotvecs.reshape(-1)[:n_values] = pose[:n_values]
    return rotvecs


def _numbers(content, names, path):
    """The first of some entries as a flat float64 vector; None where none is there."""
    for name in names:
        if name in content:
            value = as_array(content[name], f"{path}: {name!r}", _MAX_VALUES)
            if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
                raise ValueError(f"{path}: {name!r} is no array of finite numbers; save it again.")
            return value.astype(np.float64).ravel()
    return None
