"""Batches for loss tests: truth, predictions with errors, uncertainties."""

import numpy as np

from tests.geometry.scenes import make_scene


def make_batch(rng, n_examples=4, n_points=24, dtype=np.float32):
    """Returns (inps, preds) of `compute_loss_with_3d_gt`; inps also holds the 2D truth."""
    scene = make_scene(rng, n_examples, n_points, dtype=dtype)
    truth = scene["coords3d_abs"]
    error = rng.normal(size=truth.shape) * 0.05 + rng.normal(size=(n_examples, 1, 3)) * 0.1
    inps = {
        "coords3d_true": truth,
        "coords2d_true": scene["coords2d"],
        "intrinsics": scene["intrinsics"],
        "point_validity": scene["mask"],
        "root_index": rng.integers(-1, n_points, n_examples).astype(np.int32),
    }
    uncert = np.exp(rng.normal(size=truth.shape[:2]) - 2)
    return inps, {"coords3d_abs": (truth + error).astype(dtype), "uncert": uncert.astype(dtype)}


def select(mapping, index):
    """Returns the mapping with each array indexed along the batch."""
    return {key: value[index] for key, value in mapping.items()}
