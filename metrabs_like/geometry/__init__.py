"""Pure functions of tensors: cameras, rotations, poses, alignment, heatmaps, bodies, warping."""

from metrabs_like.geometry import (
    absolute,
    alignment,
    camera,
    heatmap,
    masking,
    rotation,
    smpl,
    surface,
    warping,
)

__all__ = [
    "absolute",
    "alignment",
    "camera",
    "heatmap",
    "masking",
    "rotation",
    "smpl",
    "surface",
    "warping",
]
