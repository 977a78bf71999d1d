"""Trains the toy system as a real process: `run_toy.py WORKDIR STEPS [field=value ...]`."""

import sys
import time

import tensorflow as tf

from metrabs_like import training
from tests.training import toy


def dataset(seed=3, batch_size=8):
    """An endless, shuffled stream whose iterator has a state worth checkpointing."""
    # a global seed takes part in the shuffle's: processes that share a run must agree on it
    tf.random.set_seed(seed)
    data = toy.as_tensors(toy.toy_batch(64, seed))
    examples = tf.data.Dataset.from_tensor_slices(data).repeat()
    return examples.shuffle(16, seed=seed).batch(batch_size, drop_remainder=True).prefetch(1)


def run(workdir, *, actions=(), data=None, model=None, pause=0.0, on_start=None, **settings):
    """Trains; `pause` seconds after each step make room for a kill."""
    if pause:
        actions = [*actions, training.Action(lambda step, logs: time.sleep(pause), every=1)]
    settings = dict(learning_rate=0.01, log_every=5, checkpoint_every=10, steps=30) | settings
    config = training.TrainConfig(**settings)
    strategy = training.make_strategy(config.distribution)
    with strategy.scope():
        model = model or toy.toy_model(batch_norm=True)
        optimizer = training.make_optimizer(config, model.trainable_variables)
    objective = training.make_objective(
        model, toy.masked_square, optimizer, expected_counts=toy.expected_counts
    )
    summary = training.train(
        model,
        [objective],
        dataset() if data is None else data,
        config,
        toy.prepare,
        workdir,
        actions,
        strategy=strategy,
        on_start=on_start,
        progress=False,
    )
    return summary, model


def _value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


if __name__ == "__main__":
    pairs = (argument.split("=") for argument in sys.argv[3:])
    values = {k: _value(v) for k, v in pairs}
    training.make_strategy(values.get("distribution", "none"))  # a cluster comes before all else
    stream = dataset(values.pop("data_seed", 3))
    print(run(sys.argv[1], steps=int(sys.argv[2]), data=stream, **values)[0])
