"""Makes plain arrays from the notes of scipy and chumpy objects, as body-model files hold them.

Conventions: sparse matrices become dense ones; chumpy's differentiable arrays become the array they
hold (`Ch`) or select from (`Select`). No code of either package runs.
"""

import math

import numpy as np

from metrabs_like.data.safe_loading.number_arrays import as_array

_MAX_SPARSE_AXIS = 1 << 24  # ours; a body model has 10^4 vertices


def build_chumpy_array(call, context) -> np.ndarray:
    """`chumpy.ch.Ch`: its attribute `x`."""
    return _numbers(_attributes(call, context).get("x"), context)


def build_chumpy_selection(call, context) -> np.ndarray:
    """`chumpy.reordering.Select`: the elements `idxs` of the flattened array `a`, reshaped."""
    state = _attributes(call, context)
    array = _numbers(state.get("a"), context).ravel()
    indices = _numbers(state.get("idxs"), context)
    if indices.dtype.kind not in "iu":
        context.refuse("holds a chumpy selection without indices")
    context.allocate(indices.size * array.itemsize)
    try:
        selected = array[indices.ravel()]
        return selected.reshape(state.get("preferred_shape") or indices.shape)
    except (IndexError, ValueError, TypeError):
        context.refuse("holds a chumpy selection that lies outside of its array")


def _attributes(call, context):
    """The attributes of an object: its state, text -> value."""
    state = context.resolve(call.state)
    if type(state) is not dict or call.args:
        context.refuse(f"holds a {call.name} without its usual state")
    return state


def _numbers(value, context):
    """Returns an array of numbers; chumpy also wraps lists and single ones."""
    is_array = isinstance(value, np.ndarray)
    try:
        array = as_array(value, "a chumpy array")
    except ValueError as error:
        context.refuse(f"holds a chumpy array that is not of numbers ({error})")
    if array.dtype.kind not in "fiub":
        context.refuse("holds a chumpy array that is not of numbers")
    context.allocate(0 if is_array else 8 * array.size)
    return array


def build_compressed(call, context) -> np.ndarray:
    """`csc_matrix` or `csr_matrix`, dense."""
    state = _attributes(call, context)
    shape, data = _sparse_shape(state, context), _vector(state, "data", "fiub", context)
    indices, ends = (_vector(state, name, "iu", context) for name in ("indices", "indptr"))
    if call.name.rsplit(".", 1)[-1].startswith("csc"):
        return dense_columns(shape, data, indices, ends, context)
    return dense_columns(shape[::-1], data, indices, ends, context).T


def dense_columns(shape, data, rows, starts, context) -> np.ndarray:
    """Makes a matrix from its columns: values and rows of column j stand at starts[j] and on.

    Args:
      shape: (rows, columns).
      data: the values.
      rows: int64, the row of each value.
      starts: int64 `[columns + 1]`.
      context: gives `refuse` and `allocate`.

    Returns:
      The dense matrix.
    """
    counts = np.diff(starts)
    is_whole = len(starts) == shape[1] + 1 and np.all(counts >= 0) and starts[0] == 0
    if not is_whole or not starts[-1] == len(data) == len(rows):
        context.refuse("holds a sparse matrix whose index arrays do not fit together")
    return _dense(shape, data, (rows, np.repeat(np.arange(shape[1]), counts)), context)


def build_coordinates(call, context) -> np.ndarray:
    """`coo_matrix`, dense."""
    state = _attributes(call, context)
    shape, data = _sparse_shape(state, context), _vector(state, "data", "fiub", context)
    if "coords" in state:  # scipy >= 1.13
        state = dict(zip(("row", "col"), state["coords"], strict=True))
    places = tuple(_vector(state, name, "iu", context) for name in ("row", "col"))
    if not len(places[0]) == len(places[1]) == len(data):
        context.refuse("holds a sparse matrix whose index arrays do not fit together")
    return _dense(shape, data, places, context)


def _sparse_shape(state, context):
    shape = state.get("_shape", state.get("shape"))
    is_shape = type(shape) is tuple and len(shape) == 2
    sizes = [int(size) for size in shape if isinstance(size, (int, np.integer))] if is_shape else []
    if len(sizes) != 2 or not all(0 <= size <= _MAX_SPARSE_AXIS for size in sizes):
        context.refuse("holds a sparse matrix of a strange shape")
    return tuple(sizes)


def _vector(state, name, kinds, context):
    value = state.get(name)
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind not in kinds:
        context.refuse(f"holds a sparse matrix without the vector {name!r}")
    context.allocate(8 * len(value))  # also when many matrices share one vector
    return value.astype(np.int64) if kinds == "iu" else value


def _dense(shape, data, places, context):
    """Adds the values up at their places, after checking those."""
    for place, size in zip(places, shape, strict=True):
        if len(place) and not (0 <= place.min() and place.max() < size):
            context.refuse("holds a sparse matrix with indices outside of its shape")
    context.allocate(math.prod(shape) * data.itemsize)
    dense = np.zeros(shape, data.dtype)
    np.add.at(dense, places, data)
    return dense


_CLASSES = {
    f"scipy.sparse.{module}.{kind}_{form}": build
    for kind, build in (
        ("csc", build_compressed),
        ("csr", build_compressed),
        ("coo", build_coordinates),
    )
    for module in (kind, f"_{kind}")
    for form in ("matrix", "array")
}
BUILDERS = {
    "chumpy.ch.Ch": build_chumpy_array,
    "chumpy.reordering.Select": build_chumpy_selection,
    **_CLASSES,
}
"""What may be called, by dotted name."""
