"""Keeps the number of graphs small: configs traced by value, functions traced once over all shapes.

Conventions: a *heavy* public function is written once on tensors. Called directly it runs as one
graph with unknown dimensions; called inside somebody's graph it is written into that graph, where
known dimensions stay known.
"""

import functools

import tensorflow as tf


class _ValueTraceType(tf.types.experimental.TraceType):
    """Trace type of an immutable Python value: equal values share a graph."""

    def __init__(self, value):
        self._value = value

    def is_subtype_of(self, other):
        return self == other

    def most_specific_common_supertype(self, others):
        return self if all(self == other for other in others) else None

    def placeholder_value(self, placeholder_context):
        del placeholder_context
        return self._value

    def __eq__(self, other):
        return isinstance(other, _ValueTraceType) and self._value == other._value

    def __hash__(self):
        return hash(self._value)

    def __repr__(self):
        return f"{type(self).__name__}({self._value!r})"


class TracedByValue:
    """Mixin for frozen dataclasses that are arguments of a `tf.function`.

    TensorFlow keys unknown Python objects by identity, so that two equal configs would trace two
    graphs. With this mixin equal configs share one. The class must be hashable and immutable.
    """

    def __tf_tracing_type__(self, context):
        """Returns a trace type that compares by value (called by TensorFlow)."""
        del context
        return _ValueTraceType(self)


def _relaxed(value):
    """Returns the value's spec without its dimensions, or the value itself if it is no tensor."""
    if isinstance(value, tf.Tensor):
        shape = [None] * value.shape.rank
        if value.shape.rank >= 3 and value.shape[-1] in (2, 3):
            shape[-1] = value.shape[-1]
        return tf.TensorSpec(shape, value.dtype)
    return value


def traced_once(function):
    """Makes a function of tensors run as one graph over all shapes when it is called directly.

    `tf.function(reduce_retracing=True)` alone relaxes one dimension at a time (three graphs for
    three batch and point counts); here the first direct call traces the relaxed graph at once.
    Trailing coordinates stay static. Inside another graph the function is inlined;
    `tf.config.run_functions_eagerly` runs it op by op.

    Args:
      function: takes tensors, None, and hashable Python values, positionally; returns tensors. Its
        callers check the shapes: the graph of a direct call knows none.

    Returns:
      The wrapped function; its attribute `traced` is the underlying `tf.function`.
    """
    traced = tf.function(function, reduce_retracing=True, autograph=False)
    seen = set()

    @functools.wraps(function)
    def wrapper(*args):
        if not tf.executing_eagerly() or tf.config.functions_run_eagerly():
            return function(*args)
        relaxed = tuple(_relaxed(arg) for arg in args)
        if relaxed not in seen:
            traced.get_concrete_function(*relaxed)
            seen.add(relaxed)
        return traced(*args)

    wrapper.traced = traced
    return wrapper
