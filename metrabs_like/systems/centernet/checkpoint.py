"""Released checkpoints: which network they are of, told by names and shapes, and its weights."""

from metrabs_like.systems.centernet import torch_names
from metrabs_like.systems.centernet.config import MAX_STRIDE, Config
from metrabs_like.systems.centernet.model import build_model

_REQUIRED_HEADS = ("hm", "wh", "hps")
_OPTIONAL_HEADS = ("reg", "hm_hp", "hp_offset", "seg_feat", "seg")
_N_LEVELS = 5  # of halved sizes


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
    if "level5.root.conv.weight" in state and not heads:
        raise ValueError(
            f"{source} holds a DLA-34 image classifier alone: train with it as weights="
        )
    if "base.level5.root.conv.weight" not in state or absent:
        lacks = f"no head {', '.join(absent)}" if absent else "no entries base.level5"
        raise ValueError(
            f"{source} has {lacks} (its heads: {', '.join(heads) or 'none'}): only detectors of "
            f"people's joints (multi_pose) with DLA-34 can be converted"
        )
    if heads["hm"] != 1:
        raise ValueError(
            f"{source} tells {heads['hm']} classes apart: only people can be converted"
        )
    width = state["hm.0.weight"].shape[0] if "hm.0.weight" in state else 0
    n_aggregations = sum(f"dla_up.ida_{i}.up_1.weight" in state for i in range(_N_LEVELS))
    config = Config(
        skeleton=skeleton,
        deformable=any(".conv_offset_mask." in name for name in state),
        down_ratio=MAX_STRIDE >> n_aggregations,
        head_width=width,
        reg_offset="reg" in heads,
        hm_hp="hm_hp" in heads,
        reg_hp_offset="hp_offset" in heads,
        **_segmentation(heads, source),
    )
    _check_joints(heads, config, source)
    return config


def _heads(state):
    """Returns the heads: name -> channels."""
    heads = {}
    for name in (*_REQUIRED_HEADS, *_OPTIONAL_HEADS):
        last = next((key for key in (f"{name}.2.bias", f"{name}.bias") if key in state), None)
        if last:
            heads[name] = state[last].shape[0]
    return heads


def _segmentation(heads, source):
    if "seg" not in heads and "seg_feat" not in heads:
        return {}
    channels, weights = heads.get("seg_feat", 0), heads.get("seg", 0)
    taps = {channels: "1x1", 9 * channels: "3x3"}
    if not channels or weights not in taps:
        raise ValueError(
            f"{source} has the heads seg_feat and seg with {channels} and {weights} channels: seg "
            f"must have as many as seg_feat, or nine times as many"
        )
    return {"segmentation": taps[weights], "seg_channels": channels}


def _check_joints(heads, config, source):
    n_joints = heads["hps"] // 2
    found = {"hps": heads["hps"] / 2, "hm_hp": heads.get("hm_hp", n_joints)}
    if any(number != config.n_joints for number in found.values()):
        raise ValueError(
            f"{source} has {n_joints} joints (head hps: {heads['hps']} channels, hm_hp: "
            f"{heads.get('hm_hp', 'none')}), the skeleton {config.skeleton!r} has "
            f"{config.n_joints}: name the joint set of the checkpoint"
        )
