"""Measures a detector on a prepared data set: who is found, how exactly, in numbers and pictures.

Conventions: px of the images; shares lie in 0..1.
"""

from absl import flags

from metrabs_like.cli.models import TrainedModel
from metrabs_like.metrics.accumulate import MetricSums

_VALIDATION_BATCH = 16


def define_flags(values: flags.FlagValues) -> None:
    """Defines the flags of the test-time choices."""


def make_validation(trained: TrainedModel, folder: str, kind: str):
    """Makes the function that training calls now and then.

    Args:
      trained: the model.
      folder: a prepared data set.
      kind: of its annotations.

    Returns:
      Function without arguments to a dict of numbers, JSON values.
    """
    dataset = trained.eval_dataset(folder, kind, _VALIDATION_BATCH)

    def validate():
        sums = MetricSums()
        for decoded, targets in predictions(trained, dataset):
            sums.add(trained.system.evaluate(decoded, targets, trained.config))
        return {k: v if v == v else None for k, v in sums.result().items()}

    return validate


def predictions(trained: TrainedModel, dataset):
    """Yields decoded people and targets of every batch."""
    import tensorflow as tf

    system, config = trained.system, trained.config

    @tf.function(reduce_retracing=True, autograph=False)
    def predict(batch):
        inputs, targets = system.prepare(batch, config, None)
        return system.decode(trained.model(inputs, training=False), inputs, config), targets

    for batch in dataset:
        yield predict(batch)
