"""Backbones: networks from an RGB crop in 0..1 to a feature map, chosen by name."""

from metrabs_like.layers.backbones.applications import APPLICATIONS, build_application
from metrabs_like.layers.backbones.tiny import build_tiny

__all__ = ["APPLICATIONS", "BACKBONES", "build_application", "build_backbone", "build_tiny"]

BACKBONES = ("tiny", *APPLICATIONS)


def build_backbone(name, *, stride, weights=None, width=1.0):
    """Builds a backbone by name.

    Args:
      name: one of `BACKBONES`.
      stride: int, input pixels per feature; see the builder of each backbone for those possible.
      weights: None (random), "imagenet" (only `APPLICATIONS`) or the path of a weights file made
        by the same `tf.keras.applications` model without its top.
      width: float > 0, factor on the channels; other than 1 only for "tiny".

    Returns:
      `tf.keras.Model`: float `[B, S, S, 3]` in 0..1 -> features `[B, S/stride, S/stride, C]`; S a
      multiple of `stride`. The batch may be unknown, not zero (see `layers.PadToOne`).

    Raises:
      ValueError: unknown name, or a stride, width or weights that this backbone does not have.
    """
    if name == "tiny":
        if weights:
            raise ValueError(
                f'weights={weights!r}: backbone "tiny" has no pretrained weights; leave it empty, '
                f"or start the whole model from a preset (--init_from)"
            )
        return build_tiny(stride=stride, width=width)
    if name not in APPLICATIONS:
        raise ValueError(f"backbone={name!r} is unknown; choose one of {', '.join(BACKBONES)}")
    if width != 1.0:
        raise ValueError(f'width={width} is only for backbone "tiny"; set it to 1 for {name}')
    return build_application(name, stride=stride, weights=weights)
