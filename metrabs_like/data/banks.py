"""Banks of pictures for the augmentation: backgrounds without people, and objects to paste.

Conventions: uint8, RGB or RGBA, square; alpha 0 is transparent. A folder is a prepared data set if
it holds a `dataset.json`; otherwise all JPEG and PNG files in it and below are taken. The choice
is a pure function of the folder and the seed.
"""

import os
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow as tf

from metrabs_like.data import masks, records
from metrabs_like.data.dataset_info import FILE_NAME, DatasetInfo
from metrabs_like.data.image_files import UnusableImage, read_image
from metrabs_like.data.synthetic.background import sample_background
from metrabs_like.data.synthetic.camera import N_DISTORTION, Camera
from metrabs_like.data.synthetic.objects import sample_object

_EXTENSIONS = (".jpg", ".jpeg", ".png")
_MIN_OBJECT_PX = 24  # shorter side of an object cut from a picture (ours)
_MIN_OPAQUE = 0.1  # share of an object's rectangle that must be opaque (ours)
_CYCLE_LENGTH = 16  # shards read in turn
_POOL_SIZE = 64  # encoded pictures that are shuffled


def load_backgrounds(folder: str, side: int, limit: int, seed: int) -> np.ndarray:
    """Reads pictures to put behind people, a random square part of each.

    Args:
      folder: a prepared data set, of which the images without any person are taken, or a folder of
        pictures, which must show nobody.
      side: px.
      limit: pictures at most.
      seed: decides which pictures and parts.

    Returns:
      uint8 `[N, side, side, 3]`, 1 <= N <= limit.

    Raises:
      ValueError: if the folder is missing or has no such picture.
    """
    rng = np.random.default_rng(seed)
    _check(folder, limit)
    if _is_prepared(folder):
        pictures = (_decoded(r["image_bytes"]) for r in _shuffled_records(folder, rng, "empty"))
        remedy = "prepare it with images without people, or name a folder of pictures instead"
    else:
        pictures = (_decoded(content) for content in _shuffled_files(folder, rng))
        remedy = f"put pictures ({', '.join(_EXTENSIONS)}) into it, or leave it out"
    bank = []
    for picture in pictures:
        bank.append(_square_part(rng, picture, side))
        if len(bank) == limit:
            break
    if not bank:
        raise ValueError(f"{folder} holds no picture without people to use as background; {remedy}")
    return np.stack(bank)


def load_objects(folder: str, side: int, limit: int, seed: int) -> np.ndarray:
    """Reads things to paste in front of people, cut out, the longer side filling the square.

    Args:
      folder: a prepared data set, of which everything with a mask is cut out, or a folder of PNGs
        with an alpha channel.
      side: px.
      limit: objects at most.
      seed: decides which.

    Returns:
      uint8 `[N, side, side, 4]`, RGBA, 1 <= N <= limit; transparent around the object.

    Raises:
      ValueError: if the folder is missing or has no such object.
    """
    rng = np.random.default_rng(seed)
    _check(folder, limit)
    if _is_prepared(folder):
        cut = (o for r in _shuffled_records(folder, rng, "masked") for o in _cut_out(r))
        remedy = "prepare a data set that has masks, or name a folder of PNGs with alpha"
    else:
        cut = (_with_alpha(content) for content in _shuffled_files(folder, rng))
        remedy = "put PNGs with transparent surroundings into it, or leave it out"
    bank = []
    for cutout in cut:
        tight = _tight(cutout)
        if tight is not None:
            bank.append(_padded(tight, side))
        if len(bank) == limit:
            break
    if not bank:
        raise ValueError(f"{folder} holds no object that can be cut out; {remedy}")
    return np.stack(bank)


def procedural_backgrounds(n: int, side: int, seed: int) -> np.ndarray:
    """Draws rooms, landscapes and textures, as behind the synthetic people.

    Returns:
      uint8 `[n, side, side, 3]`.
    """
    rng = np.random.default_rng([seed, 1])
    bank = [sample_background(rng, _sample_camera(rng, side), side, 4.0) for _ in range(n)]
    bank = np.reshape(np.array(bank, np.float32), (n, side, side, 3))
    return np.uint8(np.clip(np.rint(bank), 0, 255))


def procedural_objects(n: int, side: int, seed: int) -> np.ndarray:
    """Draws boxes, balls, bottles and blobs with simple shading and texture.

    Returns:
      uint8 `[n, side, side, 4]`, RGBA.
    """
    rng = np.random.default_rng([seed, 2])
    return np.reshape([sample_object(rng, side) for _ in range(n)], (n, side, side, 4)).astype(
        np.uint8
    )


def _sample_camera(rng, side):
    """A level camera at about eye height that looks up or down a little."""
    focal = side * rng.uniform(0.8, 1.6)
    intrinsics = np.array([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    cos, sin = np.cos(pitch := rng.normal(0.0, 0.15)), np.sin(pitch)
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    extrinsics[:3, 3] = extrinsics[:3, :3] @ [0, rng.uniform(1.0, 2.2), 0]
    return Camera(intrinsics, np.zeros(N_DISTORTION), extrinsics)


def _check(folder, limit):
    if not os.path.isdir(folder):
        raise ValueError(f"{folder} is no folder; name one of pictures or a prepared data set.")
    if limit < 1:
        raise ValueError(f"limit = {limit} pictures must be at least 1.")


def _is_prepared(folder):
    return os.path.exists(os.path.join(folder, FILE_NAME))


def _shuffled_records(folder, rng, which) -> Iterator[dict]:
    """Yields the parsed records without people ("empty") or with masks ("masked"), shuffled."""
    info = DatasetInfo.load(folder)
    info.check_files(folder)
    paths = info.shard_paths(folder)
    if not paths:
        return

    # Conversion by AutoGraph would take seconds and change nothing.
    @tf.autograph.experimental.do_not_convert
    def parse(record):
        return records.parse_record(record, info.n_points)

    @tf.autograph.experimental.do_not_convert
    def is_wanted(record):
        if which == "masked":
            return tf.size(record["masks"]) > 0
        return tf.equal(tf.shape(record["boxes"])[0], 0)

    with tf.device("/cpu:0"):
        files = tf.data.Dataset.from_tensor_slices([paths[i] for i in rng.permutation(len(paths))])
        serialized = files.interleave(tf.data.TFRecordDataset, min(_CYCLE_LENGTH, len(paths)))
        wanted = serialized.map(parse).filter(is_wanted)
        yield from _shuffled(wanted.as_numpy_iterator(), rng)


def _shuffled(items, rng):
    """Shuffles a stream by a small pool (tf.data's own would depend on the global seed)."""
    pool = []
    for item in items:
        pool.append(item)
        if len(pool) > _POOL_SIZE:
            yield pool.pop(int(rng.integers(len(pool))))
    yield from (pool[i] for i in rng.permutation(len(pool)))


def _shuffled_files(folder, rng) -> Iterator[bytes]:
    """Yields the usable picture files in random order, and warns of the others."""
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(_EXTENSIONS)
    )
    for index in rng.permutation(len(paths)):
        try:
            yield read_image(paths[index])[0]
        except UnusableImage as error:
            warnings.warn(f"{paths[index]} {error}; it is left out", stacklevel=3)


def _decoded(content, channels=3):
    with tf.device("/cpu:0"):
        return tf.io.decode_image(content, channels, expand_animations=False).numpy()


def _with_alpha(content):
    """Decodes a picture with its alpha channel; opaque where it has none."""
    if content[:2] == b"\xff\xd8":  # JPEG
        return np.pad(_decoded(content), [(0, 0), (0, 0), (0, 1)], constant_values=255)
    return _decoded(content, 4)


def _square_part(rng, picture, side):
    """Cuts a random square out of a picture, as large as it can be, and resizes it."""
    short = min(picture.shape[:2])
    top, left = (int(rng.integers(n - short + 1)) for n in picture.shape[:2])
    return _resized(picture[top : top + short, left : left + short], side, side)


def _resized(picture, width, height):
    is_shrunk = width < picture.shape[1]
    mode = cv2.INTER_AREA if is_shrunk else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=mode)


def _cut_out(record):
    """Yields everything of a parsed record that has a mask, RGBA."""
    picture = _decoded(record["image_bytes"])
    height, width = picture.shape[:2]
    for png, box in zip(record["masks"], record["mask_boxes"], strict=True):
        if png:
            alpha = masks.decode_mask(png, box, width, height)
            yield np.concatenate([picture, alpha[..., np.newaxis]], axis=-1)


def _tight(cutout):
    """Cuts an RGBA picture to its opaque part; None if that is tiny or fills the rectangle."""
    alpha = cutout[..., 3]
    if alpha.min() > 127:
        return None
    x, y, width, height = cv2.boundingRect(np.uint8(alpha > 0))
    part = cutout[y : y + height, x : x + width]
    if min(width, height) < _MIN_OBJECT_PX or np.mean(part[..., 3] > 127) < _MIN_OPAQUE:
        return None
    return part


def _padded(cutout, side):
    """Resizes an RGBA picture so that its longer side fits, in the middle of the square."""
    scale = side / max(cutout.shape[:2])
    height, width = (max(1, round(n * scale)) for n in cutout.shape[:2])
    small = _resized(cutout, width, height)
    canvas = np.zeros((side, side, 4), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = small
    return canvas
