"""Steps that the pipelines share: numbering and planning batches, decoding their parts in parallel.

Conventions: the order of elements is kept whatever the number of threads; native tf.data only. A
*plan* is a dict of tensors with a leading batch dimension, cheap to make; decoding works on one
example of it.
"""

import os

import tensorflow as tf

_plain = tf.autograph.experimental.do_not_convert  # else tracing takes three times as long
_THREADS_PER_PLANNER = 8  # planning an example costs about a fifth of decoding it


def n_threads(config) -> int:
    """Returns how many threads decode: `config.n_parallel_calls`, 0 for one a CPU core."""
    return config.n_parallel_calls or os.cpu_count() or 1


def source_key(seed, index: int):
    """Returns the key that names a source's stream of draws.

    Args:
      seed: of the run, an integer or an int64 scalar tensor.
      index: of the source.
    """
    return (index << 32) | (seed & 0xFFFFFFFF)


def planned_batches(elements, plan, count: int, config, *, seed, index: int) -> tf.data.Dataset:
    """Plans the examples of one training source, a batch at a time.

    Args:
      elements: endless data set of tensors or tuples of them.
      plan: takes the examples' running numbers, int64 `[count]`, and the batched elements; returns
        a dict of tensors.
      count: examples of the source in every batch.
      config: `n_parallel_calls` is read.
      seed: of the run, an integer or an int64 scalar tensor.
      index: of the source.

    Returns:
      Data set of the plans, with `example_seed` int32 `[count, 2]` added: a pair that no other
      example of the run has.
    """

    def plan_and_seed(numbers, element):
        number32 = tf.cast(numbers & 0x7FFFFFFF, tf.int32)
        run = tf.fill(tf.shape(number32), tf.cast((seed + 7919 * index) & 0x7FFFFFFF, tf.int32))
        return {**plan(numbers, element), "example_seed": tf.stack([run, number32], axis=-1)}

    numbered = elements.enumerate().batch(count, drop_remainder=True)
    n_calls = max(1, n_threads(config) // _THREADS_PER_PLANNER)
    return numbered.map(_plain(plan_and_seed), num_parallel_calls=n_calls, deterministic=True)


def decoded_examples(planned, decode, config) -> tf.data.Dataset:
    """Decodes planned batches one example at a time, several in parallel.

    Args:
      planned: data set of plans.
      decode: takes the plan of one example and returns a dict of tensors.
      config: `n_parallel_calls` is read.

    Returns:
      Data set of dicts without batch dimension.
    """
    n_calls = n_threads(config)
    return planned.unbatch().map(_plain(decode), num_parallel_calls=n_calls, deterministic=True)


def padded_batches(
    examples, batch_size: int, shapes: dict, *, drop_remainder: bool
) -> tf.data.Dataset:
    """Batches examples, filled up with zeros: each canvas is written once.

    Args:
      examples: data set of dicts.
      batch_size: examples in a batch.
      shapes: name -> shape to which that tensor is filled up; None takes the largest of the batch.
        The others have one shape.
      drop_remainder: whether examples that fill no batch are left out.

    Returns:
      Data set of dicts with leading dimension B.
    """
    padded = {name: spec.shape for name, spec in examples.element_spec.items()}
    padded |= {name: tf.TensorShape(shape) for name, shape in shapes.items()}
    return examples.padded_batch(batch_size, padded, drop_remainder=drop_remainder)


def prefetched(batches, config) -> tf.data.Dataset:
    """Makes batches ahead of their use, in a fixed order and with fixed numbers of threads.

    Args:
      batches: data set.
      config: `prefetch_batches` is read.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return batches.prefetch(config.prefetch_batches).with_options(options)
