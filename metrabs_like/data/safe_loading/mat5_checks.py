"""Checks a MATLAB 5 file before scipy reads it: classes, sizes, nesting, decompressed length.

Source: MathWorks, MAT-File Format, "Level 5 MAT-files".
"""

import math
import struct
import zlib

from metrabs_like.data.safe_loading.refusal import refuse

_HEADER_BYTES = 128
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_CELL, _STRUCT, _SPARSE = 1, 2, 5
_CLASSES = {3: "an object", 16: "a function handle", 17: "an opaque object"}
_MAX_DEPTH = 50
_REMEDY = "save only arrays, cells and structs, with -v7"


def is_version5(header: bytes) -> bool:
    """Tells whether a file's first bytes are those of a MATLAB 5 file."""
    return len(header) >= _HEADER_BYTES and header[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def checked_copy(content: bytes, path: str, max_bytes: int) -> bytes:
    """Checks a file and returns it without compression.

    Args:
      content: the file's bytes.
      path: for the messages.
      max_bytes: limit on the decompressed variables.

    Returns:
      The same file with its variables decompressed.

    Raises:
      UnsafeFile: naming what is wrong.
    """
    checker = _Checker(path, "<" if content[126:128] == b"IM" else ">", max_bytes)
    try:
        return content[:_HEADER_BYTES] + b"".join(checker.variables(content))
    except (struct.error, zlib.error) as error:
        refuse(path, f"is a damaged MATLAB file ({error})", "copy it again")


class _Checker:
    """Walks over the elements of a file."""

    def __init__(self, path, byte_order, max_bytes):
        self._path, self._order, self._n_left = path, byte_order, max_bytes

    def variables(self, content):
        """Yields the bytes of each variable, decompressed and checked."""
        position = _HEADER_BYTES
        while position < len(content):
            kind, data, after = self._element(content, position)
            whole = content[position:after]
            if kind == _COMPRESSED:
                whole = self._decompressed(data)
                kind, data, end = self._element(whole, 0)
                if end != len(whole):
                    self._refuse("holds a compressed variable with something behind it")
            else:
                self._take(len(whole))
            if kind != _MATRIX:
                self._refuse(f"holds an element of type {kind} in place of a variable")
            self._check_matrix(data, 0)
            yield whole
            position = after

    def _decompressed(self, data):
        unpacker = zlib.decompressobj()
        whole = unpacker.decompress(data, self._n_left + 1)
        self._take(len(whole))
        if not unpacker.eof:
            self._refuse("is truncated or decompresses to more than max_bytes allows")
        return whole

    def _element(self, data, position):
        """Returns (type, payload, position behind) of an element."""
        kind, n_bytes = struct.unpack_from(self._order + "II", data, position)
        if kind >> 16:  # a small element: size and type in one word, the payload in the other
            kind, n_bytes = kind & 0xFFFF, kind >> 16
            start, end = position + 4, position + 8
            if n_bytes > 4:
                self._refuse("has a damaged element")
        else:
            start = position + 8
            end = start + n_bytes if kind == _COMPRESSED else start + (n_bytes + 7) // 8 * 8
        if start + n_bytes > len(data):
            self._refuse("ends within a variable (truncated)")
        return kind, data[start : start + n_bytes], min(end, len(data))

    def _elements(self, data):
        elements, position = [], 0
        while position < len(data):
            kind, payload, position = self._element(data, position)
            elements.append((kind, payload))
        return elements

    def _check_matrix(self, data, depth):
        """Checks class, dimensions and contents of one array."""
        if not data:
            return
        if depth > _MAX_DEPTH:
            self._refuse(f"is nested more than {_MAX_DEPTH} deep")
        kind, flags, position = self._element(data, 0)
        if kind != _UINT32 or len(flags) != 8:
            self._refuse("holds an array without its flags")
        matlab_class = struct.unpack_from(self._order + "I", flags)[0] & 0xFF
        if matlab_class in _CLASSES or not 1 <= matlab_class <= 15:
            self._refuse(f"holds {_CLASSES.get(matlab_class, f'the class {matlab_class}')}")
        kind, dims, position = self._element(data, position)
        sizes = struct.unpack(f"{self._order}{len(dims) // 4}i", dims) if kind == _INT32 else ()
        if not 2 <= len(sizes) <= 32 or min(sizes) < 0:
            self._refuse("holds an array of strange dimensions")
        (name_kind, _), *contents = self._elements(data[position:])
        if name_kind != _INT8:
            self._refuse("holds an array without a name")
        self._check_contents(matlab_class, math.prod(sizes), contents, depth)

    def _check_contents(self, matlab_class, n_items, contents, depth):
        """Each item needs some bytes of the file, so that dimensions cannot be made up."""
        arrays = [payload for kind, payload in contents if kind == _MATRIX]
        n_bytes = sum(len(payload) for _, payload in contents)
        if matlab_class in (_CELL, _STRUCT):
            is_whole = n_items <= max(len(arrays), 1)
            for payload in arrays:
                self._check_matrix(payload, depth + 1)
        elif matlab_class == _SPARSE:
            is_whole = True  # it becomes dense: counted as such
        else:
            is_whole = n_items <= n_bytes
        self._take(n_items * 16)
        if not is_whole or (arrays and matlab_class not in (_CELL, _STRUCT)):
            self._refuse(f"declares {n_items} items in an array that has {n_bytes} bytes")

    def _take(self, n_bytes):
        self._n_left -= n_bytes
        if self._n_left < 0:
            self._refuse("holds more data than max_bytes allows")

    def _refuse(self, found):
        refuse(self._path, found, _REMEDY)
