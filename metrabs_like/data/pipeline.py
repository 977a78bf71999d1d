"""The input pipeline: prepared data sets in, batches of windows, cameras and labels out.

Conventions: native tf.data only, so that its iterator is saved with `tf.train.Checkpoint` and goes
on bit-identically. Content and order are a pure function of sources, config and seed (and, in the
shuffle, of TensorFlow's global seed where one is set); the number of CPU threads changes neither.
"""

import contextlib
import dataclasses

import tensorflow as tf

from metrabs_like.data import cropping, examples, mixing, streams
from metrabs_like.data.companions import Companions
from metrabs_like.data.dataset_info import DatasetInfo
from metrabs_like.data.sources import (
    CHANGES,
    SourceConfig,
    open_source,
    parse_source,
    parse_sources,
)
from metrabs_like.skeletons import Skeleton

__all__ = [
    "PipelineConfig",
    "SourceConfig",
    "damage_named",
    "make_eval_dataset",
    "make_train_dataset",
    "parse_source",
]


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
      partial_probability: share of crops that look at a part of the person only.
      full_rotation_probability: share of crops turned by any angle.
      shapes_probability: share of crops with random shapes in front.
      objects_probability: share of crops with cut-out objects in front.
      background_probability: share of crops whose background is replaced, where there is a mask.
      colour_probability: share of crops with changed colours.
      blur_probability: share of blurred crops.
      jpeg_probability: share of crops with artefacts of JPEG compression.
      backgrounds: folder of pictures, or of a prepared data set with pictures without people; empty
        draws backgrounds.
      objects: folder of PNG pictures with alpha, or of a prepared data set with masks; empty draws
        objects.
      n_backgrounds: backgrounds held in memory at most.
      n_objects: objects held in memory at most.
      linear_light: average light, not grey levels, where pictures shrink; costs the JPEG decoder's
        fast scaling.
      n_surface_points: surface points per example of kind dense; the model decides.
      shuffle_buffer: people in the shuffle buffer at most (it is part of every checkpoint).
      shuffle_buffer_mb: megabytes in the shuffle buffer at most.
      prefetch_batches: batches made ahead.
      n_parallel_calls: threads that decode; 0 takes one a CPU core.
      fast_dct: decode JPEG by the fast inverse DCT (errors of about one grey level).
      skip_corrupt: leave out shards that are missing or differ from their SHA-256 (all are read
        once at the start) instead of stopping.
    """

    proc_side: int = 256
    window_side: int = 0
    box_padding: float = 0.25
    max_roll_degrees: float = 20.0
    max_scale: float = 0.2
    max_shift: float = 0.1
    mirror_probability: float = 0.5
    partial_probability: float = 0.0
    full_rotation_probability: float = 0.0
    shapes_probability: float = 0.0
    objects_probability: float = 0.0
    background_probability: float = 0.0
    colour_probability: float = 1.0
    blur_probability: float = 0.0
    jpeg_probability: float = 0.0
    backgrounds: str = ""
    objects: str = ""
    n_backgrounds: int = 128
    n_objects: int = 128
    linear_light: bool = False
    n_surface_points: int = 128
    shuffle_buffer: int = 2048
    shuffle_buffer_mb: float = 100.0
    prefetch_batches: int = 2
    n_parallel_calls: int = 0
    fast_dct: bool = True
    skip_corrupt: bool = False

    def __post_init__(self):
        if self.window_side == 0:
            object.__setattr__(self, "window_side", self.proc_side * 3 // 2)
        for name, minimum in _MINIMA.items():
            if not getattr(self, name) >= minimum:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {minimum}.")
        for name in ("mirror", *CHANGES):
            name = f"{name}_probability"
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be between 0 and 1.")

    def probabilities(self, source: SourceConfig) -> dict[str, float]:
        """Returns how often each change happens to the crops of a source."""
        usual = {change: getattr(self, f"{change}_probability") for change in CHANGES}
        return usual | dict(source.probabilities)


_plain = tf.autograph.experimental.do_not_convert  # else tracing takes three times as long
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
    "n_backgrounds": 1,
    "n_objects": 1,
    "n_surface_points": 1,
}


def make_train_dataset(
    sources, config: PipelineConfig, *, skeleton: Skeleton, seed
) -> tf.data.Dataset:
    """Builds the endless stream of augmented training batches.

    Args:
      sources: `SourceConfig`s (or `KIND:FOLDER:COUNT` texts); each batch holds each one's count.
      config: settings.
      skeleton: the model's; decides which points come out, in which order.
      seed: decides order and augmentation; an integer, or an int64 scalar tensor (`service`).

    Returns:
      Infinite data set of `{kind: dict}` with the kinds that have sources. Each dict holds, with
      leading dimension B (the sum of the kind's counts): `window` uint8 `[B, W, W, 3]`,
      `window_intrinsics [B, 3, 3]`, `distortion_coeffs [B, 12]`, `crop_from_camera [B, 3, 3]`,
      `intrinsics [B, 3, 3]` (of the crop), `box [B, 4]` px in the image, `example_seed` int32
      `[B, 2]`; for kp3d and kp2d `coords3d_true [B, P, 3]` m in the crop camera's frame,
      `coords2d_true [B, P, 2]` crop px, `point_validity [B, P]` bool (of 3D for kp3d, of 2D for
      kp2d); for param `pose_rotvecs [B, 24, 3]`, `shape_betas [B, 10]`, `translation [B, 3]` and
      `crop_from_body [B, 3, 4]`; for dense, with K = `config.n_surface_points`, `surface_ids`
      int32 and `surface_weights [B, K, 3]`, `coords2d_true [B, K, 2]`, `point_validity [B, K]`.
      Where other changes than the standard ones are asked for: `augmentation [B, 6]`, the
      probabilities of `sources.APPEARANCE_CHANGES`, and as needed `mask [B, M, M, 1]`,
      `mask_intrinsics [B, 3, 3]`, `has_mask [B]`, `background [B, S, S, 3]`, `object [B, O, O, 4]`,
      all uint8. Its iterator can be saved in a checkpoint.

    Raises:
      ValueError: naming the source, if it is missing, damaged, empty, or of another skeleton.
    """
    sources = parse_sources(sources)
    companions = Companions(config, [config.probabilities(source) for source in sources])
    kinds = {}
    for index, source in enumerate(sources):
        planned = _planned_source(source, index, config, skeleton, seed, companions)
        kinds.setdefault(source.kind, []).append((planned, source.count))
    decoded = {}
    for kind, parts in kinds.items():
        merged = mixing.merge_sources([planned for planned, _ in parts])
        n_examples = sum(count for _, count in parts)
        names = (*_label_names(kind), "example_seed")
        decoded[kind] = _decoded(merged, config, n_examples, names, companions=companions)
    batches = tf.data.Dataset.zip(decoded)
    return streams.prefetched(batches, config)


def make_eval_dataset(
    source_path: str, kind: str, config: PipelineConfig, *, skeleton: Skeleton, batch_size: int
) -> tf.data.Dataset:
    """Builds the finite, ordered stream of all people of a data set, without augmentation.

    Args:
      source_path: folder of a prepared data set.
      kind: one of `dataset_info.KINDS`.
      config: settings; the augmentation is ignored.
      skeleton: the model's.
      batch_size: examples a batch; the last batch may be smaller.

    Returns:
      Data set of batches as of `make_train_dataset`, with `image_id` (string `[B]`) in place of
      `example_seed`. Empty where no person has a valid point of the kind.

    Raises:
      ValueError: naming the source, if it is missing, damaged, or of another skeleton.
    """
    source = SourceConfig(source_path, kind, batch_size)
    info = open_source(source, skeleton)
    maker = examples.ExampleMaker(info, kind, config, skeleton, None)
    people = mixing.read_people(source_path, info, kind).enumerate()
    planned = people.batch(batch_size).map(_plain(lambda number, person: maker(*person, number)))
    names = (*_label_names(kind), "image_id")
    decoded = _decoded(planned, config, batch_size, names)
    batches = decoded.map(_plain(lambda batch: {kind: batch}))
    return streams.prefetched(batches, config)


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


def _planned_source(source, index, config, skeleton, seed, companions):
    """Streams batches of labels and window plans of one training source."""
    info = open_source(source, skeleton, skip_corrupt=config.skip_corrupt)
    if not info.n_usable(source.kind):
        raise ValueError(
            f"Source {source.path} has no person with a valid {source.kind} annotation "
            f"(counts: {info.counts}), so that kind = {source.kind!r} would wait for ever; "
            "leave the source out or use another kind that it has."
        )
    key = streams.source_key(seed, index)
    probabilities = config.probabilities(source)
    maker = examples.ExampleMaker(info, source.kind, config, skeleton, key, probabilities)

    def plan(numbers, person):
        example = maker(*person, numbers)
        return {**example, **companions.plan(*person, example, key, probabilities)}

    people = mixing.shuffle_people(source.path, info, source.kind, config, seed + 1009 * index)
    return streams.planned_batches(people, plan, source.count, config, seed=seed, index=index)


def _label_names(kind):
    return (*examples.CAMERA_LABELS, *examples.LABELS_OF_KIND[kind])


def _decoded(planned, config, batch_size, names, *, companions=None):
    """Decodes the windows of planned batches, several at a time, and batches again.

    Training, which has companions, drops what does not fill a batch.
    """

    def decode(example):
        window = cropping.decode_window(
            example["image_bytes"],
            example["decoder"],
            example["part"],
            example["part_size"],
            config.fast_dct,
            linear_light=config.linear_light,
        )
        added = companions.decode(example) if companions else {}
        return {"window": window, **{name: example[name] for name in names}, **added}

    shapes = {"window": [config.window_side, config.window_side, 3]}
    if companions:
        shapes |= companions.shapes
    windows = streams.decoded_examples(planned, decode, config)
    batches = streams.padded_batches(
        windows, batch_size, shapes, drop_remainder=companions is not None
    )
    return batches.map(_plain(companions.complete)) if companions else batches
