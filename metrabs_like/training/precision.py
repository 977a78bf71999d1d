"""Numerical precision of a run: the Keras policy and dynamic loss scaling.

Keras 2.15 and Keras 3 wrap optimizers for loss scaling in two incompatible ways
(`LossScaleOptimizer` with `get_scaled_loss`, and with `scale_loss`), and neither fits the legacy
optimizers of TensorFlow Addons. `LossScale` is the bridge: the training step itself scales the loss
and unscales the gradients, in the same way for every optimizer of both lanes.
"""

from __future__ import annotations

import contextlib

import tensorflow as tf

_POLICIES = dict(float32="float32", bfloat16="mixed_bfloat16", float16="mixed_float16")
_INITIAL_SCALE = 2.0**15  # as in tf.keras.mixed_precision
_GROWTH_STEPS = 2000  # as in tf.keras.mixed_precision
_MAX_SCALE = 2.0**40  # ours: far above any useful scale, far below float32's limit


@contextlib.contextmanager
def precision_scope(precision: str):
    """Makes the layers built inside compute in `precision`; variables stay float32.

    Args:
      precision: `float32`, `bfloat16` or `float16`.

    Yields:
      The name of the Keras policy.

    Raises:
      ValueError: for another name.
    """
    if precision not in _POLICIES:
        raise ValueError(f"precision={precision!r}: use one of {', '.join(_POLICIES)}.")
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(_POLICIES[precision])
    try:
        yield _POLICIES[precision]
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


class LossScale(tf.Module):
    """A dynamic loss scale: halved by a non-finite update, doubled after 2000 finite ones.

    With `enabled=False` the scale is 1 and never changes.
    """

    def __init__(self, enabled: bool):
        super().__init__(name="loss_scale")
        self.enabled = enabled
        self.scale = tf.Variable(
            _INITIAL_SCALE if enabled else 1.0, trainable=False, dtype=tf.float32, name="scale"
        )
        self.good_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="good_steps")

    def update(self, is_finite):
        """Adapts the scale to an update's outcome (bool scalar); call once per update."""
        if not self.enabled:
            return
        good = tf.where(is_finite, self.good_steps + 1, tf.zeros_like(self.good_steps))
        grow = good >= _GROWTH_STEPS
        grown = tf.where(grow, tf.minimum(self.scale * 2.0, _MAX_SCALE), self.scale)
        self.scale.assign(tf.where(is_finite, grown, tf.maximum(self.scale * 0.5, 1.0)))
        self.good_steps.assign(tf.where(grow, tf.zeros_like(good), good))
