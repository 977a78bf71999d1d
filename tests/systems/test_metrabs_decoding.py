"""The head's decoding and the training form of absolute reconstruction."""

import numpy as np
import pytest
import tensorflow as tf

from metrabs_like.geometry import absolute
from metrabs_like.geometry.camera import CropGrid
from metrabs_like.geometry.heatmap import soft_argmax
from metrabs_like.systems.metrabs import decoding
from tests.geometry.compiled import assert_compiles_once
from tests.geometry.scenes import GRID, make_scene


def test_convention_channels_of_the_head():
    logits = np.zeros((1, 1, 3, 5, 2 + 4), np.float32)
    logits[0, 0, 2, 1, 2 + 3] = 50.0  # the volume's peak: x 1/4, y 1, z 1
    logits[0, 0, 0, 4, 1] = 50.0  # the metric heatmap's peak: x 1, y 0
    logits[0, 0, 2, 1, 0] = 7.0  # uncertainty evidence where the volume looks
    logits[0, 0, 1, 3, 0] = -90.0  # and where it does not
    coords2d, coords3d, uncert = decoding.decode_head(logits, uncert_bias=1.0, uncert_bias2=0.5)
    np.testing.assert_allclose(coords2d, [[[0.25, 1.0]]], atol=1e-6)
    np.testing.assert_allclose(coords3d, [[[1.0, 0.0, 1.0]]], atol=1e-6)
    np.testing.assert_allclose(uncert, [[np.log1p(np.exp(8.0)) + 0.5]], rtol=1e-5)


def test_coordinates_come_from_the_volume(rng):
    logits = rng.normal(size=(2, 3, 4, 4, 7)).astype(np.float32)
    coords2d, coords3d, _ = decoding.decode_head(logits)
    volume = soft_argmax(logits[..., 2:], [3, 2, 4])
    np.testing.assert_allclose(coords2d, volume[..., :2], atol=1e-6)
    np.testing.assert_allclose(coords3d[..., 2], volume[..., 2], atol=1e-6)


def test_uncertainty_has_no_gradient_into_the_volume(rng):
    logits = tf.constant(rng.normal(size=(1, 2, 4, 4, 6)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        _, _, uncert = decoding.decode_head(logits)
    gradient = tape.gradient(uncert, logits).numpy()
    assert (gradient[..., 1:] == 0).all()
    assert (gradient[..., 0] > 0).all()


def test_shared_weights_equal_repeated_ones(rng):
    features = rng.normal(size=(3, 4, 4, 5)).astype(np.float32)
    weights = rng.normal(size=(2, 6 * 7)).astype(np.float32)
    shared = decoding.decode_features(features, weights)
    repeated = decoding.decode_features(features, np.tile(weights, (3, 1, 1)))
    for one, other in zip(shared, repeated, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("step", [499, 500])
def test_training_switches_from_weak_to_full_perspective(rng, step):
    scene = make_scene(rng, noise_px=3)
    args = scene["coords2d"], scene["coords3d_rel"], scene["intrinsics"]
    found = decoding.reconstruct_absolute(*args, 0.3, scene["mask"], grid=GRID, step=step)
    expected = absolute.reconstruct_absolute(
        *args,
        grid=GRID,
        mix_3d_inside_fov=0.3,
        weak_perspective=step < 500,
        point_validity_mask=scene["mask"],
        border_factor1=1.0,
        border_factor2=0.55,
        mix_based_on_3d=False,
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_decoding_compiles_once_over_all_shapes(rng):
    shapes = (2, 3, 4, 4, 7), (1, 5, 8, 6, 7), (0, 3, 4, 4, 7)
    batches = [[rng.normal(size=shape).astype(np.float32)] for shape in shapes]
    assert_compiles_once(decoding.decode_head, batches)


@pytest.mark.parametrize("is_shared", [True, False])
def test_decoding_features_compiles_once_over_all_shapes(rng, is_shared):
    batches = []
    for n_examples, n_points in ((3, 2), (1, 4)):
        features = rng.normal(size=(n_examples, n_points + 2, 4, 5))
        weights = rng.normal(size=(n_points, 42) if is_shared else (n_examples, n_points, 42))
        batches.append([features.astype(np.float32), weights.astype(np.float32)])
    assert_compiles_once(decoding.decode_features, batches)


def test_training_reconstruction_compiles_once_over_all_shapes_and_steps(rng):
    def run(head2d, head3d, intrinsics, mix, mask, step):
        return decoding.reconstruct_absolute(
            head2d, head3d, intrinsics, mix, mask, grid=GRID, step=step
        )

    batches = []
    for shape, step in (((4, 24), 499), ((1, 5), 500), ((0, 7), 900)):
        scene = make_scene(rng, *shape, noise_px=3)
        args = [scene[key] for key in ("coords2d", "coords3d_rel", "intrinsics")]
        mix = rng.uniform(size=(shape[0], 1, 1)).astype(np.float32)
        batches.append([*args, mix, scene["mask"], np.int64(step)])
    assert_compiles_once(run, batches, rtol=2e-5, atol=2e-5)


def test_direct_calls_of_training_reconstruction_trace_at_most_twice(rng):
    traced = absolute._reconstruct_absolute.traced
    before = traced.experimental_get_tracing_count()
    grid = CropGrid(253, 29)  # used nowhere else: earlier traces do not count
    for step, shape in ((0, (2, 3)), (499, (3, 2)), (500, (5, 9)), (900, (1, 1))):
        scene = make_scene(rng, *shape)
        args = [scene[key] for key in ("coords2d", "coords3d_rel", "intrinsics")]
        decoding.reconstruct_absolute(*args, 0.3, scene["mask"], grid=grid, step=step)
    assert traced.experimental_get_tracing_count() - before <= 2


def test_bad_heads_are_named(rng):
    with pytest.raises(ValueError, match="2 channels"):
        decoding.decode_head(np.zeros((1, 1, 2, 2, 2)))
    with pytest.raises(ValueError, match="13 numbers per point"):
        decoding.decode_features(np.zeros((1, 2, 2, 5)), np.zeros((4, 13)))


def test_an_empty_batch_is_ordinary():
    coords2d, coords3d, uncert = decoding.decode_head(np.zeros((0, 3, 4, 4, 7)))
    assert coords2d.shape == (0, 3, 2)
    assert coords3d.shape == (0, 3, 3)
    assert uncert.shape == (0, 3)
