"""Pictures in a form that training decodes fast: PNG becomes JPEG.

Conventions: as `image_files`. Pixels are RGB.
"""

import cv2
import numpy as np
import tensorflow as tf

from metrabs_like.data import image_files

JPEG_QUALITY = 95
"""Of re-encoded pictures: hardly visible, and a window of a 4K JPEG decodes in a fraction of the
time that the whole PNG takes (ours)."""


def read_pixels(path: str) -> tuple[np.ndarray, image_files.ImageHeader]:
    """Reads and decodes a whole picture.

    Args:
      path: of a JPEG or PNG.

    Returns:
      uint8 `[H, W, 3]` and the header of the file.

    Raises:
      image_files.UnusableImage: if it is missing, of another format, truncated, corrupt, too
        large, no regular file, or turned by an EXIF tag.
    """
    content = image_files.read_content(path)
    header = image_files.parse_header(content)
    if header.width * header.height > image_files.MAX_PIXELS or header.orientation != 1:
        raise image_files.UnusableImage(
            f"has {header.width} x {header.height} px and the EXIF orientation "
            f"{header.orientation}; store fewer than {image_files.MAX_PIXELS} px upright"
        )
    decode = tf.io.decode_jpeg if header.format == "jpeg" else tf.io.decode_png
    try:
        with tf.device("/cpu:0"):
            return decode(content, channels=3).numpy(), header
    except tf.errors.InvalidArgumentError:
        raise image_files.UnusableImage("is truncated or corrupt; copy it again") from None


def read_as_jpeg(path: str, quality: int = JPEG_QUALITY) -> tuple[bytes, image_files.ImageHeader]:
    """Reads a picture; a `.jpg` keeps its bytes, others are re-encoded.

    Args:
      path: of a JPEG or PNG.
      quality: of the new JPEG, 1 to 100.

    Returns:
      The JPEG's bytes and header.

    Raises:
      image_files.UnusableImage: as `read_pixels`.
    """
    if path.lower().endswith((".jpg", ".jpeg")):
        return image_files.read_image(path)
    pixels, header = read_pixels(path)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    content = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)[1].tobytes()
    return content, header._replace(format="jpeg")
