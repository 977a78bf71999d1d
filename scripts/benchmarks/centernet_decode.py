"""Decode of CenterNet's maps: batch 8, 128x128 cells, 17 joints, 100 people of each image.

The baseline is the released code's formulation, written with TensorFlow's operations one by one: a
top-k over all cells of each channels-first map, every person compared with every candidate.
"""

import numpy as np
import tensorflow as tf

from metrabs_like.systems.centernet import peaks
from metrabs_like.systems.centernet.decoding import decode_people
from scripts.benchmarks import timing

_N_IMAGES, _SIDE, _N_JOINTS, _TOP_K = 8, 128, 17, 100
_PYTORCH_SECONDS = 0.047  # PyTorch 2.13 on two cores, the released code


def rows(device):
    """Times the whole decode, the same under XLA, the baseline, and the two parts that cost most.

    Args:
      device: "cpu" or "gpu".

    Yields:
      Rows with `name`, the median `ms_per_call` and, of the decode, `speedup` over the baseline and
      `speedup_over_47_ms`, PyTorch's time on two CPU cores.
    """
    with tf.device("/GPU:0" if device == "gpu" else "/CPU:0"):
        maps = example_maps()
        calls = {
            "straightforward": (straightforward, maps, None),
            "decode_people": (lambda maps: decode_people(maps, top_k=_TOP_K), maps, None),
            "decode_people, XLA": (lambda maps: decode_people(maps, top_k=_TOP_K), maps, True),
            "suppress_non_peaks of the joints": (peaks.suppress_non_peaks, maps["hm_hp"], None),
            "top_k_per_channel of the joints": (
                lambda heat: peaks.top_k_per_channel(heat, _TOP_K),
                peaks.suppress_non_peaks(maps["hm_hp"]),
                None,
            ),
        }
        compiled = [
            (tf.function(fn, jit_compile=jit_compile, autograph=False), argument)
            for fn, argument, jit_compile in calls.values()
        ]
        _check(compiled[1][0](maps), compiled[0][0](maps))
        seconds = timing.median_seconds_interleaved(
            [lambda fn=fn, argument=argument: fn(argument) for fn, argument in compiled]
        )
    for name, value in zip(calls, seconds, strict=True):
        row = {"name": name, "ms_per_call": 1e3 * value}
        if name.startswith("decode_people"):
            row["speedup"] = seconds[0] / value
            row["speedup_over_47_ms"] = _PYTORCH_SECONDS / value
        yield row


def example_maps():
    """Returns maps of random numbers, the worst case: everything is full of peaks."""
    rng = np.random.default_rng(0)
    size = _N_IMAGES, _SIDE, _SIDE
    amplitudes = np.linspace(0.08, 0.9, _N_JOINTS)
    maps = {
        "hm": rng.random((*size, 1)),
        "wh": rng.uniform(4, 40, (*size, 2)),
        "hps": 6 * rng.standard_normal((*size, 2 * _N_JOINTS)),
        "reg": rng.random((*size, 2)),
        "hm_hp": amplitudes * rng.random((*size, _N_JOINTS)),
        "hp_offset": rng.random((*size, 2)),
    }
    return {name: tf.constant(value, tf.float32) for name, value in maps.items()}


def straightforward(maps):
    """Returns boxes, scores, joints and their scores, step by step as the released code."""
    scores, cells = _top_k(maps["hm"])
    scores, cells = scores[:, 0], cells[:, 0]
    xy = peaks.cell_coordinates(cells, _SIDE)
    center, half = xy + _read(maps["reg"], cells), _read(maps["wh"], cells) / 2
    boxes = tf.concat([center - half, center + half], axis=-1)
    joints = tf.reshape(_read(maps["hps"], cells), [_N_IMAGES, _TOP_K, _N_JOINTS, 2])
    joints = tf.transpose(joints + xy[:, :, tf.newaxis], [0, 2, 1, 3])
    joint_scores, joint_cells = _top_k(maps["hm_hp"])
    offsets = _read(maps["hp_offset"], tf.reshape(joint_cells, [_N_IMAGES, -1]))
    places = peaks.cell_coordinates(joint_cells, _SIDE)
    places += tf.reshape(offsets, [_N_IMAGES, _N_JOINTS, _TOP_K, 2])
    sure = tf.cast(joint_scores > 0.1, tf.float32)
    joint_scores = (1 - sure) * -1 + sure * joint_scores
    places = (1 - sure[..., tf.newaxis]) * -10000 + sure[..., tf.newaxis] * places
    squares = tf.square(joints[:, :, :, tf.newaxis] - places[:, :, tf.newaxis])
    distances = tf.sqrt(tf.reduce_sum(squares, axis=-1))
    nearest = tf.argmin(distances, axis=-1)
    place = tf.gather(places, nearest, batch_dims=2)
    score = tf.gather(joint_scores, nearest, batch_dims=2)
    low, high = boxes[:, tf.newaxis, :, :2], boxes[:, tf.newaxis, :, 2:]
    rejected = tf.reduce_any((place < low) | (place > high), axis=-1) | (score < 0.1)
    rejected |= tf.reduce_min(distances, axis=-1) > 0.3 * tf.reduce_max(high - low, axis=-1)
    joints = tf.where(rejected[..., tf.newaxis], joints, place)
    return boxes, scores, tf.transpose(joints, [0, 2, 1, 3]), tf.transpose(score, [0, 2, 1])


def _top_k(heat):
    """The best cells of each channel, `[B, C, k]`, from all cells."""
    kept = tf.where(tf.nn.max_pool2d(heat, 3, 1, "SAME") == heat, heat, 0.0)
    rows_of_cells = tf.reshape(tf.transpose(kept, [0, 3, 1, 2]), [_N_IMAGES, -1, _SIDE**2])
    return tf.math.top_k(rows_of_cells, _TOP_K)


def _read(maps, cells):
    flat = tf.reshape(maps, [_N_IMAGES, _SIDE**2, maps.shape[3]])
    return tf.gather(flat, cells, batch_dims=1)


def _check(people, expected):
    """Both must find the same people before their times mean anything."""
    names = ("boxes", "scores", "joints2d", "joint_scores")
    for name, value in zip(names, expected, strict=True):
        np.testing.assert_allclose(people[name], value, rtol=1e-6, atol=1e-6, err_msg=name)
