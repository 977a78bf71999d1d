"""Weak against full perspective: where each puts a person, with ideal and with noisy heads.

People are 24 points, about 1.7 m tall and 0.2 m deep (standard deviation), in a 256 px crop that
shows 2.2 m at their distance. Prints the tables of docs/weak_vs_full_perspective.md. Run: `python
-m scripts.benchmarks.weak_vs_full`.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.geometry import absolute
from scripts.benchmarks import graph_library
from scripts.benchmarks.timing import median_seconds_interleaved

N_PEOPLE, N_POINTS, CROP_PX, BOX_M = 2000, 24, 256, 2.2
SPREAD_M = np.array([0.2, 0.45, 0.2])
SOLVERS = {
    "weak": absolute.reconstruct_ref_weakpersp,
    "full": absolute.reconstruct_ref_fullpersp,
}


def make_people(rng, distance_m, angle_degrees=0.0):
    """Returns normalized 2D, relative 3D, true reference points, pixels per normalized unit."""
    rel = rng.normal(size=(N_PEOPLE, N_POINTS, 3)) * SPREAD_M
    # No point within a fifth of the distance of the camera plane.
    rel[..., 2] = np.clip(rel[..., 2], -0.8 * distance_m, None)
    sideways = distance_m * np.tan(np.radians(angle_degrees))
    reference = np.broadcast_to([sideways, 0.0, distance_m], (N_PEOPLE, 3))
    points = rel + reference[:, np.newaxis]
    focal_px = CROP_PX * distance_m / BOX_M
    return points[..., :2] / points[..., 2:], rel, reference, focal_px


def depth_errors(rng, distance_m=4.0, angle_degrees=0.0, **noise):
    """Returns {solver: (median size, median) of depth error / distance}.

    Noise: noise_px and noise_m on every coordinate of the heads; scale_3d, a factor on the 3D head;
    scale_focal, a factor on the focal length that is assumed; n_valid, how many points are valid;
    outlier_px, how far the first point's 2D is off.
    """
    normalized, rel, reference, focal_px = make_people(rng, distance_m, angle_degrees)
    normalized = (
        normalized + rng.normal(size=normalized.shape) * noise.get("noise_px", 0) / focal_px
    )
    normalized /= noise.get("scale_focal", 1.0)
    normalized[:, 0, 0] += noise.get("outlier_px", 0) / focal_px
    rel = rel * noise.get("scale_3d", 1.0) + rng.normal(size=rel.shape) * noise.get("noise_m", 0)
    valid = np.tile(np.arange(N_POINTS) < noise.get("n_valid", N_POINTS), (N_PEOPLE, 1))
    errors = {}
    for name, solver in SOLVERS.items():
        found = solver(normalized.astype(np.float32), rel.astype(np.float32), valid).numpy()
        relative = (found[:, 2] - reference[:, 2]) / distance_m
        errors[name] = np.median(np.abs(relative)), np.median(relative)
    return errors


def untrained_rows(rng):
    """Returns {label: {solver: number}} for heads that know nothing yet: unrelated noise."""
    px = BOX_M / (CROP_PX * 4.0)
    normalized = (rng.normal(size=(N_PEOPLE, N_POINTS, 2)) * 3 * px).astype(np.float32)
    rel = (rng.normal(size=(N_PEOPLE, N_POINTS, 3)) * 0.03).astype(np.float32)
    rows = {}
    for name, solver in SOLVERS.items():
        inputs = [tf.constant(normalized), tf.constant(rel)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            depth = solver(*inputs)[:, 2]
        gradients = [g.numpy().reshape(N_PEOPLE, -1) for g in tape.gradient(depth, inputs)]
        norms = [np.median(np.linalg.norm(g, axis=1)) for g in gradients]
        values = {
            "median depth, m": np.median(depth),
            "people nearer than 0.3 m or behind the camera, %": 100 * np.mean(depth < 0.3),
            "gradient of the depth to the 2D head, m per px": norms[0] * px,
            "gradient of the depth to the 3D head, m per m": norms[1],
        }
        for label, value in values.items():
            rows.setdefault(label, {})[name] = value
    return rows


CASES = {
    "ideal heads, 1 m away": {"distance_m": 1.0},
    "ideal heads, 2 m": {"distance_m": 2.0},
    "ideal heads, 4 m": {"distance_m": 4.0},
    "ideal heads, 12 m": {"distance_m": 12.0},
    "4 m, 25 degrees off the axis": {"angle_degrees": 25.0},
    "2D noise 1 px": {"noise_px": 1.0},
    "2D noise 4 px": {"noise_px": 4.0},
    "3D noise 1 cm": {"noise_m": 0.01},
    "3D noise 4 cm": {"noise_m": 0.04},
    "2D noise 4 px and 3D noise 4 cm": {"noise_px": 4.0, "noise_m": 0.04},
    "the same, 2 m": {"noise_px": 4.0, "noise_m": 0.04, "distance_m": 2.0},
    "the same, 12 m": {"noise_px": 4.0, "noise_m": 0.04, "distance_m": 12.0},
    "2D noise 12 px and 3D noise 10 cm": {"noise_px": 12.0, "noise_m": 0.1},
    "3D head 5 % too large": {"scale_3d": 1.05},
    "focal length taken 10 % too long": {"scale_focal": 1.1},
    "one 2D point off by 60 px": {"outlier_px": 60.0},
    "8 valid points, 4 px, 4 cm": {"n_valid": 8, "noise_px": 4.0, "noise_m": 0.04},
    "3 valid points, 4 px, 4 cm": {"n_valid": 3, "noise_px": 4.0, "noise_m": 0.04},
    "1 valid point": {"n_valid": 1},
}


def cost_rows():
    """Returns {mode: [weak ms, full ms]}: forward and backward, 128 people x 768 points."""
    data, passes = graph_library.make_data(), []
    for jit_compile in (True, False):
        for function in (graph_library.ref_weak, graph_library.ref_full):
            passes.append(graph_library.make_pass(function, data, jit_compile))
    seconds = [1e3 * s for s in median_seconds_interleaved(passes, repeats=40)]
    return {"XLA": seconds[:2], "graph": seconds[2:]}


def rows(device):
    """Yields the depth errors (percent of the distance) and the cost of both solvers.

    Args:
      device: "cpu" or "gpu", for the cost.
    """
    for i, (name, options) in enumerate(CASES.items()):
        errors = depth_errors(np.random.default_rng(i), **options)
        yield {
            "name": f"depth error, {name}",
            **{f"{solver}_percent": 100 * errors[solver][0] for solver in SOLVERS},
            **{f"{solver}_signed_percent": 100 * errors[solver][1] for solver in SOLVERS},
        }
    with tf.device(f"/{device}:0"):
        costs = cost_rows()
    for mode, (weak_ms, full_ms) in costs.items():
        yield {
            "name": f"weak against full perspective, 128 x 768, {mode}",
            "weak_ms": weak_ms,
            "full_ms": full_ms,
            "ratio": full_ms / weak_ms,
        }


def main():
    """Prints all tables as Markdown."""
    table, costs = [], []
    for row in rows("cpu"):
        (costs if "ratio" in row else table).append(row)
    print("| case | weak | full | weak, signed | full, signed |\n|---|---|---|---|---|")
    for row in table:
        _, *numbers = row.values()
        cells = [f"{x:.2f} %" for x in numbers[:2]] + [f"{x:+.2f} %" for x in numbers[2:]]
        print(f"| {row['name'].removeprefix('depth error, ')} | {' | '.join(cells)} |")
    print("\n| untrained heads | weak | full |\n|---|---|---|")
    for label, values in untrained_rows(np.random.default_rng(0)).items():
        print(f"| {label} | {values['weak']:.2f} | {values['full']:.2f} |")
    print("\n| cost | weak | full |\n|---|---|---|")
    for row in costs:
        print(f"| {row['name']} | {row['weak_ms']:.2f} ms | {row['full_ms']:.2f} ms |")


if __name__ == "__main__":
    main()
