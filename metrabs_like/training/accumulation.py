"""Gradients of one update, summed over micro-batches and replicas.

Runs in replica context. Collective sums stand outside control flow, where `MirroredStrategy` needs
them. `stats` below is float32 `[3, T]`: per loss term its total, count and weight.
"""

from __future__ import annotations

import tensorflow as tf

from metrabs_like.training import batches
from metrabs_like.training.variables import resource_variables

_SEED_STRIDE = 7919  # ours: keeps micro-batches apart from runs with neighbouring seeds
_COUNT_TOLERANCE = 1e-6  # float32 noise of sums of fractional counts


class UpdateGradients:
    """Computes each objective's gradient of the update's normalized loss."""

    def __init__(self, objectives, config, prepare):
        """Stores the objectives (`step.Objective`), the settings and `prepare`."""
        self._objectives = objectives
        self._variables = [resource_variables(objective.variables) for objective in objectives]
        self._config = config
        self._prepare = prepare
        self._names = [None] * len(objectives)
        self.log_names = ()

    def __call__(self, batch, step, attempt, scale, model_state):
        """Traces the computation for one replica.

        Args:
          batch: this replica's nest of tensors.
          step: int64 scalar, updates made.
          attempt: int64 scalar, updates made or skipped; half of the random seed.
          scale: float32 scalar, the loss scale.
          model_state: non-trainable variables, put back before a second pass.

        Returns:
          gradients (a list per objective) and (is_finite, is_empty, logs): bool scalars and a
          float32 vector of `log_names`. All are equal on all replicas.
        """
        if self._config.grad_accum_steps == 1:
            results = self._micro_batch(batch, 0, step, attempt, scale, None)
        else:
            results = self._accumulated(batch, step, attempt, scale, model_state)
        return self._finished(results, scale)

    def _accumulated(self, batch, step, attempt, scale, model_state):
        """Sums over micro-batches, with a second pass where the expected counts were wrong."""
        micro = batches.split(batch, self._config.grad_accum_steps)
        saved = [tf.identity(tf.convert_to_tensor(v)) for v in model_state]

        def one_pass(counts):
            for variable, value in zip(model_state, saved, strict=True):
                variable.assign(value)
            results = self._one_pass(micro, step, attempt, scale, counts)
            return [stats[1] for _, stats in results], results

        expected = self._expected_counts(micro, step, attempt)
        if tf.distribute.get_strategy().num_replicas_in_sync == 1:
            return self._repeated(one_pass, expected)
        # Sums over replicas cannot stand in a loop, so the second pass is a graph of its own.
        expected = sum_over_replicas(expected)
        actual, results = one_pass(expected)
        actual = sum_over_replicas(actual)
        is_wrong = _differ(actual, expected)
        return tf.cond(is_wrong, lambda: one_pass(actual)[1], lambda: results)

    def _repeated(self, one_pass, expected):
        """Runs the pass once or, where its counts differ, twice, as one graph of half the size."""

        def body(_, counts, results):
            actual, results = one_pass(counts)
            return _differ(actual, counts), actual, results

        start = (tf.constant(True), expected, self._zeros())
        return tf.while_loop(
            lambda is_wrong, *_: is_wrong,
            body,
            start,
            parallel_iterations=1,
            maximum_iterations=2,
        )[2]

    def _zeros(self):
        """Sums over nothing, in the form of `_one_pass`."""
        return [
            ([tf.zeros(v.shape, v.dtype) for v in variables], tf.zeros([3, len(names)]))
            for variables, names in zip(self._variables, self._names, strict=True)
        ]

    def _one_pass(self, micro, step, attempt, scale, counts):
        """Runs all micro-batches, one after the other, for given counts."""

        def body(i, sums):
            one = tf.nest.map_structure(lambda x: x[i], micro)
            results = self._micro_batch(one, i, step, attempt, scale, counts)
            return i + 1, tf.nest.map_structure(tf.add, sums, results)

        k = self._config.grad_accum_steps
        _, sums = _sequential_loop(k, body, self._zeros())
        # Weights were summed like all else; every micro-batch has the same ones.
        mean_weight = tf.constant([[1.0], [1.0], [1.0 / k]])
        return [(gradients, stats * mean_weight) for gradients, stats in sums]

    def _micro_batch(self, batch, index, step, attempt, scale, counts):
        """Returns (gradients, stats) per objective; `counts` None takes the batch's own."""
        inputs, targets = self._prepare(batch, self._seed(index, attempt))
        results = []
        for i, objective in enumerate(self._objectives):
            with tf.GradientTape() as tape:
                stats = self._stats(i, objective.loss_fn(inputs, targets, step))
                totals, own_counts, weights = tf.unstack(stats)
                used = sum_over_replicas(own_counts) if counts is None else counts[i]
                means = tf.math.divide_no_nan(totals, tf.stop_gradient(used))
                loss = tf.reduce_sum(weights * means) * scale
            gradients = tape.gradient(loss, self._variables[i], unconnected_gradients="zero")
            gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
            results.append((gradients, tf.stop_gradient(stats)))
        return results

    def _expected_counts(self, micro, step, attempt):
        """Sums the counts that targets promise; zeros, hence two passes, for who cannot tell."""
        first = tf.nest.map_structure(lambda x: x[0], micro)

        def counts_of(batch, index, i, objective):
            inputs, targets = self._prepare(batch, self._seed(index, attempt))
            if objective.expected_counts is not None:
                return objective.expected_counts(targets)
            return dict.fromkeys(self._names[i] or objective.loss_fn(inputs, targets, step), 0.0)

        # A trace aside tells the names, which the loop's variables need; it is never run.
        shapes = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), first)

        def all_counts(batch):
            return [counts_of(batch, 0, i, o) for i, o in enumerate(self._objectives)]

        traced = tf.function(all_counts, autograph=False).get_concrete_function(shapes)
        self._names = [tuple(sorted(counts)) for counts in traced.structured_outputs]

        def body(index, sums):
            one = tf.nest.map_structure(lambda x: x[index], micro)
            rows = []
            for i, objective in enumerate(self._objectives):
                counts = counts_of(one, index, i, objective)
                rows.append(_vector([counts[name] for name in self._names[i]]))
            return index + 1, tf.nest.map_structure(tf.add, sums, rows)

        zeros = [tf.zeros([len(names)]) for names in self._names]
        return _sequential_loop(self._config.grad_accum_steps, body, zeros)[1]

    def _stats(self, i, terms):
        """Stacks the terms of objective `i` in the order of their names."""
        names = tuple(sorted(terms))
        if self._names[i] not in (None, names):
            raise ValueError(
                f"objective {self._objectives[i].name!r}: its loss terms are {names} but its "
                f"expected counts are {self._names[i]}: give both the same names."
            )
        self._names[i] = names
        columns = [terms[name] for name in names]
        fields = ([getattr(c, field) for c in columns] for field in ("total", "count", "weight"))
        return tf.stack([_vector(values) for values in fields])

    def _seed(self, index, attempt):
        """The int32[2] seed of micro-batch `index` of this replica."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        index = tf.cast(replica, tf.int32) * self._config.grad_accum_steps + index
        base = self._config.seed % 2**31
        return tf.stack([base + _SEED_STRIDE * index, tf.cast(attempt, tf.int32)])

    def _finished(self, results, scale):
        """Sums over replicas, unscales, clips, judges, and collects the logs."""
        results = sum_over_replicas(results)
        n_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        finished, logs, log_names = [], [], []
        is_finite, is_empty = tf.constant(True), tf.constant(True)
        for objective, names, (gradients, stats) in zip(
            self._objectives, self._names, results, strict=True
        ):
            totals, counts, weights = tf.unstack(stats)
            means = tf.math.divide_no_nan(totals, counts)
            loss = tf.reduce_sum(weights / n_replicas * means)
            gradients, norm = self._clipped(gradients, scale)
            finished.append(gradients)
            is_finite &= tf.math.is_finite(norm) & tf.math.is_finite(loss)
            is_empty &= tf.reduce_all(tf.equal(counts, 0))
            prefix = f"{objective.name}/" if len(self._objectives) > 1 else ""
            log_names += [prefix + name for name in ("loss", "grad_norm", *names)]
            logs.append(tf.concat([[loss, norm], means], axis=0))
        self.log_names = tuple(log_names)
        return finished, (is_finite, is_empty, tf.concat(logs, axis=0))

    def _clipped(self, gradients, scale):
        """Undoes the loss scale and clips to the global norm; returns the norm before clipping."""
        if self._config.is_loss_scaled:
            gradients = [gradient / scale for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        if self._config.clip_norm:
            factor = self._config.clip_norm / tf.maximum(norm, self._config.clip_norm)
            gradients = [gradient * factor for gradient in gradients]
        return gradients, norm


def sum_over_replicas(values):
    """Sums a nest of float tensors over all replicas; in replica context, outside control flow."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    flat = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.nest.flatten(values))
    return tf.nest.pack_sequence_as(values, flat)


def _differ(actual, used):
    """Whether any of two lists of count vectors differ by more than noise."""
    pairs = zip(actual, used, strict=True)
    wrong = [tf.abs(a - u) > _COUNT_TOLERANCE * tf.abs(u) for a, u in pairs]
    return tf.reduce_any(tf.concat(wrong, axis=0))


def _sequential_loop(n, body, sums):
    """Runs `body(i, sums)` n times, strictly in turn so that memory does not grow with n."""
    start = (tf.constant(0), sums)
    return tf.while_loop(
        lambda i, _: i < n, body, start, parallel_iterations=1, maximum_iterations=n
    )


def _vector(values):
    return tf.stack([tf.cast(value, tf.float32) for value in values])
