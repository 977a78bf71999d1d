"""AGORA's masks: whole silhouettes of each person, cut to what is visible of them.

Conventions: `..._00001.png` is the silhouette of the first person as if nobody stood in front;
`..._00000.png` shows everybody, each in a colour of their own, pure red where nobody is. Which
colour belongs to whom follows from the overlap with the silhouettes, so that no palette is needed.
Masks are read at a third of the large release's pixels.
"""

import glob
import os

import numpy as np
from scipy import optimize

from metrabs_like.data import image_files, masks, reencoding

_TOLERANCE = 10  # per channel (PosePile)
_MAX_COLOURS = 256
_READ_WIDTH = 1280
_RED = np.array([255, 0, 0])


def mask_folders(source_dir: str, split: str) -> list[str]:
    """Finds the folders with the scenes' masks: `<split>_masks*/<split>`, relative ones."""
    pattern = os.path.join(glob.escape(source_dir), f"{split}_masks*", split)
    return [os.path.relpath(path, source_dir) for path in sorted(glob.glob(pattern))]


def mask_name(name: str, number: int) -> str:
    """Names a mask file, below the folder of `mask_folders`.

    Args:
      name: of the picture, without extension and size.
      number: 0 for everybody, i + 1 for person i.

    Returns:
      `<scene>/<name>_mask[_camNN]_<picture>_<person>.png`.
    """
    *parts, picture = name.split("_")
    scene = "_".join(parts[:5])
    is_numbered = "archviz" in name and parts[-1].startswith("cam")
    camera = [parts.pop()] if is_numbered else []
    stem = "_".join([*parts, "mask", *camera])
    return f"{scene}/{stem}_{int(picture):06d}_{number:05d}.png"


def read_visible_masks(source_dir: str, folders, name: str, n_people: int, width: int) -> list:
    """Reads the masks of a picture.

    Args:
      source_dir: AGORA's folder.
      folders: of `mask_folders`.
      name: of the picture, without extension and size.
      n_people: of the picture, all of them.
      width: px, of the picture that is stored.

    Returns:
      For each person `(png, mask_box)` as of `masks.encode_mask`, in pixels of the stored picture;
      `(None, None)` where there is no file or nothing is visible.

    Raises:
      image_files.UnusableImage: if a mask is damaged.
    """
    pictures = [_read(source_dir, folders, mask_name(name, i)) for i in range(n_people + 1)]
    everybody, *each = pictures
    silhouettes = [None if picture is None else _silhouette(picture) for picture in each]
    if everybody is not None:
        silhouettes = _visible(silhouettes, everybody)
    return [(None, None) if s is None else _encoded(s, width) for s in silhouettes]


def _read(source_dir, folders, relative):
    """Reads one mask, RGB, thinned to about `_READ_WIDTH`; None where it is missing."""
    for folder in folders:
        path = image_files.confined_path(source_dir, os.path.join(folder, relative))
        if os.path.isfile(path):
            try:
                picture = reencoding.read_pixels(path)[0]
            except image_files.UnusableImage as reason:
                raise image_files.UnusableImage(
                    f"has the mask {relative}, which {reason}"
                ) from None
            step = max(1, round(picture.shape[1] / _READ_WIDTH))
            return picture[step // 2 :: step, step // 2 :: step]
    return None


def _near_red(picture):
    difference = np.abs(picture.astype(np.int16) - _RED)
    return np.all(difference <= _TOLERANCE, axis=-1)


def _silhouette(picture):
    """Where the person is: not red where red is the background, else what is bright."""
    is_red = _near_red(picture)
    return ~is_red if is_red.any() else picture.max(axis=-1) > 127


def _visible(silhouettes, everybody):
    """Gives each person the colour whose region overlaps best with their silhouette."""
    labels, n_colours = _colour_regions(everybody)
    known = [i for i, s in enumerate(silhouettes) if s is not None and s.shape == labels.shape]
    if not known or not n_colours:
        return silhouettes
    areas = np.bincount(labels.ravel(), minlength=n_colours + 1)[1:]
    overlap = np.zeros((len(known), n_colours))
    for row, i in enumerate(known):
        common = np.bincount(labels[silhouettes[i]], minlength=n_colours + 1)[1:]
        union = areas + np.count_nonzero(silhouettes[i]) - common
        overlap[row] = common / np.maximum(union, 1)
    visible = list(silhouettes)
    for i in known:
        visible[i] = np.zeros_like(silhouettes[i])
    for row, colour in zip(*optimize.linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[row, colour] > 0:
            i = known[row]
            visible[i] = (labels == colour + 1) & silhouettes[i]
    return visible


def _colour_regions(picture):
    """Numbers the colours of a picture from 1; 0 is red. The most frequent come first."""
    picture = picture.astype(np.int32)
    packed = (picture[..., 0] << 16) | (picture[..., 1] << 8) | picture[..., 2]
    values, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([values >> 16, values >> 8 & 255, values & 255], axis=-1)
    number = np.where(np.all(np.abs(colours - _RED) <= _TOLERANCE, axis=-1), 0, -1)
    n_colours = 0
    while n_colours < _MAX_COLOURS and (number < 0).any():
        most = np.argmax(np.where(number < 0, counts, 0))
        is_near = np.all(np.abs(colours - colours[most]) <= _TOLERANCE, axis=-1)
        n_colours += 1
        number[is_near & (number < 0)] = n_colours
    return np.maximum(number, 0)[inverse].reshape(packed.shape), n_colours


def _encoded(mask, width):
    """Encodes a thinned mask; its box in pixels of the stored picture."""
    png, box = masks.encode_mask(mask)
    if png is None:
        return None, None
    scale = width / mask.shape[1]
    x, y, box_width, box_height = ((box + [0.5, 0.5, 0, 0]) * scale).tolist()
    return png, np.array([x - 0.5, y - 0.5, box_width, box_height], np.float32)
