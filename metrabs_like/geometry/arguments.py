"""Conversion and checks of the arguments of geometry and losses.

Conventions: arithmetic is float32 under every precision policy; only a float64 main argument makes
it float64 (tests).
"""

import tensorflow as tf

_NO_SIZE = -1  # stands for a missing dimension


def as_float(value, like=None):
    """Converts to a float tensor: float32, or float64 where the caller asked for it.

    Args:
      value: tensor, array or number of any real dtype.
      like: tensor whose dtype is taken; None keeps float64 and turns every other dtype into
        float32.

    Returns:
      A float tensor of the same shape. Gradient: passes through the cast.
    """
    if like is None:
        tensor = tf.convert_to_tensor(value)
        return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)
    return tf.cast(tf.convert_to_tensor(value), like.dtype)


def as_mask(value):
    """Converts a mask (bool, or numbers with nonzero = valid) to a bool tensor."""
    return tf.cast(tf.convert_to_tensor(value), tf.bool)


def check_shapes(**named):
    """Checks the shapes of the named tensors against patterns and against each other.

    Args:
      **named: name = (tensor or None, pattern). None is skipped. A pattern lists the dimensions,
        e.g. "B P 3": a letter is a size that must agree between all arguments, a number must be
        met; "" is a scalar, and a leading "..." stands for any further dimensions.

    Raises:
      ValueError: if sizes that are known while tracing disagree, as all are in a direct call; names
        the argument, its shape, the expected one and where that comes from.
      tf.errors.InvalidArgumentError: when run, with the same content, if sizes that were unknown
        while tracing disagree. XLA drops assertions: what it compiles is not checked when run.
    """
    arguments = [
        (name, tensor, pattern.split())
        for name, (tensor, pattern) in named.items()
        if tensor is not None
    ]
    known = _check_while_tracing(arguments)
    if not all(tensor.shape.is_fully_defined() for _, tensor, _ in arguments):
        _assert_when_run(arguments, known)


def _check_while_tracing(arguments):
    """Compares the known sizes; returns letter -> (size, name, shape) of its first argument."""
    known = {}
    for name, tensor, dims in arguments:
        sizes = _static_sizes(tensor, dims)
        if sizes is None:
            raise ValueError(_message(name, tensor, dims, "a tensor of this rank"))
        for size, dim in sizes:
            if size is None:
                continue
            if dim.isdigit():
                expected, remedy = int(dim), dim
            else:
                expected, source, shape = known.setdefault(dim, (size, name, tensor.shape))
                remedy = f"{dim} = {expected}, as in `{source}` of shape {shape}"
            if size != expected:
                raise ValueError(_message(name, tensor, dims, remedy))
    return known


def _assert_when_run(arguments, known):
    """Writes one assertion into the graph for each argument with sizes that are still unknown."""
    expected = {letter: (size, source) for letter, (size, source, _) in known.items()}
    for name, tensor, dims in arguments:
        sizes = _static_sizes(tensor, dims)
        unknown = [dim for size, dim in sizes if size is None]
        if not unknown and tensor.shape.rank is not None:
            continue
        is_compared = tensor.shape.rank is None or any(
            d.isdigit() or d in expected for d in unknown
        )
        actual = _sizes_when_run(tensor, dims)
        for i, (_, dim) in enumerate(sizes):
            if not dim.isdigit() and dim not in expected:
                expected[dim] = actual[i], name
        if is_compared:
            _assert_sizes(name, tensor, dims, actual, expected)


def _assert_sizes(name, tensor, dims, actual, expected):
    """Asserts the sizes of one argument; `expected` is letter -> (size, source)."""
    by_source = {}
    for dim in dims:
        source = expected[dim][1] if dim in expected else name
        if source != name:
            by_source.setdefault(source, []).append(dim)
    remedy = " and ".join(f"{', '.join(d)} as in `{source}`" for source, d in by_source.items())
    wanted = [int(d) if d.isdigit() else expected[d][0] for d in dims if d != "..."]
    # an unknown rank has one entry more, see `_sizes_when_run`
    wanted = tf.stack(wanted + [_NO_SIZE] * (tensor.shape.rank is None and "..." not in dims))
    # int32 arithmetic stays in host memory on a GPU; a reduction of bools would wait for the device
    mismatch = tf.reduce_sum(tf.abs(actual - wanted))
    if tensor.shape.rank is None:  # a dimension that is missing would agree with itself
        n_named = len(dims) - ("..." in dims)
        mismatch += tf.reduce_sum(tf.maximum(-actual[:n_named], 0))
    data = [f"`{name}` has shape", tf.shape(tensor), f"but [{', '.join(dims)}] is expected:"]
    data += [wanted, f"; pass {remedy or 'these sizes'}"]
    tf.raw_ops.Assert(condition=tf.equal(mismatch, 0), data=data, summarize=16)


def _static_sizes(tensor, dims):
    """Returns pairs (size or None, dimension), without "..."; None if the rank does not fit."""
    rank, named = tensor.shape.rank, [dim for dim in dims if dim != "..."]
    if rank is None:
        return [(None, dim) for dim in named]
    if rank < len(named) or (rank > len(named) and "..." not in dims):
        return None
    return list(zip(tensor.shape.as_list()[rank - len(named) :], named, strict=True))


def _sizes_when_run(tensor, dims):
    """Returns the int32 vector of the named sizes; an unknown rank is filled up with no sizes."""
    shape, n_named = tf.shape(tensor), len(dims) - ("..." in dims)
    if tensor.shape.rank is None and "..." in dims:
        return tf.concat([[_NO_SIZE] * n_named, shape], axis=0)[-n_named:]
    if tensor.shape.rank is None:  # one more than named: a rank that is too large shows too
        return tf.concat([shape, [_NO_SIZE] * (n_named + 1)], axis=0)[: n_named + 1]
    return shape[tensor.shape.rank - n_named :] if "..." in dims else shape


def _message(name, tensor, dims, remedy):
    """Returns the text of a shape error."""
    return f"`{name}` has shape {tensor.shape}, but [{', '.join(dims)}] is expected: pass {remedy}."
