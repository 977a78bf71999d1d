"""Frames of video files, read in order through OpenCV.

Conventions: frames are counted from 0; pictures are uint8 BGR `[H, W, 3]`, as OpenCV writes them.
Only AVI files are opened: other formats that FFmpeg knows are lists which name further files, also
outside of the source folder.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from metrabs_like.data.image_files import MAX_PIXELS, UnusableImage

# Not all of OpenCV's: one of them reads series of pictures where a name has a pattern like %02d.
_BACKENDS = (cv2.CAP_FFMPEG, cv2.CAP_OPENCV_MJPEG)


class VideoHeader(NamedTuple):
    """What a video file says about itself.

    Attributes:
      n_frames: as its index says; reading may end earlier.
      width: px.
      height: px.
    """

    n_frames: int
    width: int
    height: int


def read_header(path: str) -> VideoHeader:
    """Reads size and length of a video.

    Raises:
      UnusableImage: if there is no video, or it cannot be opened, is empty or too large.
    """
    video = _opened(path)
    try:
        properties = cv2.CAP_PROP_FRAME_COUNT, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
        header = VideoHeader(*(int(video.get(p)) for p in properties))
    finally:
        video.release()
    if min(header) < 1 or header.width * header.height > MAX_PIXELS:
        raise UnusableImage(f"has {header} in its header (empty or damaged); copy it again")
    return header


def read_frames(path: str, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray | None]]:
    """Reads some frames in one pass, without seeking (seeks are inexact in many formats).

    Args:
      path: of the video.
      wanted: numbers of frames, rising.

    Yields:
      `(number, picture)` for each wanted frame; the picture is None where the video has ended or
      is damaged. A read that fails counts as one frame, so that later ones keep their numbers.

    Raises:
      UnusableImage: if the video cannot be opened.
    """
    video = _opened(path)
    try:
        position = 0
        for number in wanted:
            for _ in range(number - position):
                video.grab()
            is_read, picture = video.read()
            position = number + 1
            yield number, picture if is_read else None
    finally:
        video.release()


def _opened(path):
    if not os.path.isfile(path):
        raise UnusableImage("is missing; copy it again")
    with open(path, "rb") as file:
        start = file.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"AVI ":
        raise UnusableImage(
            "cannot be opened as a video: it does not begin as an AVI file does; copy it again"
        )
    for backend in _BACKENDS:
        video = cv2.VideoCapture(path, backend)
        if video.isOpened():
            return video
    raise UnusableImage("cannot be opened as a video (damaged?); copy it again")
