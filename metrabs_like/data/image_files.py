"""Safe reading of image files for preparation: confined paths, checked headers, proven decoding.

Conventions: an image that cannot be used is reported as text (what is wrong, what to do), so that
preparation can count it and go on.
"""

import os
import struct
from typing import NamedTuple

import tensorflow as tf

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused before they are decoded (decompression bombs; ours)."""

MAX_FILE_BYTES = 512 << 20
"""Of an image file; more than 100 megapixels take without any compression (ours)."""

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_NO_PAYLOAD = frozenset(range(0xD0, 0xD8)) | {0x01}
_START_OF_SCAN = 0xDA
_APP1 = 0xE1
_ORIENTATION_TAG = 0x0112


class ImageHeader(NamedTuple):
    """What the first bytes of an image file tell.

    Attributes:
      format: "jpeg" or "png".
      width: px, as stored.
      height: px, as stored.
      orientation: EXIF orientation, 1 (upright) to 8.
    """

    format: str
    width: int
    height: int
    orientation: int = 1


class UnusableImage(Exception):
    """Says why an image cannot be used, and what to do about it."""


def confined_path(root: str, relative: str) -> str:
    """Joins a path from an annotation file to the source folder and keeps it inside.

    Args:
      root: the source folder.
      relative: path inside it.

    Returns:
      The absolute path, links resolved.

    Raises:
      ValueError: if the path is absolute, leaves the folder (also through a link) or holds a NUL.
    """
    if "\0" in relative:
        raise ValueError(f"The path {relative!r} holds a NUL, which no file name may.")
    real_root = os.path.realpath(root)
    path = os.path.realpath(os.path.join(real_root, relative))
    if os.path.isabs(relative) or os.path.commonpath([real_root, path]) != real_root:
        raise ValueError(
            f"The path {relative!r} leaves the source folder {root}; "
            "put the files inside it and write paths relative to it."
        )
    return path


def read_image(path: str) -> tuple[bytes, ImageHeader]:
    """Reads an image file and proves that the pipeline can decode all of it.

    Args:
      path: of a JPEG or PNG: colour, grey, CMYK or with alpha; they decode to RGB.

    Returns:
      The file's bytes and its header.

    Raises:
      UnusableImage: with reason and remedy, if it is missing, of another format, truncated,
        corrupt, too large, no regular file, or turned by an EXIF tag (pixel coordinates would be
        ambiguous).
    """
    content = read_content(path)
    header = parse_header(content)
    if header.width * header.height > MAX_PIXELS:
        raise UnusableImage(
            f"has {header.width} x {header.height} px, more than {MAX_PIXELS} in all; shrink it "
            "together with its annotation"
        )
    if header.orientation != 1:
        raise UnusableImage(
            f"is turned by its EXIF orientation {header.orientation}; store the pixels upright "
            "without the tag, and annotate those"
        )
    decode = tf.io.decode_jpeg if header.format == "jpeg" else tf.io.decode_png
    try:
        with tf.device("/cpu:0"):
            decode(content, channels=3)
    except tf.errors.InvalidArgumentError:
        raise UnusableImage("is truncated or corrupt; copy it again") from None
    return content, header


def read_content(path: str) -> bytes:
    """Reads a regular file of bounded size; a pipe, which may never end, is not opened.

    Raises:
      UnusableImage: if it is missing, too large, or a folder, pipe or device.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise UnusableImage("cannot be read (it is no regular file); put the picture in its place")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnusableImage(f"cannot be read ({error.strerror})") from None
    if len(content) > MAX_FILE_BYTES:
        raise UnusableImage(f"has more than {MAX_FILE_BYTES} bytes; compress it")
    return content


def parse_header(content: bytes) -> ImageHeader:
    """Reads format, size and orientation without decoding.

    Raises:
      UnusableImage: if the bytes are no JPEG or PNG.
    """
    try:
        if content[:2] == b"\xff\xd8":
            return _parse_jpeg(content)
        if content[:8] == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", content[16:24])
            return ImageHeader("png", width, height)
    except (struct.error, IndexError):
        raise UnusableImage("ends within its header (truncated); copy it again") from None
    raise UnusableImage("is neither JPEG nor PNG; convert it to one of them")


def _parse_jpeg(content):
    """Walks the segments of a JPEG up to its frame header."""
    position, orientation = 2, 1
    size = None
    while True:
        if content[position] != 0xFF:
            raise UnusableImage("has a damaged JPEG header; copy it again")
        marker = content[position + 1]
        if marker == 0xFF or marker in _NO_PAYLOAD:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _START_OF_SCAN:
            break
        (length,) = struct.unpack(">H", content[position + 2 : position + 4])
        payload = content[position + 4 : position + 2 + length]
        if marker in _START_OF_FRAME:
            size = struct.unpack(">HH", payload[1:5])
        elif marker == _APP1 and payload[:6] == b"Exif\0\0":
            orientation = _exif_orientation(payload[6:])
        position += 2 + length
    if size is None:
        raise UnusableImage("has no JPEG frame header; copy it again")
    return ImageHeader("jpeg", size[1], size[0], orientation)


def _exif_orientation(tiff):
    """Finds the orientation among the tags of the first directory; 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack(order + "I", tiff[4:8])
        (n_tags,) = struct.unpack(order + "H", tiff[start : start + 2])
        for i in range(n_tags):
            entry = tiff[start + 2 + 12 * i : start + 14 + 12 * i]
            tag, _, _, value = struct.unpack(order + "HHIH2x", entry)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
