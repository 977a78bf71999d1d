"""Conversion and checks of the arguments of geometry and losses.

Conventions: arithmetic is float32 under every precision policy; only a float64 main argument makes
it float64 (tests).
"""

import tensorflow as tf


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
    """Checks the statically known dimensions of the named tensors against each other.

    Args:
      **named: name = (tensor or None, pattern); the pattern names dimensions, e.g. "B P 3": a
      letter is a dimension that
        must agree between all arguments, a number must be met. None is skipped.

    Raises:
      ValueError: naming the argument, its shape and the expected one. Dimensions that are unknown
        while tracing are not checked here.
    """
    known = {}
    for name, (tensor, pattern) in named.items():
        if tensor is None or tensor.shape.rank is None:
            continue
        dims = pattern.split()
        if tensor.shape.rank != len(dims):
            raise ValueError(_message(name, tensor, pattern, "a tensor of this rank"))
        for size, dim in zip(tensor.shape.as_list(), dims, strict=True):
            expected, source = (int(dim), name) if dim.isdigit() else known.get(dim, (size, name))
            if size is not None and expected is not None and size != expected:
                remedy = f"{dim} = {expected}" + ("" if source == name else f" as in `{source}`")
                raise ValueError(_message(name, tensor, pattern, remedy))
            if not dim.isdigit() and size is not None:
                known.setdefault(dim, (size, name))


def _message(name, tensor, pattern, remedy):
    """Returns the text of a shape error."""
    wanted = pattern.replace(" ", ", ")
    return f"`{name}` has shape {tensor.shape}, but [{wanted}] is expected: pass {remedy}."
