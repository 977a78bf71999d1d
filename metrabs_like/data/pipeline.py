"""The input pipeline: prepared data sets in, batches of windows, cameras and labels out.

Conventions: native tf.data only, so that its iterator is saved with `tf.train.Checkpoint` and goes
on bit-identically. Content and order are a pure function of sources, config and seed (and, in the
shuffle, of TensorFlow's global seed where one is set); the number of CPU threads changes neither.
"""

import contextlib
import dataclasses
import os

import tensorflow as tf

from metrabs_like.data import cropping, examples, mixing
from metrabs_like.data.dataset_info import FILE_NAME, KINDS, DatasetInfo
from metrabs_like.skeletons import Skeleton, index_map


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One source of training data.

    Attributes:
      path: folder of a prepared data set.
      kind: "kp3d" or "kp2d", which annotation is used.
      count: examples of it in every batch.
    """

    path: str
    kind: str
    count: int

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind = {self.kind!r} of a source must be one of {', '.join(KINDS)}.")
        if self.count < 1:
            raise ValueError(f"count = {self.count} of source {self.path!r} must be at least 1.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """Settings of the input pipeline.

    Attributes:
      proc_side: side of the crop, px.
      window_side: side of the uint8 window that a crop is sampled from, px; 0 takes 1.5 proc_side.
      box_padding: share of the box's longer side added to it, in all.
      max_roll_degrees: crops turn by up to this, either way.
      max_scale: people grow up to 1 + max_scale, or shrink as much.
      max_shift: the crop's centre moves by up to this share of the box's longer side.
      mirror_probability: share of crops mirrored left to right.
      shuffle_buffer: people in the shuffle buffer at most (it is part of every checkpoint).
      shuffle_buffer_mb: megabytes in the shuffle buffer at most.
      prefetch_batches: batches made ahead.
      n_parallel_calls: threads that decode; 0 takes one a CPU core.
      fast_dct: decode JPEG by the fast inverse DCT (errors of about one grey level).
    """

    proc_side: int = 256
    window_side: int = 0
    box_padding: float = 0.25
    max_roll_degrees: float = 20.0
    max_scale: float = 0.2
    max_shift: float = 0.1
    mirror_probability: float = 0.5
    shuffle_buffer: int = 2048
    shuffle_buffer_mb: float = 100.0
    prefetch_batches: int = 2
    n_parallel_calls: int = 0
    fast_dct: bool = True

    def __post_init__(self):
        if self.window_side == 0:
            object.__setattr__(self, "window_side", self.proc_side * 3 // 2)
        for name, minimum in _MINIMA.items():
            if not getattr(self, name) >= minimum:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {minimum}.")
        if not 0 <= self.mirror_probability <= 1:
            raise ValueError(
                f"mirror_probability = {self.mirror_probability} must be between 0 and 1."
            )


_MINIMA = {
    "proc_side": 8,
    "window_side": 8,
    "box_padding": -0.9,
    "max_roll_degrees": 0,
    "max_scale": 0,
    "max_shift": 0,
    "shuffle_buffer": 1,
    "shuffle_buffer_mb": 0,
    "prefetch_batches": 0,
    "n_parallel_calls": 0,
}


def parse_source(text: str) -> SourceConfig:
    """Parses `KIND:FOLDER:COUNT`, for example `kp3d:data/synthetic:28`.

    Raises:
      ValueError: naming the text and the form that is expected.
    """
    kind, _, rest = text.partition(":")
    path, _, count = rest.rpartition(":")
    if not path or not count.isdecimal():
        raise ValueError(
            f"source = {text!r} is not of the form KIND:FOLDER:COUNT, "
            "for example kp3d:data/synthetic:28."
        )
    return SourceConfig(path, kind, int(count))


def make_train_dataset(
    sources, config: PipelineConfig, *, skeleton: Skeleton, seed: int
) -> tf.data.Dataset:
    """Builds the endless stream of augmented training batches.

    Args:
      sources: `SourceConfig`s (or `KIND:FOLDER:COUNT` texts); each batch holds each one's count.
      config: settings.
      skeleton: the model's; decides which points come out, in which order.
      seed: decides order and augmentation.

    Returns:
      Infinite data set of `{kind: dict}` with the kinds that have sources. Each dict holds, with
      leading dimension B (the sum of the kind's counts): `window` uint8 `[B, W, W, 3]`,
      `window_intrinsics [B, 3, 3]`, `distortion_coeffs [B, 12]`, `crop_from_camera [B, 3, 3]`,
      `intrinsics [B, 3, 3]` (of the crop), `coords3d_true [B, P, 3]` m in the crop camera's frame,
      `coords2d_true [B, P, 2]` crop px, `point_validity [B, P]` bool (of 3D for kp3d, of 2D for
      kp2d), `box [B, 4]` px in the image, `example_seed` int32 `[B, 2]`. Its iterator can be saved
      in a checkpoint.

    Raises:
      ValueError: naming the source, if it is missing, damaged, empty, or of another skeleton.
    """
    sources = [parse_source(s) if isinstance(s, str) else s for s in sources]
    if not sources:
        raise ValueError("sources is empty; pass at least one KIND:FOLDER:COUNT.")
    kinds = {}
    for index, source in enumerate(sources):
        planned = _planned_source(source, index, config, skeleton, seed)
        kinds.setdefault(source.kind, []).append((planned, source.count))
    decoded = {}
    for kind, parts in kinds.items():
        merged = mixing.merge_sources([planned for planned, _ in parts])
        n_examples = sum(count for _, count in parts)
        names = (*examples.LABELS, "example_seed")
        decoded[kind] = _decoded(merged, config, n_examples, names, drop_remainder=True)
    batches = tf.data.Dataset.zip(decoded)
    return _with_options(batches.prefetch(config.prefetch_batches))


def make_eval_dataset(
    source_path: str, kind: str, config: PipelineConfig, *, skeleton: Skeleton, batch_size: int
) -> tf.data.Dataset:
    """Builds the finite, ordered stream of all people of a data set, without augmentation.

    Args:
      source_path: folder of a prepared data set.
      kind: "kp3d" or "kp2d".
      config: settings; the augmentation ranges are ignored.
      skeleton: the model's.
      batch_size: examples a batch; the last batch may be smaller.

    Returns:
      Data set of batches as of `make_train_dataset`, with `image_id` (string `[B]`) in place of
      `example_seed`. Empty where no person has a valid point of the kind.

    Raises:
      ValueError: naming the source, if it is missing, damaged, or of another skeleton.
    """
    source = SourceConfig(source_path, kind, batch_size)
    info = _opened(source, skeleton)
    maker = examples.ExampleMaker(info, kind, config, skeleton, None)
    people = mixing.read_people(source_path, info, kind).enumerate()
    planned = people.batch(batch_size).map(lambda number, person: maker(*person, number))
    names = (*examples.LABELS, "image_id")
    decoded = _decoded(planned, config, batch_size, names, drop_remainder=False)
    batches = decoded.map(lambda batch: {kind: batch})
    return _with_options(batches.prefetch(config.prefetch_batches))


@contextlib.contextmanager
def damage_named(source_paths):
    """Turns a damaged record that is met while reading into an error that names its shard.

    Args:
      source_paths: folders of the data sets that are read inside.

    Raises:
      ValueError: naming the shard that differs from its SHA-256, and the remedy.
    """
    try:
        yield
    except tf.errors.DataLossError:
        for path in source_paths:
            DatasetInfo.load(path).check_files(path, hashes=True)
        raise


def _planned_source(source, index, config, skeleton, seed):
    """Streams batches of labels and window plans of one training source."""
    info = _opened(source, skeleton)
    n_usable = info.counts[{"kp3d": "n_people_3d", "kp2d": "n_people_2d"}[source.kind]]
    if not n_usable:
        raise ValueError(
            f"Source {source.path} has no person with a valid {source.kind[2:].upper()} point "
            f"(counts: {info.counts}), so that kind = {source.kind!r} would wait for ever; "
            "leave the source out or use its other kind."
        )
    key = (index << 32) | (seed & 0xFFFFFFFF)
    maker = examples.ExampleMaker(info, source.kind, config, skeleton, key)

    def plan(numbers, person):
        example = maker(*person, numbers)
        number32 = tf.cast(numbers & 0x7FFFFFFF, tf.int32)
        run = tf.fill(tf.shape(number32), (seed + 7919 * index) & 0x7FFFFFFF)
        return {**example, "example_seed": tf.stack([run, number32], axis=-1)}

    people = mixing.shuffle_people(source.path, info, source.kind, config, seed + 1009 * index)
    numbered = people.enumerate().batch(source.count, drop_remainder=True)
    return numbered.map(plan, num_parallel_calls=1, deterministic=True)


def _opened(source, skeleton):
    """Loads the description of a source and checks that it fits."""
    info = DatasetInfo.load(source.path)
    info.check_files(source.path)
    own = Skeleton.from_dict(info.skeleton)
    if max(index_map(own, skeleton)) < 0:
        raise ValueError(
            f"Source {source.path} (skeleton {own.name!r}) has no joint of the model's skeleton "
            f"{skeleton.name!r}; add +{os.path.join(source.path, FILE_NAME)} to the trained "
            "skeleton, or prepare the data with a skeleton whose suffix is that of the joints' "
            "definitions (smpl, coco, ...)."
        )
    return info


def _decoded(planned, config, batch_size, names, *, drop_remainder):
    """Decodes the windows of planned batches, several at a time, and batches again."""

    def decode(example):
        window = cropping.decode_window(
            example["image_bytes"],
            example["decoder"],
            example["part"],
            example["part_size"],
            config.fast_dct,
        )
        return {"window": window, **{name: example[name] for name in names}}

    n_calls = config.n_parallel_calls or os.cpu_count() or 1
    windows = planned.unbatch().map(decode, num_parallel_calls=n_calls, deterministic=True)
    shapes = {name: spec.shape for name, spec in windows.element_spec.items()}
    shapes["window"] = tf.TensorShape([config.window_side, config.window_side, 3])
    # Padding with zeros while batching writes each canvas once.
    return windows.padded_batch(batch_size, shapes, drop_remainder=drop_remainder)


def _with_options(dataset):
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)
