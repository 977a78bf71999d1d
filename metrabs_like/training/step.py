"""One optimizer update, with gradient accumulation inside.

The loss of an update is `sum_t weight_t * total_t / count_t` with total and count summed over the
update's micro-batches and replicas: normalized once, by the whole update's valid counts (a mean of
masked means would be off by percents). So, with BatchNorm frozen or absent, k micro-batches of b
equal one batch of k*b to float noise. With BatchNorm, statistics are per micro-batch and replica,
and moving averages advance once per micro-batch (and are averaged over replicas after the update).

With one micro-batch the counts are those of the forward pass. With several, the counts expected
from the targets normalize a first pass; where predictions change them (rare), the moving averages
are put back and a second pass uses the actual counts. Schedule, averaged weights and `step` advance
once per update. A non-finite loss or gradient in any micro-batch, or an update without a valid
count, changes nothing but counters (and, in float16, the loss scale). Memory grows with the
micro-batch.

Random draws of `prepare` get their own seed per micro-batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from metrabs_like.training import accumulation, batches, distribution, optimizers
from metrabs_like.training.config import TrainConfig
from metrabs_like.training.precision import LossScale
from metrabs_like.training.variables import resource_variables


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss, the variables that minimize it and their optimizer.

    Attributes:
      name: prefix of its logs where there is more than one objective.
      loss_fn: `(inputs, targets, step) -> {name: LossTerm}`; runs the network with `training=True`.
        `step` is an int64 scalar tensor. Called once per micro-batch.
      variables: trainable variables.
      optimizer: a Keras optimizer of any generation, or `optimizers.SplitOptimizer`.
      expected_counts: `targets -> {name: count}`, the terms' counts as far as targets tell. None:
        an update of several micro-batches always takes two passes.
    """

    name: str
    loss_fn: Callable[..., Any]
    variables: Sequence[Any]
    optimizer: Any
    expected_counts: Callable[..., Any] | None = None


def make_objective(
    model, loss_terms_fn, optimizer, *, expected_counts=None, variables=None, name="main"
) -> Objective:
    """Builds the usual objective: one model, one loss, all trainable variables.

    Args:
      model: a `tf.keras.Model`, called on the prepared inputs.
      loss_terms_fn: `(outputs, targets, step) -> {name: LossTerm}`.
      optimizer: see `optimizers.make_optimizer`.
      expected_counts: `targets -> {name: count}` or None.
      variables: default all trainable variables of the model.
      name: of the objective.
    """

    def loss_fn(inputs, targets, step):
        return loss_terms_fn(model(inputs, training=True), targets, step)

    variables = model.trainable_variables if variables is None else variables
    return Objective(name, loss_fn, tuple(variables), optimizer, expected_counts)


def make_train_step(
    objectives: Sequence[Objective],
    config: TrainConfig,
    prepare,
    *,
    strategy=None,
    model_state: Sequence[Any] = (),
    average=None,
) -> TrainStep:
    """Builds the function that makes one update from one batch.

    Args:
      objectives: all gradients are taken at the same weights, then all are applied.
      config: reads `grad_accum_steps`, `clip_norm`, `precision`, `jit_compile`, `seed`.
      prepare: `(batch, seed int32[2]) -> (inputs, targets)`, run on the device on each micro-batch.
      strategy: a `tf.distribute.Strategy`; None for one device.
      model_state: the model's non-trainable variables, put back when an update is skipped.
      average: an `ema.WeightAverage` or None.

    Returns:
      A `TrainStep`.
    """
    return TrainStep(objectives, config, prepare, strategy, model_state, average)


class TrainStep(tf.Module):
    """Callable on a host batch; holds the run's counters (checkpoint it).

    Attributes:
      step: int64, updates made.
      skipped_nonfinite, skipped_empty: int64, updates skipped so far and why.
      consecutive_skips: int64, skips since the last update.
    """

    def __init__(self, objectives, config, prepare, strategy, model_state, average):
        """See `make_train_step`."""
        super().__init__(name="train_step")
        self._strategy = strategy or tf.distribute.get_strategy()
        self._objectives = tuple(objectives)
        self._config = config
        self._average = average
        self._model_state = resource_variables(model_state)
        self._gradients = accumulation.UpdateGradients(self._objectives, config, prepare)
        self.loss_scale = LossScale(enabled=config.is_loss_scaled)
        for name in ("step", "skipped_nonfinite", "skipped_empty", "consecutive_skips"):
            setattr(self, name, tf.Variable(0, trainable=False, dtype=tf.int64, name=name))
        with self._strategy.scope():
            for objective in self._objectives:
                optimizers.build(objective.optimizer, objective.variables)
        self._compiled = tf.function(
            self._update,
            jit_compile=config.jit_compile or None,
            reduce_retracing=True,
            autograph=False,
        )

    @property
    def log_names(self) -> tuple[str, ...]:
        """Names of the values that a call returns; known after the first call.

        `loss`, `grad_norm` and each term's unweighted mean (prefixed by the objective's name where
        there are several), then `applied` (1, or 0 for a skipped update).
        """
        return tuple(self._gradients.log_names) + ("applied",)

    def __call__(self, batch):
        """Makes one update.

        Args:
          batch: nest of host tensors `[n, ...]`, n a multiple of replicas * `grad_accum_steps`.

        Returns:
          float32 vector of `log_names` (reading it waits for the device), or None if the batch has
          no example at all.

        Raises:
          ValueError: if the batch does not divide, or loss terms and expected counts disagree.
        """
        n_replicas = self._strategy.num_replicas_in_sync
        local = distribution.n_local_replicas(self._strategy)
        if n_replicas == local and batches.n_examples(batch) == 0:
            self.skipped_empty.assign_add(1)
            self.consecutive_skips.assign_add(1)
            return None  # convolutions cannot run on no image
        self.check_batch(batch)
        if n_replicas > 1:
            batch = self._distributed(batch, local)
        return self._compiled(batch)

    def check_batch(self, batch):
        """Checks that a batch divides into this process's replicas and micro-batches.

        Args:
          batch: nest of tensors, or of `tf.TensorSpec`s: then unknown sizes are passed over.

        Raises:
          ValueError: naming the entry, its size and the remedy.
        """
        local = distribution.n_local_replicas(self._strategy)
        n_parts = local * self._config.grad_accum_steps
        batches.check_divisible(batch, n_parts, f"{local} replica(s) x grad_accum_steps")

    def _distributed(self, batch, n_local):
        """Gives each local replica its contiguous block of the host batch."""
        blocks = iter(batches.part(batch, i, n_local) for i in range(n_local))
        flat = [tf.nest.flatten(block) for block in blocks]
        values = [
            self._strategy.experimental_distribute_values_from_function(
                lambda context, leaf=leaf: flat[context.replica_id_in_sync_group % n_local][leaf]
            )
            for leaf in range(len(flat[0]))
        ]
        return tf.nest.pack_sequence_as(batch, values)

    def _update(self, batch):
        """The whole update, in cross-replica context."""
        attempt = self.step + self.skipped_nonfinite + self.skipped_empty
        scale = tf.identity(self.loss_scale.scale)
        state, gradients, outcome = self._strategy.run(
            self._replica_gradients, args=(batch, tf.identity(self.step), attempt, scale)
        )
        is_finite, is_empty, logs = (
            self._strategy.experimental_local_results(x)[0] for x in outcome
        )
        is_applied = tf.logical_and(is_finite, tf.logical_not(is_empty))
        tf.cond(is_applied, lambda: self._apply(gradients), lambda: self._skip(state, is_empty))
        self.loss_scale.update(is_finite)
        return tf.concat([logs, [tf.cast(is_applied, tf.float32)]], axis=0)

    def _replica_gradients(self, batch, step, attempt, scale):
        state = [tf.identity(tf.convert_to_tensor(v)) for v in self._model_state]
        gradients, outcome = self._gradients(batch, step, attempt, scale, self._model_state)
        if self._strategy.num_replicas_in_sync > 1:
            self._synchronize_state()
        return state, gradients, outcome

    def _apply(self, gradients):
        self._strategy.run(self._replica_apply, args=(gradients,))
        if self._average is not None:
            self._average.update()
        self.consecutive_skips.assign(0)
        self.step.assign_add(1)
        return tf.constant(True)

    def _replica_apply(self, gradients):
        for objective, its_gradients in zip(self._objectives, gradients, strict=True):
            optimizers.apply(objective.optimizer, its_gradients, objective.variables)

    def _synchronize_state(self):
        """Averages moving statistics over replicas, alike in both Keras generations."""
        floating = [v for v in self._model_state if v.dtype.is_floating]
        if not floating:
            return
        # The identity puts each value on the replica's device, which a lone local replica needs.
        values = [tf.identity(tf.convert_to_tensor(v)) for v in floating]
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
        for variable, mean in zip(floating, means, strict=True):
            variable.assign(mean)

    def _skip(self, state, is_empty):
        self._strategy.run(self._replica_restore, args=(state,))
        empty = tf.cast(is_empty, tf.int64)
        self.skipped_empty.assign_add(empty)
        self.skipped_nonfinite.assign_add(1 - empty)
        self.consecutive_skips.assign_add(1)
        return tf.constant(True)

    def _replica_restore(self, state):
        for variable, value in zip(self._model_state, state, strict=True):
            variable.assign(value)
