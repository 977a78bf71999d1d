"""Starting a model from the weights of another one, also with other joints, heads or sizes.

Conventions: layers match by name and shape; the channels of heads with one or two numbers a joint
match by the joint's name.
"""

import dataclasses

import numpy as np

from metrabs_like import skeletons

_PER_JOINT = {"hps": 2, "hm_hp": 1}


@dataclasses.dataclass(frozen=True)
class InitReport:
    """What was taken over.

    Attributes:
      n_copied: layers whose weights come from the source.
      n_layers: layers with weights.
      new_layers: names of those that stay as they were.
      matched_points: joints whose weights come from the source, in one layer at least.
      new_points: joints whose weights stay as they were.
    """

    n_copied: int
    n_layers: int
    new_layers: tuple[str, ...]
    matched_points: tuple[str, ...]
    new_points: tuple[str, ...]

    def __str__(self):
        text = f"{self.n_copied} of {self.n_layers} layers copied"
        if self.new_layers:
            text += f"; new are {', '.join(self.new_layers)}"
        n_points = len(self.matched_points) + len(self.new_points)
        text += f"; {len(self.matched_points)} of {n_points} joints keep their weights"
        return text + (f"; new are {', '.join(self.new_points)}" if self.new_points else "")


def initialize_from(model, config, source_model, source_config):
    """Copies what fits from one model into another.

    Args:
      model: of `build_model(config)`; its weights are changed.
      config: its `Config`.
      source_model: of `build_model(source_config)` with the weights to take.
      source_config: its `Config`.

    Returns:
      `InitReport`.

    Raises:
      ValueError: for another backbone, or one of another width, naming both.
    """
    backbones = [
        [tuple(weight.shape) for weight in m.get_layer(c.backbone).weights]
        if c.backbone == config.backbone
        else None
        for m, c in ((model, config), (source_model, source_config))
    ]
    if backbones[0] != backbones[1]:
        raise ValueError(
            f"the source has backbone={source_config.backbone!r} width={source_config.width}, this "
            f"model {config.backbone!r} width={config.width}: no weight fits; use the same "
            f"backbone or start without init_from"
        )
    index_map = np.array(skeletons.index_map(source_config.joints, config.joints))
    per_joint = {_last_layer(name, config): n for name, n in _PER_JOINT.items()}
    sources = {layer.name: layer for layer in source_model.layers}
    copied, new = [], []
    for layer in model.layers:
        if not layer.weights:
            continue
        weights = layer.get_weights()
        source = sources[layer.name].get_weights() if layer.name in sources else []
        if layer.name in per_joint:
            taken = _with_joints(weights, source, index_map, per_joint[layer.name])
        else:
            taken = source if _shapes(source) == _shapes(weights) else None
        if taken is None:
            new.append(layer.name)
        else:
            layer.set_weights(taken)
            copied.append(layer.name)
    names = np.array(config.joints.joint_names)
    is_matched = (index_map >= 0) & any(name in per_joint for name in copied)
    return InitReport(
        n_copied=len(copied),
        n_layers=len(copied) + len(new),
        new_layers=tuple(new),
        matched_points=tuple(names[is_matched].tolist()),
        new_points=tuple(names[~is_matched].tolist()),
    )


def _last_layer(head, config):
    """Name of a head's last convolution."""
    return f"{head}.2" if config.head_width else head


def _with_joints(weights, source, index_map, n_per_joint):
    """The head's weights with the channels of matching joints replaced; None if none fits."""
    channels = [s.shape[-1] for s in source]
    if len(source) != len(weights) or any(n % n_per_joint for n in channels):
        return None
    if any(a.shape[:-1] != b.shape[:-1] for a, b in zip(weights, source, strict=True)):
        return None
    is_matched = index_map >= 0
    replaced = []
    for weight, taken in zip(weights, source, strict=True):
        by_joint = weight.reshape([*weight.shape[:-1], -1, n_per_joint]).copy()
        taken = taken.reshape([*taken.shape[:-1], -1, n_per_joint])
        by_joint[..., is_matched, :] = taken[..., index_map[is_matched], :]
        replaced.append(by_joint.reshape(weight.shape))
    return replaced


def _shapes(weights):
    return [weight.shape for weight in weights]
