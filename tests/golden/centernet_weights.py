"""The rule that makes the weights of the network goldens, and the network that takes them.

Source: README.md beside the goldens, "Weight rule".
"""

import functools
import json
import re
import zlib

import numpy as np

from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.layers.upsampling import bilinear_kernel
from metrabs_like.systems.centernet.model import build_dla_model
from metrabs_like.systems.centernet.torch_names import load_state

OFFSET_FACTOR = 0.1


def ruled(name, shape, offset_factor=OFFSET_FACTOR):
    """Returns the float32 weights of an entry by its name; counters are 0."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if re.search(r"\.up_\d+\.weight$", name):
        return np.broadcast_to(bilinear_kernel(shape[-1] // 2), shape)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        if ".conv_offset_mask." in name:
            array *= offset_factor
    elif name.endswith((".weight", ".running_var")):
        array = rng.uniform(0.5, 1.5, shape)
    else:
        array = 0.1 * rng.standard_normal(shape)
    return array.astype(np.float32)


def offset_factor_of(path):
    """Reads the factor from a file's name: `dla34_offset001` has 0.01."""
    digits = re.search(r"offset0(\d+)", path.stem)
    return float(f"0.{digits[1]}") if digits else OFFSET_FACTOR


@functools.cache
def _released(folder):
    (path,) = folder.glob("state_dict_*.json")
    return json.loads(path.read_text())


def entries(folder):
    """Returns the entries of the released network: name -> shape."""
    return {name: tuple(shape) for name, shape, _ in _released(folder)["entries"]}


def n_parameters(folder):
    """Returns the released network's number of trained weights, without the classifier."""
    return _released(folder)["num_parameters_without_fc"]


@functools.cache
def state(folder, offset_factor=OFFSET_FACTOR):
    """Returns the whole released state dict by the rule."""
    return {
        name: ruled(name, shape, offset_factor)
        for name, shape in entries(folder).items()
        if not name.startswith("base.fc.")
    }


@functools.cache
def _network(folder):
    shapes = entries(folder)
    last = {name: re.fullmatch(r"(\w+)\.2\.bias", name) for name in shapes}
    heads = {match[1]: shapes[name][0] for name, match in last.items() if match}
    n_steps = sum(f"dla_up.ida_{i}.up_1.weight" in shapes for i in range(5))
    return build_dla_model(heads, down_ratio=32 >> n_steps, head_width=shapes["hm.0.bias"][0])


def interpreted(model):
    """Returns the model with deformable convolutions that are not compiled, for each size anew."""
    for layer in model.layers:
        if isinstance(layer, DeformableConv2D):
            layer.jit_compile = False
    return model


def network(folder, offset_factor=OFFSET_FACTOR):
    """Returns the network with the weights of the rule; it is one, with its latest weights."""
    model = interpreted(_network(folder))
    load_state(model, state(folder, offset_factor))
    return model
