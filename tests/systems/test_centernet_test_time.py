"""Flip test and several scales: mirrored twice is nothing, people are merged, not mixed."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like import skeletons
from metrabs_like.systems.centernet.decoding import decode_people
from metrabs_like.systems.centernet.test_time import (
    merge_flipped,
    merge_scales,
    mirrored_joint_maps,
    mirrored_map,
    mirrored_offsets,
)

MIRROR = skeletons.get("coco_17").mirror_indices
_CHANNELS = {"hm": 1, "wh": 2, "hps": 34, "reg": 2, "hm_hp": 17, "hp_offset": 2}


def _outputs(rng, shape=(6, 7)):
    return {name: rng.random((2, *shape, n)).astype(np.float32) for name, n in _CHANNELS.items()}


def _mirrored(outputs):
    """What a network without any preference for a side says to mirrored images."""
    return {
        **outputs,
        "hm": mirrored_map(outputs["hm"]),
        "wh": mirrored_map(outputs["wh"]),
        "hps": mirrored_offsets(outputs["hps"], MIRROR),
        "hm_hp": mirrored_joint_maps(outputs["hm_hp"], MIRROR),
        "reg": np.full_like(outputs["reg"], np.nan),  # not used
    }


def test_mirrored_twice_is_unchanged(rng):
    outputs = _outputs(rng)
    twice = _mirrored(_mirrored(outputs))
    for name in ("hm", "wh", "hps", "hm_hp"):
        np.testing.assert_array_equal(twice[name], outputs[name])


def test_convention_of_mirrored_offsets():
    """The left wrist two cells to the right becomes the right wrist two cells to the left."""
    maps = np.zeros([1, 3, 5, 34], np.float32)
    left, right = (skeletons.get("coco_17").index(name) for name in ("lwri", "rwri"))
    maps[0, 1, 0, 2 * left : 2 * left + 2] = [2.0, 3.0]
    mirrored = mirrored_offsets(maps, MIRROR).numpy()
    np.testing.assert_array_equal(mirrored[0, 1, 4, 2 * right : 2 * right + 2], [-2.0, 3.0])
    assert np.count_nonzero(mirrored) == 2


def test_a_network_without_sides_is_confirmed(rng):
    outputs = _outputs(rng)
    merged = merge_flipped(outputs, _mirrored(outputs), MIRROR)
    assert sorted(merged) == sorted(outputs)
    for name, value in outputs.items():
        np.testing.assert_allclose(merged[name], value, rtol=1e-6, err_msg=name)


def test_maps_are_averaged(rng):
    outputs, other = _outputs(rng), _outputs(rng)
    merged = merge_flipped(outputs, other, MIRROR)
    np.testing.assert_allclose(merged["hm"], (outputs["hm"] + other["hm"][:, :, ::-1]) / 2)
    expected = (outputs["hm_hp"] + other["hm_hp"][:, :, ::-1][..., list(MIRROR)]) / 2
    np.testing.assert_allclose(merged["hm_hp"], expected)
    for name in ("reg", "hp_offset"):
        np.testing.assert_array_equal(merged[name], outputs[name])


def test_heads_may_be_missing(rng):
    outputs = _outputs(rng)
    few = {name: outputs[name] for name in ("hm", "wh", "hps")}
    assert sorted(merge_flipped(few, outputs, MIRROR)) == ["hm", "hps", "wh"]
    with pytest.raises(ValueError, match=r"lacks \['hps', 'hm_hp'\]"):
        merge_flipped(outputs, {"hm": outputs["hm"], "wh": outputs["wh"]}, MIRROR)


def test_mirror_indices_fit_the_channels(rng):
    outputs = _outputs(rng)
    with pytest.raises(ValueError, match="17 channels for 3 mirror_indices"):
        mirrored_joint_maps(outputs["hm_hp"], (0, 2, 1))
    with pytest.raises(ValueError, match="must be 2 a joint"):
        mirrored_offsets(outputs["hps"], (0, 2, 1))


def _people(boxes, scores, n_joints=3, classes=None):
    """People whose joints tell who they are."""
    boxes, scores = np.array([boxes], np.float32), np.array([scores], np.float32)
    n = scores.shape[1]
    joints = np.broadcast_to(boxes[:, :, np.newaxis, :2], [1, n, n_joints, 2])
    return {
        "boxes": boxes,
        "scores": scores,
        "joints2d": joints,
        "joint_scores": np.broadcast_to(scores[..., np.newaxis], [1, n, n_joints]),
        "classes": np.array([[0] * n if classes is None else classes], np.int32),
        "cells": np.zeros([1, n], np.int32),
    }


def test_scales_are_merged():
    one = _people([[0, 0, 10, 20], [100, 0, 120, 30]], [0.5, 0.4])
    other = _people([[0, 0, 10, 20], [300, 0, 310, 20], [0, 0, 0, 0]], [0.9, 0.45, 0.0])
    merged = merge_scales([one, other])
    assert merged["n_people"].numpy() == [4]
    expected = [0.9, 0.45, 0.4, 0.5 * np.exp(-2), 0]
    np.testing.assert_allclose(merged["scores"][0], expected, rtol=1e-6)
    np.testing.assert_array_equal(merged["boxes"][0, :, 0], [0, 300, 100, 0, 0])
    np.testing.assert_array_equal(merged["joints2d"][0, :, 0, 0], [0, 300, 100, 0, 0])
    np.testing.assert_allclose(merged["joint_scores"][0, :, 0], [0.9, 0.45, 0.4, 0.5, 0])
    assert "cells" not in merged


def test_hard_suppression_and_a_limit():
    one = _people([[0, 0, 10, 20], [100, 0, 120, 30]], [0.5, 0.4])
    merged = merge_scales([one, one], method="hard")
    assert merged["n_people"].numpy() == [2]
    np.testing.assert_allclose(merged["scores"], [[0.5, 0.4, 0, 0]])
    np.testing.assert_array_equal(merged["boxes"][0, 2:], 0)
    first = merge_scales([one, one], method="hard", max_people=1)
    assert first["n_people"].numpy() == [1] and first["boxes"].shape == (1, 1, 4)


def test_classes_do_not_suppress_each_other():
    one = _people([[0, 0, 10, 20]] * 2, [0.5, 0.4], classes=[0, 1])
    merged = merge_scales([one], method="hard")
    np.testing.assert_array_equal(merged["classes"], [[0, 1]])
    assert merged["n_people"].numpy() == [2]


def test_nobody_and_no_scale(rng):
    outputs = {name: tf.zeros([0, 5, 5, n]) for name, n in _CHANNELS.items()}
    people = decode_people(outputs, top_k=3)
    merged = merge_scales([people, people])
    assert merged["joints2d"].shape == (0, 6, 17, 2) and merged["n_people"].shape == (0,)
    with pytest.raises(ValueError, match="people_of_scales"):
        merge_scales([])
    with pytest.raises(ValueError, match="max_people=0"):
        merge_scales([people], max_people=0)


def test_merging_runs_as_a_graph_of_unknown_sizes(rng):
    people = [decode_people(_outputs(rng, shape), top_k=5) for shape in [(6, 7), (9, 8)]]
    signature = {
        name: tf.TensorSpec([None, None, *value.shape[2:]], value.dtype)
        for name, value in people[0].items()
    }

    @tf.function(input_signature=[signature] * 2, autograph=False)
    def merge(one, other):
        return merge_scales([one, other], max_people=7)

    expected = merge_scales(people, max_people=7)
    for name, value in merge(*people).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)
