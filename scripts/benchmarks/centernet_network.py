"""CenterNet's networks: DLA-34 against PyTorch, the whole network and its parts, small backbones.

The networks run as they do in `predict`: one graph, weights as variables. The deformable
convolutions of the whole one are compiled by XLA; it is also timed without, and under XLA as a
whole. PyTorch is timed where it is installed; where not, the row says so.
"""

import importlib.util

import numpy as np
import tensorflow as tf

from metrabs_like.layers.backbones.dla import build_dla
from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.systems.centernet import Config, build_model
from metrabs_like.systems.centernet.heads import add_head
from metrabs_like.systems.centernet.torch_names import state_dict_of
from scripts.benchmarks.timing import median_seconds, median_seconds_interleaved

_SIDE, _MAP_SIDE, _CHANNELS = 512, 128, 64
_NETWORKS = {
    "dla34, plain": Config(deformable=False),
    "resnet18, heads of 64": Config(backbone="resnet18", head_width=64),
    "tiny, heads of 32": Config(backbone="tiny", head_width=32),
}


def rows(device):
    """Measures forward passes of one 512 x 512 image.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Rows with `name` and `ms_per_image`; the base's also `ratio_to_pytorch`.
    """
    tf.keras.utils.set_random_seed(0)
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        yield base_row(device)
        yield heads_row()
        yield from whole_rows()
        for name, config in _NETWORKS.items():
            yield _row(name, _graph(build_model(config), _inputs()))


def base_row(device):
    """The base alone, beside PyTorch's with the same weights."""
    base = build_dla()
    image = np.random.default_rng(0).normal(size=[1, _SIDE, _SIDE, 3]).astype(np.float32)
    ours = _graph(base, tf.constant(image))
    row = {"name": "dla34's base"}
    if device != "cpu" or importlib.util.find_spec("torch") is None:
        seconds = median_seconds(ours)
        return {**row, "ms_per_image": 1e3 * seconds, "pytorch": "not measured"}
    theirs = _in_pytorch(base, image)
    for mine, other in zip(ours(), theirs(), strict=True):
        other = other.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-4 * np.abs(other).max())
    seconds, seconds_pytorch = median_seconds_interleaved([ours, theirs], repeats=40)
    return {
        **row,
        "ms_per_image": 1e3 * seconds,
        "pytorch_ms": 1e3 * seconds_pytorch,
        "ratio_to_pytorch": seconds / seconds_pytorch,
    }


def _in_pytorch(base, image):
    """Returns a function that runs PyTorch's base with our weights."""
    import torch

    from scripts.benchmarks.pytorch.dla34 import Dla34

    network = Dla34().eval()
    state = {name: torch.tensor(array) for name, array in state_dict_of(base).items()}
    network.load_state_dict(state, strict=False)  # but for its counters of batches
    pixels = torch.tensor(image.transpose(0, 3, 1, 2))

    def run():
        with torch.no_grad():
            return network(pixels)

    return run


def heads_row():
    """The six heads on a feature map."""
    feature = tf.keras.Input([None, None, _CHANNELS])
    heads = {n: add_head(feature, n, c, width=256) for n, c in Config().heads.items()}
    call = _graph(
        tf.keras.Model(feature, heads), tf.random.normal([1, _MAP_SIDE, _MAP_SIDE, _CHANNELS])
    )
    return _row("six heads of 256", call)


def whole_rows():
    """DLA-34 with deformable convolutions and heads, in three ways."""
    model = build_model(Config())
    yield _row("dla34, deformable", _graph(model, _inputs()))
    yield _row("dla34, deformable, all under XLA", _graph(model, _inputs(), jit_compile=True))
    for layer in model.layers:
        if isinstance(layer, DeformableConv2D):
            layer.jit_compile = False
    yield _row("dla34, deformable, nothing under XLA", _graph(model, _inputs()))


def _inputs():
    return {
        "image": tf.random.uniform([1, _SIDE, _SIDE, 3]),
        "input_from_image": tf.eye(3, batch_shape=[1]),
    }


def _row(name, call):
    return {"name": name, "ms_per_image": 1e3 * median_seconds(call)}


def _graph(model, inputs, *, jit_compile=None):
    """Returns a function that runs a model at inference as one graph."""
    call = tf.function(
        lambda values: model(values, training=False), autograph=False, jit_compile=jit_compile
    )
    return lambda: call(inputs)
