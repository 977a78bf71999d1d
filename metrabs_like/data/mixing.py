"""Streams of people or images out of shards, and their mixing by fixed counts per batch.

Conventions: the elements of a stream of people are `(serialized record, person index int32)`,
those of a stream of images serialized records. Order is a pure function of the seed.
"""

import tensorflow as tf

from metrabs_like.data import records

_EXPAND_BATCH = 128  # records looked at together when people are listed (1.6 times 32, measured)
_LARGE_RECORD_BYTES = 50_000  # above, copying records costs more than a call for each (measured)
_plain = tf.autograph.experimental.do_not_convert  # else tracing takes three times as long
_CYCLE_LENGTH = 8  # shards read in turn


def read_people(source_path: str, info, kind: str) -> tf.data.Dataset:
    """Streams every usable person of a data set once, in stored order.

    Args:
      source_path: folder of the prepared data set.
      info: its description.
      kind: one of `dataset_info.KINDS`; people without such an annotation are left out.

    Returns:
      Finite stream.
    """
    return _people(read_images(source_path, info), info, kind)


def read_images(source_path: str, info) -> tf.data.Dataset:
    """Streams every image of a data set once, in stored order.

    Args:
      source_path: folder of the prepared data set.
      info: its description.

    Returns:
      Finite stream.
    """
    return tf.data.TFRecordDataset(info.shard_paths(source_path), buffer_size=1 << 20)


def shuffle_people(source_path: str, info, kind: str, config, seed: int) -> tf.data.Dataset:
    """Streams the usable people of a data set for ever, in random order.

    The shards' order is drawn anew in every round, some shards are read in turn, and a buffer
    bounded in number and bytes (it is part of every checkpoint) shuffles what comes out.

    Args:
      source_path: folder of the prepared data set.
      info: its description.
      kind: one of `dataset_info.KINDS`.
      config: the `PipelineConfig`: shuffle_buffer, shuffle_buffer_mb.
      seed: decides the order.

    Returns:
      Infinite stream.
    """
    people = _people(_endless_images(source_path, info, seed), info, kind)
    return _shuffled(people, info, config, seed)


def shuffle_images(source_path: str, info, config, seed: int) -> tf.data.Dataset:
    """Streams the images of a data set for ever, in random order, as `shuffle_people` does people.

    Args:
      source_path: folder of the prepared data set.
      info: its description.
      config: with shuffle_buffer (images) and shuffle_buffer_mb.
      seed: decides the order.

    Returns:
      Infinite stream.
    """
    return _shuffled(_endless_images(source_path, info, seed), info, config, seed)


def merge_sources(batches: list[tf.data.Dataset]) -> tf.data.Dataset:
    """Joins batched sources into one: every batch holds each source's fixed count, in order.

    Args:
      batches: data sets whose elements are dicts of tensors with a leading batch dimension.

    Returns:
      Data set of dicts whose leading dimension is the sum of the counts.
    """
    if len(batches) == 1:
        return batches[0]
    return tf.data.Dataset.zip(tuple(batches)).map(
        _plain(
            lambda *parts: {name: tf.concat([p[name] for p in parts], axis=0) for name in parts[0]}
        )
    )


def _endless_images(source_path, info, seed):
    """Reads some shards in turn, round after round in another order."""
    paths = info.shard_paths(source_path)
    files = tf.data.Dataset.from_tensor_slices(paths)
    files = files.shuffle(len(paths), seed=seed, reshuffle_each_iteration=True).repeat()
    return files.interleave(
        _plain(lambda path: tf.data.TFRecordDataset(path, buffer_size=1 << 20)),
        cycle_length=min(_CYCLE_LENGTH, len(paths)),
    )


def _shuffled(elements, info, config, seed):
    """Shuffles by a buffer whose number of bytes is bounded too."""
    n_bytes = sum(shard["n_bytes"] for shard in info.shards)
    n_records = max(info.counts["n_images"], 1)
    affordable = int(config.shuffle_buffer_mb * 1e6 * n_records / max(n_bytes, 1))
    buffer = max(1, min(config.shuffle_buffer, affordable))
    return elements.shuffle(buffer, seed=seed + 1, reshuffle_each_iteration=False)


def _people(serialized, info, kind):
    """Lists the usable people of the records."""
    n_bytes = sum(shard["n_bytes"] for shard in info.shards)
    if n_bytes > _LARGE_RECORD_BYTES * info.counts["n_images"]:
        return serialized.flat_map(_plain(lambda record: _people_of_one(record, info, kind)))

    def expand(batch):
        record_index, person_index = records.parse_usable_people(batch, kind, info.n_points)
        return tf.gather(batch, record_index), person_index

    return serialized.batch(_EXPAND_BATCH).map(_plain(expand)).unbatch()


def _people_of_one(record, info, kind):
    """Lists the usable people of one record without copying it, at a fixed cost each time."""
    _, person_index = records.parse_usable_people(record[tf.newaxis], kind, info.n_points)
    same_record = tf.data.Dataset.from_tensors(record).repeat()
    return tf.data.Dataset.zip((same_record, tf.data.Dataset.from_tensor_slices(person_index)))
