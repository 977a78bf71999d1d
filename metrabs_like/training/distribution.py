"""Replicas: which devices and processes share a run.

A distributed iterator cannot be checkpointed, so each process keeps its own host iterator, and the
step gives every local replica its block of the host batch. Loss normalization counts over all of
them. Several processes (`multi_worker`) each read their own stream: give each its `worker_seed` or
a shard.
"""

from __future__ import annotations

import functools
import os

import tensorflow as tf

from metrabs_like.training.config import DISTRIBUTIONS


@functools.cache  # two strategies of one process would mix up their collective operations
def make_strategy(distribution: str) -> tf.distribute.Strategy:
    """Creates the strategy; build model, optimizer and objectives inside its `scope()`.

    Args:
      distribution: `none` (one device), `mirrored` (all local GPUs, else all logical CPUs) or
        `multi_worker` (the cluster in the environment variable TF_CONFIG; call this before any
        other TensorFlow operation).

    Returns:
      A strategy, the same one for the same name in a process; TensorFlow's default for `none`.

    Raises:
      ValueError: for another name, or `multi_worker` without TF_CONFIG.
    """
    if distribution == "none":
        return tf.distribute.get_strategy()
    if distribution == "mirrored":
        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        return tf.distribute.MirroredStrategy(
            [d.name for d in tf.config.list_logical_devices(kind)]
        )
    if distribution == "multi_worker":
        if not os.environ.get("TF_CONFIG"):
            raise ValueError(
                "distribution='multi_worker': TF_CONFIG is not set; set it to the cluster's JSON "
                "in every worker (see tf.distribute.MultiWorkerMirroredStrategy) or use 'mirrored'."
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"distribution={distribution!r}: use one of {', '.join(DISTRIBUTIONS)}.")


def worker_index(strategy) -> int:
    """Returns this process's number, 0 in a run of one process."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_id is None:
        return 0
    has_chief = "chief" in resolver.cluster_spec().as_dict()
    return resolver.task_id + (1 if has_chief and resolver.task_type == "worker" else 0)


def n_workers(strategy) -> int:
    """Counts the processes of the run."""
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_id is None:
        return 1
    return sum(len(tasks) for tasks in resolver.cluster_spec().as_dict().values())


def worker_seed(seed: int, strategy) -> int:
    """Returns the data seed of this process: `seed` itself in the first."""
    return seed + 1_000_003 * worker_index(strategy)


def single_gpu(strategy) -> str | None:
    """Returns the name of the GPU that a run of one replica uses, None where there is no such."""
    gpus = tf.config.list_logical_devices("GPU")
    return gpus[0].name if gpus and strategy.num_replicas_in_sync == 1 else None


def n_local_replicas(strategy) -> int:
    """Counts the replicas that this process feeds."""
    if strategy.num_replicas_in_sync == 1:
        return 1
    return len(strategy.extended.worker_devices)
