"""Pure functions of tensors: cameras, rotations, absolute pose, alignment, heatmaps, warping."""
