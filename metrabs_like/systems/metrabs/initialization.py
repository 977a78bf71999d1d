"""Starting a model from the weights of another one, also with a changed skeleton or crop size.

Conventions: points match by joint name (`skeletons.index_map`); layers match by place and shape.
"""

import dataclasses

import numpy as np

from metrabs_like import skeletons
from metrabs_like.systems.metrabs.model import HEAD_LAYER, LINK_LAYER


@dataclasses.dataclass(frozen=True)
class InitReport:
    """What was taken over.

    Attributes:
      matched_points: joint names whose head weights come from the source.
      new_points: joint names whose head weights stay as they were.
    """

    matched_points: tuple[str, ...]
    new_points: tuple[str, ...]

    def __str__(self):
        new = f"; new are {', '.join(self.new_points)}" if self.new_points else ""
        n_points = len(self.matched_points) + len(self.new_points)
        return (
            f"backbone copied; {len(self.matched_points)} of {n_points} points keep their head "
            f"weights{new}"
        )


def initialize_from(model, config, source_model, source_config):
    """Copies what fits from one model into another.

    Args:
      model: of `build_model(config)`; its weights are changed.
      config: its `Config`.
      source_model: of `build_model(source_config)` with the weights to take.
      source_config: its `Config`.

    Returns:
      `InitReport`. The whole backbone is taken, and the head weights of points of the same name
      if the number of depth bins is the same too. From a field to a field of the same sizes, the
      field is taken as a whole, with the canonical positions of joints of the same name.

    Raises:
      ValueError: for another backbone, or one of another width, naming both.
    """
    target_backbone = model.get_layer(config.backbone)
    source_backbone = source_model.get_layer(source_config.backbone)
    target_shapes = [tuple(w.shape) for w in target_backbone.weights]
    source_shapes = [tuple(w.shape) for w in source_backbone.weights]
    if config.backbone != source_config.backbone or target_shapes != source_shapes:
        raise ValueError(
            f"the source has backbone={source_config.backbone!r} width={source_config.width}, this "
            f"model {config.backbone!r} width={config.width}: no weight fits; use the same "
            f"backbone or start without init_from"
        )
    target_backbone.set_weights(source_backbone.get_weights())
    index_map = np.array(skeletons.index_map(source_config.joints, config.joints))
    names = np.array(config.joints.joint_names)
    if config.head != "fixed" or source_config.head != "fixed":
        index_map = _copy_field(model, source_model, index_map)
        return _report(names, index_map)
    if config.depth != source_config.depth:
        index_map[:] = -1
    matched = index_map >= 0
    source_weights = source_model.get_layer(HEAD_LAYER).get_weights()
    target_weights = model.get_layer(HEAD_LAYER).get_weights()
    model.get_layer(HEAD_LAYER).set_weights(
        [
            _with_points(target, source, index_map, matched)
            for target, source in zip(target_weights, source_weights, strict=True)
        ]
    )
    return _report(names, index_map)


def _report(names, index_map):
    """Which points were taken over; -1 stands for the new ones."""
    matched = index_map >= 0
    return InitReport(
        matched_points=tuple(names[matched].tolist()), new_points=tuple(names[~matched].tolist())
    )


def _copy_field(model, source_model, index_map):
    """Copies link and field if both models have them in the same size; returns what matched."""
    nothing = np.full_like(index_map, -1)
    layers = [(m.get_layer(LINK_LAYER), m.get_layer(HEAD_LAYER)) for m in (model, source_model)
              if any(layer.name == LINK_LAYER for layer in m.layers)]  # fmt: skip
    if len(layers) < 2:
        return nothing
    (link, field), (source_link, source_field) = layers
    pairs = [(link, source_link), (field, source_field)]
    shared = [
        (target, source)
        for layer, source_layer in pairs
        for target, source in zip(layer.weights, source_layer.weights, strict=True)
        if target is not getattr(layer, "joint_positions", None)
    ]
    if any(target.shape != source.shape for target, source in shared):
        return nothing
    for target, source in shared:
        target.assign(source)
    positions = field.canonical_joints().numpy()
    taken = source_field.canonical_joints().numpy()
    matched = index_map >= 0
    positions[matched] = taken[index_map[matched]]
    field.joint_positions.assign(positions[field.layout.free].reshape(-1))
    return index_map


def _with_points(target, source, index_map, matched):
    """A copy of the head weights `[..., P * C]` with the matched points' channels replaced."""
    if not matched.any():
        return target
    target = target.reshape([*target.shape[:-1], len(index_map), -1]).copy()
    source = source.reshape([*source.shape[:-1], -1, target.shape[-1]])
    target[..., matched, :] = source[..., index_map[matched], :]
    return target.reshape([*target.shape[:-2], -1])
