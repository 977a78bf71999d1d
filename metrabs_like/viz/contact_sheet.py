"""Many crops in one picture, with the points that a model is to learn.

Conventions: RGB uint8; pixel (0, 0) is the centre of the top-left pixel of its crop.
"""

import math
import textwrap

import cv2
import numpy as np

from metrabs_like.viz import overlay

_MIN_CELL = 160  # smaller crops are enlarged, px
_GAP = 4
_FONT, _FONT_SCALE, _LINE_HEIGHT, _LETTER_WIDTH = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 18, 8.5
_SHEET_COLOR = (32, 32, 32)
_TEXT_COLOR = (235, 235, 235)


def draw_contact_sheet(images, points2d, validity, caption, *, edges=(), sides=None):
    """Draws crops side by side with their valid points, under a caption.

    Args:
      images: `[N, S, S, 3]`, uint8, or float in 0..1; N may be 0.
      points2d: `[N, P, 2]`, px of the crop; points outside are cut off.
      validity: bool `[N, P]`; invalid points, NaN or not, are left out.
      caption: text; wrapped where it is wider than the sheet.
      edges: pairs of point indices, for joints; without them there are only dots.
      sides: "left", "right" or "middle" per point, for the colours, or None.

    Returns:
      uint8 `[H, W, 3]`. Crops below 160 px are enlarged by a whole factor.

    Raises:
      ValueError: if the shapes disagree.
    """
    images, points2d = np.asarray(images), np.asarray(points2d, np.float64)
    validity = np.asarray(validity, bool)
    if images.ndim != 4 or points2d.shape != (*validity.shape, 2) or len(images) != len(points2d):
        raise ValueError(
            f"images {list(images.shape)}, points2d {list(points2d.shape)} and validity "
            f"{list(validity.shape)} must be [N, S, S, 3], [N, P, 2] and [N, P]."
        )
    factor = enlargement(images.shape[1])
    cells = [
        _cell(image, points, is_valid, factor, edges, sides)
        for image, points, is_valid in zip(images, points2d, validity, strict=True)
    ]
    return tile_pictures(cells, caption, side=factor * images.shape[1])


def enlargement(side):
    """Returns the whole factor by which pictures of a side, px, are enlarged to be seen well."""
    return max(1, math.ceil(_MIN_CELL / max(side, 1)))


def tile_pictures(pictures, caption, *, side=_MIN_CELL):
    """Puts square pictures of one size side by side, under a caption.

    Args:
      pictures: sequence of uint8 `[S, S, 3]`; may be empty.
      caption: text; wrapped where it is wider than the sheet.
      side: px, of the pictures where there are none.

    Returns:
      uint8 `[H, W, 3]`.
    """
    grid = _grid(pictures, len(pictures[0]) if len(pictures) else side)
    return np.concatenate([_caption_strip(caption, grid.shape[1]), grid])


def squared(picture, side):
    """Shrinks or enlarges a picture until it just fits into a square.

    Args:
      picture: uint8 `[H, W, 3]`, not empty.
      side: of the square, px.

    Returns:
      uint8 `[side, side, 3]`, the picture in its middle.
    """
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    size = [max(1, round(factor * length)) for length in (width, height)]
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    picture = cv2.resize(picture, size, interpolation=method)
    square = np.full((side, side, 3), _SHEET_COLOR, np.uint8)
    left, top = ((side - length) // 2 for length in size)
    square[top : top + size[1], left : left + size[0]] = picture
    return square


def _cell(image, points, is_valid, factor, edges, sides):
    """Draws one crop, enlarged."""
    image = overlay.to_uint8(image)
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    points = np.where(is_valid[:, np.newaxis], points, np.nan)
    points = (points + 0.5) * factor - 0.5
    return overlay.draw_poses(image, points[np.newaxis], edges, sides=sides)


def _grid(cells, side):
    """Puts cells into a grid with about a third more columns than rows."""
    n_columns = max(1, math.ceil(math.sqrt(len(cells) * 4 / 3)))
    n_rows = math.ceil(len(cells) / n_columns)
    pitch = side + _GAP
    sheet = np.full((n_rows * pitch + _GAP, n_columns * pitch + _GAP, 3), _SHEET_COLOR, np.uint8)
    for i, cell in enumerate(cells):
        top, left = (_GAP + index * pitch for index in divmod(i, n_columns))
        sheet[top : top + side, left : left + side] = cell
    return sheet


def _caption_strip(caption, width):
    """Writes the caption, as many lines as it needs."""
    n_letters = max(8, int((width - 2 * _GAP) / _LETTER_WIDTH))
    lines = textwrap.wrap(caption, n_letters) or [""]
    strip = np.full((len(lines) * _LINE_HEIGHT + _GAP, width, 3), _SHEET_COLOR, np.uint8)
    for i, line in enumerate(lines):
        origin = (_GAP, (i + 1) * _LINE_HEIGHT - _GAP)
        cv2.putText(strip, line, origin, _FONT, _FONT_SCALE, _TEXT_COLOR, 1, cv2.LINE_AA)
    return strip
