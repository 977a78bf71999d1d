"""Pure functions of tensors: cameras, rotations, absolute pose, alignment, heatmaps, warping."""

from metrabs_like.geometry import (
    absolute,
    alignment,
    camera,
    heatmap,
    masking,
    rotation,
    warping,
)

__all__ = ["absolute", "alignment", "camera", "heatmap", "masking", "rotation", "warping"]
