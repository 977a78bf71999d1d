"""Nested batches: size, division among replicas and into micro-batches.

Conventions: a batch is a nest (dicts, tuples) of tensors whose first axis is the example, possibly
of different lengths in different leaves (`kp3d` and `kp2d` sub-batches). Part i of n of a leaf is
its i-th contiguous block.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf


def n_examples(batch) -> int:
    """Counts the examples of an eager batch.

    Args:
      batch: nest of tensors; a mapping of mappings counts the sum over its sub-batches.

    Returns:
      The number, from the first leaf of each sub-batch.
    """
    if isinstance(batch, Mapping) and any(isinstance(x, Mapping) for x in batch.values()):
        return sum(n_examples(part) for part in batch.values())
    leaves = tf.nest.flatten(batch)
    return int(leaves[0].shape[0]) if leaves else 0


def on_device(batch, device: str):
    """Copies an eager batch to a device; the copy is queued beside what the device is computing.

    Args:
      batch: nest of tensors.
      device: its name, e.g. "/GPU:0".

    Returns:
      The same nest on the device; strings, which no GPU holds, as they were.
    """
    with tf.device(device):
        return tf.nest.map_structure(lambda x: x if x.dtype == tf.string else tf.identity(x), batch)


def check_divisible(batch, n_parts: int, reason: str):
    """Raises unless every leaf's statically known first dimension divides into `n_parts`.

    Args:
      batch: nest of tensors.
      n_parts: number of equal parts.
      reason: what asks for the parts, for the message.

    Raises:
      ValueError: naming the leaf, its size and the remedy.
    """

    def check(path, leaf):
        if isinstance(leaf, Mapping):
            for key, value in leaf.items():
                check(f"{path}/{key}" if path else str(key), value)
        elif isinstance(leaf, (list, tuple)):
            for key, value in enumerate(leaf):
                check(f"{path}/{key}" if path else str(key), value)
        elif leaf.shape.rank == 0:
            raise ValueError(
                f"batch[{path!r}] is a scalar: every entry needs a first axis of examples."
            )
        elif leaf.shape.rank is not None and (leaf.shape[0] or 0) % n_parts:
            raise ValueError(
                f"batch[{path!r}] holds {leaf.shape[0]} examples, which do not divide into "
                f"{n_parts} equal parts ({reason}): choose a multiple of {n_parts}."
            )

    check("", batch)


def split(batch, n_parts: int):
    """Reshapes each leaf `[n*b, ...]` to `[n, b, ...]`.

    Args:
      batch: nest of tensors, first axis a multiple of `n_parts` (checked where it is static).
      n_parts: number of contiguous blocks.

    Returns:
      The same nest with one more leading axis of length `n_parts`.
    """
    check_divisible(batch, n_parts, "micro-batches")

    def reshape(x):
        shape = tf.shape(x)
        parts = tf.reshape(x, tf.concat([[n_parts, shape[0] // n_parts], shape[1:]], axis=0))
        block = None if x.shape[0] is None else x.shape[0] // n_parts
        parts.set_shape([n_parts, block, *x.shape[1:]])
        return parts

    return tf.nest.map_structure(reshape, batch)


def part(batch, index, n_parts: int):
    """Returns block `index` of `n_parts` of each leaf of an eager batch."""

    def block(x):
        size = x.shape[0] // n_parts
        return x[index * size : (index + 1) * size]

    return tf.nest.map_structure(block, batch)
