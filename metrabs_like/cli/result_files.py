"""Files of a prediction: JSON with one line a vector, pictures; each appears only when complete.

Conventions: numbers with two decimals; what is not finite is null.
"""

import json
import math
import re
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from metrabs_like.cli import app


def rounded(values):
    """Returns nested lists of numbers with two decimals, None for what is not finite."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [rounded(value) for value in values]
    return round(float(values), 2) if math.isfinite(values) else None


def write(files: Mapping[str, bytes | Callable[[str], None]]) -> list[str]:
    """Writes files, each by way of a temporary one.

    Args:
      files: path -> content, or a function that writes to the path that it is given.

    Returns:
      The paths.

    Raises:
      OSError: if a file cannot be written.
    """
    for path, content in files.items():
        with app.replacing(path) as temporary:
            if callable(content):
                content(temporary)
                continue
            with open(temporary, "wb") as file:
                file.write(content)
    return list(files)


def json_bytes(content: dict) -> bytes:
    """Returns a JSON text whose innermost lists stand on one line.

    Raises:
      ValueError: for a number that is not finite.
    """
    text = json.dumps(content, indent=1, allow_nan=False)
    return re.sub(r"\[\s+([^\[\]]*?)\s+\]", _on_one_line, text).encode()


def png_bytes(image: np.ndarray) -> bytes:
    """Encodes an RGB picture, uint8 `[H, W, 3]`."""
    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))[1].tobytes()


def _on_one_line(match):
    """An innermost list without its line breaks."""
    return "[" + re.sub(r"\s*\n\s*", " ", match.group(1)) + "]"
