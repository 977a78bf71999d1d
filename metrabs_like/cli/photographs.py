"""Reading a photograph of whatever kind JPEG and PNG allow as plain RGB.

Conventions: uint8 `[H, W, 3]`, RGB, upright as image viewers show it.
"""

import os
import struct
import zlib

import numpy as np

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


def read(path: str, field: str = "image") -> np.ndarray:
    """Reads a photograph.

    JPEG: colour, grey or CMYK, turned as its EXIF orientation says. PNG: any colour type and depth;
    16 bits keep the upper 8, transparency is put on white.

    Args:
      path: the file.
      field: name of the flag for messages.

    Returns:
      uint8 `[H, W, 3]`, RGB.

    Raises:
      ValueError: if the file is missing, unreadable, neither JPEG nor PNG, damaged, cut short or
        larger than `data.image_files.MAX_PIXELS`.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"--{field}={path} cannot be read ({reason}): check the path") from error
    if content.startswith(_JPEG):
        decode = _decode_jpeg
    elif content.startswith(_PNG):
        decode = _decode_png
    else:
        start = content[:8].hex(" ") or "nothing"
        raise ValueError(
            f"--{field}={path} is neither JPEG nor PNG (it holds {len(content)} bytes and starts "
            f"with {start}): convert it to one of them"
        )
    return decode(content, f"--{field}={os.fspath(path)}")


def _decode_jpeg(content, name):
    """OpenCV turns the picture as EXIF says, TensorFlow notices what is missing."""
    import cv2
    import tensorflow as tf

    try:
        height, width = tf.io.extract_jpeg_shape(content).numpy()[:2]
        _check_size(int(width), int(height), name)
        tf.io.decode_jpeg(content, channels=3, ratio=8)
    except tf.errors.InvalidArgumentError as error:
        raise _damaged(name, "JPEG") from error
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise _damaged(name, "JPEG")
    return np.ascontiguousarray(image[..., ::-1])


def _decode_png(content, name):
    """The header's size is checked first: a small file can unpack to gigabytes."""
    import cv2

    _check_chunks(content, name)
    _check_size(*struct.unpack(">II", content[16:24]), name)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise _damaged(name, "PNG")
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 2:
        return np.repeat(image[..., np.newaxis], 3, axis=-1)
    colours = image[..., 2::-1]
    if image.shape[-1] == 3 or image[..., 3].min() == 255:
        return np.ascontiguousarray(colours)
    opacity = image[..., 3:].astype(np.float32) / 255
    return np.round(colours * opacity + 255 * (1 - opacity)).astype(np.uint8)


def _check_chunks(content, name):
    """Walks the file's chunks to the last one: decoders fill what is missing without a word."""
    start, kind = len(_PNG), b""
    while kind != b"IEND":
        length = int.from_bytes(content[start : start + 4], "big")
        kind = content[start + 4 : start + 8]
        end = start + 8 + length
        checksum = content[end : end + 4]
        if checksum != zlib.crc32(content[start + 4 : end]).to_bytes(4, "big"):
            raise _damaged(name, "PNG")
        start = end + 4


def _check_size(width, height, name):
    """Refuses what would fill the memory."""
    from metrabs_like.data.image_files import MAX_PIXELS

    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name} has {width} x {height} pixels, more than {MAX_PIXELS // 10**6} million: "
            "scale it down (the model looks at a few hundred pixels per person)"
        )


def _damaged(name, kind):
    """The error of a file that promises a picture and does not keep it."""
    return ValueError(f"{name} is a damaged or incomplete {kind}: copy or download it again")
