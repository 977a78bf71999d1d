"""Exponential moving average of a model's weights, advanced once per update.

It is ours and not the optimizer's so that every optimizer of both lanes has it, TensorFlow Addons'
included, and so that skipped updates and micro-batches do not count.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf

from metrabs_like.training.variables import resource_variables


class WeightAverage(tf.Module):
    """Averages all floating-point weights of a model, moving statistics included.

    Integer weights (counters, random seeds) are taken as they are. With `momentum=0` the average is
    the weights themselves and costs nothing.
    """

    def __init__(self, weights, momentum: float, warmup: bool = True):
        """Starts the average at the weights' present values.

        Args:
          weights: the model's variables.
          momentum: weight of the old average in an update, in [0, 1).
          warmup: use `min(momentum, (1 + n) / (10 + n))` in update n (from 0).
        """
        super().__init__(name="weight_average")
        self.momentum = momentum
        self.warmup = warmup
        floating = [v for v in resource_variables(weights) if v.dtype.is_floating]
        self._weights = floating if momentum else []
        self.n_updates = tf.Variable(0, trainable=False, dtype=tf.int64, name="n_updates")
        self.averages = [
            tf.Variable(tf.convert_to_tensor(v), trainable=False, name=f"average{i}")
            for i, v in enumerate(self._weights)
        ]

    def update(self):
        """Moves the average towards the weights; call once per update, outside replica context."""
        if not self.momentum:
            return
        n = tf.cast(self.n_updates, tf.float32)
        momentum = tf.constant(self.momentum, tf.float32)
        if self.warmup:
            momentum = tf.minimum(momentum, (1.0 + n) / (10.0 + n))
        for average, weight in zip(self.averages, self._weights, strict=True):
            rate = tf.cast(1.0 - momentum, average.dtype)
            average.assign_sub((average - tf.convert_to_tensor(weight)) * rate)
        self.n_updates.assign_add(1)

    @contextlib.contextmanager
    def applied(self):
        """Puts the average into the model for the `with` block, then the weights back."""
        weights = [tf.identity(tf.convert_to_tensor(v)) for v in self._weights]
        self.copy_to_model()
        try:
            yield
        finally:
            for variable, value in zip(self._weights, weights, strict=True):
                variable.assign(value)

    def copy_to_model(self):
        """Overwrites the model's weights with the average."""
        for variable, average in zip(self._weights, self.averages, strict=True):
            variable.assign(average)
