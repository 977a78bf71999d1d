"""Reads a pickle as inert notes: nothing named in the file is imported, called or changed.

Conventions: a global becomes a `Name`, a call of it a `Call` that remembers arguments and state.
Names outside the allow-list end the reading at once; the notes that remain are turned into values
by `pickles`. The opcode loop is the standard library's pure-Python one, with a table that
holds only the opcodes listed here.
"""

import pickle
from collections.abc import Collection
from typing import Any, BinaryIO, NoReturn

from metrabs_like.data.safe_loading.refusal import UnsafeFile, refuse

MAX_OPCODES = 10_000_000
"""Opcodes in one file (ours): an array takes about 30. Besides bytes and text, as large as in the
file, an opcode makes at most an empty set of some 200 bytes and its place in a list or in the memo
of some 100; so the notes take at most about 3 GB."""

ATOMS = (str, bytes, int, float, bool, type(None), complex)
PERSISTENT_ID = "persistent id"
"""Name of the call that a persistent id becomes; no global has one without a dot."""

_MAX_KEY = 2**31
_MAX_WIDE_KEYS = 10_000  # whole numbers beyond that: old optimizers use addresses as keys
_REMEDY = "store the data without such objects (NumPy arrays, lists, dicts, text)"
_RECONSTRUCTOR = "copyreg._reconstructor"
_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_PLAIN = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG
    LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    EMPTY_LIST LIST EMPTY_DICT EMPTY_SET GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
""".split()
_REFUSED = {
    "PERSID": "a persistent id",
    "EXT1": "an extension code",
    "EXT2": "an extension code",
    "EXT4": "an extension code",
    "NEXT_BUFFER": "an out-of-band buffer",
    "READONLY_BUFFER": "an out-of-band buffer",
}


def is_key(value) -> bool:
    """Tells whether a value may be a key or set member: text, bytes, None or a small whole number.

    Hashing deep tuples takes long, and numbers with the same hash can be made up: each of them is
    then compared with all others.
    """
    if type(value) is int:
        return -_MAX_KEY <= value < _MAX_KEY
    return type(value) in (str, bytes, bool, type(None))


class Name:
    """A global of the pickle, `module.name`, as text."""

    __slots__ = ("dotted",)

    def __init__(self, dotted: str):
        self.dotted = dotted


class Call:
    """A call that the pickle asks for: `name(*args, **kwargs)`, then `state` and `items`.

    `state` is what BUILD would set, `items` the pairs of an ordered dict; None where absent.
    """

    __slots__ = ("args", "items", "kwargs", "name", "state")

    def __init__(self, name: str, args: tuple, kwargs: dict | None = None):
        self.name, self.args, self.kwargs = name, args, kwargs or {}
        self.state: Any = None
        self.items: dict | None = None


def read_notes(path: str, n_bytes: int, allowed: Collection[str]) -> Any:
    """Reads a pickle file into lists, dicts, tuples, atoms, `Name`s and `Call`s.

    Args:
      path: the file.
      n_bytes: its size.
      allowed: dotted names that may occur (`__builtin__` as `builtins`, `copy_reg` as `copyreg`).

    Returns:
      The notes of the pickled object; containers may contain themselves.

    Raises:
      UnsafeFile: with the dotted name or the opcode, if something is not allowed or damaged.
    """
    with open(path, "rb") as file:
        return read_notes_of(file, path, n_bytes, allowed)


def read_notes_of(
    file: BinaryIO,
    path: str,
    n_bytes: int,
    allowed: Collection[str],
    *,
    persistent_ids: list | None = None,
    remedy: str = _REMEDY,
) -> Any:
    """Reads one pickle from an open file, which is left behind it.

    Args:
      file: at the pickle's first byte.
      path: the file's name, for messages.
      n_bytes: how many bytes may be read.
      allowed: as of `read_notes`.
      persistent_ids: takes the notes of persistent ids, which become calls of `PERSISTENT_ID` with
        the id as argument; None refuses them.
      remedy: for messages about what is not allowed.

    Returns:
      As of `read_notes`.

    Raises:
      UnsafeFile: as of `read_notes`.
    """
    reader = _NoteReader(_BoundedFile(file, n_bytes), path, allowed, persistent_ids, remedy)
    try:
        return reader.load()
    except UnsafeFile:
        raise
    except (MemoryError, RecursionError):
        refuse(path, "asks for more memory than there is", "do not use it")
    except Exception as error:
        text = f"{type(error).__name__}: {error}"[:200]
        refuse(path, f"is no whole pickle ({text})", "copy it again")


class _BoundedFile:
    """A file whose reads never ask for more than is left (a read reserves what it asks for)."""

    def __init__(self, file, n_bytes):
        self._file, self._left = file, n_bytes

    def read(self, n):
        if n > self._left:
            raise EOFError(f"{n} bytes are announced, {self._left} are left")
        self._left -= n
        return self._file.read(n)

    def readline(self):
        line = self._file.readline()
        self._left -= len(line)
        return line


class _Opcodes:
    """The table of opcodes; counts the look-ups, because each makes at most one object."""

    def __init__(self, table, path):
        self._table, self._path, self._n_left = table, path, MAX_OPCODES

    def __getitem__(self, code):
        self._n_left -= 1
        if self._n_left < 0:
            refuse(self._path, f"has more than {MAX_OPCODES} opcodes", "do not use it")
        if code not in self._table:
            raise pickle.UnpicklingError(f"unknown opcode {code}")
        return self._table[code]


class _NoteReader(pickle._Unpickler):
    """The opcode loop; every opcode that could run code or change objects is written anew."""

    def __init__(self, file, path, allowed, persistent_ids, remedy):
        super().__init__(file, encoding="latin1")  # Python 2 wrote array bytes as `str`
        self._path, self._allowed, self._remedy = path, allowed, remedy
        self._persistent_ids = persistent_ids
        self._n_wide_keys_left = _MAX_WIDE_KEYS
        table = {
            getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
            for name in _PLAIN
        }
        table.update({getattr(pickle, name)[0]: make for name, make in _OWN.items()})
        for name, what in _REFUSED.items():
            table[getattr(pickle, name)[0]] = _refusing(what)
        self.dispatch = _Opcodes(table, path)

    def find_class(self, module: str, name: str) -> Name:
        """Returns an inert name, or refuses one that is not allowed."""
        dotted = f"{_RENAMED.get(module, module)}.{name}"
        if dotted not in self._allowed:
            self.refuse(f"names {dotted[:200]!r}, which is not on the allow-list")
        return Name(dotted)

    def persistent_load(self, pid) -> Call:
        """Notes a persistent id, or refuses it."""
        if self._persistent_ids is None:
            self.refuse("holds a persistent id")
        self._persistent_ids.append(pid)
        return Call(PERSISTENT_ID, (pid,))

    def refuse(self, found: str) -> NoReturn:
        """Raises `UnsafeFile` for this file."""
        remedy = self._remedy
        if "'torch." in found and remedy == _REMEDY:
            remedy = "convert its PyTorch tensors to NumPy arrays and save it again"
        refuse(self._path, found, remedy)

    def call(self, function, args, kwargs=None) -> Call:
        """Notes a call."""
        if not isinstance(function, Name) or not isinstance(args, tuple):
            self.refuse("calls something that is no plain global")
        name = function.dotted
        if name == _RECONSTRUCTOR:  # protocols 0 and 1 write object.__new__(cls) like this
            is_plain = len(args) == 3 and isinstance(args[0], Name) and args[2] is None
            if not is_plain or getattr(args[1], "dotted", None) != "builtins.object":
                self.refuse(f"calls {_RECONSTRUCTOR} in an unusual way")
            name, args = args[0].dotted, ()
        return Call(name, args, kwargs)

    def checked_key(self, key):
        """Returns a key of a dict or set."""
        if not is_key(key):
            is_wide = type(key) is int and abs(key) < 2**63
            self._n_wide_keys_left -= is_wide
            if not is_wide or self._n_wide_keys_left < 0 or self._persistent_ids is None:
                self.refuse("uses something else than text or small whole numbers as a key")
        return key

    def fill(self, target, pairs) -> None:
        """Adds keys and values to a dict, or to the note of an ordered dict."""
        if isinstance(target, Call) and target.name == "collections.OrderedDict":
            target.items = target = {} if target.items is None else target.items
        if type(target) is not dict:
            self.refuse("sets items of something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[self.checked_key(key)] = value


def _refusing(what):
    def load(reader):
        reader.refuse(f"holds {what}")

    return load


def _load_global(reader):
    module, name = (reader.readline()[:-1].decode("utf-8") for _ in range(2))
    reader.append(reader.find_class(module, name))


def _load_stack_global(reader):
    name, module = reader.stack.pop(), reader.stack.pop()
    if type(name) is not str or type(module) is not str:
        reader.refuse("names a global by something that is no text")
    reader.append(reader.find_class(module, name))


def _load_inst(reader):
    _load_global(reader)
    function = reader.stack.pop()
    args = tuple(reader.pop_mark())
    reader.append(reader.call(function, args))


def _load_obj(reader):
    function, *args = reader.pop_mark()
    reader.append(reader.call(function, tuple(args)))


def _load_reduce(reader):
    args = reader.stack.pop()
    reader.stack[-1] = reader.call(reader.stack[-1], args)


def _load_newobj_ex(reader):
    kwargs, args = reader.stack.pop(), reader.stack.pop()
    if type(kwargs) is not dict or not all(type(key) is str for key in kwargs):
        reader.refuse("calls something with strange keywords")
    reader.stack[-1] = reader.call(reader.stack[-1], args, kwargs)


def _load_build(reader):
    state, target = reader.stack.pop(), reader.stack[-1]
    if not isinstance(target, Call) or target.state is not None:
        reader.refuse("sets the state of something that is no new object")
    target.state = state


def _load_append(reader):
    _extend(reader, [reader.stack.pop()])


def _load_appends(reader):
    _extend(reader, reader.pop_mark())


def _extend(reader, items):
    if type(reader.stack[-1]) is not list:
        reader.refuse("appends to something that is no list")
    reader.stack[-1].extend(items)


def _load_dict(reader):
    pairs = reader.pop_mark()
    reader.append({})
    reader.fill(reader.stack[-1], pairs)


def _load_setitem(reader):
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.fill(reader.stack[-1], [key, value])


def _load_setitems(reader):
    pairs = reader.pop_mark()
    reader.fill(reader.stack[-1], pairs)


def _load_additems(reader):
    items = reader.pop_mark()
    if type(reader.stack[-1]) is not set:
        reader.refuse("adds to something that is no set")
    reader.stack[-1].update(reader.checked_key(item) for item in items)


def _load_frozenset(reader):
    items = reader.pop_mark()
    reader.append(frozenset(reader.checked_key(item) for item in items))


def _load_binpersid(reader):
    reader.append(reader.persistent_load(reader.stack.pop()))


def _load_bytearray8(reader):
    n_bytes = int.from_bytes(reader.read(8), "little")
    reader.append(bytearray(reader.read(n_bytes)))


_OWN = {
    "GLOBAL": _load_global,
    "STACK_GLOBAL": _load_stack_global,
    "INST": _load_inst,
    "OBJ": _load_obj,
    "REDUCE": _load_reduce,
    "NEWOBJ": _load_reduce,
    "NEWOBJ_EX": _load_newobj_ex,
    "BUILD": _load_build,
    "APPEND": _load_append,
    "APPENDS": _load_appends,
    "DICT": _load_dict,
    "SETITEM": _load_setitem,
    "SETITEMS": _load_setitems,
    "ADDITEMS": _load_additems,
    "FROZENSET": _load_frozenset,
    "BYTEARRAY8": _load_bytearray8,
    "BINPERSID": _load_binpersid,
}
