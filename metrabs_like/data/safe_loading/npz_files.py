"""`load_npz`: NumPy archives whose members are checked before anything is decompressed."""

import ast
import math
import os
import posixpath
import zipfile
from collections.abc import Collection

import numpy as np

from metrabs_like.data.safe_loading.refusal import UnsafeFile, check_size, refuse

MAX_NPZ_BYTES = 4 << 30
"""Arrays of one archive, decompressed; AMASS' longest have some MB (ours)."""

MAX_MEMBERS = 1000
"""Arrays in one archive (ours)."""

_MAX_RATIO = 1000  # deflate reaches 1032, on zeros
_FREE_BYTES = 16 << 20  # members up to this may be all zeros
_REMEDY = "write it anew with numpy.savez"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def load_npz(
    path: str,
    *,
    names: Collection[str] | None = None,
    max_bytes: int = MAX_NPZ_BYTES,
    max_members: int = MAX_MEMBERS,
) -> dict[str, np.ndarray]:
    """Reads arrays of an npz archive; none of them may hold Python objects.

    Args:
      path: the file.
      names: the arrays to read; None reads all. Absent ones are left out.
      max_bytes: limit on the file, and on the sum of the arrays to read, as its directory
        declares them.
      max_members: limit on the number of arrays.

    Returns:
      Dict: name (without `.npy`) -> array, read-only views.

    Raises:
      UnsafeFile: for too much data, odd member names, object arrays, or a damaged archive.
      ValueError: if the file is missing.
    """
    check_size(path, max_bytes)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members, path, max_members)
            wanted = {member.filename.removesuffix(".npy"): member for member in members}
            wanted = {k: member for k, member in wanted.items() if names is None or k in names}
            _check_sizes(wanted.values(), path, max_bytes)
            return {k: _read_array(archive, member, path) for k, member in wanted.items()}
    except UnsafeFile:
        raise
    except (MemoryError, RecursionError):
        refuse(path, "asks for more memory than there is", "do not use it")
    except Exception as error:  # zipfile and zlib have many ways to fail
        text = f"{type(error).__name__}: {error}"[:200]
        refuse(path, f"is no whole npz archive ({text})", "copy it again")


def _check_sizes(members, path, max_bytes):
    """Checks how much the members that are read would take."""
    n_bytes = sum(member.file_size for member in members)
    if n_bytes > max_bytes:
        found = f"declares {n_bytes} bytes of arrays, more than max_bytes = {max_bytes}"
        refuse(path, found, "pass a larger limit if you trust it")
    for member in members:
        is_large = member.file_size > _FREE_BYTES
        if is_large and member.file_size > _MAX_RATIO * member.compress_size:
            found = f"declares {member.file_size} bytes in {member.filename[:200]!r}, of which "
            refuse(path, f"{found}{member.compress_size} are stored", _REMEDY)


def _check_members(members, path, max_members):
    """Checks the archive's directory; nothing is decompressed yet."""
    if len(members) > max_members:
        refuse(path, f"has {len(members)} members, more than {max_members}", _REMEDY)
    names = [member.filename for member in members]
    for member, name in zip(members, names, strict=True):
        normal = posixpath.normpath(name)
        if normal != name or normal.startswith(("..", "/")) or "\\" in name or os.path.isabs(name):
            refuse(path, f"has a member with the path {name[:200]!r}", _REMEDY)
        if not name.endswith(".npy") or names.count(name) > 1:
            refuse(path, f"has the odd or repeated member {name[:200]!r}", _REMEDY)
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            refuse(path, f"has the member {name[:200]!r} in an unusual compression", _REMEDY)


def _read_array(archive, member, path):
    """Reads one .npy; its header must announce just as many bytes as the member holds."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        n_length = 2 if version == (1, 0) else 4
        length = int.from_bytes(file.read(n_length), "little")
        n_left = member.file_size - 8 - n_length - length
        if version not in ((1, 0), (2, 0), (3, 0)) or length > 10_000 or n_left < 0:
            refuse(path, f"has the member {member.filename!r} with an unusual header", _REMEDY)
        header = ast.literal_eval(file.read(length).decode("utf-8").strip())
        dtype = np.lib.format.descr_to_dtype(header["descr"])
        shape = header["shape"]
        if dtype.hasobject or not dtype.itemsize:
            found = f"holds Python objects, or elements of no bytes, in {member.filename!r}"
            refuse(path, found, "store plain arrays")
        is_shape = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not is_shape or math.prod(shape) * dtype.itemsize != n_left:
            found = f"declares the shape {str(shape)[:100]} of {member.filename!r}, which has "
            refuse(path, f"{found}{n_left} bytes", _REMEDY)
        order = "F" if header["fortran_order"] else "C"
        data = file.read(n_left)
        if not data:
            return np.zeros(shape, dtype, order)
        return np.frombuffer(data, dtype).reshape(shape, order=order)
