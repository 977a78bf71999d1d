"""`load_mat`: MATLAB files, version 5 (through scipy) and 7.3 (through h5py), in one form.

Conventions: numbers keep MATLAB's two dimensions and class (`double` -> float64, `logical` ->
bool); text is `str` (several rows: a list of them); a cell array is an object array of its shape;
a struct is a dict (a struct array: an object array of dicts); sparse matrices are dense. In a
version 5 file with complex numbers, whole numbers and logicals keep the integer type in which they
are stored.
"""

import io

import numpy as np
import scipy.io
import scipy.sparse

from metrabs_like.data.safe_loading import mat5_checks, mat73_files
from metrabs_like.data.safe_loading.refusal import UnsafeFile, check_size, refuse

MAX_MAT_BYTES = 4 << 30
"""Largest file, and most memory for its variables; MADS' have some MB (ours)."""


def load_mat(path: str, *, names=None, max_bytes: int = MAX_MAT_BYTES) -> dict:
    """Reads the variables of a MATLAB file.

    Args:
      path: the file, saved with `-v6`, `-v7` or `-v7.3`.
      names: the variables to read; None reads all.
      max_bytes: limit on the file, and on its decompressed variables.

    Returns:
      Dict: name of the variable -> value, as this module's conventions say.

    Raises:
      UnsafeFile: for objects, function handles, links, too much data, or a damaged file.
      ValueError: if the file or a named variable is missing.
    """
    check_size(path, max_bytes)
    with open(path, "rb") as file:
        header = file.read(520)
    names = None if names is None else [str(name) for name in names]
    if mat5_checks.is_version5(header):
        variables = _load_version5(path, names, max_bytes)
    elif mat73_files.is_version73(header):
        variables = mat73_files.load_version73(path, names, max_bytes)
    else:
        refuse(path, "is no MATLAB file of version 5 or 7.3", "save it with -v7")
    missing = sorted(set(names or ()) - set(variables))
    if missing:
        raise ValueError(f"{path} has no variable {', '.join(missing)}; is it the right file?")
    return variables


def _load_version5(path, names, max_bytes):
    """Lets scipy read a checked and decompressed copy."""
    with open(path, "rb") as file:
        content = file.read()
    checked, has_complex = mat5_checks.checked_copy(content, path, max_bytes)
    try:
        variables = scipy.io.loadmat(
            io.BytesIO(checked),
            squeeze_me=False,
            struct_as_record=True,
            mat_dtype=not has_complex,  # with it scipy drops imaginary parts
            variable_names=names,
        )
        return {
            name: _plain(value, path)
            for name, value in variables.items()
            if not name.startswith("__")
        }
    except UnsafeFile:
        raise
    except Exception as error:  # scipy's reader has many ways to fail
        text = f"{type(error).__name__}: {error}"[:200]
        refuse(path, f"is a damaged MATLAB file ({text})", "copy it again")


def _plain(value, path):
    """Turns what scipy gives into the common form."""
    if scipy.sparse.issparse(value):
        return value.toarray()  # its indices were checked
    if type(value) is not np.ndarray:
        refuse(path, f"holds a {type(value).__name__}", "save only arrays, cells and structs")
    if value.dtype.kind == "U":
        rows = [str(row) for row in value.ravel()]
        return rows[0] if len(rows) == 1 else rows or ""
    if not value.dtype.hasobject:
        return value
    plain = np.empty(value.shape, object)
    for place in np.ndindex(value.shape):
        item = value[place]
        if value.dtype.names is None:
            plain[place] = _plain(item, path)
        else:
            plain[place] = {name: _plain(item[name], path) for name in value.dtype.names}
    is_struct = value.dtype.names is not None
    return plain.item() if is_struct and plain.size == 1 else plain
