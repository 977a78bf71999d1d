"""A toy system for the training tests: a small network, a masked loss, differing valid counts."""

import numpy as np
import tensorflow as tf

from metrabs_like.losses.terms import LossTerm
from metrabs_like.training import ema, optimizers, step
from metrabs_like.training.config import TrainConfig


def toy_model(batch_norm=False, seed=1, dropout=0.0):
    """Builds [B,4] -> {"y": [B,3]}; weights depend on the seed alone."""
    inputs = tf.keras.Input((4,), name="x")
    x = tf.keras.layers.Dense(8, activation="tanh", name="backbone")(inputs)
    if batch_norm:
        x = tf.keras.layers.BatchNormalization(momentum=0.5)(x)
    if dropout:
        x = tf.keras.layers.Dropout(dropout)(x)
    x = tf.keras.layers.Dense(3, name="head", dtype="float32")(x)
    model = tf.keras.Model({"x": inputs}, {"y": x})
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    return model


def toy_batch(n, seed=0):
    """Makes n examples whose number of valid entries varies strongly along the batch."""
    rng = np.random.default_rng(seed)
    valid = rng.random((n, 3)) < np.linspace(0.1, 0.95, n)[:, None]
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = np.sin(x[:, :3] + 0.5 * x[:, 1:]) - 1
    return {"main": {"x": x, "y": y, "valid": valid}}


def as_tensors(batch):
    return tf.nest.map_structure(tf.constant, batch)


def prepare(batch, seed):
    del seed
    part = batch["main"]
    return {"x": part["x"]}, {"y": part["y"], "valid": part["valid"]}


def masked_square(outputs, targets, step, mask=None):
    """Two terms over the valid entries; `mask(pred)` narrows the second by the prediction."""
    del step
    valid = targets["valid"]
    error = tf.where(valid, outputs["y"] - targets["y"], 0.0)
    seen = valid if mask is None else valid & mask(outputs["y"])
    count = tf.reduce_sum(tf.cast(valid, tf.float32))
    near = tf.where(seen, tf.abs(error), 0.0)
    return {
        "square": LossTerm(tf.reduce_sum(error**2), count, 1.0),
        "near": LossTerm(tf.reduce_sum(near), tf.reduce_sum(tf.cast(seen, tf.float32)), 0.3),
    }


def expected_counts(targets):
    count = tf.reduce_sum(tf.cast(targets["valid"], tf.float32))
    return {"square": count, "near": count}


def make_step(
    model=None,
    loss=masked_square,
    expected=expected_counts,
    strategy=None,
    prepare_fn=prepare,
    **settings,
):
    """Returns (train step, model, average)."""
    settings = dict(learning_rate=0.1, optimizer="sgd", schedule="constant") | settings
    config = TrainConfig(**settings)
    model = model or toy_model()
    optimizer = optimizers.make_optimizer(
        config, model.trainable_variables, model.get_layer("backbone").trainable_variables
    )
    objective = step.make_objective(model, loss, optimizer, expected_counts=expected)
    average = ema.WeightAverage(model.weights, config.ema_momentum, config.ema_warmup)
    train_step = step.make_train_step(
        [objective],
        config,
        prepare_fn,
        strategy=strategy,
        model_state=model.non_trainable_variables,
        average=average,
    )
    return train_step, model, average


def logs_of(train_step, batch):
    values = train_step(as_tensors(batch))
    return dict(zip(train_step.log_names, values.numpy().tolist(), strict=True))


def weights_of(model):
    return np.concatenate([np.ravel(np.asarray(w)) for w in model.get_weights()])
