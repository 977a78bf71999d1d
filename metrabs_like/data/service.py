"""Training data made by other machines: tf.data service.

A dispatcher and workers (`tf.data.experimental.service`) run the pipeline; the trainer receives
finished batches. Each worker makes a stream of its own, shuffled and augmented by a seed of its
own; batches arrive as they come.

Conventions: the prepared folders are readable under the same paths on the trainer and all workers;
banks of backgrounds and objects travel inside the graph.
"""

import socket
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_STREAM_STEP = 7_368_787  # between the seeds of two streams (a prime)
_N_STREAMS = 1 << 20  # more than workers that ever start
_CONNECT_SECONDS = 10.0


def distribute(
    make_dataset: Callable[..., tf.data.Dataset], address: str, *, seed: int, step: int = 0
) -> tf.data.Dataset:
    """Lets the workers of a tf.data service make a data set.

    Its iterator cannot be saved in a checkpoint, and the order of the batches depends on the
    workers' speed: runs do not repeat. A run that goes on must not read the beginning again, so
    that the seeds depend on the step at which it starts: the data is shuffled and augmented anew,
    and within a round some people come twice and others not at all.

    Args:
      make_dataset: takes `seed`, an int64 scalar tensor, and returns an infinite data set, such as
        `functools.partial(pipeline.make_train_dataset, sources, config, skeleton=skeleton)`. A
        `config.n_parallel_calls` of 0 takes the trainer's number of cores: set the workers'.
      address: of the dispatcher, `grpc://HOST:PORT`.
      seed: of the run.
      step: at which the run goes on, 0 for a new one.

    Returns:
      Infinite data set of the same elements.

    Raises:
      ValueError: if the address is misspelt or nobody listens there, and what `make_dataset`
        raises.
    """
    _check_listening(address)
    first = int(np.random.SeedSequence([seed % 2**63, step]).generate_state(1)[0] >> 2)

    # Conversion by AutoGraph would take seconds and change nothing.
    @tf.autograph.experimental.do_not_convert
    def make_stream(number):
        # Only of this function's graph: tf.data compares a global seed of 0 with the tensor.
        tf.random.set_seed(1)
        return make_dataset(seed=first + _STREAM_STEP * number)

    # The dispatcher gives each number to one worker. With sharding off all workers would make the
    # same batches; with the files themselves given away a small source would starve some.
    streams = tf.data.Dataset.range(_N_STREAMS).flat_map(make_stream)
    options = tf.data.Options()
    options.autotune.enabled = False
    return streams.with_options(options).apply(
        tf.data.experimental.service.distribute(
            tf.data.experimental.service.ShardingPolicy.DYNAMIC, address
        )
    )


def _check_listening(address):
    """Tries to connect: the service's own client would wait for ever without a word."""
    protocol, _, place = address.partition("://")
    host, _, port = place.rpartition(":")
    if protocol != "grpc" or not host or not port.isdecimal():
        raise ValueError(
            f"data service address = {address!r} is not of the form grpc://HOST:PORT, "
            "for example grpc://10.0.0.1:5050."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"data service address = {address}: nobody listens there ({error}); "
            "start the dispatcher first, or mend the address."
        ) from None


__all__ = ["distribute"]
