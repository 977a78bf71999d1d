"""SavedModel of the tiny model: size, load time, first call, steady calls.

A fresh process would also pay for importing TensorFlow; here the load and the first call (which
optimizes the graph) are timed in the benchmark's own process, on a model that it exports itself.
"""

import os
import statistics
import tempfile
import time

import numpy as np
import tensorflow as tf

from metrabs_like import serving
from metrabs_like.systems import metrabs

_N_CALLS = 15
_SIDE = 128
# name: image height, width, number of boxes, views per person
_CALLS = {
    "640x480, 1 person, plain crop": (480, 640, 1, 1),
    "640x480, 1 person, 5 views": (480, 640, 1, 5),
    "640x480, 10 people, 5 views": (480, 640, 10, 5),
    "4000x3000, whole image, 5 views": (3000, 4000, 1, 5),
}


def rows(device):
    """Measures a SavedModel with random weights of the demo's size.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Rows with `name` and `seconds` or `mebibytes`; for steady calls the median `ms_per_call` and
      `people_per_s`.
    """
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model")
            seconds, _ = timed(lambda: serving.save(make_predictor(), path))
            yield {"name": "build, trace and save", "seconds": seconds}
            yield {"name": "size on disk", "mebibytes": size(path) / 2**20}
            seconds, model = timed(lambda: tf.saved_model.load(path))
            yield {"name": "load", "seconds": seconds}
        arguments = call_arguments(*next(iter(_CALLS.values())))
        seconds, _ = timed(lambda: model.estimate_poses(**arguments)["poses3d"].numpy())
        yield {"name": "first call", "seconds": seconds}
        for name, call in _CALLS.items():
            arguments = call_arguments(*call)
            seconds = steady_seconds(model, arguments)
            yield {
                "name": f"steady call: {name}",
                "ms_per_call": 1e3 * seconds,
                "people_per_s": call[2] / seconds,
            }


def make_predictor():
    """Returns a predictor around the demo's network, untrained."""
    config = metrabs.Config(backbone="tiny", proc_side=_SIDE, stride=16)

    def decode(outputs, inputs):
        return metrabs.decode(outputs, inputs, config)

    network = serving.crop_predictor(metrabs.build_model(config), decode)
    return serving.PosePredictor(network, config.proc_side, config.joints)


def call_arguments(height, width, n_boxes, n_views):
    """Returns the keyword arguments of one call: noise, boxes spread over the image."""
    rng = np.random.default_rng(0)
    boxes = np.array([[0, 0, width, height]] * n_boxes, np.float32)
    if n_boxes > 1:
        boxes[:] = [0, height / 4, width / 4, height / 2]
        boxes[:, 0] = np.linspace(0, 0.75 * width, n_boxes)
    return {
        "image": tf.constant(rng.integers(0, 256, [height, width, 3]), tf.uint8),
        "boxes": tf.constant(boxes),
        "num_aug": n_views,
    }


def steady_seconds(model, arguments):
    """Median over calls, after one that is not counted."""
    model.estimate_poses(**arguments)["poses3d"].numpy()
    calls = (
        timed(lambda: model.estimate_poses(**arguments)["poses3d"].numpy()) for _ in range(_N_CALLS)
    )
    return statistics.median(seconds for seconds, _ in calls)


def timed(function):
    """Returns (seconds, what the function returns)."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def size(folder):
    """Bytes of all files below a folder."""
    return sum(
        os.path.getsize(os.path.join(parent, name))
        for parent, _, names in os.walk(folder)
        for name in names
    )
