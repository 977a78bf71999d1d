"""Released checkpoints: which network they are of, told by names and shapes, and its weights."""

import collections
import re

from metrabs_like.geometry.affine import INPUT_STRIDE
from metrabs_like.systems.centernet import torch_names
from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.model import build_model

_REQUIRED_HEADS = ("hm", "wh", "hps")
_PUBLISHED_AGGREGATIONS = 3
_OPTIONAL_HEADS = ("reg", "hm_hp", "hp_offset", "seg_feat", "seg")


def load_checkpoint(path, *, skeleton="coco_17"):
    """Builds the network of a PyTorch checkpoint with its weights.

    Args:
      path: file of `torch.save`, as of the released `multi_pose_dla_3x`.
      skeleton: name of the joint set; the order of joints is the checkpoint's.

    Returns:
      (`tf.keras.Model`, `Config`, `torch_names.LoadReport`).

    Raises:
      ValueError: if the file is missing, refused or damaged, or of another network: entries that
        are missing, too many or of another shape are named.
    """
    state = torch_names.read_state(path)
    config = config_of(state, skeleton=skeleton, source=path)
    model = build_model(config)
    return model, config, torch_names.load_state(model, state, source=path)


def config_of(state, *, skeleton="coco_17", source="the checkpoint"):
    """Finds the config of the network whose weights these are.

    Args:
      state: dict name -> array, as of `torch_names.read_state`.
      skeleton: name of the joint set; the order of joints is the checkpoint's.
      source: file name, for messages.

    Returns:
      `Config`; what entries do not tell (losses, augmentation) has its default.

    Raises:
      ValueError: naming what is not as in a multi_pose checkpoint of DLA-34, or a joint set that
        has not as many joints as the checkpoint.
    """
    heads = _heads(state)
    absent = [name for name in _REQUIRED_HEADS if name not in heads]
    if _has(state, "level5.") and not heads:
        raise ValueError(
            f"{source} holds a DLA-34 image classifier alone: train with it as weights="
        )
    if not _has(state, "base.level5.") or absent:
        lacks = f"no head {', '.join(absent)}" if absent else "no entries base.level5"
        raise ValueError(
            f"{source} has {lacks} (its heads: {', '.join(heads) or 'none'}): only detectors of "
            f"people's joints (multi_pose) with DLA-34 can be converted"
        )
    if heads["hm"] not in (1, None):
        raise ValueError(
            f"{source} tells {heads['hm']} classes apart: only people can be converted"
        )
    up_sampling = [name for name in state if "_up." in name]
    config = Config(
        skeleton=skeleton,
        deformable=any(".conv_offset_mask." in name for name in up_sampling) or not up_sampling,
        down_ratio=INPUT_STRIDE >> _n_aggregations(state),
        head_width=_head_width(state, heads),
        reg_offset="reg" in heads,
        hm_hp="hm_hp" in heads,
        reg_hp_offset="hp_offset" in heads,
        **_segmentation(heads, source),
    )
    _check_joints(heads, config, source)
    return config


def _has(state, prefix):
    """Whether there is any such entry: a single missing one must not hide the others."""
    return any(name.startswith(prefix) for name in state)


def _heads(state):
    """Returns the heads: name -> channels, None if the last convolution is missing."""
    names = (*_REQUIRED_HEADS, *_OPTIONAL_HEADS)
    return {name: _channels(state, name) for name in names if _has(state, f"{name}.")}


def _channels(state, head):
    keys = (f"{head}.{key}" for key in ("2.bias", "2.weight", "bias", "weight"))
    return next((_size(state[key], 0) for key in keys if key in state), None)


def _size(array, axis):
    return array.shape[axis] if array.ndim > axis else None


def _head_width(state, heads):
    """The width of most heads; 0 if they consist of one convolution."""
    axes = {"0.weight": 0, "0.bias": 0, "2.weight": 1}
    found = [
        _size(state[f"{head}.{key}"], axis)
        for head in heads
        for key, axis in axes.items()
        if f"{head}.{key}" in state
    ]
    widths = collections.Counter(width for width in found if width)
    return widths.most_common(1)[0][0] if widths else 0


def _n_aggregations(state):
    """The number of steps of the up-sampling, each of which halves the stride."""
    # Both parts tell it: where one lacks entries, these must be found missing.
    steps = [re.match(r"(?:dla_up\.ida_|ida_up\.[a-z]+_)(\d)\.", name) for name in state]
    return max((int(step[1]) + 1 for step in steps if step), default=_PUBLISHED_AGGREGATIONS)


def _segmentation(heads, source):
    if "seg" not in heads and "seg_feat" not in heads:
        return {}
    channels, weights = heads.get("seg_feat", 0), heads.get("seg", 0)
    if channels is None or weights is None:
        raise ValueError(
            f"{source} lacks the last convolution of the head "
            f"{'seg_feat' if channels is None else 'seg'}, which tells the size of masks' filters"
        )
    taps = {channels: "1x1", 9 * channels: "3x3"}
    if not channels or weights not in taps:
        raise ValueError(
            f"{source} has the heads seg_feat and seg with {channels} and {weights} channels: seg "
            f"must have as many as seg_feat, or nine times as many"
        )
    return {"segmentation": taps[weights], "seg_channels": channels}


def _check_joints(heads, config, source):
    numbers = {"hps": 2 * config.n_joints, "hm_hp": config.n_joints}
    if any(heads.get(name) not in (n, None) for name, n in numbers.items()):
        n_joints = "an unknown number of" if heads["hps"] is None else heads["hps"] // 2
        raise ValueError(
            f"{source} has {n_joints} joints (head hps: {heads['hps']} channels, hm_hp: "
            f"{heads.get('hm_hp', 'none')}), the skeleton {config.skeleton!r} has "
            f"{config.n_joints}: name the joint set of the checkpoint"
        )
