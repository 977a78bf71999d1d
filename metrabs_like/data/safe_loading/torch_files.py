"""`load_torch`: what `torch.save` wrote, read without PyTorch and without running anything.

Conventions: two layouts. Since PyTorch 1.6 a file is a zip archive of a pickle and one member for
each storage; before, it is five pickles in a row and the storages behind them. In both the pickle
names storages by persistent ids; tensors are calls that cut a storage by offset, sizes and strides.
The pickles are read as inert notes (`pickle_notes`), and functions of ours make arrays of them.
"""

import dataclasses
import io
import math
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from metrabs_like.data.safe_loading import pickles
from metrabs_like.data.safe_loading.pickle_notes import PERSISTENT_ID, Name, read_notes_of
from metrabs_like.data.safe_loading.refusal import UnsafeFile, check_size, refuse

MAX_TORCH_BYTES = 4 << 30
"""Largest file, and most memory beside it; CenterNet's largest checkpoint has 0.8 GB."""

MAX_MEMBERS = 100_000
"""Members of an archive: one for each storage (ours)."""

_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_DIMS = 32
_COPY = "copy it again"
_REMEDY = "save its state_dict alone: torch.save(model.state_dict(), path)"
_BFLOAT16 = "bfloat16"
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": _BFLOAT16,
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}


def load_torch(path: str, *, max_bytes: int = MAX_TORCH_BYTES) -> Any:
    """Reads a PyTorch file that holds data: tensors in containers, numbers, text, NumPy.

    Args:
      path: a file of `torch.save`, of PyTorch 0.1.10 or later.
      max_bytes: largest file, and most memory that may be taken beside it.

    Returns:
      The content, tensors as arrays (read-only; bfloat16 ones as float32). Ordered dicts lose the
      attributes that `state_dict` gives them.

    Raises:
      UnsafeFile: naming what is not on the allow-list (the classes of a whole pickled model, for
        example), or why the file is damaged or too large.
      ValueError: if the file is missing.
    """
    n_bytes = check_size(path, max_bytes)
    with open(path, "rb") as file:
        try:
            is_archive = file.read(4) == _ZIP_START
            file.seek(0)
            opened = (_open_archive if is_archive else _open_legacy)(file, path, n_bytes)
            builders = {**_BUILDERS, PERSISTENT_ID: _storage_builder(opened)}
            return pickles.resolve_notes(opened.notes, path, max_bytes, builders, _REMEDY)
        except UnsafeFile:
            raise
        except (MemoryError, RecursionError):
            refuse(path, "asks for more memory than there is", "do not use it")
        except Exception as error:  # zipfile has many ways to fail
            text = f"{type(error).__name__}: {error}"[:200]
            refuse(path, f"is no whole PyTorch file ({text})", _COPY)


@dataclasses.dataclass(frozen=True)
class _Opened:
    """The pickle's notes, what it tells of each storage, and how to read one's bytes."""

    notes: Any
    storages: dict
    read: Callable


@dataclasses.dataclass(frozen=True)
class _Storage:
    """What persistent ids tell of a storage."""

    key: str
    dtype: str
    n_items: int

    @property
    def n_bytes(self):
        return self.n_items * (2 if self.dtype == _BFLOAT16 else np.dtype(self.dtype).itemsize)


def _read_pickle(file: BinaryIO, path, n_bytes):
    """Returns the notes of the next pickle, and its storages: key -> `_Storage`."""
    ids = []
    notes = read_notes_of(file, path, n_bytes, _NAMES, persistent_ids=ids, remedy=_REMEDY)
    storages = {}
    for note in ids:
        storage, _ = _read_id(note, path)
        if storages.setdefault(storage.key, storage) != storage:
            refuse(path, f"tells the storage {storage.key[:100]!r} in two ways", _COPY)
    return notes, storages


def _read_id(note, path):
    """Returns (`_Storage`, part) of ("storage", type, key, device, number[, part])."""
    if type(note) is tuple and len(note) in (5, 6) and note[0] == "storage":
        _, kind, key, _, n_items, *more = note
        part = more[0] if more else None
        is_storage = isinstance(kind, Name) and kind.dotted in _STORAGES and type(key) is str
        is_part = part is None or (type(part) is tuple and len(part) == 3)
        if is_storage and is_part and _are_sizes([n_items, *(part or ())[1:]]):
            return _Storage(key, _STORAGES[kind.dotted], n_items), part and part[1:]
    refuse(path, "holds a persistent id that is no storage", _REMEDY)


def _are_sizes(values):
    return all(type(value) is int and 0 <= value < 2**48 for value in values)


def _open_archive(file, path, n_bytes):
    archive = zipfile.ZipFile(file)
    members = _checked_members(archive, path, n_bytes)
    folders = [name.removesuffix("/data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(folders) != 1:
        refuse(path, "is an archive without one data.pkl in a folder", _REMEDY)
    byte_order = members.get(f"{folders[0]}/byteorder")
    if byte_order and archive.read(byte_order) != b"little":
        refuse(path, "was written on a big-endian machine", "save it on a little-endian one")
    pickled = archive.read(members[f"{folders[0]}/data.pkl"])
    notes, storages = _read_pickle(io.BytesIO(pickled), path, len(pickled))

    def read(storage):
        member = members.get(f"{folders[0]}/data/{storage.key}")
        return archive.read(member) if member else b""

    return _Opened(notes, storages, read)


def _checked_members(archive, path, n_bytes):
    """Returns name -> member; they must stand in the file as they are, once each."""
    members = {member.filename: member for member in archive.infolist()}
    if not len(members) == len(archive.infolist()) <= MAX_MEMBERS:
        refuse(path, f"has repeated members, or more than {MAX_MEMBERS}", _COPY)
    for member in members.values():
        is_stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
        n_bytes -= member.file_size
        if not is_stored or member.file_size != member.compress_size or n_bytes < 0:
            refuse(path, f"has the member {member.filename[:200]!r} that is packed or lies", _COPY)
    return members


def _open_legacy(file, path, n_bytes):
    def read_pickle():
        return _read_pickle(file, path, n_bytes - file.tell())

    magic, _ = read_pickle()
    if magic != _LEGACY_MAGIC:
        refuse(path, "does not begin as torch.save begins its files", _REMEDY)
    version, _ = read_pickle()
    machine, _ = read_pickle()
    is_little = isinstance(machine, dict) and machine.get("little_endian") is True
    if version != _LEGACY_PROTOCOL or not is_little:
        refuse(path, "has an unknown version, or is of a big-endian machine", "save it anew")
    notes, storages = read_pickle()
    keys, _ = read_pickle()
    if type(keys) is not list or not all(type(key) is str for key in keys):
        refuse(path, "does not list its storages", _COPY)
    places = {}
    for key in keys:
        n_items = int.from_bytes(file.read(8), "little")
        if key not in storages or n_items != storages[key].n_items or key in places:
            refuse(path, f"lists the storage {key[:100]!r} in another way than it uses it", _COPY)
        places[key] = file.tell()
        file.seek(storages[key].n_bytes, 1)

    def read(storage):
        file.seek(places.get(storage.key, n_bytes))
        return file.read(min(storage.n_bytes, n_bytes - file.tell()))

    return _Opened(notes, storages, read)


def _storage_builder(opened):
    """Returns the function that makes the array of a persistent id; each is read once."""
    arrays = {}

    def build(call, context):
        storage, part = _read_id(call.args[0], "the file")
        if storage.key not in arrays:
            arrays[storage.key] = _read_storage(storage, opened.read, context)
        array = arrays[storage.key]
        return array if part is None else array[part[0] : sum(part)]

    return build


def _read_storage(storage, read, context):
    content = read(storage)
    if len(content) != storage.n_bytes:
        context.refuse(
            f"has {len(content)} bytes of the storage {storage.key[:100]!r}, not {storage.n_bytes}"
        )
    if storage.dtype == _BFLOAT16:  # the upper half of a float32
        context.allocate(4 * storage.n_items)
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, storage.dtype)


def _build_tensor(call, context):
    """`_rebuild_tensor(storage, offset, sizes, strides)`, in v2 with what only training needs."""
    args = context.resolve(call.args)
    if len(args) < 4 or call.state is not None or not isinstance(args[0], np.ndarray):
        context.refuse("makes a tensor of something else than a storage")
    storage, offset, shape, strides = args[:4]
    are_tuples = type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides)
    if not are_tuples or len(shape) > _MAX_DIMS or not _are_sizes([offset, *shape, *strides]):
        context.refuse("holds a tensor with strange sizes or strides")
    n_items = math.prod(shape)
    if not n_items:
        return np.zeros([min(size, 1) for size in shape], storage.dtype).reshape(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if n_items > len(storage) or last >= len(storage):
        context.refuse(f"holds a tensor of {n_items} numbers that reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _build_parameter(call, context):
    args = context.resolve(call.args)
    if not args or call.state is not None or not isinstance(args[0], np.ndarray):
        context.refuse("makes a parameter of something else than a tensor")
    return args[0]


def _build_ordered_dict(call, context):
    """As in other pickles, but for the versions of modules that `state_dict` notes as its state."""
    call.state = None
    return pickles.BUILDERS["collections.OrderedDict"](call, context)


_BUILDERS = {
    **pickles.BUILDERS,
    **dict.fromkeys(_STORAGES),
    "torch._utils._rebuild_tensor": _build_tensor,
    "torch._utils._rebuild_tensor_v2": _build_tensor,
    "torch._utils._rebuild_parameter": _build_parameter,
    "collections.OrderedDict": _build_ordered_dict,
}
_NAMES = frozenset(_BUILDERS) | {"copyreg._reconstructor"}
