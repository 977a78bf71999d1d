"""The pipeline of whole images: prepared data sets in, windows, placements and all people out.

Conventions: people are in px of the image as it is stored, not mirrored; a *placement* (centre,
scale, turn, mirroring) says how the image is shown to the network, see `geometry.affine`. Native
tf.data only; content and order are a pure function of sources, config and seed, as in `pipeline`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from metrabs_like.data import cropping, image_placement, mixing, person_masks, records, streams
from metrabs_like.data.pipeline import damage_named
from metrabs_like.data.sources import SourceConfig, open_source, parse_sources
from metrabs_like.data.whole_image_config import WholeImageConfig
from metrabs_like.geometry import affine
from metrabs_like.skeletons import Skeleton, index_map

__all__ = ["KIND", "KINDS", "WholeImageConfig", "make_eval_dataset", "make_train_dataset"]

KIND = "kp2d"
"""Name of the sub-batch, whichever the kind of the sources."""
KINDS = ("kp2d", "kp3d")
_plain = tf.autograph.experimental.do_not_convert  # else tracing takes three times as long
_PLACEMENT = ("center", "scale", "angle_degrees", "is_mirrored")
_PEOPLE = ("boxes", "joints2d", "joint_validity", "person_validity")
_CROWDS = ("areas", "crowd_boxes", "crowd_validity")
_MAPS = ("window_from_input", "input_from_image")
_COPIED = (*_MAPS, "image_size", *_PLACEMENT, *_PEOPLE)
_COUNTED_TOGETHER = 256
_ANY_SIDE = 1 << 20  # no window is shrunk


def make_train_dataset(
    sources, config: WholeImageConfig, *, skeleton: Skeleton, seed
) -> tf.data.Dataset:
    """Builds the endless stream of randomly placed training images.

    Args:
      sources: `SourceConfig`s (or `KIND:FOLDER:COUNT` texts) of kind kp2d, or kp3d with 2D points;
        each batch holds each one's count of images, with people or without.
      config: settings.
      skeleton: the model's; decides which joints come out, in which order.
      seed: decides order and placement; an integer, or an int64 scalar tensor (`service`).

    Returns:
      Infinite data set of `{"kp2d": dict}`, with leading dimension B, the sum of the counts, and
      N = `config.max_objects` slots for people, in stored order, the empty ones False and zero:
      `window` uint8 `[B, W, W, 3]`, the part of the image that is needed, in the top-left corner;
      `window_from_input [B, 3, 3]`, with which `geometry.warping.warp_affine` makes the input;
      `input_from_image [B, 3, 3]`, affine, from the stored image, mirroring included; `image_size`
      int32 `[B, 2]` (height, width); the placement `center [B, 2]` px (after
      mirroring), `scale [B]` px, `angle_degrees [B]`, `is_mirrored [B]`; the people `boxes
      [B, N, 4]` px, `joints2d [B, N, J, 2]` px, `joint_validity [B, N, J]`, `person_validity
      [B, N]`, in the image as stored; `example_seed` int32 `[B, 2]`. With masks, M =
      `config.mask_side`: `masks` uint8 `[B, N, M, M]`, each stretched over its box `mask_boxes
      [B, N, 4]` px, and `mask_validity [B, N]`. Joints more than a pixel outside the image are
      invalid. Its iterator can be saved in a checkpoint.

    Raises:
      ValueError: naming the source, if it is missing, damaged, empty, of another kind or skeleton.
    """
    sources = parse_sources(sources)
    planned = [
        _planned_source(source, index, config, skeleton, seed)
        for index, source in enumerate(sources)
    ]
    decode = _decoder((*_COPIED, "example_seed"), config)
    examples = streams.decoded_examples(mixing.merge_sources(planned), decode, config)
    shapes = {"window": [config.window_side, config.window_side, 3]}
    n_images = sum(source.count for source in sources)
    batches = streams.padded_batches(examples, n_images, shapes, drop_remainder=True)
    return streams.prefetched(batches.map(_plain(lambda batch: {KIND: batch})), config)


def make_eval_dataset(
    source_path: str,
    kind: str,
    config: WholeImageConfig,
    *,
    skeleton: Skeleton,
    batch_size: int,
    scale: float = 1.0,
) -> tf.data.Dataset:
    """Builds the finite stream of all images of a data set, whole and upright.

    Args:
      source_path: folder of a prepared data set; all of it is read once at the start, to find the
        largest number of people.
      kind: kp2d, or kp3d with 2D points.
      config: settings; the random placement is ignored.
      skeleton: the model's.
      batch_size: images a batch; the last batch may be smaller.
      scale: above 0, how much larger the input is than that of training (its side is rounded to a
        multiple of 32) or, with `keep_resolution`, than the images.

    Returns:
      Data set of batches as of `make_train_dataset`, with `image_id` (string `[B]`) in place of
      `example_seed`, all people (N is the largest number of the set, at least 1), `areas [B, N]`
      px^2 (0 where unknown) and the regions of crowds `crowd_boxes [B, C, 4]` px and
      `crowd_validity [B, C]`. Inputs that are not of the size of training come with theirs:
      `input_size` int32 `[B, 2]` (height, width), the same for all of a batch.
      Each image comes once, in stored order. With `keep_resolution` the
      windows are whole images on a canvas of the input's size; images of one size of input make a
      batch, and batches come as they fill (in stored order for a `batch_size` of 1).

    Raises:
      ValueError: naming the source, if it is missing, damaged, or of another kind or skeleton.
    """
    if not scale > 0:
        raise ValueError(f"scale={scale}: inputs can be resized only by a factor above 0")
    is_resized = config.keep_resolution or scale != 1
    if scale != 1 and not config.keep_resolution:
        side = max(1, round(config.proc_side * scale / affine.INPUT_STRIDE)) * affine.INPUT_STRIDE
        config = dataclasses.replace(config, proc_side=side, window_side=0)
    source = SourceConfig(source_path, kind, batch_size)
    info = _opened(source, skeleton)
    n_people, n_crowds = _largest_numbers(source_path, info)
    parse = _people_parser(info, skeleton, n_people, config)

    def plan(batch):
        people = parse(batch)
        crowd_boxes, crowd_validity = records.parse_crowd_batch(batch, n_crowds)
        crowds = {"crowd_boxes": crowd_boxes, "crowd_validity": crowd_validity}
        return {**people, **crowds, **_fixed_maps(people, config, scale)}

    planned = mixing.read_images(source_path, info).batch(batch_size).map(_plain(plan))
    names = (*_COPIED, *_CROWDS, "image_id", *(["input_size"] if is_resized else []))
    decode = _decoder(names, config)
    examples = streams.decoded_examples(planned, decode, config)
    shapes = {"window": [config.window_side, config.window_side, 3]}
    if config.keep_resolution:
        batches = _batches_of_one_size(examples, batch_size, min(scale, 1))
    else:
        batches = streams.padded_batches(examples, batch_size, shapes, drop_remainder=False)
    return streams.prefetched(batches.map(_plain(lambda batch: {KIND: batch})), config)


def _opened(source, skeleton, **options):
    """Loads the description of a source that a detector can use."""
    if source.kind not in KINDS:
        raise ValueError(
            f"kind = {source.kind!r} of source {source.path}: whole images are read with one of "
            f"{', '.join(KINDS)}."
        )
    if source.probabilities:
        raise ValueError(
            f"source {source.path}: whole images have no changes of their own "
            f"({dict(source.probabilities)}); write {source.kind}:{source.path}:{source.count}."
        )
    info = open_source(source, skeleton, **options)
    if info.counts.get("n_people") and not info.counts.get("n_people_2d"):
        raise ValueError(
            f"source {source.path}: none of its people has a 2D joint (counts: {info.counts}); "
            "prepare data with 2D points."
        )
    return info


def _planned_source(source, index, config, skeleton, seed):
    """Streams plans of batches of one training source."""
    info = _opened(source, skeleton, skip_corrupt=config.skip_corrupt)
    if not info.counts.get("n_images"):
        raise ValueError(f"source {source.path} has no image, so that training would wait for ever")
    key = streams.source_key(seed, index)
    parse = _people_parser(info, skeleton, config.max_objects, config)

    def plan(numbers, batch):
        people = parse(batch)
        size = people["image_size"]
        placed = image_placement.draw_placement(key, numbers, size, config.placement)
        return {**people, **_maps(people, placed, config.proc_side, config)}

    images = mixing.shuffle_images(source.path, info, config, seed + 1009 * index)
    return streams.planned_batches(images, plan, source.count, config, seed=seed, index=index)


def _people_parser(info, skeleton, n_people, config):
    """Returns a function from records to images and people, in the model's joints."""
    joints = np.array(index_map(Skeleton.from_dict(info.skeleton), skeleton))
    available = np.maximum(joints, 0)

    def parse(batch):
        parsed = records.parse_image_batch(
            batch, info.n_points, n_people, with_masks=config.with_masks
        )
        points = tf.gather(parsed.pop("points2d"), available, axis=2)
        validity = tf.gather(parsed.pop("validity2d"), available, axis=2) & (joints >= 0)
        size = tf.cast(parsed["image_size"][:, tf.newaxis, tf.newaxis, ::-1], tf.float32)
        # Nobody marks joints outside a photograph; rendered people have such.
        validity &= tf.reduce_all((points >= -1.0) & (points <= size), axis=-1)
        parsed["joints2d"] = tf.where(validity[..., tf.newaxis], points, 0.0)
        parsed["joint_validity"] = validity
        return parsed

    return parse


def _fixed_maps(parsed, config, scale):
    """Returns the placement of whole images and the plans of their windows."""
    if not config.keep_resolution:
        placed = image_placement.fixed_placement(parsed["image_size"])
        return _maps(parsed, placed, config.proc_side, config)
    kept = affine.pre_process(parsed["image_size"], scale, fix_resolution=False)
    placed = image_placement.fixed_placement(parsed["image_size"])
    placed |= {"center": kept["center"] / scale, "scale": kept["scale"][:, 0] / scale}
    whole = dataclasses.replace(config, window_side=_ANY_SIDE)
    return _maps(parsed, placed, kept["input_size"], whole)


def _maps(parsed, placed, input_size, config):
    """Returns the placement, the maps between image, window and input, and the windows' plans."""
    size = parsed["image_size"]
    input_size = tf.broadcast_to(input_size, tf.shape(size))
    input_from_image = affine.affine_from_placement(
        placed["center"],
        placed["scale"],
        placed["angle_degrees"],
        input_size[:, ::-1],
        is_mirrored=placed["is_mirrored"],
        image_width=size[:, 1],
    )
    plan = cropping.plan_affine_windows(
        parsed["image_bytes"], size, input_from_image, input_size, config.window_side
    )
    window_from_image = plan.pop("window_from_image")
    window_from_input = tf.cast(window_from_image, tf.float64) @ tf.linalg.inv(input_from_image)
    return {
        **placed,
        **plan,
        "input_size": input_size,
        "window_from_input": tf.cast(window_from_input, tf.float32),
        "input_from_image": tf.cast(input_from_image, tf.float32),
    }


def _decoder(names, config):
    """Returns a function that decodes one planned example."""

    def decode(example):
        planned = [example[name] for name in ("image_bytes", "decoder", "part", "part_size")]
        decoded = {"window": cropping.decode_window(*planned, config.fast_dct)}
        if config.with_masks:
            masks = person_masks.decode_masks(example["masks"], config.mask_side)
            decoded |= {"masks": masks, "mask_boxes": example["mask_boxes"]}
            decoded["mask_validity"] = tf.strings.length(example["masks"]) > 0
        return {**decoded, **{name: example[name] for name in names}}

    return decode


def _batches_of_one_size(examples, batch_size, scale):
    """Batches images of equal size of input, on canvases that hold them before they are shrunk."""

    def put_on_canvas(example):
        canvas = tf.math.ceil(tf.cast(example["input_size"], tf.float32) / scale)
        height, width = tf.unstack(tf.cast(canvas, tf.int32))
        window = tf.image.pad_to_bounding_box(example["window"], 0, 0, height, width)
        return {**example, "window": window}

    def size_key(example):
        height, width = tf.unstack(tf.cast(example["input_size"], tf.int64))
        return height * (1 << 32) + width

    return examples.map(_plain(put_on_canvas)).group_by_window(
        _plain(size_key), _plain(lambda key, group: group.batch(batch_size)), batch_size
    )


def _largest_numbers(source_path, info):
    """Returns the largest numbers of people and of regions of crowds in an image, at least 1."""
    counts = mixing.read_images(source_path, info).batch(_COUNTED_TOGETHER)
    counts = counts.map(_plain(records.count_in_images))
    with damage_named([source_path]):
        largest = counts.reduce(
            tf.ones([2], tf.int32),
            _plain(lambda a, b: tf.maximum(a, tf.reduce_max(b, axis=0))),
        )
    return (int(n) for n in largest)
