"""Masks of people: cut to what they cover and shrunk, so that training reads few bytes.

Conventions: uint8 0..255; boxes are (x, y, width, height) in px of the image. Pixel (0,0) is the
centre of the top-left pixel, so that the whole image is (-0.5, -0.5, width, height).
"""

import struct

import cv2
import numpy as np

MAX_SIDE = 256
"""Longer side of a stored mask, px: finer than the crops that training makes (ours)."""


def encode_mask(mask, box=None, max_side: int = MAX_SIDE):
    """Cuts a mask to its content and encodes it.

    Args:
      mask: bool or uint8 `[H, W]`, of the whole image; what is not 0 belongs to the person.
      box: integers (x, y, width, height), px: pixels to keep; None takes the smallest that hold
        the content.
      max_side: px, the longer side of the stored mask.

    Returns:
      `(png, mask_box)` for `people.Person`: PNG bytes and float32 `[4]`; `(None, None)` if the
      part is empty.

    Raises:
      ValueError: if the mask is not two-dimensional, or the box leaves the image.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}; pass one channel [height, width].")
    mask = np.where(mask, np.uint8(255), np.uint8(0))
    x, y, width, height = cv2.boundingRect(mask) if box is None else (int(v) for v in box)
    if x < 0 or y < 0 or x + width > mask.shape[1] or y + height > mask.shape[0]:
        raise ValueError(f"box = {box} leaves the mask of {mask.shape[1]} x {mask.shape[0]} px.")
    part = mask[y : y + height, x : x + width]
    if not part.any():
        return None, None
    scale = min(1.0, max_side / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # A pixel that is half covered stays grey: the edge keeps its place.
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".png", small)[1].tobytes()
    return encoded, np.array([x - 0.5, y - 0.5, width, height], np.float32)


def png_size(png: bytes) -> tuple[int, int]:
    """Returns (width, height) of a PNG from its header, (0, 0) of anything else."""
    is_png = png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) >= 24
    return struct.unpack(">II", png[16:24]) if is_png else (0, 0)


def decode_mask(png: bytes, mask_box, width: int, height: int):
    """Draws a stored mask into the whole image: the inverse of `encode_mask`, up to its shrinking.

    Args:
      png: PNG bytes.
      mask_box: float `[4]`, px.
      width: of the image, px.
      height: of the image, px.

    Returns:
      uint8 `[height, width]`, 0..255.
    """
    small = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    x, y, box_width, box_height = (float(v) for v in mask_box)
    scale_x, scale_y = small.shape[1] / box_width, small.shape[0] / box_height
    # From a pixel of the image to one of the mask.
    matrix = np.array(
        [[scale_x, 0, -x * scale_x - 0.5], [0, scale_y, -y * scale_y - 0.5]], np.float64
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, matrix, (width, height), flags=flags)
