"""Weights by the names of PyTorch's `state_dict`: which layer they belong to, how they are turned.

Conventions: a layer's name is its module's name in the released code; the base's layers stand under
`base.` there. PyTorch keeps kernels as (output, input, height, width).
"""

import dataclasses
import re

import numpy as np
import tensorflow as tf

from metrabs_like.data.safe_loading import load_torch
from metrabs_like.layers.backbones.dla import BASES
from metrabs_like.layers.deformable import DeformableConv2D
from metrabs_like.layers.normalization import BatchNorm
from metrabs_like.layers.upsampling import LearnedUpsampling

_BASE_PREFIX = "base."
_CONVOLUTIONS = (tf.keras.layers.Conv2D, tf.keras.layers.Conv2DTranspose)  # (in, out) swap in both
_NORMALIZATION = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry of a `state_dict` and the variable that takes it.

    Attributes:
      variable: of the model.
      shape: tuple, as PyTorch has it.
    """

    variable: object
    shape: tuple

    def to_ours(self, array):
        """Returns PyTorch's array in the variable's layout."""
        if len(self.shape) != 4:
            return array
        turned = np.transpose(array, [2, 3, 1, 0])
        return turned.reshape(self.variable.shape)  # depthwise kernels lack the axis of size 1

    def to_torch(self):
        """Returns the variable's value in PyTorch's layout."""
        value = self.variable.numpy()
        if len(self.shape) != 4:
            return value
        out, inner, height, width = self.shape
        return np.transpose(value.reshape([height, width, inner, out]), [3, 2, 0, 1])


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of the entries of a file.

    Attributes:
      used: names of those that are in the model now.
      counters: names of the counters of batches, which inference does not need.
      dead: names of weights that have no effect on the released network's outputs either.
      classifier: names of the ImageNet classifier's weights.
    """

    used: tuple
    counters: tuple
    dead: tuple
    classifier: tuple

    def lines(self):
        """Returns the report as text, one line a kind."""
        kinds = (
            ("used", self.used, ""),
            ("left out: counters of batches", self.counters, ""),
            ("left out: no effect on the outputs", self.dead, ", ".join(self.dead)),
            ("left out: ImageNet classifier", self.classifier, ", ".join(self.classifier)),
        )
        return [
            f"{len(names)} entries {text}" + (f" ({listed})" if listed else "")
            for text, names, listed in kinds
            if names
        ]


def torch_entries(model, prefix=""):
    """Lists what a model's `state_dict` holds.

    Args:
      model: of `build_model`, or a part of it.
      prefix: put before the names.

    Returns:
      Dict: name -> `Entry`.
    """
    entries = {}
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            inner = _BASE_PREFIX if layer.name in BASES else ""
            entries |= torch_entries(layer, prefix + inner)
        else:
            found = _layer_entries(layer)
            entries |= {f"{prefix}{layer.name}.{key}": entry for key, entry in found.items()}
    return entries


def _layer_entries(layer):
    """The entries of one layer; those without weights have none."""
    if isinstance(layer, BatchNorm):
        pairs = ((name, getattr(layer, attribute)) for name, attribute in _NORMALIZATION)
        return {name: Entry(v, tuple(v.shape)) for name, v in pairs}
    if isinstance(layer, DeformableConv2D):
        inner = _layer_entries(layer.conv_offset_mask)
        return _convolution(layer) | {f"conv_offset_mask.{k}": v for k, v in inner.items()}
    if isinstance(layer, LearnedUpsampling):
        size, _, channels = layer.kernel.shape
        return {"weight": Entry(layer.kernel, (channels, 1, size, size))}
    if isinstance(layer, _CONVOLUTIONS):
        return _convolution(layer)
    return {}


def _convolution(layer):
    height, width, inner, outer = layer.kernel.shape
    entries = {"weight": Entry(layer.kernel, (outer, inner, height, width))}
    if layer.use_bias:
        entries["bias"] = Entry(layer.bias, (outer,))
    return entries


def state_dict_of(model, prefix=""):
    """Returns the model's weights as PyTorch has them: dict name -> array."""
    return {name: entry.to_torch() for name, entry in torch_entries(model, prefix).items()}


def load_state(model, state, *, prefix="", source="the checkpoint"):
    """Gives a model the weights of a `state_dict`.

    Args:
      model: of `build_model`, or a part of it.
      state: dict name -> array; may hold dead weights, counters and the ImageNet classifier.
      prefix: of the model's names.
      source: file name, for messages.

    Returns:
      `LoadReport`.

    Raises:
      ValueError: naming entries that are missing, that the model does not have, that have
        another shape or numbers that are not finite. The model is then as before.
    """
    entries = torch_entries(model, prefix)
    dead, classifier, counters, extra = [], [], [], []
    for name in state:
        if name in entries:
            continue
        if _is_dead(name, entries):
            dead.append(name)
        elif re.fullmatch(rf"({re.escape(_BASE_PREFIX)})?fc\.(weight|bias)", name):
            classifier.append(name)
        elif name.endswith(".num_batches_tracked"):
            counters.append(name)
        else:
            extra.append(name)
    missing = [name for name in entries if name not in state]
    misshapen = [
        f"{name} is {tuple(np.shape(state[name]))}, not {entry.shape}"
        for name, entry in entries.items()
        if name in state and tuple(np.shape(state[name])) != entry.shape
    ]
    broken = [name for name in entries if name in state and not _is_finite(state[name])]
    _check(source, missing, extra, misshapen, broken)
    for name, entry in entries.items():
        entry.variable.assign(entry.to_ours(np.asarray(state[name], np.float32)))
    return LoadReport(tuple(entries), tuple(counters), tuple(dead), tuple(classifier))


def _is_dead(name, entries):
    """Whether it is the projection of a tree of trees, which computes one that nobody reads."""
    match = re.match(r"(.*level\d(?:\.tree[12])*)\.project\.", name)
    return bool(match) and f"{match[1]}.tree1.tree1.conv1.weight" in entries


def _is_finite(array):
    return np.all(np.isfinite(np.asarray(array, np.float32)))


def _check(source, missing, extra, misshapen, broken):
    problems = (
        ("missing entries", missing),
        ("entries that the network does not have", extra),
        ("entries of another shape", misshapen),
        ("entries with NaN or infinity", broken),
    )
    found = [f"{len(names)} {text}: {', '.join(names)}" for text, names in problems if names]
    if found:
        raise ValueError(
            f"{source} does not fit: {'; '.join(found)}; give a checkpoint of this network"
        )


def read_state(path):
    """Reads the `state_dict` of a PyTorch file.

    Args:
      path: a file of `torch.save`: the dict itself, or a dict that holds it as `state_dict`.

    Returns:
      Dict: name -> array; a common prefix `module.` (of parallel training) is cut off.

    Raises:
      ValueError: if the file is missing, refused (`UnsafeFile`), or holds no such dict.
    """
    content = load_torch(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    is_state = isinstance(content, dict) and content
    if not is_state or not all(isinstance(v, np.ndarray) for v in content.values()):
        raise ValueError(
            f"{path} holds no state_dict (names and tensors), alone or under 'state_dict'; save "
            f"one with torch.save(model.state_dict(), path)"
        )
    if all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): array for name, array in content.items()}
    return dict(content)


def load_base(backbone, path):
    """Gives a DLA base the weights of an ImageNet classifier.

    Args:
      backbone: of `layers.backbones.dla.build_dla`.
      path: PyTorch file with the names of the base alone (`level2.tree1.conv1.weight`).

    Returns:
      `LoadReport`.

    Raises:
      ValueError: as of `read_state` and `load_state`.
    """
    return load_state(backbone, read_state(path), source=path)
