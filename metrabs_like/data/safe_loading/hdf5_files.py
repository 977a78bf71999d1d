"""HDF5 files opened read-only and checked: every object stands in the file itself, at its size.

Refused: soft and external links, raw external files, virtual datasets, filters that load plugins,
datasets whose shape is larger than the limit or than what is stored could ever decompress to,
chunks that decompress to more than they should, cycles of groups or references, and references by
the million.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import NoReturn

import h5py
import numpy as np

from metrabs_like.data.safe_loading import hdf5_chunks
from metrabs_like.data.safe_loading.refusal import UnsafeFile, check_size, refuse

MAX_HDF5_BYTES = 4 << 30
"""Largest file, and largest sum of all arrays read from it (ours)."""

MAX_HDF5_DEPTH = 50
"""Groups and references inside each other (ours)."""

MAX_HDF5_MEMBERS = 100_000
"""Links in one group (ours)."""

MAX_REFERENCES = 1_000_000
"""References in one file, of cells and structs (ours)."""

_FREE_REFERENCES = 10_000  # more than these only in files with as many objects
_OBJECT_BYTES = 64  # at least, in the file; a cell is an object of its own
_MAX_RATIO = 1100  # deflate reaches 1032
_FREE_BYTES = 1 << 20  # smaller arrays may be all fill value, without storage
_CHUNK_BYTES = 1 << 24  # a chunk is unpacked whole, however small the array is
_MAX_ATTRIBUTE_BYTES = 1 << 16
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_REMEDY = "store plain arrays and groups in one file"


def load_hdf5(path: str, *, max_bytes: int = MAX_HDF5_BYTES) -> dict:
    """Reads all arrays of an HDF5 file.

    Args:
      path: the file.
      max_bytes: limit on the file, and on the sum of all arrays.

    Returns:
      Dict: name -> array, or dict for a group.

    Raises:
      UnsafeFile: naming the object and what is wrong with it.
      ValueError: if the file is missing.
    """
    with open_checked(path, max_bytes=max_bytes) as source:

        def read(found):
            if isinstance(found, h5py.Dataset):
                return source.read(found)
            return {name: source.visit(child, read) for name, child in source.members(found)}

        return source.visit(source.root, read)


@contextlib.contextmanager
def open_checked(path: str, *, max_bytes: int = MAX_HDF5_BYTES) -> Iterator["CheckedFile"]:
    """Opens an HDF5 file for reading through `CheckedFile`; its errors become `UnsafeFile`."""
    n_bytes = check_size(path, max_bytes)
    n_references = min(_FREE_REFERENCES + n_bytes // _OBJECT_BYTES, MAX_REFERENCES)
    try:
        with h5py.File(path, "r") as file:
            yield CheckedFile(file, path, max_bytes, n_references)
    except UnsafeFile:
        raise
    except (MemoryError, RecursionError):
        refuse(path, "asks for more memory than there is", "do not use it")
    except Exception as error:  # h5py has many ways to fail
        text = f"{type(error).__name__}: {error}"[:200]
        refuse(path, f"is no whole HDF5 file ({text})", "copy it again")


class CheckedFile:
    """An open HDF5 file whose objects are checked before they are read."""

    def __init__(self, file: h5py.File, path: str, max_bytes: int, max_references: int):
        self.root = file
        self._path, self._n_left, self._n_references_left = path, max_bytes, max_references
        self._done, self._open = {}, set()

    def refuse(self, found: str) -> NoReturn:
        """Raises `UnsafeFile` for this file."""
        refuse(self._path, found, _REMEDY)

    def members(self, group: h5py.Group) -> list:
        """Returns `(name, object)` of a group; every link must be a hard one."""
        if len(group) > MAX_HDF5_MEMBERS:
            self.refuse(f"has more than {MAX_HDF5_MEMBERS} links in {group.name!r}")
        return [(name, self.member(group, name)) for name in group]

    def member(self, group: h5py.Group, name: str):
        """Returns one object of a group, which must be linked directly."""
        if not isinstance(name, str):
            self.refuse(f"has a link whose name is no UTF-8: {name[:60]!r}")
        kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
        names = {h5py.h5l.TYPE_SOFT: "soft", h5py.h5l.TYPE_EXTERNAL: "external"}
        if kind != h5py.h5l.TYPE_HARD:
            self.refuse(f"has the {names.get(kind, 'user-defined')} link {name!r}")
        return group[name]

    def referenced(self, reference: h5py.Reference):
        """Returns what an object reference points to, within this file."""
        if not reference:
            self.refuse("holds an empty reference")
        return self.root[reference]

    def visit(self, found, read):
        """Returns `read(found)`, once for each object; refuses cycles and great depth."""
        if not isinstance(found, (h5py.Group, h5py.Dataset)):
            self.refuse(f"holds {str(found)[:100]}, neither group nor array")
        address = h5py.h5o.get_info(found.id).addr
        if address in self._done:
            return self._done[address]
        if address in self._open:
            self.refuse(f"contains itself at {found.name!r} (a cycle)")
        if len(self._open) >= MAX_HDF5_DEPTH:
            self.refuse(f"is nested more than {MAX_HDF5_DEPTH} deep")
        self._open.add(address)
        value = self._done[address] = read(found)
        self._open.remove(address)
        return value

    def read(self, dataset: h5py.Dataset) -> np.ndarray:
        """Reads a whole array, after checking its storage, type and size."""
        self._check_storage(dataset)
        dtype = dataset.dtype
        is_complex = dtype.names == ("real", "imag") and dtype[0].kind == dtype[1].kind == "f"
        is_reference = h5py.check_ref_dtype(dtype) is h5py.Reference
        if dtype.kind not in "biufcSU" and not is_complex and not is_reference:
            self.refuse(f"holds {dataset.name!r} of the unusual type {str(dtype)[:100]}")
        if dataset.shape is None:
            return np.zeros(0, dtype)
        if not dtype.itemsize:
            self.refuse(f"holds {dataset.name!r}, whose elements have no bytes")
        self._n_references_left -= dataset.size if is_reference else 0
        if self._n_references_left < 0:
            self.refuse(f"holds more references than objects, up to those of {dataset.name!r}")
        values = dataset[()]
        return values["real"] + 1j * values["imag"] if is_complex else np.asarray(values)

    def _check_storage(self, dataset):
        """Checks where the data are, how they are packed, and that they can be that many."""
        properties = dataset.id.get_create_plist()
        where = f"{dataset.name!r}"
        if properties.get_external_count():
            self.refuse(f"keeps {where} in another, raw file")
        if properties.get_layout() == h5py.h5d.VIRTUAL:
            self.refuse(f"makes {where} of other files (a virtual dataset)")
        filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        if not set(filters) <= _FILTERS or len(set(filters)) != len(filters):
            self.refuse(f"packs {where} with the filters {filters}")
        n_items = math.prod(dataset.shape or ())
        n_bytes = n_items * dataset.dtype.itemsize
        n_chunk = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize if n_items else 0
        n_needed, n_stored = max(n_bytes, n_chunk), dataset.id.get_storage_size()
        self._n_left -= n_bytes
        if self._n_left < 0 or n_needed > max(self._n_left + n_bytes, _FREE_BYTES):
            self.refuse(f"declares {n_needed} bytes for {where}, more than max_bytes allows")
        if n_chunk > max(4 * n_bytes, _CHUNK_BYTES):
            self.refuse(f"packs {where} in chunks of {n_chunk} bytes for {n_bytes}")
        if n_needed > _FREE_BYTES and n_needed > _MAX_RATIO * n_stored:
            self.refuse(f"declares {n_needed} bytes for {where}, of which {n_stored} are stored")
        if filters and not hdf5_chunks.are_honest(dataset.id, n_chunk, filters):
            self.refuse(f"packs more into a chunk of {where} than its {n_chunk} bytes")

    def attribute(self, found, name: str):
        """Returns a small attribute (text as `str`), or None where it is absent."""
        if name not in found.attrs:
            return None
        attribute = found.attrs.get_id(name)
        n_bytes = math.prod(attribute.shape) * attribute.dtype.itemsize
        if attribute.dtype.kind not in "biufS" or n_bytes > _MAX_ATTRIBUTE_BYTES:
            self.refuse(f"has the unusual attribute {name!r} at {found.name!r}")
        value = found.attrs[name]
        return value.decode("latin1") if isinstance(value, bytes) else value
