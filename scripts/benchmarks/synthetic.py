"""Synthetic images per second and core, JPEG encoding included.

Conventions: one process, one thread. CPU time counts, because other programs on the machine do not
change it much; wall time stands beside it.
"""

import time

import cv2
import numpy as np

from metrabs_like.data.records import encode_record
from metrabs_like.data.synthetic import SyntheticConfig, generate_image

_N_BLOCKS = 5
_TARGET = ">= 250 (one person, 128 px)"
_CASES = (
    ("1 person, 128 px", 80, {}, _TARGET),
    ("1 person, 128 px, with mask", 40, {"with_masks": True}, ""),
    ("1 to 4 people, 128 px", 40, {"max_people": 4}, ""),
    ("1 person, 256 px", 30, {"image_side": 256}, ""),
)


def rows(device):
    """Measures the generator of synthetic people.

    Args:
      device: "cpu" or "gpu"; the generator runs on the CPU in any case.

    Yields:
      Rows with `name`, `value`, `unit`, `target`.
    """
    del device
    cv2.setNumThreads(1)
    for name, n_images, fields, target in _CASES:
        config = SyntheticConfig(n_images=10**6, seed=7, **fields)
        cpu, wall = _images_per_second(config, n_images)
        unit = "images/s/core"
        yield {"name": f"{name}, CPU time", "value": cpu, "unit": unit, "target": target}
        yield {"name": f"{name}, wall time", "value": wall, "unit": unit, "target": ""}
    yield {
        "name": "serializing a record, CPU time",
        "value": _serializing_ms(),
        "unit": "ms",
        "target": "",
    }


def _images_per_second(config, n_images):
    """Median rates over the blocks by CPU and by wall time."""
    generate_image(config, 0)  # builds the mesh template and the noise
    rates = []
    for block in range(_N_BLOCKS):
        cpu, wall = time.process_time(), time.perf_counter()
        for index in range(block * n_images, (block + 1) * n_images):
            generate_image(config, index)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        rates.append((n_images / cpu, n_images / wall))
    return np.median(rates, axis=0).tolist()


def _serializing_ms():
    """Milliseconds to turn a record into bytes."""
    record = generate_image(SyntheticConfig(n_images=1), 0)
    start = time.process_time()
    for _ in range(100):
        encode_record(record)
    return (time.process_time() - start) * 10.0
