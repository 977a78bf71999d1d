"""Checks a MATLAB 5 file before scipy reads it: classes, sizes, nesting, decompressed length.

Source: MathWorks, MAT-File Format, "Level 5 MAT-files".
"""

import math
import struct
import zlib

import numpy as np

from metrabs_like.data.safe_loading.refusal import UnsafeFile, refuse

_HEADER_BYTES = 128
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_COMPLEX_FLAG = 0x800
_CELL, _STRUCT, _CHAR, _SPARSE = 1, 2, 4, 5
_UTF8 = 16
_NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXT_BYTES = {1: 1, 2: 1, 4: 2, _UTF8: 1, 17: 2, 18: 4}
_CLASSES = {3: "an object", 16: "a function handle", 17: "an opaque object"}
_MAX_DEPTH = 50
MAX_ELEMENTS = 1_000_000
"""Parts of arrays, cells and fields in one file (ours); an empty cell of 8 bytes takes 200 here."""

_REMEDY = "save only arrays, cells and structs, with -v7"


def is_version5(header: bytes) -> bool:
    """Tells whether a file's first bytes are those of a MATLAB 5 file."""
    return len(header) >= _HEADER_BYTES and header[124:128] in (b"\x00\x01IM", b"\x01\x00MI")


def checked_copy(content: bytes, path: str, max_bytes: int) -> tuple[bytes, bool]:
    """Checks a file and returns it without compression.

    Args:
      content: the file's bytes.
      path: for the messages.
      max_bytes: limit on the decompressed variables.

    Returns:
      The same file with its variables decompressed, and whether any of them is complex.

    Raises:
      UnsafeFile: naming what is wrong.
    """
    checker = _Checker(path, "<" if content[126:128] == b"IM" else ">", max_bytes)
    try:
        body = b"".join(checker.variables(content))
    except UnsafeFile:
        raise
    except (MemoryError, RecursionError):
        refuse(path, "asks for more memory than there is", "do not use it")
    except (struct.error, zlib.error, ValueError) as error:
        refuse(path, f"is a damaged MATLAB file ({error})", "copy it again")
    return content[:_HEADER_BYTES] + body, checker.has_complex


class _Checker:
    """Walks over the elements of a file."""

    def __init__(self, path, byte_order, max_bytes):
        self._path, self._order, self._n_left = path, byte_order, max_bytes
        self._n_elements_left = MAX_ELEMENTS
        self.has_complex = self._is_complex = False

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
        if not unpacker.eof:
            self._refuse("is truncated or decompresses to more than max_bytes allows")
        self._take(len(whole))
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
            self._take_elements(1)
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
        word = struct.unpack_from(self._order + "I", flags)[0]
        self._is_complex = bool(word & _COMPLEX_FLAG)
        self.has_complex = self.has_complex or self._is_complex
        matlab_class = word & 0xFF
        if matlab_class in _CLASSES or not 1 <= matlab_class <= 15:
            self._refuse(f"holds {_CLASSES.get(matlab_class, f'the class {matlab_class}')}")
        kind, dims, position = self._element(data, position)
        sizes = struct.unpack(f"{self._order}{len(dims) // 4}i", dims) if kind == _INT32 else ()
        if not 2 <= len(sizes) <= 32 or min(sizes) < 0:
            self._refuse("holds an array of strange dimensions")
        (name_kind, _), *contents = self._elements(data[position:])
        if name_kind not in (_INT8, _UTF8):
            self._refuse("holds an array without a name")
        n_items = math.prod(sizes)
        self._take(n_items * 16)  # a sparse matrix becomes dense: counted as such
        if matlab_class in (_CELL, _STRUCT):
            self._check_container(matlab_class, n_items, contents, depth)
        elif matlab_class == _SPARSE:
            self._check_sparse(sizes, contents)
        else:
            self._check_numbers(matlab_class, n_items, contents)

    def _check_container(self, matlab_class, n_items, contents, depth):
        """A cell array holds one array an item, a struct one for each item and field."""
        n_fields = 1
        if matlab_class == _STRUCT:
            (kind, length), (name_kind, names), *contents = contents
            width = struct.unpack(self._order + "i", length)[0] if kind == _INT32 else 0
            if width <= 0 or name_kind != _INT8 or len(names) % width:
                self._refuse("holds a struct with damaged field names")
            n_fields = len(names) // width
            self._take_elements(n_fields)
        is_whole = len(contents) == n_items * n_fields and n_items <= max(len(contents), 1)
        if not is_whole or any(kind != _MATRIX for kind, _ in contents):
            found = f"declares {n_items} items of {n_fields} fields and holds {len(contents)}"
            self._refuse(found)
        for _, payload in contents:
            self._check_matrix(payload, depth + 1)

    def _check_sparse(self, sizes, contents):
        """Row indices, column starts, values: scipy follows the indices without looking."""
        kinds = [kind for kind, _ in contents]
        is_usual = len(kinds) in (3, 4) and kinds[:2] == [_INT32, _INT32]
        if not is_usual or not set(kinds[2:]) <= set(_NUMBER_BYTES) or len(sizes) != 2:
            self._refuse("holds a sparse matrix without its usual parts")
        rows, starts = (
            np.frombuffer(payload[: len(payload) // 4 * 4], f"{self._order}i4").astype(np.int64)
            for _, payload in contents[:2]
        )
        is_rising = len(starts) == sizes[1] + 1 and np.all(np.diff(starts) >= 0)
        if not is_rising or starts[0] != 0 or starts[-1] > len(rows):
            self._refuse("holds a sparse matrix with damaged column starts")
        rows = rows[: starts[-1]]
        n_stored = min(len(data) // _NUMBER_BYTES[kind] for kind, data in contents[2:])
        if len(rows) and (rows.min() < 0 or rows.max() >= sizes[0] or n_stored < len(rows)):
            self._refuse("holds a sparse matrix with damaged row indices")

    def _check_numbers(self, matlab_class, n_items, contents):
        """Each item must be there, so that dimensions cannot be made up."""
        is_text = matlab_class == _CHAR
        n_parts = 2 if self._is_complex and not is_text else 1
        known = _TEXT_BYTES if is_text else _NUMBER_BYTES
        if len(contents) != n_parts and (contents or n_items):
            self._refuse(f"holds an array of {len(contents)} parts instead of {n_parts}")
        for kind, payload in contents:
            if kind not in known:
                self._refuse(f"holds numbers of the unknown type {kind}")
            n_stored = len(payload) // known[kind]
            # Text in UTF-8 has more bytes than letters; nothing else may differ.
            if n_stored < n_items or (n_stored != n_items and kind != _UTF8):
                self._refuse(f"declares {n_items} items in an array that has {n_stored}")

    def _take(self, n_bytes):
        self._n_left -= n_bytes
        if self._n_left < 0:
            self._refuse("holds more data than max_bytes allows")

    def _take_elements(self, n_elements):
        self._n_elements_left -= n_elements
        if self._n_elements_left < 0:
            self._refuse(f"holds more than {MAX_ELEMENTS} parts, cells and fields")

    def _refuse(self, found):
        refuse(self._path, found, _REMEDY)
