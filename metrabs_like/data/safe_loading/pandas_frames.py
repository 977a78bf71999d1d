"""Makes plain dicts of columns from the notes of a pickled pandas DataFrame, without pandas.

Conventions: pandas keeps columns of one type together in *blocks* `[n_columns, n_rows]`; a frame's
state holds a block manager with its axes (column names, row labels) and blocks. Row labels are
dropped. Understood: the 4-tuple state of pandas up to 1.2, and `_unpickle_block`/`new_block` of 1.3
to 3. Columns of other extension types (categories, nullable integers, dates) are refused by name.
"""

from typing import NamedTuple

import numpy as np

from metrabs_like.data.safe_loading.pickle_notes import is_key

_MAX_COLUMNS = 10_000  # ours; AGORA has about 20
_MAX_STATE = 100  # parts of an array of texts (ours); it has 3
_ARROW_OFFSETS = {"string": np.dtype("<i4"), "large_string": np.dtype("<i8")}


class RangeLabels(NamedTuple):
    """The labels of a RangeIndex, as its bounds: written out they could be any number."""

    start: int
    stop: int
    step: int


class Block(NamedTuple):
    """Some columns of a frame: `values [n_columns, n_rows]` and their places in the frame."""

    values: np.ndarray
    places: np.ndarray | slice


class Manager(NamedTuple):
    """The axes (names of the columns, labels of the rows) and the blocks of a frame."""

    axes: list
    blocks: list


def build_frame(call, context) -> dict:
    """A DataFrame as dict: column name -> array, or list where the column holds objects."""
    state = context.resolve(call.state)
    manager = state
    if type(state) is dict:
        manager = state.get("_mgr", state.get("_data"))
    if not isinstance(manager, Manager) or len(manager.axes) != 2:
        context.refuse("holds a DataFrame whose state is none that pandas writes")
    labels, rows = (_labels(axis, context) for axis in manager.axes)
    if max(len(labels), len(manager.blocks)) > _MAX_COLUMNS:
        context.refuse(f"holds a DataFrame of more than {_MAX_COLUMNS} columns")
    names, n_rows = list(labels), len(rows)
    if not all(map(is_key, names)):
        context.refuse("holds a DataFrame whose columns have unusual names")
    columns = {}
    for block in manager.blocks:
        for name, values in _block_columns(block, names, n_rows, context):
            context.allocate(8 * n_rows)
            columns[name] = values.tolist() if values.dtype.hasobject else values
    if set(columns) != set(names):
        context.refuse("holds a DataFrame whose blocks do not make up its columns")
    return {name: columns[name] for name in names}


def _block_columns(block, names, n_rows, context):
    """Yields (name, values) for each column of a block."""
    if not isinstance(block, Block) or not isinstance(block.values, np.ndarray):
        context.refuse("holds a DataFrame with an unusual block")
    values = np.atleast_2d(block.values)
    is_slice = isinstance(block.places, slice)
    if not is_slice and not 0 <= getattr(block.places, "size", -1) <= len(names):
        context.refuse("holds a DataFrame whose blocks lie outside of its columns")
    try:
        places = np.arange(len(names))[block.places]
    except (IndexError, ValueError, TypeError):
        context.refuse("holds a DataFrame whose blocks lie outside of its columns")
    if values.shape != (len(places), n_rows):
        context.refuse("holds a DataFrame whose blocks do not fit its axes")
    return [(names[place], values[i]) for i, place in enumerate(places)]


def build_manager(call, context) -> Manager:
    """`BlockManager(blocks, axes)`, or an empty one with the 4-tuple state of pandas 1.x."""
    if call.state is None:
        args = context.resolve(call.args)
        if len(args) < 2:
            context.refuse("holds a DataFrame without blocks or axes")
        blocks, axes = args[:2]
    else:
        state = context.resolve(call.state)
        parts = state[3] if type(state) is tuple and len(state) >= 4 else None
        parts = parts.get("0.14.1") if type(parts) is dict else None
        if type(parts) is not dict:
            context.refuse("holds a DataFrame of a pandas before 0.14.1")
        axes = parts.get("axes")
        blocks = [_old_block(block, context) for block in _sequence(parts.get("blocks"), context)]
    return Manager(list(_sequence(axes, context)), list(_sequence(blocks, context)))


def _old_block(block, context):
    if type(block) is not dict or not {"values", "mgr_locs"} <= set(block):
        context.refuse("holds a DataFrame with an unusual block")
    return Block(block["values"], block["mgr_locs"])


def build_block(call, context) -> Block:
    """`_unpickle_block(values, placement, ndim)` and `new_block` with the same arguments."""
    named = dict(zip(("values", "placement", "ndim"), call.args, strict=False))
    named.update(call.kwargs)
    if not {"values", "placement"} <= set(named):
        context.refuse("holds a DataFrame with an unusual block")
    return Block(context.resolve(named["values"]), context.resolve(named["placement"]))


def build_placement(call, context):
    """`BlockPlacement(slice or indices)`."""
    args = context.resolve(call.args)
    if len(args) != 1 or not isinstance(args[0], (slice, np.ndarray, int)):
        context.refuse("holds a DataFrame with an unusual block")
    return np.atleast_1d(args[0]) if isinstance(args[0], int) else args[0]


def build_index(call, context) -> list | RangeLabels:
    """`_new_Index(class, {"data": ..., "name": ...})`: its labels."""
    args = context.resolve(call.args[1:])
    if len(args) != 1 or type(args[0]) is not dict:
        context.refuse("holds an unusual index")
    described = args[0]
    if "data" in described:
        labels = described["data"]
        if not isinstance(labels, (list, np.ndarray)):
            context.refuse("holds an index whose labels are no list")
        if isinstance(labels, list):
            return labels
        context.allocate(labels.nbytes + 64 * labels.size)
        return labels.tolist()
    bounds = [described.get(name) for name in ("start", "stop", "step")]
    if not all(type(bound) is int and abs(bound) < 2**48 for bound in bounds) or not bounds[2]:
        context.refuse("holds an index without labels or range")
    return RangeLabels(*bounds)


def build_backed_array(call, context) -> np.ndarray:
    """`__pyx_unpickle_NDArrayBacked(StringArray, checksum, None)`: its array of texts."""
    if not call.args or getattr(call.args[0], "dotted", None) not in _STRING_ARRAYS:
        context.refuse("holds a pandas array that is not of texts")
    return _array_of_texts(context.resolve(call.state), context)


def build_string_array(call, context) -> np.ndarray:
    """A StringArray or ArrowStringArray made from its state."""
    return _array_of_texts(context.resolve(call.state), context)


def _array_of_texts(state, context):
    """Finds the array in a state: a tuple with it, or a dict of attributes."""
    parts = list(state.values()) if type(state) is dict else state
    parts = _sequence(parts, context)[:_MAX_STATE]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) != 1 or not arrays[0].dtype.hasobject or arrays[0].ndim > 2:
        context.refuse("holds a pandas array of texts with an unusual state")
    return arrays[0]


def build_string_dtype(call, context) -> str:
    """The type of a text column; only its presence matters."""
    return "string"


def build_arrow_type(call, context) -> np.dtype:
    """`type_for_alias("large_string")`: the type of its offsets."""
    args = context.resolve(call.args)
    if len(args) != 1 or type(args[0]) is not str or args[0] not in _ARROW_OFFSETS:
        context.refuse("holds an Arrow column that is not of texts")
    return _ARROW_OFFSETS[args[0]]


def build_arrow_buffer(call, context) -> bytes | bytearray:
    """`py_buffer(bytes)`: the bytes."""
    args = context.resolve(call.args)
    if len(args) != 1 or not isinstance(args[0], (bytes, bytearray)):
        context.refuse("holds an Arrow buffer that is no bytes")
    return args[0]


def build_arrow_texts(call, context) -> np.ndarray:
    """`_restore_array((type, length, n_null, offset, buffers, children, dictionary))`."""
    args = context.resolve(call.args)
    try:
        ((offset_type, n_items, _, start, (is_valid, offsets, data), *_),) = args
        ends = np.frombuffer(offsets, offset_type)[start : start + n_items + 1]
        data = bytes(data) if data is not None else b""
        bits = None if is_valid is None else np.frombuffer(is_valid, np.uint8)
    except (TypeError, ValueError):
        context.refuse("holds an unusual Arrow column")
    in_order = len(ends) == n_items + 1 and np.all(np.diff(ends) >= 0)
    if not in_order or ends[0] < 0 or ends[-1] > len(data):
        context.refuse("holds an Arrow column whose offsets lie outside of its data")
    context.allocate(2 * len(data) + 64 * n_items)
    texts = np.empty(n_items, object)
    for i in range(n_items):
        if bits is None or bits[(start + i) // 8] >> ((start + i) % 8) & 1:
            texts[i] = data[ends[i] : ends[i + 1]].decode("utf-8")
    return texts


def _labels(axis, context):
    """The labels of an axis; a range of them is not written out."""
    return range(*axis) if isinstance(axis, RangeLabels) else _sequence(axis, context)


def _sequence(value, context):
    is_list = isinstance(value, (list, tuple)) and not isinstance(value, RangeLabels)
    if not is_list and not isinstance(value, np.ndarray):
        context.refuse("holds a DataFrame with something unusual in place of a list")
    return value


_STRING_ARRAYS = ("pandas.arrays.StringArray", "pandas.core.arrays.string_.StringArray")
_INDEX_CLASSES = (
    "pandas.Index",
    "pandas.RangeIndex",
    "pandas.core.indexes.base.Index",
    "pandas.core.indexes.range.RangeIndex",
    "pandas.core.indexes.numeric.Int64Index",
    "pandas.indexes.base.Index",
    "pandas.indexes.range.RangeIndex",
)

BUILDERS = {
    **dict.fromkeys(("pandas.DataFrame", "pandas.core.frame.DataFrame"), build_frame),
    "pandas.core.internals.managers.BlockManager": build_manager,
    "pandas.core.internals.BlockManager": build_manager,
    "pandas._libs.internals.BlockManager": build_manager,
    "pandas._libs.internals._unpickle_block": build_block,
    "pandas.core.internals.blocks.new_block": build_block,
    "pandas._libs.internals.BlockPlacement": build_placement,
    **dict.fromkeys(_INDEX_CLASSES),
    "pandas.core.indexes.base._new_Index": build_index,
    "pandas.indexes.base._new_Index": build_index,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": build_backed_array,
    **dict.fromkeys(_STRING_ARRAYS, build_string_array),
    "pandas.arrays.ArrowStringArray": build_string_array,
    "pandas.core.arrays.string_arrow.ArrowStringArray": build_string_array,
    "pandas.StringDtype": build_string_dtype,
    "pandas.core.arrays.string_.StringDtype": build_string_dtype,
    "pyarrow.lib.type_for_alias": build_arrow_type,
    "pyarrow.lib.py_buffer": build_arrow_buffer,
    "pyarrow.lib._restore_array": build_arrow_texts,
}
"""What may be called, by dotted name; None: may only be named as an argument."""
