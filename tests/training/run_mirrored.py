"""Compares two logical CPUs with one device in a fresh process; prints one JSON line."""

import json
import sys
import tempfile

import numpy as np
import tensorflow as tf

from metrabs_like import training
from tests.training import run_toy, toy
from tests.training.test_step import gated_loss


def losses_and_weights(strategy, k, optimizer="adamw", **settings):
    """Trains three updates of 12 examples, one of them broken, with `12 / (replicas * k)` each."""
    with strategy.scope():
        model = toy.toy_model()
        train_step, _, average = toy.make_step(
            model,
            gated_loss,
            strategy=strategy,
            grad_accum_steps=k,
            optimizer=optimizer,
            learning_rate=0.01,
            clip_norm=1.0,
            **settings,
        )
    logs = []
    for i in range(4):
        batch = toy.toy_batch(12, seed=i)
        if i == 2:
            batch["main"]["x"][11] = np.nan
        logs.append(toy.logs_of(train_step, batch))
    averages = np.concatenate([np.ravel(v.numpy()) for v in average.averages])
    return logs, toy.weights_of(model), averages, int(train_step.step.numpy())


def difference(a, b):
    """Largest difference of the finite logs, the weights and their averages."""
    numbers = [
        abs(x[name] - y[name])
        for x, y in zip(a[0], b[0], strict=True)
        for name in x
        if np.isfinite(x[name]) or np.isfinite(y[name])
    ]
    parts = [np.abs(x - y).max() for x, y in zip(a[1:3], b[1:3], strict=True)]
    return float(np.max([*numbers, *parts]))


def moving_statistics(strategy):
    """Moving means of all replicas and of the hand calculation, after one update of 8 examples."""
    with strategy.scope():
        model = toy.toy_model(batch_norm=True)
        norm = next(x for x in model.layers if isinstance(x, tf.keras.layers.BatchNormalization))
        hidden = tf.keras.Model(model.inputs, norm.input)
        train_step, _, _ = toy.make_step(model, strategy=strategy, grad_accum_steps=2)
    batch = toy.toy_batch(8)
    parts = hidden({"x": batch["main"]["x"]}).numpy().reshape(2, 2, 2, 8)
    by_hand = np.mean([0.25 * p[0].mean(0) + 0.5 * p[1].mean(0) for p in parts], axis=0)
    toy.logs_of(train_step, batch)
    moving = norm.moving_mean
    moving = moving if isinstance(moving, tf.Variable) else moving.value
    replicas = [v.numpy() for v in strategy.experimental_local_results(moving)]
    return float(max(np.abs(v - by_hand).max() for v in replicas)), len(replicas)


def resumed_equals_whole():
    """Interrupts a mirrored run at step 12 of 20 and goes on."""
    with tempfile.TemporaryDirectory() as folder:
        settings = dict(steps=20, distribution="mirrored", log_every=20)
        whole, model = run_toy.run(None, **settings)

        def stop(step, logs):
            import signal

            signal.raise_signal(signal.SIGTERM)

        run_toy.run(folder, actions=[training.Action(stop, every=12)], **settings)
        rest, again = run_toy.run(folder, **settings)
        same = np.array_equal(toy.weights_of(model), toy.weights_of(again))
        return rest.resumed_from, whole.logs["loss"] == rest.logs["loss"], same


def strategies():
    """Splits the CPU in two logical ones; returns the strategies of one of them and of both."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return training.make_strategy("none"), training.make_strategy("mirrored")


if __name__ == "__main__":
    one, two = strategies()
    results = {"n_replicas": two.num_replicas_in_sync}
    for optimizer in sys.argv[1:]:
        single = losses_and_weights(one, 1, optimizer)
        results[f"{optimizer} step"] = single[3]
        for k in (1, 3):
            mirrored = losses_and_weights(two, k, optimizer)
            results[f"{optimizer} k={k}"] = difference(single, mirrored)
    results["moving"] = moving_statistics(two)
    results["resumed"] = resumed_equals_whole()
    print(json.dumps(results))
