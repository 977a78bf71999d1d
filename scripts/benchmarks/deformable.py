"""Modulated deformable convolution, one image, 3x3: one layer's time and memory, DLA-34's layers.

The baseline is the plain formulation: all samples of all kernel positions gathered corner by
corner, one matrix product, TensorFlow's own gradients. Memory is that of processes of their own;
`python deformable.py PASS WAY` is one of them.
"""

import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf

_FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(_FOLDER.parents[1]))

from metrabs_like.layers.deformable import (  # noqa: E402
    DeformableConv2D,
    modulated_deform_conv2d,
)
from scripts.benchmarks import timing  # noqa: E402

_CHANNELS, _SIDE = 64, 128
# (input channels, output channels, side of the map) -> layers of DLA-34 for a 512x512 image
_DLA34 = {
    (512, 256, 16): 1,
    (256, 256, 32): 1,
    (256, 128, 32): 2,
    (256, 64, 32): 1,
    (128, 128, 64): 2,
    (128, 64, 64): 4,
    (64, 64, 128): 5,
}
_FORWARD_TARGET_MS, _RATIO_TARGET = 22, 1.5
_WAYS = ("plain, graph", "ours, graph", "ours, XLA")


def rows(device):
    """Times both passes of one layer in each way, then the forward pass of DLA-34's layers.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Rows with `name`, `ms` (wall), `cpu_ms` and `target_ms`, or `speedup` over the plain
      formulation in graph mode and `target`, or `peak_mb` besides the arguments.
    """
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        for kind in ("forward", "forward and backward"):
            calls = [make_call(kind, way) for way in _WAYS]
            seconds = timing.median_seconds_interleaved(calls)
            for way, call, value in zip(_WAYS, calls, seconds, strict=True):
                name = f"64 channels, 128x128, {kind}: {way}"
                row = {"name": name, "ms": 1e3 * value, "cpu_ms": 1e3 * _cpu_seconds(call)}
                if way == "ours, XLA":
                    row["speedup"] = seconds[0] / value
                    row |= _target(kind)
                yield row
        yield from _layer_rows()
    for kind in ("forward", "forward and backward"):
        for way in _WAYS:
            name = f"64 channels, 128x128, {kind}: memory on a CPU, {way}"
            yield {"name": name, "peak_mb": _measured_apart(kind, way)}


def _target(kind):
    return {"target_ms": _FORWARD_TARGET_MS} if kind == "forward" else {"target": _RATIO_TARGET}


def _layer_rows():
    """The layers as they run in a network in graph mode, their own convolution included."""
    total = 0.0
    for (n_inputs, n_outputs, side), count in _DLA34.items():
        layer = DeformableConv2D(n_outputs)
        images = tf.constant(
            np.random.default_rng(0).normal(size=[1, side, side, n_inputs]), "float32"
        )
        layer(images)
        call = tf.function(layer, autograph=False)
        seconds = timing.median_seconds(lambda call=call, images=images: call(images))
        total += count * seconds
        name = f"layer {n_inputs} -> {n_outputs}, {side}x{side}, with its own convolution"
        yield {"name": name, "ms": 1e3 * seconds, "layers_of_dla34": count}
    yield {"name": f"the {sum(_DLA34.values())} layers of DLA-34 at 512x512", "ms": 1e3 * total}


def _cpu_seconds(call, repeats=10):
    """Returns the median CPU time of a call, which other programs disturb less."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        timing.median_seconds(call, warmup=0, repeats=1)
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def make_call(kind, way, side=_SIDE):
    """Returns a function without arguments that runs the pass once.

    Args:
      kind: "forward" or "forward and backward".
      way: one of "plain, graph", "ours, graph", "ours, XLA".
      side: int, px, side of the map.
    """
    arguments = _example(side)
    is_compiled = way == "ours, XLA"

    def forward(*arguments):
        if way == "plain, graph":
            return plain_deform_conv2d(*arguments)
        return modulated_deform_conv2d(*arguments, padding=1, jit_compile=is_compiled)

    def both(*arguments):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = tf.reduce_sum(forward(*arguments) ** 2)
        return tape.gradient(value, arguments)

    call = tf.function(
        forward if kind == "forward" else both, jit_compile=is_compiled, autograph=False
    )
    return lambda: call(*arguments)


def _example(side):
    """Random arguments; offsets of about a pixel, as in a trained network."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=[1, side, side, n]) for n in (_CHANNELS, 18, 9)]
    weights = rng.normal(size=[3, 3, _CHANNELS, _CHANNELS]), rng.normal(size=_CHANNELS)
    return [tf.constant(value, tf.float32) for value in (*maps, *weights)]


def plain_deform_conv2d(inputs, offsets, masks, kernel, bias):
    """The baseline: 3x3, stride 1, padding 1, one group.

    Args:
      inputs: float32 `[B, H, W, C]`.
      offsets: float32 `[B, H, W, 18]`, px.
      masks: float32 `[B, H, W, 9]`.
      kernel: float32 `[3, 3, C, O]`.
      bias: float32 `[O]`.

    Returns:
      float32 `[B, H, W, O]`.
    """
    n_images, height, width, channels = inputs.shape
    offsets = tf.reshape(offsets, [n_images, height, width, 9, 2])
    i, j = np.divmod(np.arange(9, dtype=np.float32), 3)
    y = tf.range(height, dtype=tf.float32)[:, tf.newaxis, tf.newaxis] - 1 + i + offsets[..., 0]
    x = tf.range(width, dtype=tf.float32)[:, tf.newaxis] - 1 + j + offsets[..., 1]
    is_inside = (y > -1) & (y < height) & (x > -1) & (x < width)
    y, x = tf.where(is_inside, y, -1.0), tf.where(is_inside, x, -1.0)
    masks = tf.where(is_inside, masks, 0.0)
    top, left = tf.floor(y), tf.floor(x)
    far_y, far_x = y - top, x - left
    table = tf.reshape(tf.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1, channels])
    row = tf.reshape(tf.range(n_images), [-1, 1, 1, 1]) * (height + 2) + tf.cast(top, tf.int32) + 1
    index = row * (width + 2) + tf.cast(left, tf.int32) + 1

    def weighted(step, weight_y, weight_x):
        return tf.gather(table, index + step) * (masks * weight_y * weight_x)[..., tf.newaxis]

    samples = weighted(0, 1 - far_y, 1 - far_x) + weighted(1, 1 - far_y, far_x)
    samples += weighted(width + 2, far_y, 1 - far_x) + weighted(width + 3, far_y, far_x)
    matrix = tf.reshape(kernel, [9 * channels, -1])
    outputs = tf.matmul(tf.reshape(samples, [-1, 9 * channels]), matrix)
    return tf.reshape(outputs, [n_images, height, width, -1]) + bias


def _measured_apart(kind, way):
    """Returns the MB that a pass takes at its peak besides its arguments."""
    with tempfile.TemporaryDirectory() as folder:
        flags = f"--xla_dump_to={folder} --xla_dump_hlo_as_text"
        environment = {**os.environ, "XLA_FLAGS": flags, "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, __file__, kind, way]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-1000:]}")
        planned = [
            int(size)
            for path in pathlib.Path(folder).glob("*buffer-assignment.txt")
            for size in re.findall(r"size (\d+), preallocated-temp", path.read_text())
        ]
    # XLA plans its memory, and keeps it afterwards; without XLA the process grows
    return max(planned) / 1e6 if way.endswith("XLA") else json.loads(done.stdout.splitlines()[-1])


def _child(kind, way):
    """Runs a pass on a small map, then on the large one, and prints by how much memory grew."""
    make_call(kind, way, side=8)()
    call = make_call(kind, way)
    before = _status_mb("VmRSS")
    call()
    print(json.dumps(_status_mb("VmHWM") - before))


def _status_mb(field):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6


if __name__ == "__main__":
    _child(*sys.argv[1:])
