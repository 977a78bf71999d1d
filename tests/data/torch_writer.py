"""Writes PyTorch files of both layouts without PyTorch.

Conventions: opcodes are spelled out (`hostile`), so that tests can also write what `torch.save`
never would.
"""

import collections
import pickle
import struct
import zipfile

import numpy as np

from tests.data.hostile import call, name, text

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4, "long": 4}}
STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


def number(value):
    """The opcode that pushes a whole number."""
    return pickle.dumps(value, 2)[2:-1]


def numbers(values):
    """The opcodes that push a tuple of whole numbers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key, n_items, kind="Float", *, part=b""):
    """The opcodes of a persistent id, and the one that asks for it."""
    kind = name(f"torch.{kind}Storage")
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(n_items) + part + b"tQ"


def tensor(held, offset, shape, strides):
    """The opcodes of a tensor of `held`, a storage's opcodes."""
    places = (number(offset), numbers(shape), numbers(strides))
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", held, *places, b"\x89", hooks)


class Content:
    """Opcodes of nested data, and the storages of its tensors."""

    def __init__(self, value, *, is_legacy=False):
        self.storages, self._part = {}, b"N" if is_legacy else b""
        self.opcodes = self._pushed(value)

    def _pushed(self, value):
        if isinstance(value, np.ndarray):
            return self._tensor(value)
        if isinstance(value, collections.OrderedDict):
            # a state_dict has an attribute with the versions of its modules
            state = b"}" + text("_metadata") + call("collections.OrderedDict") + b"s"
            return call("collections.OrderedDict") + self._items(value) + state + b"b"
        if isinstance(value, dict):
            return b"}" + self._items(value)
        return pickle.dumps(value, 2)[2:-1]

    def _items(self, value):
        pairs = [self._pushed(x) for pair in value.items() for x in pair]
        return b"(" + b"".join(pairs) + b"u"

    def _tensor(self, array):
        key = str(len(self.storages))
        self.storages[key] = array
        strides = [stride // array.itemsize for stride in np.ascontiguousarray(array).strides]
        held = storage(key, array.size, STORAGES[array.dtype.name], part=self._part)
        return tensor(held, 0, array.shape, strides[: array.ndim])


def save(path, value, *, is_legacy=False):
    """Writes nested data as `torch.save` would, tensors as arrays."""
    content = Content(value, is_legacy=is_legacy)
    write = write_legacy if is_legacy else write_archive
    write(path, content.opcodes, content.storages)


def write_archive(path, opcodes, storages=(), *, folder="archive", compression=0, more=()):
    """Writes the layout of PyTorch 1.6 and later: `opcodes` of the object, key -> array."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + opcodes + b".")
        archive.writestr(f"{folder}/byteorder", "little")
        for key, array in dict(storages).items():
            archive.writestr(f"{folder}/data/{key}", array.tobytes())
        archive.writestr(f"{folder}/version", "3\n")
        for member, content in dict(more).items():
            archive.writestr(member, content)


def write_legacy(path, opcodes, storages=(), *, head=(MAGIC, PROTOCOL, MACHINE)):
    """Writes the older layout: three objects, `opcodes` of the fourth, keys, arrays."""
    with open(path, "wb") as file:
        for value in head:
            file.write(pickle.dumps(value, 2))
        file.write(b"\x80\x02" + opcodes + b".")
        file.write(pickle.dumps(list(dict(storages)), 2))
        for array in dict(storages).values():
            file.write(struct.pack("<q", array.size) + array.tobytes())
