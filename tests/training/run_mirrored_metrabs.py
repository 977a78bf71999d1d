"""The tiny metrabs model with a field, in micro-batches and on two CPUs; prints one JSON line."""

import dataclasses
import json

import numpy as np
import tensorflow as tf

from metrabs_like import training
from metrabs_like.systems import metrabs
from tests.systems.metrabs_batches import make_batch, make_point_batch
from tests.training import toy
from tests.training.run_mirrored import strategies

# The first update trains the weak perspective, the second the full one and the absolute term.
CONFIG = dataclasses.replace(
    metrabs.tiny_config(),
    full_perspective_start_step=1,
    absloss_start_step=1,
    heatmap_loss_factor=0.3,
    head="field",
    field_width=16,
    n_surface_points=5,
)


def ragged_batch(seed, n=4):
    """Three kinds; from all points of a person to a fifth, so that micro-batches differ.

    Not param: which surface points it takes is drawn for each micro-batch.
    """
    rng = np.random.default_rng(seed)
    batch = make_batch(rng, n, CONFIG, share_invalid=0.0)
    batch["dense"] = make_point_batch(rng, n, CONFIG, "dense")
    for share, part in zip(
        np.linspace([1, 0.2, 1], [0.2, 1, 0.4], n).T, batch.values(), strict=True
    ):
        shape = part["point_validity"].shape
        part["point_validity"] = tf.constant(rng.random(shape) < share[:, None])
    return batch


def frozen_model():
    """Weights of one seed; BatchNorm as in evaluation, else its statistics are per micro-batch."""
    tf.keras.utils.set_random_seed(5)
    model = metrabs.build_model(CONFIG)
    for layer in model.get_layer(CONFIG.backbone).layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.trainable = False
    return model


def logs_and_weights(strategy, k):
    """Makes two updates, each in `replicas * k` parts."""
    settings = dict(optimizer="sgd", schedule="constant", learning_rate=0.002, clip_norm=1.0)
    config = training.TrainConfig(grad_accum_steps=k, **settings)
    with strategy.scope():
        model = frozen_model()
        optimizer = training.make_optimizer(config, model.trainable_variables)
    objective = training.make_objective(
        model,
        lambda outputs, targets, step: metrabs.loss_terms(outputs, targets, CONFIG, step),
        optimizer,
        expected_counts=lambda targets: metrabs.expected_counts(targets, CONFIG),
    )
    train_step = training.make_train_step(
        [objective],
        config,
        lambda batch, seed: metrabs.prepare(batch, CONFIG, None),  # draws are per micro-batch
        strategy=strategy,
        model_state=model.non_trainable_variables,
    )
    before = toy.weights_of(model)
    logs = [toy.logs_of(train_step, ragged_batch(seed)) for seed in range(2)]
    return logs, toy.weights_of(model) - before


def difference(a, b):
    """Largest relative differences of the logs, and of the weights' changes in all."""
    (logs_a, change_a), (logs_b, change_b) = a, b
    pairs = [(x[key], y[key]) for x, y in zip(logs_a, logs_b, strict=True) for key in x]
    logs = max(abs(x - y) / (1 + abs(x)) for x, y in pairs)
    return logs, float(np.linalg.norm(change_a - change_b) / np.linalg.norm(change_a))


if __name__ == "__main__":
    one, two = strategies()
    single = logs_and_weights(one, 1)
    results = {"terms": sorted(single[0][0]), "n_replicas": two.num_replicas_in_sync}
    for name, strategy, k in (("k=2", one, 2), ("mirrored", two, 1)):
        results[name] = difference(single, logs_and_weights(strategy, k))
    print(json.dumps(results))
