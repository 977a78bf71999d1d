"""Learning-rate schedules over optimizer updates.

Conventions: rates are per update; `step` is the optimizer's own count of updates, which advances
once per update however many micro-batches it has.
"""

from __future__ import annotations

import math

import tensorflow as tf

from metrabs_like.training.config import TrainConfig


@tf.keras.utils.register_keras_serializable("metrabs_like")
class TwoPhaseExponential(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Exponential decay, a drop, and a second exponential decay, after a linear warm-up.

    From `learning_rate` to `phase1_factor * learning_rate` over the first `phase1_fraction` of
    `steps`, then from `phase2_factor * learning_rate` to `final_factor * learning_rate`. The shape
    is that of MeTRAbs and Neural Localizer Fields; the factors' defaults are ours (`TrainConfig`).
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        steps: int,
        warmup_steps: int = 0,
        phase1_fraction: float = 0.92,
        phase1_factor: float = 1 / 3,
        phase2_factor: float = 1 / 30,
        final_factor: float = 1 / 100,
    ):
        super().__init__()
        self._config = dict(
            learning_rate=learning_rate,
            steps=steps,
            warmup_steps=warmup_steps,
            phase1_fraction=phase1_fraction,
            phase1_factor=phase1_factor,
            phase2_factor=phase2_factor,
            final_factor=final_factor,
        )

    def __call__(self, step):
        """Returns the rate (float32 scalar) of the update after `step` (scalar) others."""
        c = self._config
        step = tf.cast(step, tf.float32)
        steps1 = max(c["phase1_fraction"] * c["steps"], 1e-6)
        steps2 = max(c["steps"] - steps1, 1e-6)
        progress1 = tf.clip_by_value(step / steps1, 0.0, 1.0)
        progress2 = tf.clip_by_value((step - steps1) / steps2, 0.0, 1.0)
        log_end2 = math.log(c["final_factor"] / c["phase2_factor"])
        factor = tf.where(
            step < steps1,
            tf.exp(math.log(c["phase1_factor"]) * progress1),
            c["phase2_factor"] * tf.exp(log_end2 * progress2),
        )
        return c["learning_rate"] * factor * _warmup(step, c["warmup_steps"])

    def get_config(self):
        """Returns the constructor's arguments."""
        return dict(self._config)


@tf.keras.utils.register_keras_serializable("metrabs_like")
class CosineDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine from `learning_rate` to `final_factor * learning_rate`, after a warm-up.

    The cosine spans the updates after the warm-up; beyond `steps` the rate stays at its end.
    `final_factor=1` is a constant rate. Anneals fully within any number of steps, which makes it
    the schedule for short runs.
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        steps: int,
        warmup_steps: int = 0,
        final_factor: float = 1 / 100,
    ):
        super().__init__()
        self._config = dict(
            learning_rate=learning_rate,
            steps=steps,
            warmup_steps=warmup_steps,
            final_factor=final_factor,
        )

    def __call__(self, step):
        """Returns the rate (float32 scalar) of the update after `step` (scalar) others."""
        c = self._config
        step = tf.cast(step, tf.float32)
        n_steps = max(c["steps"] - c["warmup_steps"], 1)
        progress = tf.clip_by_value((step - c["warmup_steps"]) / n_steps, 0.0, 1.0)
        cosine = 0.5 + 0.5 * tf.cos(math.pi * progress)
        factor = c["final_factor"] + (1 - c["final_factor"]) * cosine
        return c["learning_rate"] * factor * _warmup(step, c["warmup_steps"])

    def get_config(self):
        """Returns the constructor's arguments."""
        return dict(self._config)


@tf.keras.utils.register_keras_serializable("metrabs_like")
class StepDecay(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A constant rate that drops by a factor at each of some updates, after a warm-up.

    The schedule of Objects as Points and many others.
    """

    def __init__(
        self,
        *,
        learning_rate: float,
        steps: int,
        warmup_steps: int = 0,
        drop_steps=(),
        drop_factor: float = 0.1,
    ):
        super().__init__()
        self._config = dict(
            learning_rate=learning_rate,
            steps=steps,
            warmup_steps=warmup_steps,
            drop_steps=tuple(drop_steps),
            drop_factor=drop_factor,
        )

    def __call__(self, step):
        """Returns the rate (float32 scalar) of the update after `step` (scalar) others."""
        c = self._config
        step = tf.cast(step, tf.float32)
        factor = tf.ones([])
        for drop_step in c["drop_steps"]:
            factor *= tf.where(step >= drop_step, c["drop_factor"], 1.0)
        return c["learning_rate"] * factor * _warmup(step, c["warmup_steps"])

    def get_config(self):
        """Returns the constructor's arguments."""
        return dict(self._config)


def make_schedule(config: TrainConfig, factor: float = 1.0):
    """Builds the schedule that `config.schedule` names.

    Args:
      config: the run's settings.
      factor: multiplies the base rate (for example `backbone_lr_factor`).

    Returns:
      A `tf.keras.optimizers.schedules.LearningRateSchedule`, callable on a scalar step.
    """
    common = dict(
        learning_rate=config.learning_rate * factor,
        steps=config.steps,
        warmup_steps=config.warmup_steps,
    )
    if config.schedule == "two_phase":
        return TwoPhaseExponential(
            **common,
            phase1_fraction=config.phase1_fraction,
            phase1_factor=config.phase1_factor,
            phase2_factor=config.phase2_factor,
            final_factor=config.final_factor,
        )
    if config.schedule == "steps":
        return StepDecay(**common, drop_steps=config.drop_steps, drop_factor=config.drop_factor)
    final_factor = 1.0 if config.schedule == "constant" else config.final_factor
    return CosineDecay(**common, final_factor=final_factor)


def _warmup(step, warmup_steps):
    """Linear factor that reaches 1 at update number `warmup_steps` and is never 0."""
    if warmup_steps <= 0:
        return 1.0
    return tf.minimum((step + 1.0) / warmup_steps, 1.0)
