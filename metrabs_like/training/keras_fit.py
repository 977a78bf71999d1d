"""A system as a `tf.keras.Model` whose `compile` and `fit` work on one device, for notebooks.

Without averaged weights, accumulation and resuming: those are `training.loop.train`'s.
"""

from __future__ import annotations

import tensorflow as tf

from metrabs_like.losses.terms import combine


class FitModel(tf.keras.Model):
    """Trains `model` on the pipeline's batches under `fit`; `evaluate` works on them too.

    Logs are `loss` and each term's mean over all valid entries of the epoch. Weights are those of
    the wrapped model, which stays usable by itself. Calling this model calls the wrapped one.
    """

    def __init__(self, model, loss_terms_fn, prepare, *, seed: int = 0, name: str = "fit_model"):
        """Wraps a system's model.

        Args:
          model: the `tf.keras.Model` to train.
          loss_terms_fn: `(outputs, targets, step) -> {name: LossTerm}`.
          prepare: `(batch, seed) -> (inputs, targets)`; seed is int32[2], None under `evaluate`.
          seed: of `prepare`'s random draws.
          name: of this wrapper.
        """
        super().__init__(name=name)
        self.system_model = model
        self._loss_terms_fn = loss_terms_fn
        self._prepare = prepare
        self._seed = seed
        self._trackers = {"loss": tf.keras.metrics.Mean(name="loss")}
        self.built = True

    def call(self, inputs, training=False):
        """Calls the wrapped model."""
        return self.system_model(inputs, training=training)

    @property
    def metrics(self):
        """The running means that `fit` resets at each epoch."""
        return list(self._trackers.values())

    def train_step(self, data):
        """Makes one update from one batch of the pipeline."""
        step = tf.cast(self.optimizer.iterations, tf.int64)
        seed = tf.stack([tf.constant(self._seed % 2**31), tf.cast(step, tf.int32)])
        inputs, targets = self._prepare(data, seed)
        with tf.GradientTape() as tape:
            outputs = self.system_model(inputs, training=True)
            terms = self._loss_terms_fn(outputs, targets, step)
            loss, means = combine(terms)
            scaled = _scaled_loss(self.optimizer, loss)
        variables = self.system_model.trainable_variables
        gradients = tape.gradient(scaled, variables, unconnected_gradients="zero")
        gradients = _unscaled_gradients(self.optimizer, gradients)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self._logged(loss, means, terms)

    def test_step(self, data):
        """Computes the loss of one batch, without random augmentation."""
        inputs, targets = self._prepare(data, None)
        outputs = self.system_model(inputs, training=False)
        step = tf.cast(self.optimizer.iterations, tf.int64)
        terms = self._loss_terms_fn(outputs, targets, step)
        loss, means = combine(terms)
        return self._logged(loss, means, terms)

    def _logged(self, loss, means, terms):
        self._trackers["loss"].update_state(loss)
        for name, mean in means.items():
            if name not in self._trackers:
                with tf.init_scope():
                    self._trackers[name] = tf.keras.metrics.Mean(name=name)
            self._trackers[name].update_state(mean, sample_weight=terms[name].count)
        return {name: tracker.result() for name, tracker in self._trackers.items()}


def as_keras_model(model, loss_terms_fn, prepare, *, optimizer=None, seed: int = 0) -> FitModel:
    """Wraps and compiles a system's model for `fit`.

    Args:
      model: the `tf.keras.Model` to train.
      loss_terms_fn: `(outputs, targets, step) -> {name: LossTerm}`.
      prepare: `(batch, seed) -> (inputs, targets)`.
      optimizer: a Keras optimizer; default Adam at 1e-3 (ours).
      seed: of `prepare`'s random draws.

    Returns:
      A compiled `FitModel`: `fit(dataset, steps_per_epoch=..., epochs=...)`.
    """
    wrapped = FitModel(model, loss_terms_fn, prepare, seed=seed)
    wrapped.compile(optimizer=optimizer or tf.keras.optimizers.Adam(1e-3))
    return wrapped


def _scaled_loss(optimizer, loss):
    """Bridges float16 loss scaling: Keras 2.15 has `get_scaled_loss`, Keras 3 `scale_loss`."""
    if hasattr(optimizer, "get_scaled_loss"):
        return optimizer.get_scaled_loss(loss)
    return optimizer.scale_loss(loss) if hasattr(optimizer, "scale_loss") else loss


def _unscaled_gradients(optimizer, gradients):
    """Undoes `_scaled_loss` for Keras 2.15; Keras 3 does so itself when it applies them."""
    if hasattr(optimizer, "get_unscaled_gradients"):
        return optimizer.get_unscaled_gradients(gradients)
    return gradients
