"""MATLAB 7.3 files: HDF5 with MATLAB's attributes, read through checked h5py.

Conventions: as `mat_files`. MATLAB stores column by column, so HDF5's dimensions are reversed.
"""

import h5py
import numpy as np

from metrabs_like.data.safe_loading import model_objects
from metrabs_like.data.safe_loading.hdf5_files import open_checked

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_USER_BLOCK = 512
_NUMBERS = "double single int8 uint8 int16 uint16 int32 uint32 int64 uint64".split()


def is_version73(header: bytes) -> bool:
    """Tells whether a file is HDF5 behind MATLAB's header, or from its first byte on."""
    is_matlab = header.startswith(b"MATLAB 7.3 ") and header[124:128] in (
        b"\x00\x02IM",
        b"\x02\x00MI",
    )
    block = header[_USER_BLOCK : _USER_BLOCK + len(_SIGNATURE)]
    return header.startswith(_SIGNATURE) or (is_matlab and block == _SIGNATURE)


def load_version73(path: str, names, max_bytes: int) -> dict:
    """Reads the variables of a file for which `is_version73` holds.

    Args:
      path: the file.
      names: the variables to read, None for all; absent ones are left out.
      max_bytes: limit on the sum of all arrays.

    Returns:
      Dict: name -> value.
    """
    with open_checked(path, max_bytes=max_bytes) as source:
        if source.root.userblock_size not in (0, _USER_BLOCK):
            source.refuse(f"has a user block of {source.root.userblock_size} bytes")
        wanted = [name for name in source.root if not name.startswith("#")]
        wanted = [name for name in wanted if names is None or name in names]
        reader = _Reader(source, max_bytes)
        return {name: reader.value(source.member(source.root, name)) for name in wanted}


class _Reader:
    """Turns the objects of a file into values."""

    def __init__(self, source, max_bytes):
        self._source, self._n_left = source, max_bytes

    def refuse(self, found):
        """Raises `UnsafeFile`."""
        self._source.refuse(found)

    def allocate(self, n_bytes):
        """Counts the memory of what becomes larger than it is stored."""
        self._n_left -= n_bytes
        if self._n_left < 0:
            self.refuse(f"asks for {n_bytes} bytes more than max_bytes allows")

    def value(self, found):
        """Returns the value of a group or dataset."""
        return self._source.visit(found, self._read)

    def _read(self, found):
        matlab_class = self._source.attribute(found, "MATLAB_class")
        if "MATLAB_object_decode" in found.attrs or matlab_class in ("function_handle", "opaque"):
            self.refuse(f"holds an object or a function in {found.name!r}")
        if isinstance(found, h5py.Group):
            if "MATLAB_sparse" in found.attrs:
                return self._sparse(found)
            if matlab_class not in (None, "struct"):
                self.refuse(f"holds the class {str(matlab_class)[:60]!r} in {found.name!r}")
            return self._struct(found)
        return self._array(found, matlab_class)

    def _array(self, dataset, matlab_class):
        values = self._source.read(dataset)
        if self._source.attribute(dataset, "MATLAB_empty"):
            return self._empty(values, matlab_class)
        values = values.T
        if matlab_class == "cell":
            return self._referenced(values)
        if values.dtype.hasobject:
            self.refuse(f"holds references in {dataset.name!r}, which is no cell array")
        if matlab_class == "char":
            return self._text(values)
        if matlab_class == "logical":
            return values != 0
        if matlab_class not in (None, *_NUMBERS):
            self.refuse(f"holds the class {str(matlab_class)[:60]!r} in {dataset.name!r}")
        return values

    def _empty(self, values, matlab_class):
        """An empty array is stored as its dimensions."""
        sizes = [int(size) for size in values.ravel()[:32]]
        if 0 not in sizes or min(sizes) < 0 or max(sizes) > 2**31:
            self.refuse("holds an empty array that is not empty")
        if matlab_class == "char":
            return ""
        if matlab_class == "cell":
            return np.zeros(sizes, object)
        is_number = matlab_class in _NUMBERS
        names = {"double": "float64", "single": "float32"}
        return np.zeros(sizes, names.get(matlab_class, matlab_class) if is_number else None)

    def _referenced(self, references):
        """The values that an array of references points to, in its shape."""
        if not references.dtype.hasobject:
            self.refuse("holds a cell array that is none of references")
        values = np.empty(references.shape, object)
        for place in np.ndindex(references.shape):
            values[place] = self.value(self._source.referenced(references[place]))
        return values

    def _text(self, codes):
        if codes.dtype.kind not in "iu" or codes.ndim != 2:
            self.refuse("holds text that is no matrix of codes")
        rows = [row.astype("<u2").tobytes().decode("utf-16-le", "replace") for row in codes]
        return rows[0] if len(rows) == 1 else rows

    def _struct(self, group):
        """A struct, or a struct array: then each field is an array of references."""
        members = self._source.members(group)
        if members and all(self._is_reference_array(child) for _, child in members):
            return self._struct_array(members)
        return {name: self.value(child) for name, child in members}

    def _is_reference_array(self, found):
        is_array = isinstance(found, h5py.Dataset) and "MATLAB_class" not in found.attrs
        return is_array and h5py.check_ref_dtype(found.dtype) is not None

    def _struct_array(self, members):
        columns = {n: self._referenced(self._source.read(child).T) for n, child in members}
        shapes = {column.shape for column in columns.values()}
        if len(shapes) != 1:
            self.refuse("holds a struct array whose fields differ in shape")
        structs = np.empty(shapes.pop(), object)
        for place in np.ndindex(structs.shape):
            structs[place] = {name: column[place] for name, column in columns.items()}
        return structs

    def _sparse(self, group):
        """A sparse matrix: `data`, row indices `ir`, column starts `jc`; dense afterwards."""
        n_rows = int(np.asarray(self._source.attribute(group, "MATLAB_sparse")).ravel()[0])
        parts = {}
        for name in ("data", "ir", "jc"):
            is_there = name in group
            parts[name] = self._source.read(self._source.member(group, name)) if is_there else None
        starts = np.zeros(1, int) if parts["jc"] is None else parts["jc"].ravel().astype(np.int64)
        n_stored = int(starts[-1]) if len(starts) else 0
        if n_stored == 0:
            parts["data"], parts["ir"] = np.zeros(0), np.zeros(0, int)
        return model_objects.dense_columns(
            (n_rows, len(starts) - 1), parts["data"], parts["ir"].astype(np.int64), starts, self
        )
