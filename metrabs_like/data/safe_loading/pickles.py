"""`load_pickle`: the one way in which this library reads pickle files.

Conventions: the file is first read as inert notes (`pickle_notes`); only then are the calls whose
names stand in the table turned into arrays, frames and containers, by functions of ours. No name of
the file is ever imported, called or changed.
"""

import collections
from collections.abc import Mapping
from typing import Any, NoReturn

from metrabs_like.data.safe_loading import model_objects, numpy_values, pandas_frames
from metrabs_like.data.safe_loading.pickle_notes import ATOMS, Call, Name, is_key, read_notes
from metrabs_like.data.safe_loading.refusal import UnsafeFile, check_size, refuse

MAX_PICKLE_BYTES = 4 << 30
"""AGORA's largest frames, with all vertices, have about 1 GB."""

MAX_DEPTH = 100
"""Containers and calls inside each other; a DataFrame has about 10 (ours)."""

_REMEDY = "store the data as NumPy arrays, lists, dicts and text"


def load_pickle(path: str, *, max_bytes: int = MAX_PICKLE_BYTES) -> Any:
    """Reads a pickle that holds data: NumPy, DataFrames, sparse matrices, chumpy arrays.

    Args:
      path: the file, of any protocol, also one of Python 2 (its `str` is read as latin1).
      max_bytes: largest file, and most memory that arrays made from it may take beside it.

    Returns:
      Containers, numbers, text and arrays. A DataFrame is a dict: column -> array, or list where
      the column holds objects. A sparse matrix is dense, a chumpy array an array. Arrays that are
      views of the file's bytes cannot be written to; copy them for that.

    Raises:
      UnsafeFile: naming what is not on the allow-list, or why the file is damaged or too large.
      ValueError: if the file is missing.
    """
    n_bytes = check_size(path, max_bytes)
    return resolve_notes(read_notes(path, n_bytes, _NAMES), path, max_bytes, BUILDERS)


def resolve_notes(
    notes: Any, path: str, max_bytes: int, builders: Mapping[str, Any], remedy: str = _REMEDY
) -> Any:
    """Turns the notes of a pickle into values.

    Args:
      notes: of `pickle_notes.read_notes`.
      path: the file, for messages.
      max_bytes: most memory that may be taken beside the file.
      builders: name of a call -> function of the `Call` and the context (`resolve`, `allocate`,
        `refuse`) that makes its value; None refuses the call.
      remedy: for messages about what the file holds.

    Returns:
      The value.

    Raises:
      UnsafeFile: as of `load_pickle`.
    """
    context = _Context(path, max_bytes, builders, remedy)
    try:
        return context.resolve(notes)
    except UnsafeFile:
        raise
    except (MemoryError, RecursionError):
        refuse(path, "asks for more memory than there is", "do not use it")
    except (ValueError, TypeError, OverflowError, LookupError, ArithmeticError) as error:
        text = f"{type(error).__name__}: {error}"[:200]
        refuse(path, f"holds an object with a damaged state ({text})", "copy it again")


class _Context:
    """Turns notes into values; keeps count of depth and memory."""

    def __init__(self, path, max_bytes, builders, remedy):
        self._path, self._n_left = path, max_bytes
        self._builders, self._remedy = builders, remedy
        self._depth = 0
        self._done = {}  # id -> (note, value): the note is kept, so that its id stays its own
        self._open = set()  # ids of what is being resolved: meeting one again is a cycle

    def refuse(self, found: str) -> NoReturn:
        """Raises `UnsafeFile`."""
        refuse(self._path, found, self._remedy)

    def allocate(self, n_bytes: int) -> None:
        """Takes memory from what the file may use."""
        self._n_left -= n_bytes
        if self._n_left < 0:
            self.refuse(f"asks for {n_bytes} bytes more than max_bytes allows")

    def resolve(self, note):
        """Returns the value of a note; containers keep their identity where they occur twice."""
        if type(note) in ATOMS or isinstance(note, (bytearray, set, frozenset)):
            return note
        if isinstance(note, Name):
            self.refuse(f"holds {note.dotted!r} itself as a value")
        if id(note) in self._done:
            return self._done[id(note)][1]
        if id(note) in self._open:
            self.refuse("holds an object that contains itself")
        if self._depth >= MAX_DEPTH:
            self.refuse(f"is nested more than {MAX_DEPTH} deep")
        self._open.add(id(note))
        self._depth += 1
        value = self._resolve_new(note)
        self._depth -= 1
        self._open.remove(id(note))
        self._done[id(note)] = (note, value)
        return value

    def _resolve_new(self, note):
        if isinstance(note, Call):
            return self._make(note)
        if type(note) is tuple:
            values = tuple(self.resolve(item) for item in note)
            return values if any(a is not b for a, b in zip(values, note, strict=True)) else note
        if type(note) is dict:
            for key, value in note.items():
                note[key] = self.resolve(value)
            return note
        if type(note) is list:
            for i, item in enumerate(note):
                if type(item) not in ATOMS:
                    note[i] = self.resolve(item)
        return note

    def _make(self, call):
        build = self._builders[call.name]
        if build is None:
            self.refuse(f"calls {call.name!r}")
        return build(call, self)


def _build_bytes(call, context):
    """`_codecs.encode(text, "latin1")`, as protocols 0 to 2 write bytes."""
    args = context.resolve(call.args)
    if len(args) != 2 or type(args[0]) is not str or args[1] not in ("latin1", "latin-1"):
        context.refuse("calls '_codecs.encode' in another way than for bytes")
    context.allocate(len(args[0]))
    return args[0].encode("latin1")


def _build_empty_bytes(call, context):
    if call.args:
        context.refuse("calls 'bytes' with arguments")
    return b""


def _build_bytearray(call, context):
    args = context.resolve(call.args)
    if len(args) == 2 and type(args[0]) is str and args[1] in ("latin1", "latin-1"):
        args = (args[0].encode("latin1"),)
    if args and (len(args) != 1 or type(args[0]) is not bytes):
        context.refuse("calls 'bytearray' with something else than bytes")
    context.allocate(len(args[0]) if args else 0)
    return bytearray(*args)


def _build_set(call, context):
    args = context.resolve(call.args)
    items = args[0] if args else []
    if len(args) > 1 or type(items) is not list:
        context.refuse("makes a set of something else than a list")
    context.allocate(64 * len(items))
    if not all(map(is_key, items)):
        context.refuse("makes a set of something else than text or small whole numbers")
    return (set if call.name == "builtins.set" else frozenset)(items)


def _build_slice(call, context):
    args = context.resolve(call.args)
    if len(args) != 3 or not all(type(arg) in (int, type(None)) for arg in args):
        context.refuse("makes a slice of something else than whole numbers")
    return slice(*args)


def _build_complex(call, context):
    args = context.resolve(call.args)
    if len(args) != 2 or not all(type(arg) in (int, float) for arg in args):
        context.refuse("makes a complex number of something else than numbers")
    return complex(*args)


def _build_ordered_dict(call, context):
    pairs = context.resolve(call.args[0]) if call.args else []
    if len(call.args) > 1 or type(pairs) is not list or call.state is not None:
        context.refuse("makes an ordered dict of something else than pairs")
    context.allocate(200 * len(pairs))
    made = collections.OrderedDict()
    for key, value in [*pairs, *context.resolve(call.items or {}).items()]:
        if not is_key(key):
            context.refuse("uses something else than text or small whole numbers as a key")
        made[key] = value
    return made


BUILDERS = {
    **numpy_values.BUILDERS,
    **pandas_frames.BUILDERS,
    **model_objects.BUILDERS,
    "_codecs.encode": _build_bytes,
    "builtins.bytes": _build_empty_bytes,
    "builtins.bytearray": _build_bytearray,
    "builtins.set": _build_set,
    "builtins.frozenset": _build_set,
    "builtins.slice": _build_slice,
    "builtins.complex": _build_complex,
    "collections.OrderedDict": _build_ordered_dict,
    "builtins.object": None,
}
"""The allow-list: what may be called, and by which function of ours; None: may only be named."""

_NAMES = frozenset(BUILDERS) | {"copyreg._reconstructor"}
