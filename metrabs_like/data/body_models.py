"""Body models by name or file: the procedural one, or the user's SMPL, SMPL-H or SMPL-X file.

Conventions: files keep the names and shapes of the published releases; the result is in metres.
Nothing in a file runs: pickles go through the restricted loader, npz archives hold plain arrays.
"""

import functools
import os

import numpy as np

from metrabs_like.data.safe_loading import as_array, load_npz, load_pickle
from metrabs_like.data.synthetic import body_model as synthetic
from metrabs_like.geometry.body_model import BodyModel

N_BETAS = 10
"""Shape directions that are kept: as many as the records' betas."""

MAX_ARRAY_BYTES = 1 << 30
"""Largest sum of an npz release's arrays (ours); SMPL-X with 400 betas has 250 MB."""

_REQUIRED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
_OPTIONAL = ("posedirs",)
_NAME_OF_SIZE = {24: "smpl", 52: "smplh", 55: "smplx"}  # by number of joints
_ROOT_PARENT = 2**32 - 1  # -1 as SMPL's files store it
_REMEDY = (
    "give an SMPL, SMPL-H or SMPL-X model file as its authors publish it (.pkl or .npz), "
    "or 'procedural'"
)


def get_body_model(name_or_path: str, *, n_betas: int = N_BETAS) -> BodyModel:
    """Returns a body model, the same object for the same name or unchanged file.

    Args:
      name_or_path: "procedural", or the path of a file for `load_body_model`.
      n_betas: shape directions to keep of a file.

    Returns:
      The model.

    Raises:
      ValueError: if there is no such model or file, or the file is not what it should be.
    """
    if name_or_path == synthetic.NAME:
        return synthetic.procedural_body()
    if not os.path.isfile(name_or_path):
        raise ValueError(f"{name_or_path!r} is no body model and no file; {_REMEDY}.")
    status = os.stat(name_or_path)
    version = (status.st_mtime_ns, status.st_size)
    return _loaded(os.path.abspath(name_or_path), n_betas, version)


@functools.lru_cache(maxsize=4)
def _loaded(path, n_betas, version):
    """Loads each version of a file once: graphs know models by identity."""
    del version
    return load_body_model(path, n_betas=n_betas)


def load_body_model(path: str, *, n_betas: int = N_BETAS) -> BodyModel:
    """Reads an SMPL, SMPL-H or SMPL-X model file of the user.

    Args:
      path: `.pkl` as SMPL is published (chumpy arrays and sparse matrices are understood), or
        `.npz` with the same keys.
      n_betas: shape directions to keep, from the first; fewer if the file has fewer.

    Returns:
      The model; its canonical pose is the T-pose of the template.

    Raises:
      ValueError: naming the key that is missing or does not fit, or what the restricted loader
        refuses.
    """
    arrays = _read_npz(path) if path.lower().endswith(".npz") else _read_pickle(path)
    arrays = {key: _numbers(path, key, value) for key, value in arrays.items()}
    parents = _parents(path, arrays["kintree_table"])
    _check_sizes(path, arrays, len(parents))
    stem = os.path.splitext(os.path.basename(path))[0]
    posedirs = arrays.get("posedirs")
    try:
        return BodyModel(
            name=_NAME_OF_SIZE.get(len(parents), stem),
            v_template=arrays["v_template"],
            shapedirs=arrays["shapedirs"][..., :n_betas],
            joint_regressor=arrays["J_regressor"],
            weights=arrays["weights"],
            faces=arrays["f"].astype(np.int64),
            parents=parents,
            posedirs=posedirs,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_pickle(path):
    """Returns the known entries of a pickled dict."""
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__} instead of a dict; {_REMEDY}.")
    _require_keys(path, content)
    return {key: content[key] for key in (*_REQUIRED, *_OPTIONAL) if key in content}


def _read_npz(path):
    """Returns the known arrays of an archive; others, such as SMPL-X' dicts, stay unread."""
    arrays = load_npz(path, names=(*_REQUIRED, *_OPTIONAL), max_bytes=MAX_ARRAY_BYTES)
    _require_keys(path, arrays)
    return arrays


def _require_keys(path, content):
    """Raises ValueError that names the first key that is missing."""
    for key in _REQUIRED:
        if key not in content:
            found = ", ".join(sorted(map(str, content))[:20]) or "no part of one"
            raise ValueError(f"{path} has no {key!r} (it has {found}); {_REMEDY}.")


def _numbers(path, key, value):
    """Returns an entry as an array of finite numbers."""
    array = as_array(value, f"{path}: {key!r}")
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise ValueError(
            f"{path}: {key!r} is no array of finite numbers (dtype {array.dtype}); {_REMEDY}."
        )
    return array


def _parents(path, kintree_table):
    """Parents of the joints; the root's comes as 2^32 - 1 or -1."""
    if kintree_table.ndim != 2 or len(kintree_table) != 2 or kintree_table.shape[1] < 1:
        raise ValueError(f"{path}: 'kintree_table' has shape {kintree_table.shape}, not [2, J].")
    parents, joints = kintree_table.astype(np.int64)
    if not np.array_equal(joints, np.arange(len(joints))):
        raise ValueError(f"{path}: 'kintree_table' numbers its joints {joints.tolist()}, not 0 ...")
    return tuple(int(parent) for parent in np.where(parents == _ROOT_PARENT, -1, parents))


def _check_sizes(path, arrays, n_joints):
    """Raises ValueError that names the key whose shape does not fit the others."""
    n_vertices = len(arrays["v_template"])
    expected = {
        "v_template": (n_vertices, 3),
        "shapedirs": (n_vertices, 3, None),
        "posedirs": (n_vertices, 3, 9 * (n_joints - 1)),
        "J_regressor": (n_joints, n_vertices),
        "weights": (n_vertices, n_joints),
        "f": (None, 3),
    }
    for key, shape in expected.items():
        actual = arrays[key].shape if key in arrays else shape
        fits = len(actual) == len(shape) and all(
            size in (None, given) for size, given in zip(shape, actual, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise ValueError(
                f"{path}: {key!r} has shape {actual}, [{wanted}] fits {n_vertices} vertices "
                f"(v_template) and {n_joints} joints (kintree_table)."
            )
