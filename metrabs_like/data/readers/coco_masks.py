"""COCO's segmentations, polygons or run-length codes, as masks.

Conventions: polygons are x, y, ... in px; run-length codes go down the columns and begin with the
background. What annotators do not write is refused before it is rasterized: far or endless outlines
take minutes and gigabytes, or end the process.
"""

import numpy as np

from metrabs_like.data import masks

MAX_POLYGONS = 1000
MAX_OUTLINE_SIDES = 200
"""Length of a person's outlines together, in longer sides of the picture (ours)."""

MAX_CODE_CHARS = 1 << 20
"""Of a compressed run-length code; those of people have some hundred (ours)."""

_MIN_COORDINATES = 6


def encoded_mask(segmentation, width: int, height: int):
    """Rasterizes a segmentation.

    Args:
      segmentation: polygons (lists or arrays of x, y, ... in px), or a run-length code
        `{counts, size}`, compressed or not; None is none.
      width: of the image, px.
      height: px.

    Returns:
      `(png, mask_box)` as of `masks.encode_mask`; `(None, None)` if there is no mask or it cannot
      be read (another size, no finite coordinates, polygons of less than three corners or farther
      away than the longer side of the picture).
    """
    try:
        if isinstance(segmentation, dict):
            mask = _from_runs(segmentation, width, height)
        else:
            mask = _from_polygons(segmentation, width, height)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError):
        mask = None
    return (None, None) if mask is None else masks.encode_mask(mask)


def plain_numbers(values) -> np.ndarray | None:
    """Returns a list of numbers, and of nothing else, as float64 `[n]`; None for other things."""
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return None


def _from_polygons(segmentation, width, height):
    """The union of some polygons; None if there are none or one of them is not sound."""
    polygons = [p if isinstance(p, np.ndarray) else plain_numbers(p) for p in segmentation or ()]
    if any(p is None for p in polygons):
        return None
    polygons = [p for p in polygons if len(p) >= _MIN_COORDINATES]
    side, n_steps = max(width, height), 0.0
    for polygon in polygons:
        if len(polygon) % 2 or not ((polygon >= -side) & (polygon <= 2 * side)).all():
            return None
        corners = polygon.reshape(-1, 2)
        n_steps += np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=-1).sum()
    if not polygons or len(polygons) > MAX_POLYGONS or n_steps > MAX_OUTLINE_SIDES * side:
        return None
    from pycocotools import mask as coco_mask  # here, because only these readers need it

    polygons = [polygon.astype(np.float64).tolist() for polygon in polygons]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))


def _from_runs(code, width, height):
    """A run-length code as a mask; None if it does not cover the picture exactly."""
    counts = code["counts"]
    if list(code["size"]) != [height, width]:
        return None
    if isinstance(counts, str):
        counts = _decompressed(counts)
    is_whole = isinstance(counts, list) and set(map(type, counts)) == {int}
    if not is_whole or min(counts) < 0 or sum(counts) != width * height:
        return None
    is_person = np.arange(len(counts)) % 2 == 1
    return np.repeat(is_person, counts).reshape(width, height).T


def _decompressed(text):
    """The counts of a compressed code: 5 bits a character, differences to the last but one."""
    if len(text) > MAX_CODE_CHARS:
        raise ValueError("too long")
    counts, value, shift = [], 0, 0
    for character in text.encode("ascii"):
        bits = character - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("no run-length code")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last group of a number, with its sign
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, shift = 0, 0
    if shift:
        raise ValueError("ends within a number")
    return counts
