"""prepare: kinds in one forward pass, the warp, mixing factors, targets."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.systems.metrabs import prepare, tiny_config
from metrabs_like.systems.metrabs.preparation import split_by_kind
from tests.systems import metrabs_batches

SEED = np.array([5, 6], np.int32)


def test_kinds_are_concatenated_3d_first(rng):
    config = tiny_config()
    both = metrabs_batches.make_batch(rng, 2, config)
    inputs, targets = prepare(both, config, None)
    assert inputs["image"].shape == (4, 64, 64, 3)
    for i, kind in enumerate(("kp3d", "kp2d")):
        alone, _ = prepare({kind: both[kind]}, config, None)
        for key, value in alone.items():
            np.testing.assert_allclose(inputs[key][2 * i : 2 * i + 2], value, atol=1e-6)
        np.testing.assert_array_equal(targets[kind]["coords2d_true"], both[kind]["coords2d_true"])
    assert targets["mix_3d_inside_fov"].shape == (4, 1, 1)


def test_parts_of_different_sizes_are_found_again(rng):
    config = tiny_config()
    batch = {
        "kp2d": metrabs_batches.make_sub_batch(rng, 3, config, "kp2d"),
        "kp3d": metrabs_batches.make_sub_batch(rng, 1, config, "kp3d"),
    }
    inputs, targets = prepare(batch, config, None)
    parts = split_by_kind(inputs, targets)
    for kind, sub in batch.items():
        np.testing.assert_array_equal(parts[kind]["intrinsics"], sub["intrinsics"])


def test_unmoved_crop_is_the_window(rng):
    """Window and crop camera the same: the warp copies pixels."""
    config = tiny_config()
    sub = metrabs_batches.make_sub_batch(rng, 1, config, "kp3d")
    sub["window"] = sub["window"][:, :64, :64]
    sub["window_intrinsics"] = sub["intrinsics"]
    inputs, _ = prepare({"kp3d": sub}, config, None)
    wanted = tf.cast(sub["window"], tf.float32) / 255
    np.testing.assert_allclose(inputs["image"], wanted, atol=1e-3)


def test_mixing_factors(rng):
    config = tiny_config()
    batch = metrabs_batches.make_batch(rng, 20, config)
    _, targets = prepare(batch, config, None)
    np.testing.assert_array_equal(targets["mix_3d_inside_fov"], np.full([40, 1, 1], 0.5))
    _, targets = prepare(batch, config, SEED)
    mix = targets["mix_3d_inside_fov"].numpy()
    assert mix.min() >= 0 and mix.max() < 1
    assert mix.min() < 0.2 and mix.max() > 0.8


def test_photometric_augmentation_only_in_training(rng):
    config = dataclasses.replace(tiny_config(), photometric=True)
    batch = metrabs_batches.make_batch(rng, 2, config)
    plain = prepare(batch, config, None)[0]["image"]
    augmented = prepare(batch, config, SEED)[0]["image"]
    off = prepare(batch, dataclasses.replace(config, photometric=False), SEED)[0]["image"]
    np.testing.assert_array_equal(off, plain)
    assert np.abs(augmented - plain).mean() > 0.01
    assert augmented.numpy().min() >= 0 and augmented.numpy().max() <= 1


def test_same_numbers_inside_a_graph_with_unknown_batch(rng):
    config = tiny_config()
    batch = metrabs_batches.make_batch(rng, 2, config)
    spec = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), batch)
    graph = tf.function(lambda b: prepare(b, config, SEED), input_signature=[spec])
    for eager, traced in zip(
        tf.nest.flatten(prepare(batch, config, SEED)), tf.nest.flatten(graph(batch)), strict=True
    ):
        np.testing.assert_allclose(eager, traced, atol=1e-5)


def test_batch_without_a_known_kind(rng):
    with pytest.raises(ValueError, match="kp4d"):
        prepare({"kp4d": {}}, tiny_config(), None)
