"""Speed of the graph library against plain formulations, 128 people x 768 points.

The baselines (`plain.py`) run in graph mode: their solver, `tf.linalg.lstsq`, has no XLA kernel at
that size. Ours runs under XLA and in graph mode. Each row's two sides are timed in turns in one
process.

Run alone: `python -m scripts.benchmarks.graph_library [cpu|gpu]`.
"""

import sys

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import absolute
from metrabs_like.geometry.camera import CropGrid
from metrabs_like.losses import metric3d
from scripts.benchmarks import plain
from scripts.benchmarks.timing import median_seconds_interleaved

N_EXAMPLES, N_POINTS = 128, 768
GRID = CropGrid()
CONFIG = metric3d.Metric3DLossConfig()
# Training's options of absolute reconstruction.
OPTIONS = {"border_factor1": 1.0, "border_factor2": 0.55, "mix_based_on_3d": False}


def rows(device="cpu"):
    """Measures the graph library.

    Args:
      device: "cpu" or "gpu".

    Returns:
      List of dicts: name; seconds and baseline_seconds of one forward and backward pass; ratio =
      baseline / ours; target, the ratio wanted, or None.
    """
    with tf.device(f"/{device}:0"):
        data = make_data()
        return [
            _row(data, "reconstruct_ref_fullpersp, XLA", ref_full, _plain_ref, True, 5.0),
            _row(data, "reconstruct_ref_fullpersp, graph", ref_full, _plain_ref, False, 1.0),
            _row(data, "reconstruct_absolute, XLA", _absolute, _plain_absolute, True, 4.0),
            _row(data, "compute_loss_with_3d_gt, XLA", _loss, _plain_loss, True, 3.0),
            _row(data, "reconstruction and loss, XLA", _both, _plain_both, True, None),
        ]


def make_data(n_examples=N_EXAMPLES, n_points=N_POINTS, seed=0):
    """Returns the tensors of a batch of people 3 to 8 m away, one point of five invalid."""
    rng = np.random.default_rng(seed)
    shape = (n_examples, n_points)
    position = rng.uniform([-0.5, -0.5, 3.0], [0.5, 0.5, 8.0], (n_examples, 3))[:, np.newaxis]
    rel = rng.normal(size=(*shape, 3)) * [0.25, 0.35, 0.2]
    truth = rel + position
    focal = 100 * position[..., 2]
    normalized = truth[..., :2] / truth[..., 2:]
    center = 128 - focal * position[:, 0, :2] / position[:, 0, 2:]
    intrinsics = np.zeros((n_examples, 3, 3))
    intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal[:, 0]
    intrinsics[:, :2, 2], intrinsics[:, 2, 2] = center, 1.0
    floats = {
        "normalized": normalized,
        "coords2d": normalized * focal[..., np.newaxis] + center[:, np.newaxis],
        "rel": rel,
        "intrinsics": intrinsics,
        "mix": rng.uniform(size=(n_examples, 1, 1)),
        "truth": truth,
        "pred": truth + rng.normal(size=truth.shape) * 0.05,
        "uncert": rng.uniform(0.01, 0.3, shape),
        "weight_ref": rng.normal(size=(n_examples, 3)),
        "weight": rng.normal(size=truth.shape),
    }
    data = {name: tf.constant(value, tf.float32) for name, value in floats.items()}
    data["mask"] = tf.constant(rng.uniform(size=shape) > 0.2)
    data["root"] = tf.constant(rng.integers(-1, n_points, n_examples), tf.int32)
    return data


def ref_full(d):
    ref = absolute.reconstruct_ref_fullpersp(d["normalized"], d["rel"], d["mask"])
    return tf.reduce_sum(ref * d["weight_ref"]), ("normalized", "rel")


def ref_weak(d):
    ref = absolute.reconstruct_ref_weakpersp(d["normalized"], d["rel"], d["mask"])
    return tf.reduce_sum(ref * d["weight_ref"]), ("normalized", "rel")


def _plain_ref(d):
    ref = plain.reconstruct_ref_fullpersp(d["normalized"], d["rel"], d["mask"])
    return tf.reduce_sum(ref * d["weight_ref"]), ("normalized", "rel")


def _reconstructed(d):
    return absolute.reconstruct_absolute(
        d["coords2d"],
        d["rel"],
        d["intrinsics"],
        grid=GRID,
        mix_3d_inside_fov=d["mix"],
        point_validity_mask=d["mask"],
        **OPTIONS,
    )


def _plain_reconstructed(d):
    heads = d["coords2d"], d["rel"], d["intrinsics"]
    return plain.reconstruct_absolute(*heads, d["mask"], d["mix"], GRID, **OPTIONS)[0]


def _absolute(d):
    return tf.reduce_sum(_reconstructed(d) * d["weight"]), ("coords2d", "rel")


def _plain_absolute(d):
    return tf.reduce_sum(_plain_reconstructed(d) * d["weight"]), ("coords2d", "rel")


def _loss_of(d, pred):
    inps = {
        "coords3d_true": d["truth"],
        "intrinsics": d["intrinsics"],
        "root_index": d["root"],
        "point_validity": d["mask"],
    }
    preds = {"coords3d_abs": pred, "uncert": d["uncert"]}
    return metric3d.compute_loss_with_3d_gt(inps, preds, CONFIG, CONFIG.absloss_start_step)[1]


def _plain_loss_of(d, pred):
    args = d["truth"], pred, d["uncert"], d["intrinsics"], d["root"], d["mask"], CONFIG, True
    return plain.compute_loss_with_3d_gt(*args)[3]


def _loss(d):
    return _loss_of(d, d["pred"]), ("pred", "uncert")


def _plain_loss(d):
    return _plain_loss_of(d, d["pred"]), ("pred", "uncert")


def _both(d):
    return _loss_of(d, _reconstructed(d)), ("coords2d", "rel", "uncert")


def _plain_both(d):
    return _plain_loss_of(d, _plain_reconstructed(d)), ("coords2d", "rel", "uncert")


class _Used(dict):
    """A dict that notes which of its entries were read."""

    def __init__(self, data):
        super().__init__(data)
        self.names = set()

    def __getitem__(self, name):
        self.names.add(name)
        return super().__getitem__(name)


def make_pass(function, data, jit_compile):
    """Returns a call without arguments: one forward and backward pass over the data."""
    used = _Used(data)
    function(used)

    @tf.function(jit_compile=jit_compile)
    def value_and_gradients(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value, wanted = function(tensors)
        return value, tape.gradient(value, [tensors[name] for name in wanted])

    inputs = {name: data[name] for name in sorted(used.names)}
    return lambda: value_and_gradients(inputs)


def _row(data, name, ours, baseline, jit_compile, target):
    """Times ours against the baseline in graph mode."""
    passes = [make_pass(ours, data, jit_compile), make_pass(baseline, data, False)]
    seconds, baseline_seconds = median_seconds_interleaved(passes)
    return {
        "name": name,
        "seconds": seconds,
        "baseline_seconds": baseline_seconds,
        "ratio": baseline_seconds / seconds,
        "target": target,
    }


def main(device="cpu"):
    """Prints the rows."""
    for row in rows(device):
        target = "" if row["target"] is None else f", wanted {row['target']:.1f}"
        print(
            f"{row['name']:40s} {1e3 * row['seconds']:7.2f} ms, baseline "
            f"{1e3 * row['baseline_seconds']:7.2f} ms, ratio {row['ratio']:5.2f}{target}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
