"""Variables of both Keras generations as plain TensorFlow variables."""

from __future__ import annotations

import tensorflow as tf


def resource_variables(variables) -> list:
    """Unwraps Keras 3 variables; plain `tf.Variable`s (and distributed ones) pass through.

    Args:
      variables: iterable of Keras or TensorFlow variables.

    Returns:
      List of `tf.Variable`s that share the storage.
    """
    return [v if isinstance(v, tf.Variable) else v.value for v in variables]


def variable_name(variable) -> str:
    """Returns a readable name: the path in Keras 3, the name without `:0` in Keras 2."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]
