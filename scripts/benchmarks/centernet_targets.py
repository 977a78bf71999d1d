"""Speed of CenterNet's target encoding against a plain NumPy loop over people and joints.

Ten people a picture in 32 slots, 17 joints, a map of 128 x 128 cells; the placement varies. The
baseline encodes one picture at a time, as a data loader's worker does. Both sides are timed in
turns in one process.

Run alone: `python -m scripts.benchmarks.centernet_targets [cpu|gpu]`.
"""

import math
import sys

import numpy as np
import tensorflow as tf

from metrabs_like.data.image_placement import PlacementConfig, draw_placement
from metrabs_like.systems.centernet.config import Config
from metrabs_like.systems.centernet.targets import encode_targets
from scripts.benchmarks.timing import median_seconds_interleaved

N_PEOPLE, BATCH_SIZES = 10, (1, 8)
CONFIG = Config()
IMAGE_SIZE = 480, 640
WANTED_MS = 5.5 / 3  # a third of what the released code takes for such a picture on two cores


def rows(device="cpu"):
    """Measures target encoding.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Dicts: name; milliseconds and baseline_milliseconds per picture; ratio = baseline / ours;
      wanted_milliseconds, or None. (The baseline is faster than the released code, which builds a
      matrix product for each joint.)
    """
    with tf.device(f"/{device}:0"):
        for n_images in BATCH_SIZES:
            people = make_people(n_images)
            plain = {name: value.numpy() for name, value in people.items()}
            check(people, plain)
            passes = [lambda jit=jit, people=people: _encode(people, jit) for jit in (True, False)]
            passes.append(lambda plain=plain: encode_plainly(plain))
            compiled, graph, baseline = median_seconds_interleaved(passes)
            for mode, seconds, wanted in (("XLA", compiled, WANTED_MS), ("graph", graph, None)):
                yield {
                    "name": f"encode_targets, {n_images} x {N_PEOPLE} people, {mode}",
                    "milliseconds": 1e3 * seconds / n_images,
                    "baseline_milliseconds": 1e3 * baseline / n_images,
                    "ratio": baseline / seconds,
                    "wanted_milliseconds": wanted,
                }


def make_people(n_images, seed=0):
    """Returns the tensors of pictures of ten people, a quarter to all of the picture's height."""
    rng = np.random.default_rng(seed)
    shape = n_images, CONFIG.max_objects
    height = IMAGE_SIZE[0] * rng.uniform(0.25, 1.0, shape)
    size = np.stack([height * rng.uniform(0.3, 0.7, shape), height], axis=-1)
    corner = rng.uniform(-0.1, 0.9, (*shape, 2)) * (np.array(IMAGE_SIZE[::-1]) - 0.5 * size)
    joints = rng.uniform(size=(*shape, CONFIG.n_joints, 2)) * size[:, :, np.newaxis]
    image_size = tf.tile(tf.constant([IMAGE_SIZE], tf.int32), [n_images, 1])
    numbers = tf.range(n_images, dtype=tf.int64)
    return {
        "boxes": tf.constant(np.concatenate([corner, size], axis=-1), tf.float32),
        "joints2d": tf.constant(joints + corner[:, :, np.newaxis], tf.float32),
        "joint_validity": tf.constant(rng.uniform(size=joints.shape[:-1]) < 0.8),
        "person_validity": tf.constant(np.tile(np.arange(shape[1]) < N_PEOPLE, (n_images, 1))),
        "image_size": image_size,
        **draw_placement(seed, numbers, image_size, PlacementConfig()),
    }


@tf.function(autograph=False)
def _encode(people, jit_compile):
    return encode_targets(people, CONFIG, jit_compile=jit_compile)


def check(people, plain):
    """Ends the benchmark unless both sides agree."""
    expected = encode_plainly(plain)
    found = encode_targets(people, CONFIG)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


def encode_plainly(people):
    """Encodes each picture by itself; returns the stacked targets."""
    encoded = [
        _encode_picture({name: value[i] for name, value in people.items()})
        for i in range(len(people["boxes"]))
    ]
    return {name: np.stack([targets[name] for targets in encoded]) for name in encoded[0]}


def _encode_picture(people):
    """Loops over the people and their joints."""
    side, n_slots, n_joints = CONFIG.map_side, CONFIG.max_objects, CONFIG.n_joints
    targets = {
        "hm": np.zeros((side, side, 1), np.float32),
        "hm_hp": np.zeros((side, side, n_joints), np.float32),
        "wh": np.zeros((n_slots, 2), np.float32),
        "reg": np.zeros((n_slots, 2), np.float32),
        "ind": np.zeros(n_slots, np.int64),
        "reg_mask": np.zeros(n_slots, np.float32),
        "hps": np.zeros((n_slots, 2 * n_joints), np.float32),
        "hps_mask": np.zeros((n_slots, 2 * n_joints), np.float32),
        "hp_offset": np.zeros((n_slots * n_joints, 2), np.float32),
        "hp_ind": np.zeros(n_slots * n_joints, np.int64),
        "hp_mask": np.zeros(n_slots * n_joints, np.float32),
    }
    factor = side / people["scale"]
    offset = side / 2 - factor * people["center"]
    width = people["image_size"][1] if people["is_mirrored"] else None
    for n in range(min(n_slots, people["person_validity"].sum())):
        _encode_person(targets, n, people, width, factor, offset)
    return targets


def _encode_person(targets, n, people, width, factor, offset):
    """Adds one person; `width` is that of a mirrored picture."""
    side, n_joints = CONFIG.map_side, CONFIG.n_joints
    x, y, w, h = people["boxes"][n]
    joints, is_labelled = people["joints2d"][n], people["joint_validity"][n]
    if width is not None:
        order = list(CONFIG.joints.mirror_indices)
        x = width - 1 - (x + w)
        joints, is_labelled = joints[order] * [-1, 1] + [width - 1, 0], is_labelled[order]
    corners = np.clip(np.array([[x, y], [x + w, y + h]]) * factor + offset, 0, side - 1)
    size = corners[1] - corners[0]
    if size.min() <= 0:
        return
    center = corners.mean(axis=0)
    cell = center.astype(int)
    radius = _radius(math.ceil(size[1]), math.ceil(size[0]))
    targets["wh"][n], targets["reg"][n] = size, center - cell
    targets["ind"][n] = cell[1] * side + cell[0]
    targets["reg_mask"][n] = is_labelled.any()
    for j in range(n_joints):
        if not is_labelled[j]:
            continue
        joint = joints[j] * factor + offset
        if joint.min() < 0 or joint.max() >= side:
            continue
        joint_cell = joint.astype(int)
        targets["hps"][n, 2 * j : 2 * j + 2] = joint - cell
        targets["hps_mask"][n, 2 * j : 2 * j + 2] = 1
        targets["hp_offset"][n * n_joints + j] = joint - joint_cell
        targets["hp_ind"][n * n_joints + j] = joint_cell[1] * side + joint_cell[0]
        targets["hp_mask"][n * n_joints + j] = 1
        _draw(targets["hm_hp"][:, :, j], joint_cell, radius)
    _draw(targets["hm"][:, :, 0], cell, radius)


def _radius(height, width, overlap=0.7):
    """Returns the smallest of the three roots, whole cells."""
    around, area = height + width, width * height
    roots = []
    for a, b, c in (
        (1, around, area * (1 - overlap) / (1 + overlap)),
        (4, 2 * around, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * around, (overlap - 1) * area),
    ):
        roots.append((b + math.sqrt(b * b - 4 * a * c)) / 2)
    return max(0, int(min(roots)))


def _draw(heatmap, cell, radius):
    """Draws one Gaussian, clipped at the border."""
    distance = np.arange(-radius, radius + 1)
    sigma = (2 * radius + 1) / 6
    patch = np.exp(-(distance**2 + distance[:, np.newaxis] ** 2) / (2 * sigma * sigma))
    x, y = cell
    left, right = min(x, radius), min(heatmap.shape[1] - x, radius + 1)
    top, bottom = min(y, radius), min(heatmap.shape[0] - y, radius + 1)
    part = heatmap[y - top : y + bottom, x - left : x + right]
    drawn = patch[radius - top : radius + bottom, radius - left : radius + right]
    np.maximum(part, drawn, out=part, casting="same_kind")


def main(device="cpu"):
    """Prints the rows."""
    for row in rows(device):
        wanted = row["wanted_milliseconds"]
        wanted = "" if wanted is None else f", wanted {wanted:.2f} ms"
        print(
            f"{row['name']:40s} {row['milliseconds']:7.2f} ms, baseline "
            f"{row['baseline_milliseconds']:7.2f} ms, ratio {row['ratio']:5.2f}{wanted}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
