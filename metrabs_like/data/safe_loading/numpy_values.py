"""Makes NumPy arrays, dtypes and scalars from the notes of a pickle; NumPy unpickles nothing.

NumPy's `dtype.__setstate__` believes the flags of the file, so bytes could be declared to be
pointers to objects; here every dtype is built from its checked description instead.
"""

import math
import re

import numpy as np

_DTYPE_CODE = re.compile(r"[<>=|]?([?bBhHiIlLqQefdgFDG]|[biufcSUaVOMm]\d{0,8})")
_MAX_DIMS = 32
_MAX_ITEM_BYTES = 1 << 20  # one element of a dtype (ours); people's arrays have 8
_MAX_FIELDS = 1000  # of a structured dtype (ours)
_DATETIME_UNIT = re.compile(r"Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as|generic")


def build_array(call, context):
    """`_reconstruct(ndarray, ...)` with state (version, shape, dtype, is_fortran, data)."""
    _expect_ndarray(call, context)
    state = context.resolve(call.state)
    if type(state) is not tuple or len(state) not in (4, 5):
        context.refuse("holds an array without its usual state")
    shape, dtype, is_fortran, data = state[-4:]
    return make_array(shape, dtype, "F" if is_fortran else "C", data, context)


def build_array_from_buffer(call, context):
    """`_frombuffer(data, dtype, shape, order)` of protocol 5."""
    args = context.resolve(call.args)
    if len(args) != 4 or args[3] not in ("C", "F"):
        context.refuse("holds an array buffer with strange arguments")
    data, dtype, shape, order = args
    return make_array(shape, dtype, order, data, context)


def build_scalar(call, context):
    """`scalar(dtype, data)`."""
    args = context.resolve(call.args)
    if len(args) != 2:
        context.refuse("holds a NumPy scalar with strange arguments")
    array = make_array((1,), args[0], "C", args[1], context)
    if array.dtype.hasobject:
        context.refuse("holds a NumPy scalar of objects")
    return array[0]


def make_array(shape, dtype, order, data, context) -> np.ndarray:
    """Makes an array whose data must fill its shape exactly.

    Args:
      shape: tuple of sizes, as the file says.
      dtype: the element type.
      order: "C" or "F".
      data: bytes, or text of a Python 2 file; a list where the elements are objects.
      context: gives `refuse` and `allocate`.

    Returns:
      The array; a view of `data` where that is bytes (then it cannot be written to).
    """
    if not isinstance(dtype, np.dtype) or not _is_shape(shape):
        context.refuse("holds an array with a strange shape or dtype")
    n_items = math.prod(shape)
    if not dtype.itemsize and n_items > 1:  # any number of them would be free in the file
        context.refuse("holds an array whose elements have no bytes")
    if dtype == np.dtype(object):
        if type(data) is not list or len(data) != n_items:
            context.refuse("holds an object array whose list does not fill its shape")
        context.allocate(8 * n_items)
        array = np.empty(n_items, object)
        for i, item in enumerate(data):
            array[i] = item
        return array.reshape(shape, order=order)
    if type(data) is str:
        context.allocate(len(data))
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or len(data) != n_items * dtype.itemsize:
        context.refuse("holds an array whose bytes do not fill its shape")
    if not data:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def build_dtype(call, context) -> np.dtype:
    """`dtype(code, align, copy)` with state (version, byte order, subarray, names, fields ...)."""
    args = context.resolve(call.args)
    code = args[0] if args else None
    if type(code) is not str or not _DTYPE_CODE.fullmatch(code) or call.kwargs:
        text = code[:60] if type(code) is str else type(code).__name__
        context.refuse(f"holds the unusual dtype {text!r}")
    state = context.resolve(call.state)
    dtype = _described_dtype(np.dtype(code), state, context)
    is_empty = not dtype.itemsize and dtype.kind not in "SU"  # NumPy's empty text has none
    if is_empty or dtype.itemsize > _MAX_ITEM_BYTES:
        context.refuse(f"holds a dtype of {dtype.itemsize} bytes an element")
    return dtype


def _described_dtype(dtype, state, context):
    """Adds what the state tells: byte order, fields, unit of time."""
    if state is None:
        return dtype
    if type(state) is not tuple or not 6 <= len(state) <= 9 or state[1] not in ("<", ">", "|", "="):
        context.refuse("holds a dtype with an unusual state")
    _, byte_order, subarray, names, fields, itemsize = state[:6]
    if subarray is not None:
        return _subarray_dtype(subarray, context)
    if names is not None or fields is not None:
        return _structured_dtype(names, fields, itemsize, context)
    if dtype.kind in "mM":
        dtype = _time_dtype(dtype, state, context)
    elif dtype.kind in "SUV" and type(itemsize) is int and 0 <= itemsize <= _MAX_ITEM_BYTES:
        size = itemsize // 4 if dtype.kind == "U" else itemsize
        dtype = np.dtype(f"{dtype.kind}{size}")
    return dtype.newbyteorder(byte_order) if byte_order in "<>" else dtype


def _subarray_dtype(subarray, context):
    is_pair = type(subarray) is tuple and len(subarray) == 2
    if not is_pair or not isinstance(subarray[0], np.dtype) or not _is_shape(subarray[1]):
        context.refuse("holds an unusual subarray dtype")
    base, shape = subarray
    if base.hasobject or math.prod(shape) * base.itemsize > _MAX_ITEM_BYTES:
        context.refuse("holds a subarray dtype of objects, or a very large one")
    return np.dtype((base, shape))


def _structured_dtype(names, fields, itemsize, context):
    is_plain = type(names) is tuple and type(fields) is dict and len(names) <= _MAX_FIELDS
    is_plain = is_plain and all(type(name) is str for name in names) and set(names) == set(fields)
    if not is_plain or type(itemsize) is not int or not 0 <= itemsize <= _MAX_ITEM_BYTES:
        context.refuse("holds a structured dtype with unusual fields")
    formats, offsets = [], []
    for name in names:
        field = fields[name]
        if type(field) is not tuple or len(field) < 2 or not isinstance(field[0], np.dtype):
            context.refuse("holds a structured dtype with unusual fields")
        if field[0].hasobject:
            context.refuse("holds a structured dtype with objects in it")
        formats.append(field[0])
        offsets.append(field[1])
    if sum(part.itemsize for part in formats) > itemsize:
        context.refuse("holds a structured dtype whose fields overlap")
    layout = {"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize}
    return np.dtype(layout)


def _time_dtype(dtype, state, context):
    """A datetime's unit stands in the metadata: (dict, (unit, number, 1, 1))."""
    try:
        unit, number = state[8][1][:2]
    except (IndexError, TypeError, KeyError):
        return dtype
    unit = unit.decode("ascii", "replace") if isinstance(unit, bytes) else unit
    if type(unit) is not str or not _DATETIME_UNIT.fullmatch(unit) or type(number) is not int:
        context.refuse("holds a dtype with an unusual unit of time")
    return dtype if unit == "generic" else np.dtype(f"{dtype.kind}8[{number}{unit}]")


def _expect_ndarray(call, context):
    if not call.args or getattr(call.args[0], "dotted", None) != "numpy.ndarray":
        context.refuse("reconstructs an array of an unusual class")


def _is_shape(shape):
    is_tuple = type(shape) is tuple and len(shape) <= _MAX_DIMS
    return is_tuple and all(type(size) is int and 0 <= size < 2**48 for size in shape)


BUILDERS = {
    "numpy.ndarray": None,
    "numpy.dtype": build_dtype,
    **{
        f"numpy.{core}.{name}": build
        for core in ("core", "_core")
        for name, build in (
            ("multiarray._reconstruct", build_array),
            ("multiarray.scalar", build_scalar),
            ("numeric._frombuffer", build_array_from_buffer),
        )
    },
}
"""What may be called, by dotted name; None: may only be named as an argument."""
